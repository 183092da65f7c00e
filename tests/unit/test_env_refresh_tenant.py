"""For which tenant an environment is built anew: that of who used it last, while it is declared."""

from __future__ import annotations

import pytest

from cutor.cli.env_refresh import _tenant
from cutor.model.errors import InvalidRequest
from cutor.model.limits import Policy
from cutor.model.subjects import Address

LAST = Address("courses", "s1")
GONE = "tenant 'courses' of the last submission that used it is not declared any more"


def policy(*tenants: str) -> Policy:
    return Policy(tenants=dict.fromkeys(tenants, 1))


@pytest.mark.parametrize(
    ("named", "declared", "tenant", "noted"),
    [
        (None, ("default", "courses"), "courses", False),
        (None, ("courses",), "courses", False),
        (None, ("default", "other"), "default", True),
        ("other", ("default", "courses", "other"), "other", False),
        ("other", ("other",), "other", False),
    ],
)
def test_a_tenant_is_found(
    capsys: pytest.CaptureFixture[str], named: str | None, declared: tuple[str, ...], tenant: str, noted: bool
) -> None:
    assert _tenant(LAST, named, policy(*declared)) == tenant
    note = (
        "note: tenant 'courses' of the last submission that used it is not declared any more: this is handed in for default\n"
    )
    assert capsys.readouterr().err == (note if noted else "")


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (None, f"{GONE}: name another one by --tenant; this stack has: x, y"),
        ("courses", "tenant 'courses' is not declared; this stack has: x, y"),
        ("", "tenant '' is not declared"),
    ],
)
def test_where_there_is_none_it_is_said(named: str | None, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        _tenant(LAST, named, policy("x", "y"))

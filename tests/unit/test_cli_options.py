"""What several commands read from the command line alike."""

import pytest

from cutor.cli.options import named_submission
from cutor.model.errors import InvalidRequest
from cutor.model.subjects import Address


@pytest.mark.parametrize(
    ("name", "tenant", "address"),
    [
        ("x", None, Address("default", "x")),
        ("x", "batch", Address("batch", "x")),
        ("batch/x", None, Address("batch", "x")),
        ("batch/x", "batch", Address("batch", "x")),
    ],
)
def test_a_submission_is_named_with_its_tenant_or_without(name: str, tenant: str | None, address: Address) -> None:
    assert named_submission(name, tenant) == address


@pytest.mark.parametrize(
    ("name", "tenant", "said"),
    [
        ("batch/x", "default", "'batch/x' is of the tenant 'batch', and --tenant says 'default': leave one out"),
        ("/x", None, "tenant ''"),
        ("batch/", None, "id ''"),
        ("a/b/c", None, "id 'b/c'"),
        ("x", "", "tenant ''"),
    ],
)
def test_a_name_that_contradicts_or_can_be_none_is_refused(name: str, tenant: str | None, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        named_submission(name, tenant)

"""What the Python client is given: whatever it is, it is taken or refused in one plain line, as a request's fields are."""

from __future__ import annotations

import asyncio
import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cutor import Client, CutorError, InvalidRequest, Policy, WaitedTooLong
from cutor.client.client import address_of, check_timeout, load_request
from cutor.client.waiting import waiting_for
from cutor.errors import REFUSED
from cutor.model.subjects import Address

ADDRESS = Address("default", "a")
LONGEST_LINE = 400


class PathOfBytes:
    """A path as `os.PathLike` allows it and no file of cutor's has it."""

    def __fspath__(self) -> bytes:
        return b"/tmp"


def plain_line(message: str) -> str:
    """Check that a terminal shows a message as it is, in a few lines at the most."""
    assert message.isprintable(), ascii(message)
    assert 0 < len(message) <= LONGEST_LINE, len(message)
    return message


def refusal(request: Any) -> str:
    """Return why something cannot be submitted."""
    with pytest.raises(InvalidRequest) as refused:
        load_request(request, Policy())
    assert type(refused.value) is InvalidRequest
    return plain_line(str(refused.value))


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        (None, "NoneType"),
        (5, "int"),
        (True, "bool"),
        (b"request.json", "bytes"),
        ([], "list"),
        (["request.json"], "list"),
        (object(), "object"),
        (PathOfBytes(), "PathOfBytes"),
        (Path, "type"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_request_and_no_path_is_refused_by_its_kind(request_: object, kind: str) -> None:
    assert refusal(request_) == f"request: Expected a request, a mapping or a path, got `{kind}`"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("a\0b", r"a\x00b: cannot be read: no path has such a character"),
        ("a\ud800b", r"a\ud800b: cannot be read: no path has such a character"),
        ("a" * 5000, f"{'a' * 200}…: cannot be read: File name too long"),
        ("\x1b" * 5000, r"\x1b" * 50 + "…: cannot be read: File name too long"),
        ("/no/such/place", "/no/such/place: cannot be read: No such file or directory"),
        ("/dev/null", "/dev/null: is empty; a JSON request is read from it"),
        ("/dev/null/x", "/dev/null/x: cannot be read: Not a directory"),
    ],
    ids=lambda text: ascii(text)[:20],
)
def test_a_path_that_leads_to_no_request_is_refused_by_name(path: str, said: str) -> None:
    assert refusal(path) == refusal(Path(path)) == said


def test_an_empty_path_is_not_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shell.nix").write_text("")
    monkeypatch.chdir(tmp_path)
    assert refusal("") == "request: the path is empty; the current directory is `.`"
    assert [file.name for file in load_request(".", Policy()).files] == ["shell.nix"]


def test_any_path_of_a_file_is_taken(tmp_path: Path) -> None:
    class Entry(os.PathLike[str]):
        def __fspath__(self) -> str:
            return str(file)

    file = tmp_path / "request.json"
    file.write_text(json.dumps({"id": "mine", "files": [], "test_cases": []}))
    assert {load_request(path, Policy()).id for path in (file, str(file), Entry())} == {"mine"}


@pytest.mark.parametrize("value", [None, 5, b"a", ["a"], object()], ids=lambda value: type(value).__name__)
def test_an_id_or_tenant_of_another_kind_is_refused_by_its_kind(value: object) -> None:
    kind = type(value).__name__
    with pytest.raises(InvalidRequest, match=f"^id: Expected `str`, got `{kind}`$"):
        address_of("default", value)
    with pytest.raises(InvalidRequest, match=f"^tenant: Expected `str`, got `{kind}`$"):
        address_of(value, "a")


@pytest.mark.parametrize(
    "server", [0, 5, b"nats://127.0.0.1:1", ["nats://127.0.0.1:1"]], ids=lambda value: type(value).__name__
)
async def test_a_server_of_another_kind_is_refused_by_its_kind(server: Any) -> None:
    with pytest.raises(CutorError) as refused:
        async with Client(server):
            pass
    assert str(refused.value) == f"server: Expected `str | null`, got `{type(server).__name__}`"
    assert refused.value.exit_code == REFUSED


@pytest.mark.parametrize(
    ("timeout_s", "said"),
    [
        (-1, "timeout_s is -1: it must be a finite number of seconds, zero or more"),
        (-0.5, "timeout_s is -0.5: "),
        (float("nan"), "timeout_s is nan: "),
        (float("inf"), "timeout_s is inf: "),
        (float("-inf"), "timeout_s is -inf: "),
        (10**400, "timeout_s is inf: "),
        (-(10**5000), "timeout_s is -inf: "),
        (True, "timeout_s: Expected `float | null`, got `bool`"),
        ("5", "timeout_s: Expected `float | null`, got `str`"),
        (Decimal(5), "timeout_s: Expected `float | null`, got `Decimal`"),
    ],
    ids=lambda value: ascii(value)[:20] if isinstance(value, str | float) else type(value).__name__,
)
def test_a_time_that_nobody_can_wait_is_refused(timeout_s: Any, said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_timeout(timeout_s)
    assert plain_line(str(refused.value)).startswith(said)


@pytest.mark.parametrize("timeout_s", [None, 0, 0.0, 1, 1.5, 1e300, 10**300])
def test_any_other_time_is_taken(timeout_s: float | None) -> None:
    check_timeout(timeout_s)


async def test_a_wait_that_takes_longer_says_that_the_submission_goes_on() -> None:
    with pytest.raises(WaitedTooLong, match=r"^a has not ended within 0 s; it goes on: `cutor watch a`$"):
        async with waiting_for(ADDRESS, 0):
            await asyncio.Event().wait()


@pytest.mark.parametrize("timeout_s", [None, 3600.0])
async def test_a_timeout_of_something_else_stays_what_it_is(timeout_s: float | None) -> None:
    with pytest.raises(TimeoutError, match="the server's") as ended:
        async with waiting_for(ADDRESS, timeout_s):
            raise TimeoutError("the server's")
    assert not isinstance(ended.value, CutorError)

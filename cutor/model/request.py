"""The request: its JSON shape, how it is read, its size and its digest.

`parse_request` reads what a user sent (strictly: an unknown field is an error); `cutor.model.request_checks` decodes it and
checks it against a stack's policy. Both raise `InvalidRequest` with one plain line that names the field.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterator
from typing import Any, Final, get_args

import msgspec

from cutor.model.content import RequestEncoding, not_text
from cutor.model.documents import check_keys, place_of, plain
from cutor.model.errors import InvalidRequest
from cutor.model.large_numbers import decode_request
from cutor.model.limits import RequestedLimits, stored_limits
from cutor.model.outcome import Compare
from cutor.model.quoting import visible
from cutor.model.subjects import DEFAULT_TENANT, Address

SHELL_NIX: Final = "shell.nix"
COMPILE_SCRIPT: Final = "cutor-compile.sh"
RUN_SCRIPT: Final = "cutor-run.sh"


class File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A source file; ``name`` is a relative path with ``/`` between its segments."""

    name: str
    """relative path, with `/` between its segments"""
    content: str
    """its bytes, in `encoding`"""
    encoding: RequestEncoding = "utf8"
    """of `content`"""


class TestCase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run: its stdin, its arguments, and the stdout it should have. ``encoding`` is that of input and expected output."""

    __test__ = False  # pytest collects classes by this prefix

    name: str | None = None
    """comes back in the stage's `name`"""
    input: str | None = None
    """standard input; without it, it is empty"""
    args: tuple[str, ...] = ()
    """arguments of the run script"""
    expected_output: str | None = None
    """what standard output is compared with; without it, nothing is compared"""
    encoding: RequestEncoding = "utf8"
    """of `input` and `expected_output`"""


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a producer sends. Field by field in ``docs/reference/request.md``."""

    files: tuple[File, ...]
    """`shell.nix` and `cutor-run.sh` must be there; `cutor-compile.sh` is run if it is there"""
    test_cases: tuple[TestCase, ...]
    """one at least; the run script runs once for each"""
    id: str | None = None
    """the idempotency key: the same id and body is the same submission; made up where there is none"""
    tenant: str = DEFAULT_TENANT
    """must be declared in the stack's configuration"""
    environment_files: tuple[str, ...] = ()
    """names of files that `shell.nix` imports: they go to the build and into the environment's key"""
    cache: bool = True
    """keep the built environment for later submissions"""
    limits: RequestedLimits = RequestedLimits()
    """what is left out takes the stack's defaults"""
    compare: Compare = "trailing_whitespace"
    """`trailing_whitespace` ignores white space at line ends and at the end"""
    stop_on_failure: bool = True
    """skip the test cases after the first that is not OK"""
    labels: dict[str, str] = {}
    """come back in the result, and stand in the views"""


class ValidTestCase(msgspec.Struct, frozen=True, kw_only=True):
    """A test case with its contents decoded; no input is empty input."""

    __test__ = False

    name: str | None
    input: bytes
    args: tuple[str, ...]
    expected_output: bytes | None


class ValidRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request that holds what every later step relies on; contents decoded, static defaults filled in."""

    address: Address
    files: dict[str, bytes]
    environment_files: tuple[str, ...]
    cache: bool
    limits: RequestedLimits
    test_cases: tuple[ValidTestCase, ...]
    compare: Compare
    stop_on_failure: bool
    labels: dict[str, str]


UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes or a document that are not of the wanted shape; `explain` has a line for each."""

_CHOICES: Final[dict[str, tuple[str, ...]]] = {"encoding": get_args(RequestEncoding), "compare": get_args(Compare)}
"""Fields of a request that have one of a few values; msgspec does not say which."""

EXPLAINED_CHARACTERS: Final = 300
"""Of what msgspec says of a document, which may hold any part of it."""


def parse_request(raw: bytes) -> Request:
    """Return the request in a JSON document. Raises `InvalidRequest`, also for a key that an object has twice."""
    try:
        request = decode_request(raw, Request)
        check_keys(raw)
    except UNREADABLE as error:
        raise InvalidRequest(f"request: {explain(error)}") from error
    return request


def request_from(document: Any) -> Request:
    """Return the request in a mapping, as read from TOML or built in Python, or in a struct whose types nobody has checked yet.

    Raises `InvalidRequest`.
    """
    try:
        document = plain(document)
        return msgspec.convert(document, type=Request)
    except UNREADABLE as error:
        raise InvalidRequest(f"request: {explain(error)}") from error
    except UnicodeEncodeError as error:  # msgspec quotes what it does not know
        raise InvalidRequest(f"request: {not_text(place_of(error.object, document), error)}") from error


def explain(error: Exception) -> str:
    """Return msgspec's message in one line with the place in front: ``test_cases[0].args: Expected `str`, got `int```."""
    if isinstance(error, UnicodeDecodeError):
        return "not valid UTF-8"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    text = str(error)
    found = re.fullmatch(r"(.*) - at (`key` in )?`\$\.?(.*?)`", text, re.DOTALL)
    if found:
        what, in_key, where = found.groups()
        what = f"a key: {what}" if in_key else what
        if what.startswith("Invalid enum value") and (choices := _CHOICES.get(where.rpartition(".")[2])):
            what = f"{what}: it must be {' or '.join(map(repr, choices))}"
        text = f"{where}: {what}" if where else what
    line = visible(text[: 2 * EXPLAINED_CHARACTERS])
    return line if len(line) <= EXPLAINED_CHARACTERS else f"{line[:EXPLAINED_CHARACTERS]}…"


def explain_toml(error: ValueError) -> str:
    """Return why a document could not be read as TOML, in one line: its reader passes on what Python says of long numbers."""
    if isinstance(error, tomllib.TOMLDecodeError | UnicodeDecodeError):
        return f"not valid TOML: {visible(str(error))[:EXPLAINED_CHARACTERS]}"
    return "not valid TOML: a number has too many digits"


def size_bytes(request: ValidRequest) -> int:
    """Return the bytes of a request: files, inputs and expected outputs, names, arguments and labels together."""
    contents = sum(map(len, request.files.values()))
    contents += sum(len(case.input) + len(case.expected_output or b"") for case in request.test_cases)
    return contents + sum(len(text.encode()) for text in _texts(request))


def _texts(request: ValidRequest) -> Iterator[str]:
    """Yield every string of a request that is no content."""
    yield from request.files
    yield from request.environment_files
    for case in request.test_cases:
        yield case.name or ""
        yield from case.args
    for label in request.labels.items():
        yield from label


def digest(request: ValidRequest) -> str:
    """Return the SHA-256 of a validated request without its id, in hex: equal requests, equal digests.

    Encodings and the order of files don't matter, nor do limits that the deployer fills in.
    """
    shape = {
        "tenant": request.address.tenant,
        "files": {name: _sha256(data) for name, data in sorted(request.files.items())},
        "environment_files": request.environment_files,
        "cache": request.cache,
        "limits": stored_limits(request.limits),
        "test_cases": [
            [
                case.name,
                _sha256(case.input),
                case.args,
                None if case.expected_output is None else _sha256(case.expected_output),
            ]
            for case in request.test_cases
        ],
        "compare": request.compare,
        "stop_on_failure": request.stop_on_failure,
        "labels": dict(sorted(request.labels.items())),
    }
    return _sha256(msgspec.json.encode(shape))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

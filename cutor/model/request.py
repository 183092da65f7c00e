"""The request: its JSON shape, its validation, its digest.

`parse_request` reads what a user sent (strictly: an unknown field is an error), `validate` checks it against a stack's policy
and decodes it. Both raise `InvalidRequest` with one plain line that names the field.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from cutor.model.content import RequestEncoding, decode_request_text
from cutor.model.errors import InvalidRequest
from cutor.model.limits import Bounds, Policy, RequestedLimits, resolve_all, stored_limits
from cutor.model.outcome import Compare
from cutor.model.subjects import Address, check_address

SHELL_NIX: Final = "shell.nix"
COMPILE_SCRIPT: Final = "cutor-compile.sh"
RUN_SCRIPT: Final = "cutor-run.sh"


class File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A source file; ``name`` is a relative path with ``/`` between its segments."""

    name: str
    content: str
    encoding: RequestEncoding = "utf8"


class TestCase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run: its stdin, its arguments, and the stdout it should have. ``encoding`` is that of input and expected output."""

    __test__ = False  # pytest collects classes by this prefix

    name: str | None = None
    input: str | None = None
    args: tuple[str, ...] = ()
    expected_output: str | None = None
    encoding: RequestEncoding = "utf8"


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a producer sends. Field by field in ``docs/reference/request.md``."""

    files: tuple[File, ...]
    test_cases: tuple[TestCase, ...]
    id: str | None = None
    tenant: str = "default"
    environment_files: tuple[str, ...] = ()
    cache: bool = True
    limits: RequestedLimits = RequestedLimits()
    compare: Compare = "trailing_whitespace"
    stop_on_failure: bool = True
    labels: dict[str, str] = {}


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


def parse_request(raw: bytes) -> Request:
    """Return the request in a JSON document. Raises `InvalidRequest`."""
    try:
        return msgspec.json.decode(raw, type=Request)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise InvalidRequest(f"request: {explain(error)}") from error


def request_from(document: Any) -> Request:
    """Return the request in a mapping, as read from TOML or built in Python. Raises `InvalidRequest`."""
    try:
        return msgspec.convert(document, type=Request)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"request: {explain(error)}") from error


def explain(error: Exception) -> str:
    """Return msgspec's message with the place in front: ``test_cases[0].args: Expected `str`, got `int```."""
    text = str(error)
    found = re.fullmatch(r"(.*) - at `\$\.?(.*?)`", text, re.DOTALL)
    if not found:
        return text
    what, where = found.groups()
    return f"{where}: {what}" if where else what


def validate(request: Request, policy: Policy, made_up_id: str) -> ValidRequest:
    """Return a request decoded and checked against a policy: what every later step relies on.

    ``made_up_id`` is taken where the request has no id. Raises `InvalidRequest` for anything the policy or the design refuse.
    """
    address = check_address(request.tenant, made_up_id if request.id is None else request.id)
    decoded = ValidRequest(
        address=address,
        files=_decode_files(request.files),
        environment_files=tuple(sorted(set(request.environment_files))),
        cache=request.cache,
        limits=request.limits,
        test_cases=tuple(_decode_case(f"test_cases[{n}]", case) for n, case in enumerate(request.test_cases)),
        compare=request.compare,
        stop_on_failure=request.stop_on_failure,
        labels=request.labels,
    )
    check(decoded, policy)
    return decoded


def check(request: ValidRequest, policy: Policy) -> None:
    """Check a decoded request against a policy, as a client does before it appends and a builder does again.

    Raises `InvalidRequest` that names field, value, bound and unit.
    """
    bounds = policy.bounds
    if request.address.tenant not in policy.tenants:
        declared = ", ".join(sorted(policy.tenants))
        raise InvalidRequest(f"tenant {request.address.tenant!r} is not declared; this stack has: {declared}")
    _check_files(request.files, bounds)
    _check_environment_files(request.environment_files, request.files)
    resolve_all(request.limits, policy.limits)
    _check_test_cases(request.test_cases, bounds)
    _check_labels(request.labels, bounds)
    if (size := size_bytes(request)) > bounds.request_bytes:
        raise InvalidRequest(
            f"request: {size} bytes of files and inputs are more than the maximum of {bounds.request_bytes} bytes"
        )


def size_bytes(request: ValidRequest) -> int:
    """Return the bytes of a request's files, inputs and expected outputs together."""
    cases = sum(len(case.input) + len(case.expected_output or b"") for case in request.test_cases)
    return sum(map(len, request.files.values())) + cases


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


def _decode_files(files: Iterable[File]) -> dict[str, bytes]:
    decoded: dict[str, bytes] = {}
    for file in files:
        if file.name in decoded:
            raise InvalidRequest(f"files: {file.name!r} is there twice")
        decoded[file.name] = decode_request_text(f"files: the content of {file.name!r}", file.encoding, file.content)
    return decoded


def _decode_case(where: str, case: TestCase) -> ValidTestCase:
    expected = case.expected_output
    return ValidTestCase(
        name=case.name,
        input=decode_request_text(f"{where}.input", case.encoding, case.input or ""),
        args=case.args,
        expected_output=None if expected is None else decode_request_text(f"{where}.expected_output", case.encoding, expected),
    )


def _check_files(files: dict[str, bytes], bounds: Bounds) -> None:
    for needed in (SHELL_NIX, RUN_SCRIPT):
        if needed not in files:
            raise InvalidRequest(f"files: {needed} is missing; every submission needs it")
    if len(files) > bounds.files:
        raise InvalidRequest(f"files: {len(files)} are more than the maximum of {bounds.files} files")
    for name in files:
        check_file_name(name, bounds.file_name_bytes)
    _check_no_file_is_a_directory(files)


def check_file_name(name: str, maximum_bytes: int) -> None:
    """Raise `InvalidRequest` for a name that could leave the box or name nothing."""
    if "\0" in name:
        raise InvalidRequest(f"files: the name {name!r} holds a NUL character")
    if (size := len(_utf8("files: a name", name))) > maximum_bytes:
        raise InvalidRequest(f"files: the name {name[:40]!r}… has {size} bytes; the maximum is {maximum_bytes} bytes")
    if name.startswith("/"):
        raise InvalidRequest(f"files: the name {name!r} is absolute; it must be relative to the submission")
    for segment in name.split("/"):
        if segment in ("", ".", ".."):
            raise InvalidRequest(f"files: the name {name!r} has the segment {segment!r}; empty, '.' and '..' are refused")


def _check_no_file_is_a_directory(names: Iterable[str]) -> None:
    known = set(names)
    for name in known:
        segments = name.split("/")
        for end in range(1, len(segments)):
            if (parent := "/".join(segments[:end])) in known:
                raise InvalidRequest(f"files: {parent!r} is a file and the directory of {name!r}")


def _check_environment_files(wanted: Iterable[str], files: dict[str, bytes]) -> None:
    for name in wanted:
        if name not in files:
            raise InvalidRequest(f"environment_files: {name!r} is not among the files")


def _check_test_cases(cases: tuple[ValidTestCase, ...], bounds: Bounds) -> None:
    if not cases:
        raise InvalidRequest("test_cases: at least one is needed; one without input runs the program once")
    if len(cases) > bounds.test_cases:
        raise InvalidRequest(f"test_cases: {len(cases)} are more than the maximum of {bounds.test_cases} test cases")
    for position, case in enumerate(cases):
        _check_test_case(f"test_cases[{position}]", case, bounds)


def _check_test_case(where: str, case: ValidTestCase, bounds: Bounds) -> None:
    if case.name is not None and len(_utf8(f"{where}.name", case.name)) > bounds.label_bytes:
        raise InvalidRequest(f"{where}.name: more than the maximum of {bounds.label_bytes} bytes")
    if len(case.args) > bounds.args:
        raise InvalidRequest(f"{where}.args: {len(case.args)} are more than the maximum of {bounds.args} arguments")
    if sum(len(_utf8(f"{where}.args", arg)) + 1 for arg in case.args) > bounds.arg_bytes:
        raise InvalidRequest(f"{where}.args: together more than the maximum of {bounds.arg_bytes} bytes")
    if any("\0" in arg for arg in case.args):
        raise InvalidRequest(f"{where}.args: an argument holds a NUL character, which no program can be given")


def _check_labels(labels: dict[str, str], bounds: Bounds) -> None:
    if len(labels) > bounds.labels:
        raise InvalidRequest(f"labels: {len(labels)} are more than the maximum of {bounds.labels} labels")
    for key, value in labels.items():
        if not key:
            raise InvalidRequest("labels: a key is empty")
        if len(_utf8("labels", key)) + len(_utf8("labels", value)) > bounds.label_bytes:
            raise InvalidRequest(f"labels.{key[:40]}: key and value are more than the maximum of {bounds.label_bytes} bytes")


def _utf8(where: str, text: str) -> bytes:
    return decode_request_text(where, "utf8", text)

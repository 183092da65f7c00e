"""The request: its JSON shape, its validation, its digest.

`parse_request` reads what a user sent (strictly: an unknown field is an error), `validate` checks it against a stack's policy
and decodes it. Both raise `InvalidRequest` with one plain line that names the field.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, get_args

import msgspec

from cutor.model.content import RequestEncoding, decode_request_text, not_text
from cutor.model.documents import check_keys, place_of, plain
from cutor.model.errors import InvalidRequest
from cutor.model.large_numbers import decode_request
from cutor.model.limits import HANDED_TEXT_BYTES, Bounds, Policy, RequestedLimits, resolve_all, stored_limits
from cutor.model.outcome import Compare
from cutor.model.quoting import shown, visible
from cutor.model.spill import EVENT_RECORD_BYTES, REFERENCE_BYTES
from cutor.model.subjects import Address, check_address

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
    tenant: str = "default"
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
SHOWN_TENANTS: Final = 5
SEGMENT_BYTES: Final = 255
"""The longest name that a file or directory can have on Linux, whatever the deployer allows for a path."""
ARG_BYTES: Final = (128 << 10) - 1
"""The longest argument that Linux passes to a program (MAX_ARG_STRLEN, less NUL), whatever the deployer allows for all."""
HANDED_FILE_BYTES: Final = 32
"""What a file takes beside its name where a container is told of it: field names, size, a comma."""


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


def validate(request: Request, policy: Policy, made_up_id: str) -> ValidRequest:
    """Return a request decoded and checked against a policy: what every later step relies on.

    ``made_up_id`` is taken where the request has no id. Raises `InvalidRequest` for whatever the policy, or the form of a
    request, refuses.
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
        raise InvalidRequest(f"tenant {request.address.tenant!r} is not declared; this stack has: {_some(policy.tenants)}")
    check_counts(len(request.files), len(request.test_cases), bounds)
    _check_files(request.files, bounds)
    _check_environment_files(request.environment_files, request.files)
    resolve_all(request.limits, policy.limits)
    _check_test_cases(request.test_cases, bounds)
    _check_labels(request.labels, bounds)
    check_size(size_bytes(request), bounds)
    _check_record(request)
    _check_names(request.files)


def _some(tenants: Iterable[str]) -> str:
    """Return the names of the first few tenants, and how many more there are."""
    names = sorted(tenants)
    more = len(names) - SHOWN_TENANTS
    return ", ".join(names[:SHOWN_TENANTS]) + (f" and {more} more" if more > 0 else "")


def check_counts(files: int, test_cases: int, bounds: Bounds) -> None:
    """Raise `InvalidRequest` for more files or test cases than the bounds allow."""
    if files > bounds.files:
        raise InvalidRequest(f"files: {files} are more than the maximum of {bounds.files} files")
    if test_cases > bounds.test_cases:
        raise InvalidRequest(f"test_cases: {test_cases} are more than the maximum of {bounds.test_cases} test cases")


def check_size(size: int, bounds: Bounds) -> None:
    """Raise `InvalidRequest` where a request's bytes are over the bound."""
    if size > bounds.request_bytes:
        raise InvalidRequest(
            f"request: {size} bytes of contents, names, arguments and labels are more than the maximum of "
            f"{bounds.request_bytes} bytes"
        )


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


def record_bytes(request: ValidRequest) -> int:
    """Return how many bytes of a ``submitted`` event a request takes, at the most, when all of its contents are in BODIES."""
    cases = [(case.name, case.args) for case in request.test_cases]
    texts = (tuple(request.files), cases, request.environment_files, request.labels, stored_limits(request.limits))
    return len(msgspec.json.encode(texts)) + REFERENCE_BYTES * (len(request.files) + 2 * len(cases))


def _check_record(request: ValidRequest) -> None:
    """Raise `InvalidRequest` for a request that no event could hold, whatever of it is stored apart."""
    if (size := record_bytes(request)) > EVENT_RECORD_BYTES:
        raise InvalidRequest(
            f"request: names, arguments, labels and limits take {size} bytes of its event, more than the maximum of "
            f"{EVENT_RECORD_BYTES} bytes; what is large belongs into files and inputs"
        )


def handed_names_bytes(names: Iterable[str]) -> int:
    """Return how many bytes it takes, at the most, to tell a container of files with these names."""
    return sum(len(msgspec.json.encode(name)) + HANDED_FILE_BYTES for name in names)


def _check_names(names: Iterable[str]) -> None:
    """Raise `InvalidRequest` for names of files that are more than a container is told of."""
    if (size := handed_names_bytes(names)) > HANDED_TEXT_BYTES:
        raise InvalidRequest(
            f"files: the names take {size} bytes where a container is told of them, more than the maximum of "
            f"{HANDED_TEXT_BYTES} bytes"
        )


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
            raise InvalidRequest(f"files: {shown(file.name)} is there twice")
        decoded[file.name] = decode_request_text(f"files: the content of {shown(file.name)}", file.encoding, file.content)
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
    for name in files:
        check_file_name(name, bounds.file_name_bytes)
    _check_no_file_is_a_directory(files)


def check_file_name(name: str, maximum_bytes: int) -> None:
    """Raise `InvalidRequest` for a name that could leave the box or name nothing."""
    if (size := len(_utf8(f"files: the name {shown(name)}", name))) > maximum_bytes:
        raise InvalidRequest(f"files: the name {shown(name, 40)} has {size} bytes; the maximum is {maximum_bytes} bytes")
    if "\0" in name:
        raise InvalidRequest(f"files: the name {shown(name)} holds a NUL character")
    if name.startswith("/"):
        raise InvalidRequest(f"files: the name {shown(name)} is absolute; it must be relative to the submission")
    for segment in name.split("/"):
        if segment in ("", ".", ".."):
            raise InvalidRequest(f"files: the name {shown(name)} has the segment {segment!r}; empty, '.' and '..' are refused")
        if (size := len(segment.encode())) > SEGMENT_BYTES:
            raise InvalidRequest(f"files: the name {shown(name)} has a segment of {size} bytes; the maximum is {SEGMENT_BYTES}")


def _check_no_file_is_a_directory(known: Mapping[str, bytes]) -> None:
    for name in known:
        segments = name.split("/")
        for end in range(1, len(segments)):
            if (parent := "/".join(segments[:end])) in known:
                raise InvalidRequest(f"files: {shown(parent)} is a file and the directory of {shown(name)}")


def _check_environment_files(wanted: Iterable[str], files: dict[str, bytes]) -> None:
    for name in wanted:
        if name not in files:
            raise InvalidRequest(f"environment_files: {shown(name)} is not among the files")


def _check_test_cases(cases: tuple[ValidTestCase, ...], bounds: Bounds) -> None:
    if not cases:
        raise InvalidRequest("test_cases: at least one is needed; one without input runs the program once")
    for position, case in enumerate(cases):
        _check_test_case(f"test_cases[{position}]", case, bounds)


def _check_test_case(where: str, case: ValidTestCase, bounds: Bounds) -> None:
    if (size := len(_utf8(f"{where}.name", case.name or ""))) > bounds.test_case_name_bytes:
        raise InvalidRequest(f"{where}.name: {size} bytes are more than the maximum of {bounds.test_case_name_bytes} bytes")
    if len(case.args) > bounds.args:
        raise InvalidRequest(f"{where}.args: {len(case.args)} are more than the maximum of {bounds.args} arguments")
    sizes = [len(_utf8(f"{where}.args", arg)) for arg in case.args]
    if (size := sum(sizes) + len(sizes)) > bounds.arg_bytes:
        raise InvalidRequest(f"{where}.args: together {size} bytes, more than the maximum of {bounds.arg_bytes} bytes")
    if (longest := max(sizes, default=0)) > ARG_BYTES:
        raise InvalidRequest(
            f"{where}.args: an argument of {longest} bytes, more than the {ARG_BYTES} that Linux passes to a program"
        )
    if any("\0" in arg for arg in case.args):
        raise InvalidRequest(f"{where}.args: an argument holds a NUL character, which no program can be given")


def _check_labels(labels: dict[str, str], bounds: Bounds) -> None:
    if len(labels) > bounds.labels:
        raise InvalidRequest(f"labels: {len(labels)} are more than the maximum of {bounds.labels} labels")
    for key, value in labels.items():
        if not key:
            raise InvalidRequest("labels: a key is empty")
        where = f"labels.{key[:40]}" if key.isprintable() else f"labels[{shown(key, 40)}]"
        if (size := len(_utf8(where, key)) + len(_utf8(where, value))) > bounds.label_bytes:
            raise InvalidRequest(
                f"{where}: key and value are {size} bytes, more than the maximum of {bounds.label_bytes} bytes"
            )


def _utf8(where: str, text: str) -> bytes:
    return decode_request_text(where, "utf8", text)

"""Checks of a request: it is decoded, and held against the bounds of a stack's policy and what cutor itself can carry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from cutor.model.content import decode_request_text
from cutor.model.errors import InvalidRequest
from cutor.model.limits import HANDED_TEXT_BYTES, Bounds, Policy, resolve_all, stored_limits
from cutor.model.quoting import shown
from cutor.model.request import (
    RUN_SCRIPT,
    SHELL_NIX,
    File,
    Request,
    TestCase,
    ValidRequest,
    ValidTestCase,
    size_bytes,
)
from cutor.model.spill import EVENT_RECORD_BYTES, REFERENCE_BYTES
from cutor.model.subjects import check_address

SHOWN_TENANTS: Final = 5
"""Tenants that the refusal of an unknown one names; the others are counted."""
SEGMENT_BYTES: Final = 255
"""The longest name that a file or directory can have on Linux, whatever the deployer allows for a path."""
ARG_BYTES: Final = (128 << 10) - 1
"""The longest argument that Linux passes to a program (MAX_ARG_STRLEN, less NUL), whatever the deployer allows for all."""
HANDED_FILE_BYTES: Final = 32
"""What a file takes beside its name where a container is told of it: field names, size, a comma."""


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
    check_tenant(request.address.tenant, policy)
    check_counts(len(request.files), len(request.test_cases), bounds)
    _check_files(request.files, bounds)
    _check_environment_files(request.environment_files, request.files)
    resolve_all(request.limits, policy.limits)
    _check_test_cases(request.test_cases, bounds)
    _check_labels(request.labels, bounds)
    check_size(size_bytes(request), bounds)
    _check_record(request)
    _check_names(request.files)


def check_tenant(tenant: str, policy: Policy) -> None:
    """Raise `InvalidRequest` for a tenant that the policy does not declare."""
    if tenant not in policy.tenants:
        raise InvalidRequest(f"tenant {tenant!r} is not declared; this stack has: {some_tenants(policy)}")


def some_tenants(policy: Policy) -> str:
    """Return the names of the first few declared tenants, and how many more there are."""
    names = sorted(policy.tenants)
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

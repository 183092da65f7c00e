"""Requests on their way out of an event that anybody may have written: refused with one line, and before bodies are fetched."""

from __future__ import annotations

import hashlib

import pytest

from cutor.bus.bodies import BodyRef as StoredBody
from cutor.bus.bodies import chunks_of, reference_of
from cutor.bus.errors import BodyCorrupt, BodyMissing, BusError, BusUnreachable
from cutor.journal.contents import Contents
from cutor.model.codec import encode
from cutor.model.content import BodyRef, Content, pack
from cutor.model.errors import InvalidRequest
from cutor.model.events import StoredFile, StoredRequest, StoredTestCase, Submitted
from cutor.model.limits import Bounds, Policy, RequestedLimits
from cutor.model.request import RUN_SCRIPT, SHELL_NIX, ValidRequest, ValidTestCase, digest
from cutor.model.request_checks import check
from cutor.model.spill import EVENT_BYTES
from cutor.model.subjects import Address

ADDRESS = Address("default", "x")
HEADERS_BYTES = 1024
"""Far more than the headers of an append have."""


class MemoryBodies:
    """Bodies as they are used here, in memory; ``fetched`` are the hashes that were asked for."""

    def __init__(self, fault: BusError | None = None) -> None:
        self.held: dict[str, bytes] = {}
        self.fetched: list[str] = []
        self._fault = fault

    async def put(self, data: bytes) -> StoredBody:
        ref = reference_of(data)
        self.held[ref.sha256] = data
        return ref

    async def get(self, ref: StoredBody) -> bytes:
        self.fetched.append(ref.sha256)
        if self._fault is not None:
            raise self._fault
        return self.held[ref.sha256]


def contents(bodies: MemoryBodies | None = None) -> Contents:
    return Contents(bodies or MemoryBodies())  # type: ignore[arg-type]


def claim(size_bytes: int, *, sha256: str = "a" * 64, chunks: int | None = None) -> Content:
    return Content(
        body=BodyRef(sha256=sha256, size_bytes=size_bytes, chunks=chunks_of(size_bytes) if chunks is None else chunks)
    )


def stored(*files: Content, case: StoredTestCase | None = None) -> StoredRequest:
    named = tuple(StoredFile(name=f"file {n}", content=content) for n, content in enumerate(files))
    return StoredRequest(files=named, test_cases=(case or StoredTestCase(),))


def valid(**changes: object) -> ValidRequest:
    fields = {
        "address": ADDRESS,
        "files": {SHELL_NIX: b"{ }", RUN_SCRIPT: b"true"},
        "environment_files": (),
        "cache": True,
        "limits": RequestedLimits(),
        "test_cases": (ValidTestCase(name=None, input=b"", args=(), expected_output=None),),
        "compare": "exact",
        "stop_on_failure": True,
        "labels": {},
    }
    return ValidRequest(**fields | changes)  # type: ignore[arg-type]


async def test_what_is_stored_is_loaded_again() -> None:
    bodies = MemoryBodies()
    request = valid(
        files={SHELL_NIX: b"{ }", RUN_SCRIPT: b"\xff", "large": b"x" * 100_000},
        test_cases=(ValidTestCase(name="n", input=b"y" * 100_000, args=("a",), expected_output=b""),),
    )
    kept = await contents(bodies).store_request(request)
    assert await contents(bodies).load_request(ADDRESS, kept, Bounds()) == request
    assert len(bodies.fetched) == 2


NOT_BASE64 = [
    ("%%%", "Only base64 data is allowed"),
    ("QUJ", "Incorrect padding"),
    ("QUJD=", "its padding or its last character"),
    ("QR==", "its padding or its last character"),
]


@pytest.mark.parametrize(("data", "said"), NOT_BASE64)
@pytest.mark.parametrize("bounds", [None, Bounds()])
async def test_a_content_that_cannot_be_decoded_is_named(data: str, said: str, bounds: Bounds | None) -> None:
    bad = Content(encoding="base64", data=data)
    for request, where in [
        (stored(pack(b""), bad), "files: the content of 'file 1'"),
        (stored(case=StoredTestCase(input=bad)), "test_cases[0].input"),
        (stored(case=StoredTestCase(expected_output=bad)), "test_cases[0].expected_output"),
    ]:
        with pytest.raises(InvalidRequest) as error:
            await contents().load_request(ADDRESS, request, bounds)
        assert str(error.value).startswith(f"{where} is not valid base64: {said}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (claim(1, sha256="A" * 64), "which is no SHA-256"),
        (claim(1, chunks=2), "1 bytes are 1 chunks, not 2"),
        (claim(-1, chunks=0), "-1 bytes, allowed are 0 to"),
        (claim(1 << 40), "bytes, allowed are 0 to"),
    ],
)
async def test_a_reference_that_contradicts_itself_is_refused_unfetched(content: Content, said: str) -> None:
    bodies = MemoryBodies()
    with pytest.raises(InvalidRequest, match=r"^test_cases\[0\]\.input cannot be read: ") as error:
        await contents(bodies).load_request(ADDRESS, stored(case=StoredTestCase(input=content)))
    assert said in str(error.value)
    assert bodies.fetched == []


@pytest.mark.parametrize("fault", [BodyMissing("body a: chunk 0 of 1 is not there"), BodyCorrupt("body a: not what was put")])
async def test_a_body_that_is_missing_or_wrong_is_the_requests_fault(fault: BusError) -> None:
    with pytest.raises(InvalidRequest) as error:
        await contents(MemoryBodies(fault)).load_request(ADDRESS, stored(claim(1)))
    assert str(error.value) == f"files: the content of 'file 0' cannot be read: {fault}"


async def test_a_server_that_does_not_answer_is_not() -> None:
    with pytest.raises(BusUnreachable):
        await contents(MemoryBodies(BusUnreachable("x"))).load_request(ADDRESS, stored(claim(1)))


BODY = b"x" * (1 << 20)


async def test_references_over_the_bound_are_refused_before_anything_is_fetched() -> None:
    """An event of 6 KB with forty references to one body of 16 MiB."""
    bodies = MemoryBodies()
    with pytest.raises(InvalidRequest, match=r"^request: 671088640 bytes of .* more than the maximum of 33554432 bytes$"):
        await contents(bodies).load_request(ADDRESS, stored(*[claim(16 << 20)] * 40), Bounds())
    assert bodies.fetched == []


async def test_what_stands_in_the_event_counts_decoded_and_up_to_the_bound_itself() -> None:
    bodies = MemoryBodies()
    ref = await bodies.put(BODY)
    parts = [claim(len(BODY), sha256=ref.sha256), pack("é".encode()), pack(b"\xff")]
    case = StoredTestCase(input=pack(b"in"), expected_output=pack(b"out"))
    size = len(BODY) + 2 + 1 + 2 + 3
    loaded = await contents(bodies).load_request(ADDRESS, stored(*parts, case=case), Bounds(request_bytes=size))
    assert sum(map(len, loaded.files.values())) == len(BODY) + 3
    with pytest.raises(InvalidRequest, match=f"request: {size} bytes of"):
        await contents(bodies).load_request(ADDRESS, stored(*parts, case=case), Bounds(request_bytes=size - 1))


async def test_more_files_or_test_cases_than_the_bounds_are_refused_before_anything_is_fetched() -> None:
    bodies = MemoryBodies()
    many = StoredRequest(files=(), test_cases=(StoredTestCase(input=claim(1)),) * 3)
    with pytest.raises(InvalidRequest, match="test_cases: 3 are more than the maximum of 2 test cases"):
        await contents(bodies).load_request(ADDRESS, many, Bounds(test_cases=2))
    with pytest.raises(InvalidRequest, match="files: 3 are more than the maximum of 2 files"):
        await contents(bodies).load_request(ADDRESS, stored(*[claim(1)] * 3), Bounds(files=2))
    assert bodies.fetched == []


async def test_a_name_that_is_there_twice_is_refused() -> None:
    """Else the second content would silently take the place of the first."""
    file = StoredFile(name="a", content=pack(b""))
    with pytest.raises(InvalidRequest, match="files: 'a' is there twice"):
        await contents().load_request(ADDRESS, StoredRequest(files=(file, file), test_cases=()))


async def event_bytes(request: ValidRequest) -> int:
    kept = await contents().store_request(request)
    return len(encode(Submitted(request=kept, digest=digest(request), caused_by="c" * 64)))


ESCAPED = "\x01"
"""JSON needs six bytes for it: no character grows more."""


async def test_the_largest_request_that_is_valid_fits_into_an_event() -> None:
    """Contents that stay in the event as long as may be, references as many, and texts up to their bound."""
    many = Bounds(files=3000, test_cases=3000, request_bytes=1 << 30)
    inline = (1 << 20) // 64
    request = valid(
        files={SHELL_NIX: b"{ }", RUN_SCRIPT: b"", **{f"f{n}": ESCAPED.encode() * inline for n in range(64)}},
        test_cases=tuple(
            ValidTestCase(name=ESCAPED * 40, input=b"x" * 70_000, args=("a", "b"), expected_output=hashlib.sha256(b"").digest())
            for _ in range(2500)
        ),
    )
    with pytest.raises(InvalidRequest, match="names, arguments, labels and limits take"):
        check(request, Policy(bounds=many))
    request = valid(files=request.files, test_cases=request.test_cases[:2400], labels={ESCAPED: ESCAPED * 255})
    check(request, Policy(bounds=many))
    assert await event_bytes(request) <= EVENT_BYTES - HEADERS_BYTES


async def test_as_many_arguments_as_are_valid_fit_into_an_event() -> None:
    arguments = ValidTestCase(name=None, input=b"", args=(ESCAPED * 250,) * 160, expected_output=None)
    inline = {SHELL_NIX: b"", RUN_SCRIPT: b"", **{f"f{n}": ESCAPED.encode() * (64 << 10) for n in range(20)}}
    request = valid(files=inline, test_cases=(arguments,) * 6)
    check(request, Policy())
    assert await event_bytes(request) <= EVENT_BYTES - HEADERS_BYTES
    with pytest.raises(InvalidRequest, match="names, arguments, labels and limits take"):
        check(valid(files=inline, test_cases=(arguments,) * 7), Policy())

"""Contents of events: what is small stands in the event, what is large in BODIES; readers never see the difference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress

import msgspec

from cutor.bus.bodies import Bodies, check_reference, reference_of
from cutor.bus.bodies import BodyRef as StoredBody
from cutor.bus.errors import AppendRefused, BodyCorrupt, BodyMissing
from cutor.model.content import BodyRef, Content, decode_text, encode_text, pack, unpack
from cutor.model.errors import InvalidRequest
from cutor.model.events import Interrupted, Output, Stage, StoredFile, StoredRequest, StoredTestCase
from cutor.model.limits import Bounds, requested_limits, stored_limits
from cutor.model.quoting import shown
from cutor.model.request import ValidRequest, ValidTestCase, explain
from cutor.model.request_checks import check_counts, check_size
from cutor.model.result import Result
from cutor.model.spill import spilled
from cutor.model.subjects import Address


class Contents:
    """Requests, stages and results on their way into and out of events."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies

    async def store_request(self, request: ValidRequest) -> StoredRequest:
        """Return a request as ``submitted`` holds it; its large contents are in BODIES before this returns."""
        names = list(request.files)
        blocks = [request.files[name] for name in names]
        blocks += [case.input for case in request.test_cases]
        blocks += [case.expected_output or b"" for case in request.test_cases]
        contents = await self._pack_all(blocks)
        inputs = contents[len(names) : len(names) + len(request.test_cases)]
        expected = contents[len(names) + len(request.test_cases) :]
        return StoredRequest(
            files=tuple(StoredFile(name=name, content=content) for name, content in zip(names, contents, strict=False)),
            test_cases=tuple(
                StoredTestCase(
                    name=case.name,
                    input=given,
                    args=case.args,
                    expected_output=None if case.expected_output is None else wanted,
                )
                for case, given, wanted in zip(request.test_cases, inputs, expected, strict=True)
            ),
            environment_files=request.environment_files,
            cache=request.cache,
            limits=stored_limits(request.limits),
            compare=request.compare,
            stop_on_failure=request.stop_on_failure,
            labels=request.labels,
        )

    async def complete_request(self, request: ValidRequest, stored: StoredRequest) -> None:
        """Store what BODIES has lost of a request that an event holds, from the same request handed in again.

        What the event names and the request does not have stays as it is; so does a name that something else has taken since:
        whoever reads it refuses it. Nor is it an error that the server takes no more: what is stored stays stored.
        """
        for data, content in _pairs(request, stored):
            if content.body is None:
                continue
            ref = _stored_body(content.body)
            if msgspec.structs.replace(ref, salt=None) == reference_of(data):
                with suppress(BodyCorrupt, AppendRefused):
                    check_reference(ref)
                    await self._bodies.complete(ref, data)

    async def renewed(self, request: ValidRequest, stored: StoredRequest) -> StoredRequest:
        """Return what an old event holds of a request, for a new event: large contents that are gone or to go are stored again.

        ``request`` is what `load_request` made of it just now.
        """
        files = [
            msgspec.structs.replace(file, content=await self._renewed(file.content, request.files[file.name]))
            for file in stored.files
        ]
        cases = [
            msgspec.structs.replace(
                kept,
                input=await self._renewed(kept.input, case.input),
                expected_output=None
                if kept.expected_output is None
                else await self._renewed(kept.expected_output, case.expected_output or b""),
            )
            for case, kept in zip(request.test_cases, stored.test_cases, strict=True)
        ]
        return msgspec.structs.replace(stored, files=tuple(files), test_cases=tuple(cases))

    async def _renewed(self, content: Content, data: bytes) -> Content:
        if content.body is None:
            return content
        return msgspec.structs.replace(content, body=_body(await self._bodies.renew(_stored_body(content.body), data)))

    async def load_request(self, address: Address, stored: StoredRequest, bounds: Bounds | None = None) -> ValidRequest:
        """Return a stored request with every content fetched; it is decoded, not yet checked against a policy.

        Anybody may have written it. With ``bounds``, no body is fetched for a request that is over them by its own account: a
        few references can stand for any number of bytes. Raises `InvalidRequest` for contents that cannot be decoded, and for
        bodies that are missing or not what the reference says; another `BusError` says nothing about the request.
        """
        _check_stated(stored, bounds)
        cases = [
            ValidTestCase(
                name=case.name,
                input=await self._load(f"test_cases[{n}].input", case.input),
                args=case.args,
                expected_output=None
                if case.expected_output is None
                else await self._load(f"test_cases[{n}].expected_output", case.expected_output),
            )
            for n, case in enumerate(stored.test_cases)
        ]
        return ValidRequest(
            address=address,
            files={file.name: await self._load(_place_of(file), file.content) for file in stored.files},
            environment_files=stored.environment_files,
            cache=stored.cache,
            limits=requested_limits(stored.limits),
            test_cases=tuple(cases),
            compare=stored.compare,
            stop_on_failure=stored.stop_on_failure,
            labels=stored.labels,
        )

    async def _load(self, where: str, content: Content) -> bytes:
        """Return the bytes of a request's content. Raises `InvalidRequest` that names ``where`` it stands."""
        if content.body is None:
            return _inline(where, content)
        try:
            return await self._bodies.get(_stored_body(content.body))
        except (BodyCorrupt, BodyMissing) as error:
            raise InvalidRequest(f"{where} cannot be read: {explain(error)}") from error

    async def fetch(self, content: Content) -> bytes:
        """Return the bytes of a content, from BODIES where they live there."""
        if content.body is None:
            return unpack(content)
        return await self._bodies.get(_stored_body(content.body))

    async def pack(self, data: bytes) -> Content:
        """Return a content of these bytes; they are in BODIES when they are large."""
        return (await self._pack_all([data]))[0]

    async def _pack_all(self, blocks: Sequence[bytes]) -> list[Content]:
        apart = spilled([len(block) for block in blocks])
        return [
            Content(body=await self._put(block)) if position in apart else pack(block) for position, block in enumerate(blocks)
        ]

    async def _put(self, data: bytes) -> BodyRef:
        return _body(await self._bodies.put(data))

    async def spill_stages(self, stages: Sequence[Stage]) -> tuple[Stage, ...]:
        """Return stages whose large outputs are references to BODIES, as one event can hold them."""
        outputs = [output for stage in stages for output in (stage.stdout, stage.stderr)]
        blocks = [decode_text(output.encoding, output.data) for output in outputs]
        apart = spilled([len(block) for block in blocks])
        kept = [
            msgspec.structs.replace(output, encoding="utf8", data="", body=await self._put(block))
            if position in apart
            else output
            for position, (output, block) in enumerate(zip(outputs, blocks, strict=True))
        ]
        return tuple(
            msgspec.structs.replace(stage, stdout=kept[2 * n], stderr=kept[2 * n + 1]) for n, stage in enumerate(stages)
        )

    async def spill_interrupted(self, part: Interrupted) -> Interrupted:
        """Return what a cancel interrupted, its large outputs stored as those of any stage."""
        return msgspec.structs.replace(part, stages=await self.spill_stages(part.stages))

    async def resolve(self, document: Result) -> Result:
        """Return a result with every output fetched that lives in BODIES."""
        return msgspec.structs.replace(
            document,
            dependencies=await self._resolve_stage(document.dependencies),
            compile=await self._resolve_stage(document.compile),
            run=tuple([stage for run in document.run if (stage := await self._resolve_stage(run))]),
        )

    async def _resolve_stage(self, stage: Stage | None) -> Stage | None:
        if stage is None:
            return None
        stdout, stderr = await self._resolve_output(stage.stdout), await self._resolve_output(stage.stderr)
        return msgspec.structs.replace(stage, stdout=stdout, stderr=stderr)

    async def _resolve_output(self, output: Output) -> Output:
        if not isinstance(output.body, BodyRef):
            return output
        encoding, data = encode_text(await self._bodies.get(_stored_body(output.body)))
        return msgspec.structs.replace(output, encoding=encoding, data=data, body=msgspec.UNSET)


def _body(stored: StoredBody) -> BodyRef:
    return BodyRef(sha256=stored.sha256, size_bytes=stored.size_bytes, chunks=stored.chunks, salt=stored.salt)


def _stored_body(body: BodyRef) -> StoredBody:
    return StoredBody(sha256=body.sha256, size_bytes=body.size_bytes, chunks=body.chunks, salt=body.salt)


def _check_stated(stored: StoredRequest, bounds: Bounds | None) -> None:
    """Raise `InvalidRequest` for a request that cannot be fetched, or should not be, as far as the event alone tells."""
    if bounds is not None:
        check_counts(len(stored.files), len(stored.test_cases), bounds)
    if twice := [name for name, count in Counter(file.name for file in stored.files).items() if count > 1]:
        raise InvalidRequest(f"files: {shown(twice[0])} is there twice")
    size = sum(_stated_bytes(where, content) for where, content in _places(stored))
    if bounds is not None:
        check_size(size, bounds)


def _pairs(request: ValidRequest, stored: StoredRequest) -> Iterator[tuple[bytes, Content]]:
    """Yield the bytes of a request with the contents that stand for them in an event of it."""
    for file in stored.files:
        yield request.files.get(file.name, b""), file.content
    for case, kept in zip(request.test_cases, stored.test_cases, strict=False):
        yield case.input, kept.input
        if kept.expected_output is not None:
            yield case.expected_output or b"", kept.expected_output


def _places(stored: StoredRequest) -> Iterator[tuple[str, Content]]:
    """Yield every content of a request with the words for where it stands."""
    for file in stored.files:
        yield _place_of(file), file.content
    for n, case in enumerate(stored.test_cases):
        yield f"test_cases[{n}].input", case.input
        if case.expected_output is not None:
            yield f"test_cases[{n}].expected_output", case.expected_output


def _place_of(file: StoredFile) -> str:
    return f"files: the content of {shown(file.name)}"


def _stated_bytes(where: str, content: Content) -> int:
    """Return the bytes that a content has, or that its reference says. Raises `InvalidRequest`."""
    if content.body is None:
        return len(_inline(where, content))
    try:
        check_reference(_stored_body(content.body))
    except BodyCorrupt as error:
        raise InvalidRequest(f"{where} cannot be read: {explain(error)}") from error
    return content.body.size_bytes


def _inline(where: str, content: Content) -> bytes:
    try:
        return unpack(content)
    except ValueError as error:
        raise InvalidRequest(f"{where} is not valid {content.encoding}: {error}") from error

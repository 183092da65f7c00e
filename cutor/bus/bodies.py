"""Large contents: cut into chunks under the hash of the whole, written once, read back verified.

Subject `cutor.body.<sha256>.<chunk>`, chunks from 0 on, each `CHUNK_BYTES` long except the last. The chunk size is part of
what is stored: with another one, equal contents would no longer find each other, so it never changes. An empty content has
no chunks.

**Names that are taken.** A subject is written once, and whoever may write bodies can write something else under the hash of a
content that is still to come. Such a content is stored as `cutor.body.<sha256>-<token>.<chunk>`, where the token follows from
a random salt in the reference and from the chunk: nobody knows a chunk's name before it is there, nor the next one's from it.
What a reference names was compared before anybody was given it, and cannot be overwritten. Where it is lost (a power
failure), something else may come in its place: readers verify the hash, and refuse it.

**Names that go.** Where bodies expire, `cutor.bus.horizon` says up to which sequence. What stands there is found by whoever
refers to it already, and by nobody who stores the same anew: that is written under the name of the content's next generation,
whose salt follows from the hash, so that all who store it meet there.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import msgspec

from cutor.bus import horizon
from cutor.bus.errors import BodyCorrupt, BodyMissing

if TYPE_CHECKING:
    from cutor.bus.connection import Bus

BODIES: Final = "BODIES"
CHUNK_BYTES: Final = 512 << 10
"""Half of NATS's default largest message, so that any server takes it."""
AT_ONCE: Final = 8
"""Chunks in flight for one content: 4 MiB."""
MAX_BYTES: Final = 256 << 20
"""The largest content that is read back, whatever a reference says."""

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_SALT: Final = re.compile(r"[0-9a-f]{16}")
SALT_BYTES: Final = 8
"""Of a salt, which a reference has as 16 hexadecimal digits."""
TOKEN_DIGITS: Final = 16
"""Hexadecimal digits in the subject of a chunk that has a salt: 64 bits of a hash."""
GENERATIONS: Final = 8
"""Names of a content that may be about to go at one time; behind them its salt is a random one."""
SEEN_AT_MOST: Final = 10_000
"""Chunks whose sequences are remembered at one time; of more, the memory begins anew."""
HORIZON_S: Final = 60.0
"""So long a horizon is taken for the newest; far shorter than `horizon.GRACE_S`."""
TRIED: Final = 4
"""Of a name that was written again after it had gone, the newest so many contents are looked at."""
S = TypeVar("S")
T = TypeVar("T")


class BodyRef(msgspec.Struct, frozen=True):
    """Where a content is: its SHA-256 in lower-case hexadecimal, its length, and the number of its chunks.

    ``salt``, 16 hexadecimal digits, only where its usual name was taken by something else.
    """

    sha256: str
    size_bytes: int
    chunks: int
    salt: str | None = None


def chunks_of(size_bytes: int) -> int:
    """The number of chunks of a content."""
    return -(-size_bytes // CHUNK_BYTES)


def reference_of(data: bytes) -> BodyRef:
    """The reference of a content, stored or not."""
    return BodyRef(hashlib.sha256(data).hexdigest(), len(data), chunks_of(len(data)))


def body_subject(sha256: str, chunk: int, salt: str | None = None) -> str:
    """The subject of one chunk; with a salt, one that tells nothing of those of the others."""
    if salt is None:
        return f"cutor.body.{sha256}.{chunk}"
    token = hashlib.sha256(f"{salt}.{chunk}".encode()).hexdigest()[:TOKEN_DIGITS]
    return f"cutor.body.{sha256}-{token}.{chunk}"


def generation_salt(sha256: str, number: int) -> str:
    """The salt of a content that is stored anew for the ``number``-th time, from 1, because its older names are to go."""
    return hashlib.sha256(f"{sha256} {number}".encode()).hexdigest()[: 2 * SALT_BYTES]


def check_reference(ref: BodyRef) -> None:
    """Refuse a reference that contradicts itself or asks for more than `MAX_BYTES`: BodyCorrupt. It may come from anyone."""
    if not _SHA256.fullmatch(ref.sha256):
        raise BodyCorrupt(f"a reference names {ref.sha256[:80]!r}, which is no SHA-256")
    if ref.salt is not None and not _SALT.fullmatch(ref.salt):
        raise BodyCorrupt(f"body {ref.sha256}: {ref.salt[:80]!r} is no salt")
    if not 0 <= ref.size_bytes <= MAX_BYTES:
        raise BodyCorrupt(f"body {ref.sha256}: {ref.size_bytes} bytes, allowed are 0 to {MAX_BYTES}")
    if ref.chunks != chunks_of(ref.size_bytes):
        raise BodyCorrupt(f"body {ref.sha256}: {ref.size_bytes} bytes are {chunks_of(ref.size_bytes)} chunks, not {ref.chunks}")


class _Ageing(Exception):
    """What a name stands for is to go: nobody is to refer to it anew."""


class Elsewhere(Protocol):
    """Where contents are that the stream has let go of; such as an archive."""

    async def chunks(self, subjects: Sequence[str]) -> Mapping[str, Sequence[bytes]]:
        """Return what was under subjects, for each what may be the content of its chunk. Raises `BodyCorrupt`."""
        ...

    def lacks(self) -> str:
        """Return why something is not found there, as the end of a sentence."""
        ...


class Bodies:
    """Contents in the stream BODIES; what it has let go of is read from ``elsewhere``."""

    def __init__(self, bus: Bus, elsewhere: Elsewhere | None = None) -> None:
        self._bus = bus
        self._elsewhere = elsewhere
        self._until, self._until_known_at = 0, -HORIZON_S
        self._seen: dict[str, int] = {}

    async def put(self, data: bytes) -> BodyRef:
        """Store a content; when this returns, all of it is in the stream. Storing it again, also at the same time, is fine.

        What is there already and is to go is stored under the name of the next generation. Where something else stands under
        a name, all of it is stored under a salted one, each time it is put anew.
        """
        usual = reference_of(data)
        for number in range(GENERATIONS + 1):
            ref = msgspec.structs.replace(usual, salt=generation_salt(usual.sha256, number) if number else None)
            try:
                await self._complete(ref, data, anew=True)
            except _Ageing:
                continue
            except BodyCorrupt:
                break
            return ref
        ref = msgspec.structs.replace(usual, salt=secrets.token_hex(SALT_BYTES))
        await self.complete(ref, data)
        return ref

    async def complete(self, ref: BodyRef, data: bytes) -> None:
        """Store whatever is missing of the content that a reference names. BodyCorrupt where something else stands there."""
        await self._complete(ref, data, anew=False)

    async def _complete(self, ref: BodyRef, data: bytes, *, anew: bool) -> None:
        """As `complete`; ``anew``: for a new reference, so that `_Ageing` is raised where a chunk that is there is to go."""
        view = memoryview(data)

        async def put_chunk(chunk: int) -> None:
            await self._put_chunk(ref, chunk, bytes(view[chunk * CHUNK_BYTES : (chunk + 1) * CHUNK_BYTES]), anew=anew)

        await _for_each(range(ref.chunks), put_chunk)

    async def renew(self, ref: BodyRef, data: bytes) -> BodyRef:
        """Return a reference to a content that `get` gave, for an event that is to come: the same, unless that is to go.

        What is gone from the stream, or to go, is stored again.
        """
        until = await self._horizon()
        subjects = [body_subject(ref.sha256, chunk, ref.salt) for chunk in range(ref.chunks)]
        stays = all(self._seen.get(subject, 0) > until for subject in subjects)
        return ref if stays else await self.put(data)

    async def get(self, ref: BodyRef) -> bytes:
        """Read a content and verify it. Errors: BodyMissing, BodyCorrupt."""
        check_reference(ref)
        subjects = [body_subject(ref.sha256, chunk, ref.salt) for chunk in range(ref.chunks)]
        parts = await _for_each(subjects, self._held)
        data = _joined(ref, parts)
        return data if data is not None else await self._get_elsewhere(ref, subjects, parts)

    async def _get_elsewhere(self, ref: BodyRef, subjects: Sequence[str], parts: Sequence[bytes | None]) -> bytes:
        """Return a content of which the stream has these parts alone, or something else in their place."""
        found = await self._elsewhere.chunks(subjects) if self._elsewhere and subjects else {}
        choices: list[Sequence[bytes]] = []
        for chunk, (subject, part) in enumerate(zip(subjects, parts, strict=True)):
            if part is None and subject not in found:
                why = f", {self._elsewhere.lacks()}" if self._elsewhere else ""
                raise BodyMissing(f"body {ref.sha256}: chunk {chunk} of {ref.chunks} is not in the stream {BODIES}{why}")
            choices.append(found.get(subject) or [part or b""])
        for number in range(min(TRIED, max(map(len, choices), default=0))):
            data = _joined(ref, [those[min(number, len(those) - 1)] for those in choices])
            if data is not None:
                return data
        raise BodyCorrupt(f"body {ref.sha256}: what is stored is not what was put there")

    async def _put_chunk(self, ref: BodyRef, chunk: int, data: bytes, *, anew: bool) -> None:
        subject = body_subject(ref.sha256, chunk, ref.salt)
        held = None
        for _ in range(2):  # between the answer that it is there and the look at it, it may have gone
            if await self._bus.append_once(subject, data):
                return
            if (held := await self._bus.last(BODIES, subject, consistent=True)) is not None:
                break
        if held is None or held.body != data:
            raise BodyCorrupt(f"body {ref.sha256}: chunk {chunk} holds something else already")
        if anew and held.sequence <= await self._horizon():
            raise _Ageing

    async def _horizon(self) -> int:
        """Return up to which sequence nobody is to refer anew."""
        now = asyncio.get_running_loop().time()
        if now - self._until_known_at >= HORIZON_S:
            self._until, self._until_known_at = (await horizon.told(self._bus)).horizon.until, now
        return self._until

    async def _held(self, subject: str) -> bytes | None:
        held = await self._bus.last(BODIES, subject) or await self._bus.last(BODIES, subject, consistent=True)
        if held is None:
            self._seen.pop(subject, None)
            return None
        if len(self._seen) >= SEEN_AT_MOST:
            self._seen.clear()
        self._seen[subject] = held.sequence
        return held.body


def _joined(ref: BodyRef, parts: Sequence[bytes | None]) -> bytes | None:
    """Return the content of which these are the chunks; None where they are not all there, or of another one."""
    data = b"".join(part for part in parts if part is not None)
    whole = len(data) == ref.size_bytes and hashlib.sha256(data).hexdigest() == ref.sha256
    return data if whole else None


async def _for_each(chunks: Sequence[S], work: Callable[[S], Awaitable[T]]) -> list[T]:
    """`work` for every chunk, `AT_ONCE` at a time; results in order. The first error ends the rest."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(chunk: S) -> T:
        async with room:
            return await work(chunk)

    tasks = [asyncio.ensure_future(one(chunk)) for chunk in chunks]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise

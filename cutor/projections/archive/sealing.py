"""From a stream into segments. Whoever seals holds the archive (`Archive.held`).

Sealed is only what stays. A message that is younger than ten minutes is left for later: until a server forces its appends to
the disk (every two minutes, unless told otherwise), a power failure can take them, and others come in their place. A segment is
cut when it is full, or has waited long enough. Each is compared with what was read, and named in the manifest, before the next
begins: however a sealer ends, the next one goes on behind the last segment.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec

from cutor.bus.connection import Bus
from cutor.bus.message import Stored, parse_time_ns
from cutor.model.subjects import ENVIRONMENTS, EVENTS
from cutor.projections.archive.errors import ArchiveError, ArchiveForeign, GapRefused, MessagesMissing
from cutor.projections.archive.manifest import VERSION, Manifest, Segment
from cutor.projections.archive.place import ASIDE, Archive
from cutor.projections.archive.room import make_room
from cutor.projections.archive.segment_file import SegmentWriter
from cutor.projections.folds.rows import fingerprint
from cutor.undisturbed import to_the_end

BODIES: Final = "BODIES"
STREAMS: Final = (EVENTS, ENVIRONMENTS, BODIES)
"""What is sealed, in this order: what is referred to comes after what refers to it, so that all of it is in the archive."""
NS_PER_S: Final = 1_000_000_000
"""Nanoseconds of a second."""
AHEAD_S: Final = 600
"""What a server's time may be ahead of that of others which lead after it."""
BATCH: Final = 5000
"""Messages that are read from the stream at one time."""


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """When a segment ends: at so many bytes of bodies or messages, or when its first message is so old.

    What is younger than ``settled_s`` is left for later. With zeros everything is sealed.
    """

    segment_bytes: int = 128 << 20
    segment_messages: int = 250_000
    age_s: float = 86_400.0
    settled_s: float = 600.0

    def everything(self) -> Cut:
        """Return the same with nothing left for later."""
        return msgspec.structs.replace(self, age_s=0.0, settled_s=0.0)


class Progress(NamedTuple):
    """How far a sealer has come: read up to a sequence, of those up to another one; ``sealed`` is the last in the archive."""

    stream: str
    read: int
    last: int
    sealed: int


class StreamState(NamedTuple):
    """What the server says of a stream: when it was made, first and last sequence, and what time it is there."""

    created: str
    first: int
    last: int
    now_ns: int


Tell = Callable[[Progress], None]


async def state_of(bus: Bus, stream: str) -> StreamState:
    """Ask the server for the state of a stream. Raises `StreamMissing`."""
    info = await bus.stream_info(stream)
    state = info["state"]
    now = info.get("ts") or datetime.now(UTC).isoformat()
    first = int(state["first_seq"]) if int(state["messages"]) else int(state["last_seq"]) + 1
    return StreamState(info["created"], first, int(state["last_seq"]), parse_time_ns(now.replace("+00:00", "Z")))


async def seal(bus: Bus, archive: Archive, stream: str, cut: Cut, tell: Tell = lambda _: None) -> Manifest:
    """Seal what a stream has behind the archive's end; return what is sealed then.

    Raises `ArchiveForeign`, `MessagesMissing`, `ArchiveFull` and the other errors of archive and bus; what was sealed before
    that stays.
    """
    archive.tidy(stream)
    state = await state_of(bus, stream)
    manifest = await _continued(bus, archive, stream, state)
    start = manifest.next if manifest.segments else state.first
    check_no_gap(manifest, state)
    if start > state.last:
        return manifest
    gap: MessagesMissing | None = None
    with SegmentWriter(stream) as writer:
        reading = _settled(bus, stream, start, state, cut)
        try:
            async with aclosing(reading) as batches:
                async for messages in batches:
                    for piece in pieces(messages, writer.messages, writer.body_bytes, cut):
                        if _is_full(writer.messages, writer.body_bytes, cut):
                            manifest = await _finish(archive, manifest, writer)
                        await asyncio.to_thread(writer.add, piece)
                    tell(Progress(stream, messages[-1].sequence, state.last, manifest.last))
        except MessagesMissing as missing:
            gap = missing  # what comes before it is a segment: nothing can join it any more
        if writer.first_time_ns is not None and (
            gap or _is_full(writer.messages, writer.body_bytes, cut) or is_older(writer.first_time_ns, state.now_ns, cut.age_s)
        ):
            manifest = await _finish(archive, manifest, writer)
    if gap is not None:
        raise gap
    return manifest


async def seal_each(
    bus: Bus, archive: Archive, cut: Cut, tell: Tell = lambda _: None
) -> tuple[dict[str, Manifest], dict[str, ArchiveError]]:
    """Seal every stream; return what is sealed of each then, and what hindered one: it hinders no other.

    Raises the errors of the bus.
    """
    sealed, hindered = {}, {}
    for stream in STREAMS:
        try:
            sealed[stream] = await seal(bus, archive, stream, cut, tell)
        except ArchiveError as error:
            hindered[stream] = error
    return sealed, hindered


async def acknowledge(bus: Bus, archive: Archive, stream: str, first: int, last: int) -> Manifest:
    """Note that a stream has lost a range of messages, right behind what is sealed: the sealing goes on behind it.

    Raises `GapRefused` where that is not so, and the errors of archive and bus.
    """
    archive.tidy(stream)
    state, manifest = await state_of(bus, stream), archive.manifest(stream)
    if manifest is None or not manifest.segments:
        raise GapRefused(f"nothing of {stream} is sealed: an archive begins where its stream does, and no gap is before that")
    await check_same_stream(bus, archive, manifest, state)
    if first != manifest.next:
        raise GapRefused(f"{stream} is sealed up to {manifest.next - 1}: a gap that begins with {first} is not the next one")
    behind = await first_from(bus, stream, first, state.last)
    if behind != last + 1:
        there = "ends" if behind is None else f"goes on with {behind}"
        raise GapRefused(f"{stream} {there} behind {first - 1}: {first} to {last} is not what it lacks")
    if (held := await asyncio.to_thread(archive.unnamed, stream, first, last)) is not None:
        raise GapRefused(
            f"{held}: it has messages of {first} to {last}: the manifest is an old one. Put the newest in its place, and take "
            f"{ASIDE} off the names of files; is there none, move the file elsewhere first"
        )
    manifest = manifest.with_gap(last)
    archive.write_manifest(manifest)
    return manifest


async def first_from(bus: Bus, stream: str, first: int, last: int) -> int | None:
    """Return the first sequence of a range that a stream has; None where it has none of it."""
    async with aclosing(bus.read_batches(stream, from_sequence=first, until_sequence=last, batch=1)) as batches:
        async for messages in batches:
            return messages[0].sequence
    return None


async def _finish(archive: Archive, manifest: Manifest, writer: SegmentWriter) -> Manifest:
    """Write what a writer has as the next segment. What a cancel meets here runs to its end, and counts."""

    def write() -> Manifest:
        make_room(archive, writer.body_bytes)
        with archive.draft(manifest.stream) as draft:
            return archive.put_in_place(draft, writer.write(draft), manifest)

    return await to_the_end(asyncio.to_thread(write))


async def _settled(bus: Bus, stream: str, start: int, state: StreamState, cut: Cut) -> AsyncGenerator[list[Stored], None]:
    """Yield the messages from ``start`` on that are old enough. Raises `MessagesMissing` where the stream leaves one out, once
    what comes before that was yielded.
    """
    expected = start
    reading = bus.read_batches(stream, from_sequence=start, until_sequence=state.last, batch=BATCH)
    async with aclosing(reading) as batches:
        async for messages in batches:
            settled = messages if not cut.settled_s else settled_of(messages, state.now_ns, cut.settled_s)
            for number, message in enumerate(settled):
                if message.sequence != expected:
                    if number:
                        yield settled[:number]
                    raise MessagesMissing(
                        f"stream {stream} leaves out {expected} to {message.sequence - 1}: nothing is sealed over a gap. "
                        f"{_acknowledging(stream, expected, message.sequence - 1)}"
                    )
                expected += 1
            if settled:
                yield settled
            if len(settled) < len(messages):
                return


def settled_of(messages: list[Stored], now_ns: int, settled_s: float) -> list[Stored]:
    """Return the messages up to the last one that is older than that: whatever came before it is older, too. Pure."""
    for number in range(len(messages), 0, -1):
        if is_older(messages[number - 1].time_ns, now_ns, settled_s):
            return messages[:number]
    return []


def is_older(time_ns: int, now_ns: int, age_s: float) -> bool:
    """Whether a message of a time is as old as that. Pure.

    One that is from the future by more than a clock can be wrong was written when the clock was: it counts as old, or nothing
    would be sealed until that time has come.
    """
    return time_ns <= now_ns - age_s * NS_PER_S or time_ns > now_ns + AHEAD_S * NS_PER_S


def pieces(messages: Sequence[Stored], held: int, held_bytes: int, cut: Cut) -> list[Sequence[Stored]]:
    """Split messages at the ends of segments, where so many of so many bytes are in the first one already. Pure."""
    found: list[Sequence[Stored]] = []
    begin = 0
    for number, message in enumerate(messages):
        if _is_full(held, held_bytes, cut):
            found.append(messages[begin:number])
            begin, held, held_bytes = number, 0, 0
        held, held_bytes = held + 1, held_bytes + len(message.body)
    found.append(messages[begin:])
    return found


def _is_full(messages: int, body_bytes: int, cut: Cut) -> bool:
    return messages >= cut.segment_messages or body_bytes >= cut.segment_bytes


# -- is it the same stream? --------------------------------------------------------------------------------------------


async def _continued(bus: Bus, archive: Archive, stream: str, state: StreamState) -> Manifest:
    """Return what is sealed of this stream, or a new manifest. Raises `ArchiveForeign`."""
    manifest = archive.manifest(stream)
    if manifest is None or not manifest.segments:
        return Manifest(version=VERSION, stream=stream, created=state.created)
    await check_same_stream(bus, archive, manifest, state)
    if manifest.created == state.created:
        return manifest
    manifest = manifest.of_stream(state.created)
    archive.write_manifest(manifest)
    return manifest


async def check_same_stream(bus: Bus, archive: Archive, manifest: Manifest, state: StreamState) -> None:
    """Raise `ArchiveForeign` unless the server's stream is the one that was sealed.

    It is, where the last message that both have is the same. One that was restored from a backup was made at another time:
    then there must be one that both have; else, that it was made at the same time is enough.
    """
    stream = manifest.stream
    if state.last < manifest.last:
        raise ArchiveForeign(
            f"{archive.directory}: {stream} is sealed up to {manifest.last}, and ends at {state.last} at the server: it is "
            "another stream, or an older state of it: seal into another directory"
        )
    kept = await bus.get(stream, manifest.last, consistent=True)
    if kept is None and manifest.created == state.created:
        return
    if kept is None or fingerprint(kept) != manifest.segments[-1].fingerprint:
        raise ArchiveForeign(
            f"{archive.directory}: the {stream} that was sealed is not the one that the server holds (they differ at "
            f"{manifest.last}): seal into another directory"
        )


def check_no_gap(manifest: Manifest, state: StreamState) -> None:
    """Raise `MessagesMissing` where the stream begins only behind what comes after the archive's end."""
    if manifest.segments and state.first > manifest.next:
        raise MessagesMissing(
            f"{manifest.stream}: messages {manifest.next} to {state.first - 1} are neither in the archive nor in the stream. "
            f"{_acknowledging(manifest.stream, manifest.next, state.first - 1)}"
        )


def _acknowledging(stream: str, first: int, last: int) -> str:
    return f"If they are lost, `cutor archive acknowledge-gap {stream} {first} {last}` has it go on behind them"


__all__ = [
    "BODIES",
    "STREAMS",
    "Cut",
    "Progress",
    "Segment",
    "check_no_gap",
    "check_same_stream",
    "first_from",
    "seal",
    "state_of",
]

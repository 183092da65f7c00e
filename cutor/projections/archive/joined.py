"""A stream from its archive, as far as that is sealed, and behind it from the server: nothing twice, nothing left out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Final, NamedTuple, Self

from cutor.bus.connection import Bus
from cutor.bus.message import Stored
from cutor.projections.archive.decoded import DecodedFiles, DecodedPlace
from cutor.projections.archive.errors import ArchiveDamaged, ArchiveForeign, MessagesMissing
from cutor.projections.archive.manifest import Manifest, Segment
from cutor.projections.archive.place import Archive, sha256_of
from cutor.projections.archive.sealing import StreamState, check_no_gap, check_same_stream, first_from, state_of
from cutor.projections.archive.segment_file import first_since, messages_of
from cutor.projections.folds.gaps import Gap, gaps_in

BATCH: Final = 5000
"""Most messages that are read at one time, unless the caller says another number."""


class Piece(NamedTuple):
    """A file of which ``first`` to ``last`` are wanted; it has so many ``messages`` and bytes from ``begin`` on."""

    path: Path
    first: int
    last: int
    begin: int
    messages: int
    body_bytes: int


class Joined:
    """One stream at one moment; see `of`."""

    def __init__(
        self, bus: Bus | None, archive: Archive | None, manifest: Manifest | None, stream: str, state: StreamState
    ) -> None:
        self._bus_of_stream = bus
        self._archive = archive
        self._segments: tuple[Segment, ...] = manifest.segments if manifest else ()
        self.stream = stream
        self.first = min(self._segments[0].first, state.first) if self._segments else state.first
        """The first sequence that there is, in the archive or in the stream."""
        self.first_kept = state.first
        """The first one that the stream still has; one behind its last where it has none."""
        self.created = state.created
        """When the stream was made, as its server writes it."""
        self.sealed = self._segments[-1].last if self._segments else 0
        """The last one in the archive; 0: none."""
        self.now_ns = state.now_ns
        """What time it was at the server."""
        self.last = state.last
        """The last one that the stream had when it was asked."""

    @classmethod
    async def of(cls, bus: Bus, stream: str, archive: Archive | None) -> Self:
        """Look at archive and stream; without an archive it is the stream alone.

        Raises `ArchiveForeign` where they do not belong together, `MessagesMissing` where something is missing between them,
        `ArchiveDamaged`, `StreamMissing`.
        """
        manifest = archive.manifest(stream) if archive else None
        state = await state_of(bus, stream)
        if archive and manifest and manifest.segments:
            await check_same_stream(bus, archive, manifest, state)
            check_no_gap(manifest, state)
        return cls(bus, archive, manifest, stream, state)

    @classmethod
    def sealed_alone(cls, archive: Archive, manifest: Manifest) -> Self:
        """Look at what is sealed as if the stream had let go of all of it, and had nothing else; no server is asked."""
        state = StreamState(manifest.created, manifest.last + 1, manifest.last, manifest.last_time_ns)
        return cls(None, archive, manifest, manifest.stream, state)

    @property
    def _bus(self) -> Bus:
        if self._bus_of_stream is None:
            raise MessagesMissing(f"{self.stream}: what is not sealed is asked for, and no server is at hand")
        return self._bus_of_stream

    def pieces(self, first: int, last: int) -> list[Piece]:
        """Return what the archive has of a range, in order, to be read before the rest.

        Nothing where it begins only within the range: then the stream has all of that.
        """
        if self._archive is None or not self._segments or self._segments[0].first > max(first, self.first):
            return []
        return [
            Piece(
                self._archive.file_of(self.stream, one),
                first=max(first, one.first),
                last=min(last, one.last),
                begin=one.first,
                messages=one.messages,
                body_bytes=one.body_bytes,
            )
            for one in self.segments(first, last)
        ]

    def segments(self, first: int, last: int) -> tuple[Segment, ...]:
        """Return what the manifest says of the files that have something of a range."""
        return tuple(one for one in self._segments if one.first <= last and one.last >= first)

    def sealed_from(self, first: int) -> int:
        """Return the last sequence up to which all from ``first`` on is sealed; ``first - 1`` where that itself is not."""
        return self.sealed if self._segments and self._segments[0].first <= first <= self.sealed else first - 1

    def gaps(self, first: int, last: int) -> list[Gap]:
        """Return what was acknowledged as missing before the files that have something of a range."""
        return [
            Gap(one.first - one.missing, one.first - 1, one.first_time_ns) for one in self.segments(first, last) if one.missing
        ]

    async def missing(self, first: int, last: int) -> list[Gap]:
        """Return what of that the stream does not have again: a copy that leads again, or a backup, may have lost nothing."""
        found: list[Gap] = []
        for gap in self.gaps(first, last):
            there = [(one.sequence, one.time_ns) async for some in self.again(gap.first, gap.last) for one in some]
            ends = [*there, (gap.last + 1, gap.noticed_ns)]
            found += gaps_in(gap.first - 1, [sequence for sequence, _ in ends], [time_ns for _, time_ns in ends])
        return found

    async def again(self, first: int, last: int, batch: int = BATCH) -> AsyncGenerator[list[Stored], None]:
        """Yield what the stream has of a range that is not sealed."""
        if first > last or last < self.first_kept:
            return
        reading = self._bus.read_batches(self.stream, from_sequence=first, until_sequence=last, batch=batch)
        async with aclosing(reading) as batches:
            async for messages in batches:
                yield messages

    async def check_gaps(self, first: int, last: int) -> None:
        """Raise `ArchiveForeign` where the stream has again what was acknowledged as missing: that is sealed nowhere."""
        for gap in self.gaps(first, last):
            found = await first_from(self._bus, self.stream, max(gap.first, first), min(gap.last, last))
            if found is not None:
                raise ArchiveForeign(
                    f"{self.stream} has message {found} again, which was acknowledged as missing and is not sealed: nothing is "
                    "let go of; seal into another directory"
                )

    async def check(self, piece: Piece) -> None:
        """Raise `ArchiveDamaged` where a file is not what was sealed."""
        [segment] = [one for one in self._segments if one.file_name == piece.path.name]
        try:
            found = await asyncio.to_thread(sha256_of, piece.path)
        except OSError as error:
            raise ArchiveDamaged(f"{piece.path}: it cannot be read: {error.strerror}") from error
        if found != segment.sha256:
            raise ArchiveDamaged(f"{piece.path}: it is not what was sealed: its SHA-256 differs from the manifest's")

    def decoded(self) -> dict[int, DecodedFiles]:
        """Return what was decoded by today's rules, by the first sequence of the segment; its hashes are not looked at."""
        if self._archive is None or not self._segments:
            return {}
        place = DecodedPlace(self._archive, self.stream)
        return {first: place.files_of(one) for first, one in place.usable(self._segments).items()}

    async def first_since(self, time_ns: int) -> int:
        """Return the first sequence whose message is of this time or later; one behind the last where there is none."""
        if self._archive is not None and self._segments and self._segments[0].first == self.first:
            for segment in self._segments:
                if segment.last_time_ns >= time_ns:
                    return await asyncio.to_thread(first_since, self._archive.file_of(self.stream, segment), time_ns)
        return await self._bus.first_since(self.stream, time_ns)

    async def time_of(self, sequence: int) -> int | None:
        """Return the time of a message; None where it is neither in the archive nor in the stream."""
        for piece in self.pieces(sequence, sequence):
            found = await asyncio.to_thread(next, messages_of(self.stream, piece.path, sequence, sequence), None)
            if not found:
                raise ArchiveDamaged(f"{piece.path}: it lacks the message {sequence}, which its manifest says is in it")
            return found[0].time_ns
        kept = await self._bus.get(self.stream, sequence, consistent=True)
        return None if kept is None else kept.time_ns

    async def read_batches(
        self, *, from_sequence: int = 1, until_sequence: int | None = None, batch: int = BATCH
    ) -> AsyncGenerator[list[Stored], None]:
        """Yield the messages of a range in order, in lists of 1 to ``batch``; without an end, to that of the stream.

        Raises `MessagesMissing` where the range begins before all that there is, `ArchiveDamaged`, and the errors of the bus.
        """
        last = self.last if until_sequence is None else min(until_sequence, self.last)
        if from_sequence < self.first <= last:
            raise MessagesMissing(
                f"{self.stream}: messages {from_sequence} to {self.first - 1} are neither in the archive nor in the stream"
            )
        start = from_sequence
        for piece in self.pieces(from_sequence, last):
            async with aclosing(self.again(start, piece.first - 1, batch)) as batches:
                async for some in batches:
                    yield some
            await self.check(piece)
            found = messages_of(self.stream, piece.path, piece.first, piece.last, batch)
            while messages := await asyncio.to_thread(next, found, None):
                yield messages
            start = piece.last + 1
        async with aclosing(self.again(start, last, batch)) as batches:
            async for some in batches:
                yield some

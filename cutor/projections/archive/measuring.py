"""What the archiver measures: how far it is, how far behind, what it has let go of, and the disk of the archive."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from cutor.bus.connection import Bus
from cutor.bus.errors import StreamMissing
from cutor.metrics import table
from cutor.metrics.tally import Observation
from cutor.process.measures import Measures, connection, disk
from cutor.projections.archive.fold_sealing import Progress as Folding
from cutor.projections.archive.manifest import Manifest
from cutor.projections.archive.place import Archive
from cutor.projections.archive.sealing import NS_PER_S, Progress, state_of


class Sealed:
    """Where the archive stands, as the archiver's own rounds say: no manifest is read for a scrape."""

    def __init__(self, measures: Measures) -> None:
        self._measures = measures
        self._next: dict[str, int] = {}

    def progress(self, at: Progress) -> None:
        """Note where a round is; it may take hours."""
        if at.sealed:
            self._stands(at.stream, at.sealed, max(self._next.get(at.stream, 0), at.sealed + 1))

    def round_ended(self, sealed: Mapping[str, Manifest], troubles: Sequence[str]) -> None:
        """Note what is sealed after a round, and what hindered it."""
        for stream, one in sealed.items():
            self._stands(stream, one.last, one.next if one.segments else 0)
            missing = sum(last + 1 - first for first, last in one.gaps)
            self._measures.note(
                Observation(table.ARCHIVE_BYTES, float(one.file_bytes), (stream,)),
                Observation(table.MISSING, float(missing), (stream,)),
            )
        self._measures.note(Observation(table.TROUBLES, float(len(troubles))))
        if not troubles:
            self._measures.note(Observation(table.ROUND_AT, time.time()))

    def folded(self, at: Folding) -> None:
        """Note how much the sealed fold holds."""
        self._measures.note(
            Observation(table.FOLDED, float(at.messages)),
            Observation(table.FOLD_BYTES, float(at.fold.file_bytes if at.fold else 0)),
        )

    def expired(self, stream: str, messages: int) -> None:
        """Count what a stream was told to let go of."""
        self._measures.note(Observation(table.EXPIRED, float(messages), (stream,)))

    def _stands(self, stream: str, last: int, following: int) -> None:
        self._next[stream] = following
        self._measures.note(Observation(table.SEALED, float(last), (stream,)))

    @contextmanager
    def sampled(self, bus: Bus, archive: Archive) -> Iterator[None]:
        """Have what is not sealed, the disk and the connection sampled while the block lasts."""

        async def unsealed() -> list[Observation]:
            return [
                one for some in await asyncio.gather(*(_unsealed(bus, *pair) for pair in self._next.items())) for one in some
            ]

        here = disk(archive.directory, table.ARCHIVE_FREE, table.ARCHIVE_SIZE)
        with (
            self._measures.sampling(unsealed, table.UNSEALED, table.UNSEALED_AGE),
            self._measures.sampling(here, table.ARCHIVE_FREE, table.ARCHIVE_SIZE, local=True),
            self._measures.sampling(connection(bus), table.CONNECTED),
        ):
            yield


async def _unsealed(bus: Bus, stream: str, following: int) -> list[Observation]:
    try:
        state = await state_of(bus, stream)
        first = max(following, state.first)
        oldest = await bus.get(stream, first) if first <= state.last else None
    except StreamMissing:
        return []
    age_s = max(0.0, (state.now_ns - oldest.time_ns) / NS_PER_S) if oldest else 0.0
    return [
        Observation(table.UNSEALED, float(state.last + 1 - first), (stream,)),
        Observation(table.UNSEALED_AGE, age_s, (stream,)),
    ]

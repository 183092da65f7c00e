"""How views that are made anew begin: empty, or as a copy of the sealed fold; and streams, or their tails, read meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from cutor.bus.connection import Bus
from cutor.model.subjects import EVENTS
from cutor.projections.archive.beginning import Beginning, find, find_other
from cutor.projections.archive.fold_copy import FoldUnusable, check_positions
from cutor.projections.archive.place import Archive
from cutor.projections.archive.sealed_fold import SealedFold
from cutor.projections.archive.sealing import state_of
from cutor.projections.errors import ViewsRejected
from cutor.projections.folds import batches
from cutor.projections.folds.batch import Batch
from cutor.projections.folds.tail import Tail
from cutor.projections.session import Foreign
from cutor.projections.writer import Writer

log = logging.getLogger(__name__)

SOON: Final = 250_000
"""Where no more than so many are sealed behind the fold, the tail is wanted before its reading would have waited for long."""

FED_FROM: Final = 100_000
"""So many messages of it are worth a process: what goes on meanwhile leaves the interpreter to whoever reads."""


class Way(NamedTuple):
    """From what views are made: streams and an ``archive``; of that not its fold, or of its segments their bodies alone."""

    archive: Archive | None = None
    from_events: bool = False
    from_bodies: bool = False


class Start:
    """The beginning of a file that ``writer`` is to make. To be closed in the end."""

    def __init__(self, bus: Bus, writer: Writer, way: Way) -> None:
        self._bus = bus
        self._writer = writer
        self._way = way
        self._tails: dict[str, Tail] = {}
        self.created: dict[str, str] = {}
        """When the streams were made of which something is being read already, as their server wrote it before that."""

    async def make(self, until: Mapping[str, int], tell: Callable[[int], None]) -> SealedFold | None:
        """Make the file, as a copy of the sealed fold where there is one that may be gone by; return that one.

        It must not hold more of a stream than ``until``. ``tell`` is told how far it is in EVENTS. What is wrong with it is an
        error in the log, and the file is empty.
        """
        way = self._way
        if way.archive is not None and not (way.from_events or way.from_bodies):
            beginning, error = await find(self._bus, way.archive, until), None
            if beginning is not None and (error := await self._copied(way.archive, beginning, until, tell)) is not None:
                other = await find_other(self._bus, way.archive, beginning, until)
                if other is not None:
                    beginning, error = other, await self._copied(way.archive, other, until, tell)
            if beginning is not None and error is None:
                log.info("the new views begin with the sealed fold of %s", beginning.fold.named())
                return beginning.fold
            if error is not None:
                log.error("%s: every event is folded in its place", error)
        if way.archive is None:
            await self._begin_reading(until)
        await self._writer.make()
        return None

    async def _begin_reading(self, until: Mapping[str, int]) -> None:
        """Begin to read the streams that a process reads: the file is made while that starts."""
        for stream, last in until.items():
            if last > batches.FED_FROM:
                self.created[stream] = (await state_of(self._bus, stream)).created
                self._tails[stream] = Tail(self._bus, stream, 1, last)

    async def _copied(
        self, archive: Archive, beginning: Beginning, until: Mapping[str, int], tell: Callable[[int], None]
    ) -> str | None:
        """Make the file as a copy of a fold; return why not, with nothing left of it, where it is not what it should be."""
        fold, loop = beginning.fold, asyncio.get_running_loop()

        def tell_copied(done: int) -> None:
            loop.call_soon_threadsafe(tell, fold.streams[EVENTS].last * done // fold.file_bytes)

        await self.close()
        self._read_ahead(beginning, until)
        try:
            await beginning.put(self._writer.path, tell_copied)
        except FoldUnusable as error:
            return str(error)
        try:
            await self._writer.make(Foreign(reads=(archive.directory,)))
            check_positions(self._writer, fold.streams)
        except (FoldUnusable, ViewsRejected) as error:
            await self._writer.give_up(keep=False)
            return f"{beginning.path}: {error}"
        return None

    def _read_ahead(self, beginning: Beginning, until: Mapping[str, int]) -> None:
        """Begin to read what is behind the archive: what that takes to begin is as long as the copying."""
        self.created = {stream: joined.created for stream, joined in beginning.joined.items()}
        for stream, joined in beginning.joined.items():
            sealed_since = joined.sealed - beginning.fold.streams[stream].last
            if joined.sealed and sealed_since <= SOON and joined.sealed < until.get(stream, 0):
                self._tails[stream] = Tail(self._bus, stream, joined.sealed + 1, until[stream], FED_FROM)

    @asynccontextmanager
    async def tail(self, stream: str, first: int, last: int) -> AsyncIterator[AsyncIterator[Batch]]:
        """Give the messages of a range, in batches: those that are being read already, where it is that range."""
        tail = self._tails.pop(stream, None)
        if tail is not None and tail.span != (first, last):
            await tail.close()
            tail = None
        tail = tail or Tail(self._bus, stream, first, last)
        try:
            yield tail.batches()
        finally:
            await tail.close()

    async def close(self) -> None:
        """End what is still read."""
        for tail in self._tails.values():
            await tail.close()
        self._tails.clear()

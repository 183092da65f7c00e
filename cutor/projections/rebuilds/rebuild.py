"""Makes a file of views anew from the streams, beside one that goes on answering.

The new file has a name of its own until it holds everything; who makes it puts it in place. One that is not finished is
removed, whatever ended the work.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple, Self

from cutor.bus.connection import Bus
from cutor.model.subjects import EVENTS
from cutor.projections.archive.folding import fold_sealed
from cutor.projections.archive.joined import Joined
from cutor.projections.archive.place import Archive
from cutor.projections.archive.sealing import state_of
from cutor.projections.errors import LeftOut, RebuildFailed, StreamLetGo, ViewsRejected
from cutor.projections.interpreter import undisturbed
from cutor.projections.rebuilds.start import Start, Way
from cutor.projections.schema import FOLDS
from cutor.projections.status import lateness
from cutor.projections.views_file import check_room, draft_of, held, put_in_place, remove_leftovers, remove_views
from cutor.projections.wholeness import Wholeness
from cutor.projections.writer import Writer

log = logging.getLogger(__name__)

ATTEMPTS: Final = 5
"""So often a stream is read on where a reading ended before its end."""
STAY: Final = "the views stay as they are"


class Progress(NamedTuple):
    """How far a rebuild has come: in ``stream`` up to ``sequence`` of ``last``.

    ``messages`` and bytes of bodies are those of all streams that it folded in itself: what it began with was copied.
    """

    stream: str
    sequence: int
    last: int
    messages: int
    body_bytes: int


class Rebuilt(NamedTuple):
    """What a rebuild came to: the last sequence of each stream, messages and bytes of their bodies, and how long it took.

    ``begins`` has the first sequence of the streams whose beginning was to be folded in, and could not be had. ``from_fold``
    has of each stream what came from the sealed fold of an archive, the first sequence and the last.
    """

    positions: dict[str, int]
    messages: int
    body_bytes: int
    took_s: float
    begins: dict[str, int]
    from_fold: dict[str, tuple[int, int]]


Tell = Callable[[Progress], None]


def tell_nobody(progress: Progress) -> None:
    """Progress that nobody looks at."""


async def rebuild(
    bus: Bus,
    path: Path,
    *,
    tell: Tell = tell_nobody,
    until: Mapping[str, int] | None = None,
    archive: Archive | None = None,
    from_events: bool = False,
    from_bodies: bool = False,
) -> Rebuilt:
    """Make a file of views at ``path`` from the streams, each up to and with its sequence in ``until``, else to its end of now.

    What ``archive`` has is taken from there: they begin with its sealed fold, unless every event is to be folded
    (``from_events``); with ``from_bodies`` every event is, from what was sealed, whatever was decoded of it. There must be no
    file yet. What was begun is removed where this is cancelled or fails. Memory does not grow with the streams. Raises
    `RebuildFailed` (a file is there, or a stream ends before ``until``), `ViewsUnwritable`, `StreamRewound`, `StreamMissing`,
    `BusUnreachable`, and errors of the archive.
    """
    there = await ends(bus)
    for stream, last in (until or {}).items():
        if last > there[stream]:
            raise RebuildFailed(f"{stream} ends at {there[stream]}, before the {last} up to which it is to be folded")
    way = Way(archive, from_events=from_events or from_bodies, from_bodies=from_bodies)
    async with FreshViews.making(bus, path, tell, way) as fresh:
        await fresh.fold_to(there if until is None else until)
        return await fresh.finish()


async def rebuild_in_place(
    bus: Bus, path: Path, *, tell: Tell = tell_nobody, archive: Archive | None = None, from_events: bool = False
) -> Rebuilt:
    """Make the file of a projector that does not run anew; the old one is there, untouched, until the new one is whole.

    Raises `ProjectorBusy` where a projector lives after all, and what `rebuild` raises.
    """
    with held(path):
        remove_leftovers(path)
        check_room(path)
        async with FreshViews.making(bus, draft_of(path), tell, Way(archive, from_events=from_events)) as fresh:
            await fresh.fold_to(await ends(bus))
            done = await fresh.finish()
            put_in_place(draft_of(path), path)
        return done


async def ends(bus: Bus) -> dict[str, int]:
    """Return the last sequence of every stream that is folded."""
    return {stream: int((await bus.stream_info(stream))["state"]["last_seq"]) for stream in FOLDS}


def check_absent(path: Path) -> None:
    """Raise `RebuildFailed` where a file is in the way."""
    if path.exists():
        raise RebuildFailed(f"{path}: there is a file already")


class _EndedEarly(Exception):
    """A reading ended, and the stream has more of what was wanted."""


class FreshViews:
    """A file of views in the making; see `making`."""

    def __init__(self, bus: Bus, writer: Writer, tell: Tell, way: Way) -> None:
        self._bus = bus
        self._writer = writer
        self._wholeness = Wholeness(bus, writer)
        self._archive = way.archive
        self._from_bodies = way.from_bodies
        self._start = Start(bus, writer, way)
        self._begun = False
        self._from_fold: dict[str, tuple[int, int]] = {}
        self._created: dict[str, str] = {}
        self._parts: set[str] = set()
        self._tell = tell
        self._messages = 0
        self._body_bytes = 0
        self._copied_messages = 0
        self._copied_bytes = 0
        self._began = time.monotonic()
        self._finished = False

    @classmethod
    @asynccontextmanager
    async def making(
        cls,
        bus: Bus,
        path: Path,
        tell: Tell = tell_nobody,
        way: Way = Way(),  # noqa: B008 - it is never changed
    ) -> AsyncIterator[Self]:
        """Give a place for a file, which `fold_to` makes.

        At the end it is closed, and removed where an error ends the block, or `finish` was not called.

        Raises `RebuildFailed`.
        """
        check_absent(path)
        writer = Writer(path)
        fresh, whole = cls(bus, writer, tell, way), False
        try:
            with undisturbed():
                yield fresh
            whole = fresh._finished
        except ViewsRejected as rejection:
            raise RebuildFailed(f"{path}: {rejection}") from rejection
        finally:
            await fresh._start.close()
            await writer.close()
            if not whole:
                remove_views(path)

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self._writer.path

    async def fold_to(self, until: Mapping[str, int], since: Mapping[str, int] = MappingProxyType({})) -> None:
        """Fold each stream in, from where the file stands up to and with its sequence in ``until``.

        What lies before its sequence in ``since`` is left out.
        """
        self._parts |= {stream for stream, first in since.items() if first > 1}
        if not self._begun:
            await self._begin(until)
            self._begun = True
        for stream, last in until.items():
            await self._fold_stream(stream, since.get(stream, 1), last)

    async def _begin(self, until: Mapping[str, int]) -> None:
        """Make the file; what it has of the sealed fold counts as folded in."""
        whole = MappingProxyType({} if self._parts else until)
        fold = await self._start.make(whole, lambda at: self._count(EVENTS, at, until.get(EVENTS, 0), 0, 0))
        self._created.update(self._start.created)
        for stream, part in fold.streams.items() if fold else ():
            if part.last:
                self._from_fold[stream] = (part.first, part.last)
                self._count(stream, part.last, until[stream], 0, 0)
                self._copied_messages += part.messages
                self._copied_bytes += part.body_bytes

    async def _fold_stream(self, stream: str, first: int, last: int) -> None:
        """Fold a stream in; where its limits take what is not read yet, or a reading ends early, go on behind what was read."""
        self._created.setdefault(stream, (await state_of(self._bus, stream)).created)
        if self._writer.checkpoint(stream).sequence < last:
            self._count(stream, self._writer.checkpoint(stream).sequence, last, 0, 0)
        for _ in range(ATTEMPTS):
            try:
                await self._fold_sealed(stream, first, last)
                await self._fold_rest(stream, first, last)
                await self._check_all(stream, first, last)
            except StreamLetGo as error:
                if self._archive is None:
                    raise RebuildFailed(f"{error}; {STAY}") from error
                log.warning("%s; it is looked for in the archive", error)
            except LeftOut as error:
                log.error("%s", error)
            except _EndedEarly:
                log.warning("reading %s ended at %d, before %d", stream, self._writer.checkpoint(stream).sequence, last)
            else:
                return
        position = self._writer.checkpoint(stream).sequence
        raise RebuildFailed(f"{stream} was to be folded up to {last}; {ATTEMPTS} readings came to {position} only; {STAY}")

    async def _check_all(self, stream: str, first: int, last: int) -> None:
        """Check that all is folded in that there is up to a sequence.

        Raises `RebuildFailed` where the stream is another or has become shorter, `StreamLetGo`, and `_EndedEarly` where the
        rest is there.
        """
        position, state = self._writer.checkpoint(stream).sequence, await state_of(self._bus, stream)
        if self._created.setdefault(stream, state.created) != state.created:
            raise RebuildFailed(f"{stream} was made anew while it was read; {STAY}")
        if position >= last:
            return
        if state.last < last:
            raise RebuildFailed(f"{stream} ends at {state.last} by now, before {last}: its server lost a tail; {STAY}")
        if 0 < position < state.first - 1:
            raise StreamLetGo(stream, state.first, position)
        later = await self._bus.next(stream, max(first, position + 1))
        if later is not None and later.sequence <= last:
            raise _EndedEarly

    async def _fold_sealed(self, stream: str, first: int, last: int) -> None:
        if self._archive is not None:
            joined = await Joined.of(self._bus, stream, self._archive)
            if first == 1 < joined.first and not joined.sealed:
                raise RebuildFailed(
                    f"{stream} begins at {joined.first}, and nothing of it is in the archive {self._archive.directory}: is "
                    f"that mounted? {STAY.capitalize()}"
                )

            def tell(at: int, count: int, size: int) -> None:
                self._count(stream, at, last, count, size)

            await fold_sealed(self._writer, joined, first, last, tell, from_bodies=self._from_bodies)

    async def _fold_rest(self, stream: str, first: int, last: int) -> None:
        start = max(first, self._writer.checkpoint(stream).sequence + 1)
        if start > last:
            return
        async with self._start.tail(stream, start, last) as batches:
            async for batch in batches:
                await self._wholeness.check(stream, start - 1, batch.sequences, batch.times_ns)
                await self._writer.apply_batch(stream, batch)
                start = batch.last.sequence + 1
                self._count(stream, start - 1, last, len(batch), batch.body_bytes)

    def _count(self, stream: str, sequence: int, last: int, messages: int, body_bytes: int) -> None:
        self._messages += messages
        self._body_bytes += body_bytes
        self._tell(Progress(stream, sequence, last, self._messages, self._body_bytes))

    async def finish(self) -> Rebuilt:
        """Close the file, whole: everything is in it, and nothing beside it. It stays. Raises `ViewsUnwritable`.

        Where the beginning of a stream was not to be had, that is said in the log, and in what is returned.
        """
        self._writer.check_in_place()
        positions = {stream: self._writer.checkpoint(stream).sequence for stream in FOLDS}
        begins = await self._begin_late()
        await self._writer.work_all_in()
        await self._writer.close()
        self._finished = True
        for stream, first in begins.items():
            log.warning("%s: %s", self.path, lateness(stream, first))
        messages, body_bytes = self._messages + self._copied_messages, self._body_bytes + self._copied_bytes
        return Rebuilt(positions, messages, body_bytes, time.monotonic() - self._began, begins, self._from_fold)

    async def _begin_late(self) -> dict[str, int]:
        """Return the first sequences of streams that were to be folded in from 1 on, and were not."""
        firsts = {stream: await self._writer.first(stream) for stream in FOLDS if stream not in self._parts}
        return {stream: first for stream, first in firsts.items() if first is not None and first > 1}

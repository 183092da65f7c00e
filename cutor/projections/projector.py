"""The projector: follows EVENTS and ENVIRONMENTS and keeps the views.

Consumes every message of both streams, appends dead letters about those that are no events (`letters`). What makes it
idempotent is the checkpoint that commits with the views: after a crash at any point it goes on behind the last message that is
folded in. A file that does not belong to the stream (any more), is damaged or made by other rules, or vanishes, is made anew
from the stream, loudly.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Final

from cutor.bus.connection import Bus
from cutor.bus.errors import BusUnreachable, StreamRewound
from cutor.metrics.table import REBUILDS
from cutor.metrics.tally import Observation
from cutor.model.subjects import ENVIRONMENTS, EVENTS
from cutor.process.context import RoleContext
from cutor.projections.archive.place import Archive
from cutor.projections.cpu_pressure import CpuPressure
from cutor.projections.errors import LeftOut, StreamLetGo, ViewsRejected
from cutor.projections.folds.batches import read_batches
from cutor.projections.folds.small_fold import SMALL
from cutor.projections.letters import Letters
from cutor.projections.measuring import committing
from cutor.projections.origin import Origin
from cutor.projections.pace import Paces
from cutor.projections.progress import SOON, Progress
from cutor.projections.rebuilds.rebuild import FreshViews, Rebuilt
from cutor.projections.rereading import Rereading
from cutor.projections.sealed_past import SealedPast
from cutor.projections.wholeness import Wholeness
from cutor.projections.writer import Writer
from cutor.undisturbed import to_the_end

log = logging.getLogger(__name__)

STREAMS: Final = (EVENTS, ENVIRONMENTS)
FOLLOWED: Final = SMALL
"""Most messages of one transaction while following."""
BULK_FROM: Final = 50_000
"""So far behind a stream's end, the projector reads in bulk until it is there: at its start, and where it cannot keep pace."""
WATCH_S: Final = 1.0
"""Between two looks at whether the file is still there."""
COMPARE_S: Final = 10.0
"""Between two looks at whether the streams are still those that the views were folded from: an idle one says nothing itself."""
RETRY_S: Final = 1.0
"""Pause after a server that was not reached; what that after rejected views grows from, up to `LONGEST_RETRY_S`."""
LONGEST_RETRY_S: Final = 60.0
"""Views that are rejected again and again are made anew once a minute: it costs a pass over the streams each time."""


class Projector:
    """Follows the streams over one bus into one file."""

    def __init__(self, context: RoleContext, bus: Bus, writer: Writer, archive: Archive | None) -> None:
        self._context = context
        self._bus = bus
        self._writer = writer
        interval_s = context.config.projector.commit_interval_ms / 1000
        self.paces = Paces(interval_s, STREAMS, self._is_behind, CpuPressure().is_high)
        self._letters = {stream: Letters(bus, writer, stream) for stream in STREAMS}
        self._verified = asyncio.Event()
        self._followed_anew: set[str] = set()
        self._wholeness = Wholeness(bus, writer)
        self._sealed = SealedPast(bus, writer, archive)
        self._origin = Origin(bus, writer, self._sealed)
        self._rereading = Rereading(writer)
        self._from_scratch_to = dict.fromkeys(STREAMS, 0)
        self._progress = Progress()
        self._is_ready = False
        self._rejected_in_a_row = 0
        self._began_with_fold = False
        self._file_in_use = asyncio.Lock()
        self._pause = asyncio.Event()

    async def run(self) -> None:
        """Follow until the context says stop; make the file anew as often as it takes."""
        end_watch = self._bus.link.watch(back=self._verified.clear)
        try:
            while not self._context.stop.is_set():
                async with self._file_in_use:
                    await self._keep_up()
        finally:
            end_watch()

    async def _keep_up(self) -> None:
        """Follow until stopped or paused, or something is in the way that the next turn may go on behind."""
        try:
            await self._follow_until_stopped()
        except (ViewsRejected, StreamRewound) as reason:
            log.error("%s: %s; the views are made anew", self._writer.path, reason)
            self._context.measures.note(Observation(REBUILDS))
            await self._writer.give_up(keep=not self._rejected_in_a_row)
            self._rereading.forget()
            await self._writer.open()
            await self._pause_after_rejection()
        except StreamLetGo as reason:
            log.warning("%s", reason)
        except BusUnreachable as error:
            log.warning("%s", error)
            await self._end(at_most_s=RETRY_S)

    async def _pause_after_rejection(self) -> None:
        """Wait the longer, the more often in a row the views were made anew without that they came to the streams' ends."""
        pause_s = min(RETRY_S * (2**self._rejected_in_a_row - 1), LONGEST_RETRY_S)
        self._rejected_in_a_row += 1
        await self._end(at_most_s=pause_s)

    async def _end(self, at_most_s: float | None = None) -> None:
        """Wait until the context says stop, or another file is to be put in place."""
        ends = [asyncio.create_task(one.wait()) for one in (self._context.stop, self._pause)]
        try:
            await asyncio.wait(ends, timeout=at_most_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()

    async def swap(self, fresh: FreshViews) -> Rebuilt:
        """Pause, bring a new file up to where the views stand, and go on with it in their place.

        The pause is that of the messages that came while the new file was made. Queries are answered meanwhile, and never see
        less than before.
        """
        self._pause.set()
        try:
            async with self._file_in_use:
                self._pause.clear()
                await self._writer.settle()
                await fresh.fold_to({stream: self._writer.checkpoint(stream).sequence for stream in STREAMS})
                return await to_the_end(self._put_in_place(fresh))
        finally:
            self._pause.clear()

    async def _put_in_place(self, fresh: FreshViews) -> Rebuilt:
        done = await fresh.finish()
        await self._writer.replace_by(fresh.path)
        return done

    async def _follow_until_stopped(self) -> None:
        """Follow both streams until stopped or paused; the first error of either ends the other, and is raised."""
        await self._verify()
        if not await self._begin():
            return
        try:
            async with asyncio.TaskGroup() as tasks:
                work = [tasks.create_task(self._follow(stream), name=f"follow {stream}") for stream in STREAMS]
                work += [tasks.create_task(self._letters[stream].run(), name=f"letters of {stream}") for stream in STREAMS]
                work.append(tasks.create_task(self._watch_file(), name="watch the file"))
                work.append(tasks.create_task(self._watch_streams(), name="watch the streams"))
                await self._end()
                await self.paces.settle()
                for task in work:
                    task.cancel()
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors

    async def _begin(self) -> bool:
        """Begin with the sealed fold where that is to be; return False where it was time to stop or to pause before.

        Views that began with it and were rejected begin without it, until they have come to the streams' ends.
        """
        if self._rejected_in_a_row and self._began_with_fold:
            return True
        begin, end = asyncio.create_task(self._sealed.begin()), asyncio.create_task(self._end())
        try:
            await asyncio.wait((begin, end), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (begin, end):
                task.cancel()
            await asyncio.wait((begin, end))
        if begin.cancelled():
            return False
        if begin.result():
            self._began_with_fold = True
            await self._verify()
        return True

    async def _follow(self, stream: str) -> None:
        """Fold a stream in, in batches of what has arrived meanwhile."""
        self._tell_ready(least_behind=sys.maxsize)
        folded, waiting = partial(self._has_folded, stream), partial(self._waits, stream)
        await self._sealed.fold(stream, folded=folded, waiting=waiting, otherwise=partial(self._rereading.reason, stream))
        self._note_behind(stream)
        while True:
            try:
                await self._catch_up(stream)
                await self._keep_pace(stream)
            except LeftOut as left:
                await self._pause_before_rereading(stream, left)

    async def _pause_before_rereading(self, stream: str, left: LeftOut) -> None:
        """Wait before a stream is read again that is said to have what a reading left out; the other one goes on."""
        pause_s = await self._rereading.note(left)
        log.error("%s, after %g s", left, pause_s)
        self._tell_ready()
        await asyncio.sleep(pause_s)
        await self._verify_stream(stream)

    async def _keep_pace(self, stream: str) -> None:
        """Follow a stream as long as that is not far ahead."""
        start = self._writer.checkpoint(stream).sequence + 1
        anew, pace = partial(self._followed_anew.add, stream), self.paces.of(stream)
        follow = self._bus.follow_columns(stream, from_sequence=start, batch=FOLLOWED, anew=anew, pace=pace)
        async with aclosing(follow) as batches:
            async for columns in batches:
                apply = partial(self._writer.apply, stream, columns.each(stream))
                await self._fold(stream, columns.sequences, columns.times_ns, apply)
                if self._progress.behind(stream) >= BULK_FROM:
                    return

    async def _catch_up(self, stream: str) -> None:
        """Fold in what lies far behind the stream's end, as a rebuild does."""
        position = self._writer.checkpoint(stream).sequence
        if self._progress.ends[stream] - position < BULK_FROM:
            return
        reading = read_batches(self._bus, stream, position + 1, self._progress.ends[stream])
        async with aclosing(reading) as batches:
            async for batch in batches:
                await self._fold(stream, batch.sequences, batch.times_ns, partial(self._writer.apply_batch, stream, batch))

    async def _fold(
        self, stream: str, sequences: Sequence[int], times_ns: Sequence[int], apply: Callable[[], Awaitable[None]]
    ) -> None:
        """Look at a batch, fold it in, and say so."""
        if not self._verified.is_set():
            await self._verify()
        position, scratch = self._writer.checkpoint(stream).sequence, self._from_scratch_to[stream]
        if position and stream in self._followed_anew:
            await self._verify_stream(stream)
        self._followed_anew.discard(stream)
        await self._wholeness.check(stream, position, sequences, times_ns, from_scratch_to=scratch)
        with committing(self._context.measures, stream, len(sequences)):
            await apply()
        await self._rereading.folded(stream)
        if self._writer.doubtful(stream) > position:
            self._letters[stream].wake()
        self._has_folded(stream)

    def _has_folded(self, stream: str) -> None:
        self._note_behind(stream)
        self._tell_ready()

    def _note_behind(self, stream: str) -> None:
        self._progress.fold(stream, self._writer.checkpoint(stream).sequence)
        if self._progress.has_caught_up():
            self._rejected_in_a_row = 0
            self._began_with_fold = False

    def _is_behind(self, stream: str) -> bool:
        return self._progress.behind(stream) > 0

    def _waits(self, stream: str) -> None:
        """A stream that waits for its archive keeps nobody from serving: answers say that it does."""
        self._progress.wait(stream)
        self._tell_ready()

    def _tell_ready(self, least_behind: int = SOON) -> None:
        """Say once that the role serves: the views have caught up, have more than that to catch up with, or cannot.

        Where readings leave something out again and again, answers say so, as of a stream that waits for its archive.
        """

        def cannot(stream: str) -> bool:
            return self._rereading.reason(stream) is not None

        if not self._is_ready and self._progress.is_to_serve(cannot, least_behind):
            self._is_ready = True
            self._context.ready()

    async def _watch_file(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            self._writer.check_in_place()

    async def _watch_streams(self) -> None:
        while True:
            await asyncio.sleep(COMPARE_S)
            with suppress(BusUnreachable):
                for stream in STREAMS:
                    reach = await self._origin.check(stream)
                    if self._is_ready:
                        self._progress.ends[stream] = reach.newest

    async def _verify(self) -> None:
        """Check that the streams are the ones that the views were folded from: at the start, and after any lost connection."""
        self._verified.set()
        for stream in STREAMS:
            await self._verify_stream(stream)

    async def _verify_stream(self, stream: str) -> None:
        reach = await self._origin.check(stream)
        position = self._writer.checkpoint(stream).sequence
        self._progress.compare(stream, reach.newest, position)
        if position == 0:
            self._from_scratch_to[stream] = reach.last

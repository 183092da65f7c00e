"""The archiver: seals on a schedule, decodes and folds what is sealed, and lets go of old events and bodies if configured.

Consumes EVENTS, ENVIRONMENTS and BODIES, appends no event. What makes it safe to be killed at any point: a segment counts once
the manifest names it, and what goes is a range that is sealed, whenever the server comes to it. It is a process of its own,
because sealing takes a CPU that the projector's readers would miss.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from cutor.bus.backup import check_whole
from cutor.bus.connection import Bus
from cutor.errors import CutorError
from cutor.process.context import RoleContext
from cutor.projections.archive.belonging import check_mark
from cutor.projections.archive.body_retention import announce, plan
from cutor.projections.archive.decoding import decode_each
from cutor.projections.archive.errors import ArchiveBusy, ArchiveError, ArchiveUnnamed
from cutor.projections.archive.fold_sealing import Progress, is_whole, seal_fold, standing, tidy_up
from cutor.projections.archive.manifest import Manifest
from cutor.projections.archive.measuring import Sealed
from cutor.projections.archive.mending import mend
from cutor.projections.archive.place import Archive
from cutor.projections.archive.references import References
from cutor.projections.archive.retention import Expiry, Retention, expire
from cutor.projections.archive.sealed_bodies import SealedBodies
from cutor.projections.archive.sealing import STREAMS, Cut, seal_each
from cutor.projections.settings import ArchiveSettings

log = logging.getLogger(__name__)

DAY_S: Final = 86_400
"""Seconds of a day."""
AGAIN_S: Final = 10.0
"""What is waited after a round that failed, and twice as long after each that fails behind it, up to ``archive.interval_s``."""
DECODING_S: Final = 60.0
"""For so long a round begins to decode one more segment: the archive is free for others then, and what is new is sealed."""
FOLDING_S: Final = 60.0
"""Likewise for so long a round goes on to fold."""


async def run_archiver(context: RoleContext) -> None:
    """Seal every ``archive.interval_s`` until the context says stop.

    Raises `ArchiveUnnamed`, `ArchiveBusy` and `ArchiveUnusable` at its start; what fails later is said, and tried again.
    """
    settings = context.config.archive
    if settings.directory is None:
        raise ArchiveUnnamed("no archive is configured: set [archive] directory")
    archive = Archive(Path(settings.directory))
    with archive.held():
        pass  # what hinders it now is worth an end in one line
    async with Bus.connect(context.server, name=f"cutor archiver {context.worker}") as bus:
        await check_whole(bus)
        context.ready()
        rounds = Rounds(context.server, bus, archive, settings, Sealed(context.measures))
        with rounds.measured.sampled(bus, archive):
            work = asyncio.create_task(rounds.run(), name="archive")
            stopped = asyncio.create_task(context.stop.wait())
            await asyncio.wait([work, stopped], return_when=asyncio.FIRST_COMPLETED)
            work.cancel()
            stopped.cancel()
            with suppress(asyncio.CancelledError):
                await work


def pause_s(failed: int, interval_s: float) -> float:
    """Return how long to wait for the next round behind so many in a row that failed. Pure."""
    return min(AGAIN_S * 2.0 ** min(failed - 1, 30), interval_s) if failed else interval_s


class Rounds:
    """Round after round; between two the archive is free for `cutor archive seal` and `expire`."""

    def __init__(self, server: str, bus: Bus, archive: Archive, settings: ArchiveSettings, measured: Sealed) -> None:
        self.measured = measured
        self._server = server
        self._bus = bus
        self._archive = archive
        self._settings = settings
        self._retention = Retention(bus, archive)
        self._references = References()
        self._bodies: SealedBodies | None = None
        self._troubles: tuple[str, ...] = ()
        self._decoded_all = True
        self._folded_all = True
        self._hinders_fold: str | None = None
        self._look_at_fold_s = 0.0
        self._warned = False

    async def run(self) -> None:
        """Do it for ever."""
        failed = 0
        while True:
            self._tell(await self.one())
            failed = failed + 1 if self._troubles else 0
            rest_s = pause_s(failed, self._settings.interval_s)
            done = self._troubles or (self._decoded_all and self._folded_all)
            await asyncio.sleep(rest_s if done else min(AGAIN_S, rest_s))

    def _tell(self, troubles: tuple[str, ...]) -> None:
        for trouble in troubles:
            if trouble not in self._troubles:
                log.error("%s", trouble)
        if self._troubles and not troubles:
            log.info("it works again")
        self._troubles = troubles

    async def one(self) -> tuple[str, ...]:
        """Seal what there is, let go of what is old enough, then decode and fold what is sealed.

        Returns what went wrong, a line each. What hinders one stream hinders no other.
        """
        troubles: list[str] = []
        sealed: dict[str, Manifest] = {}
        try:
            with self._archive.held():
                self._warn(await check_mark(self._bus, self._archive))
                sealed, hindered = await self._seal()
                troubles += hindered
                for work in (self._let_go, self._let_bodies_go):
                    try:
                        await work()
                    except CutorError as error:
                        troubles.append(str(error))
                troubles += await self._decode()
                await self._fold()
        except ArchiveBusy:
            log.info("somebody else seals: the next round comes")
            return self._troubles
        except CutorError as error:
            troubles.append(str(error))
        self.measured.round_ended(sealed, troubles)
        return tuple(dict.fromkeys(troubles))

    def _warn(self, of: str | None) -> None:
        """Say once what nobody mends while this process lives but who sees it."""
        if of is not None and not self._warned:
            self._warned = True
            log.warning("%s", of)

    async def _seal(self) -> tuple[dict[str, Manifest], list[str]]:
        cut = Cut(segment_bytes=self._settings.segment_bytes, age_s=self._settings.segment_age_s)
        before = {stream: self._last(stream) for stream in STREAMS}
        sealed, hindered = await seal_each(self._bus, self._archive, cut, self.measured.progress)
        for stream, manifest in sealed.items():
            if manifest.last != before[stream]:
                log.info("%s is sealed up to %d", stream, manifest.last)
        return sealed, [str(error) for error in hindered.values()]

    def _last(self, stream: str) -> int | None:
        try:
            manifest = self._archive.manifest(stream)
        except ArchiveError:
            return None
        return manifest.last if manifest else 0

    async def _decode(self) -> list[str]:
        """Decode what is sealed, for rebuilds; an archive of before comes to it by and by, or when the rules have changed.

        Returns what hindered it.
        """
        until = time.monotonic() + DECODING_S
        found = await decode_each(self._archive, goes_on=lambda: time.monotonic() < until)
        self._decoded_all = all(one.decoded == one.segments for one in found)
        return [str(error) for one in found for error in one.hindered]

    async def _fold(self) -> None:
        """Bring the sealed fold on where much is sealed behind it, and see now and then that it is whole, for rebuilds.

        What hinders that hinders nothing else, and is said once: rebuilds take longer.
        """
        trouble = None
        try:
            at = await asyncio.to_thread(standing, self._archive)
            if at.is_due or not await self._is_whole(at):
                until = time.monotonic() + FOLDING_S
                at = await seal_fold(self._archive, goes_on=lambda: time.monotonic() < until)
                if at.fold is not None:
                    log.info("a fold is sealed of %s", at.fold.named())
            else:
                await asyncio.to_thread(tidy_up, self._archive)
            self._folded_all = not at.is_due
            self.measured.folded(at)
        except ArchiveError as error:
            self._folded_all, trouble = True, str(error)  # so that the next round comes when it is due
        if trouble is not None and trouble != self._hinders_fold:
            log.error("%s", trouble)
        self._hinders_fold = trouble

    async def _is_whole(self, at: Progress) -> bool:
        """Look once when this process begins, and then once a day: a rebuild that finds it damaged cannot write here."""
        if at.fold is None or time.monotonic() < self._look_at_fold_s:
            return True
        self._look_at_fold_s = time.monotonic() + DAY_S
        return await is_whole(self._archive, at.fold)

    async def _let_go(self) -> None:
        days = self._settings.retain_days
        if days is None:
            return
        await self._expire(await self._retention.plan(days * DAY_S), days)

    async def _let_bodies_go(self) -> None:
        days = self._settings.retain_bodies_days
        if days is None:
            return
        try:
            await announce(self._bus, days * DAY_S)
            await self._expire(await plan(self._bus, self._archive, days * DAY_S, self._references), days)
        except CutorError:
            self._references = References()  # of a stream that was rewound, another one
            await self._mend()  # whatever hinders it, and even where it was done and nobody heard of it
            raise
        await self._mend()

    async def _mend(self) -> None:
        self._bodies = self._bodies or SealedBodies(self._archive)  # it reads which content is where once
        if mended := await mend(self._bus, self._archive, self._references, self._bodies):
            log.info("put %d messages back into BODIES: somebody has come to refer to them", mended)

    async def _expire(self, expiry: Expiry, days: int) -> None:
        if expiry.messages:
            log.info("%s lets go of %d to %d, which are sealed", expiry.stream, expiry.first, expiry.last)
            await expire(self._server, self._bus, self._archive, expiry)
            self.measured.expired(expiry.stream, expiry.messages)
        if expiry.held_by is not None:
            log.warning("%s keeps more than %d days: %s", expiry.stream, days, expiry.held_by)

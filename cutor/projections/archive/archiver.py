"""The archiver: seals on a schedule, and lets go of old events where the deployer says after how long.

Consumes EVENTS, ENVIRONMENTS and BODIES, appends nothing. What makes it safe to be killed at any point: a segment counts once
the manifest names it, and a limit that was left is taken back at the next start. It is a process of its own, because sealing
takes a CPU that the projector's readers would miss.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from pathlib import Path
from typing import Final

from cutor.bus.backup import check_whole
from cutor.bus.connection import Bus
from cutor.bus.errors import BusError
from cutor.config import ArchiveSettings
from cutor.projections.archive.errors import ArchiveError, ArchiveUnnamed
from cutor.projections.archive.place import Archive
from cutor.projections.archive.retention import expire, plan, withdraw
from cutor.projections.archive.sealing import STREAMS, Cut, seal
from cutor.roles.context import RoleContext

log = logging.getLogger(__name__)

DAY_S: Final = 86_400


AGAIN_S: Final = 10.0
"""What is waited after a round that failed: a limit that it could not take back stands until then."""


async def run_archiver(context: RoleContext) -> None:
    """Seal every ``archive.interval_s`` until the context says stop.

    Raises `ArchiveUnnamed`, `ArchiveBusy` and `ArchiveUnusable` at its start; what fails later is said, and tried again.
    """
    settings = context.config.archive
    if settings.directory is None:
        raise ArchiveUnnamed("no archive is configured: set [archive] directory")
    archive = Archive(Path(settings.directory))
    with archive.held():
        async with Bus.connect(context.server, name=f"cutor archiver {context.worker}") as bus:
            await check_whole(bus)
            context.ready()
            work = asyncio.create_task(_rounds(bus, archive, settings), name="archive")
            stopped = asyncio.create_task(context.stop.wait())
            await asyncio.wait([work, stopped], return_when=asyncio.FIRST_COMPLETED)
            work.cancel()
            stopped.cancel()
            with suppress(asyncio.CancelledError):
                await work


async def _rounds(bus: Bus, archive: Archive, settings: ArchiveSettings) -> None:
    trouble = ""
    while True:
        try:
            await one_round(bus, archive, settings)
            if trouble:
                log.info("it works again")
            trouble = ""
        except (ArchiveError, BusError) as error:
            if str(error) != trouble:
                log.error("%s", error)
            trouble = str(error)
        await asyncio.sleep(min(AGAIN_S, settings.interval_s) if trouble else settings.interval_s)


async def one_round(bus: Bus, archive: Archive, settings: ArchiveSettings) -> None:
    """Seal what there is, then let go of what is old enough. Raises the errors of archive and bus."""
    if await withdraw(bus):
        log.warning("took back a limit of EVENTS that a former life had left")
    cut = Cut(segment_bytes=settings.segment_bytes, age_s=settings.segment_age_s)
    for stream in STREAMS:
        before = archive.manifest(stream)
        sealed = await seal(bus, archive, stream, cut)
        if sealed.last != (before.last if before else 0):
            log.info("%s is sealed up to %d", stream, sealed.last)
    if settings.retain_days is None:
        return
    expiry = await plan(bus, archive, settings.retain_days * DAY_S)
    if expiry.messages:
        log.info("EVENTS lets go of %d to %d, which are sealed", expiry.first, expiry.last)
        await expire(bus, expiry)
    if expiry.held_by is not None:
        log.warning("EVENTS keeps more than %d days: %s", settings.retain_days, expiry.held_by)

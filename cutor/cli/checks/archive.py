"""What ``cutor doctor`` says of the archive: how far it is behind, and whether EVENTS lets go of what is sealed alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cutor.bus.connection import Bus
from cutor.bus.errors import StreamMissing
from cutor.cli.archive_fold import look
from cutor.cli.checks.findings import Finding, fail, ok, warn
from cutor.cli.failures import line_of
from cutor.errors import CutorError
from cutor.model.subjects import BODIES, EVENTS
from cutor.projections.settings import ArchiveSettings

if TYPE_CHECKING:
    from cutor.projections.archive.reports import StreamReport

NS_PER_S: Final = 1_000_000_000
"""Nanoseconds of a second."""
SETTLED_S: Final = 600
"""What may be late without a word: an archiver that is started anew, or seals a large range. A choice."""
ROUNDS: Final = 3
"""An archiver is behind when it has not sealed for so many of its intervals what it should have."""
GAPS_SHOWN: Final = 3
"""Gaps that the line of a check names; the others are counted."""
SEALS: Final = (
    "`cutor up` starts an archiver beside its projector; its log says what hinders it, `cutor archive seal` seals now"
)


async def check_archive(bus: Bus, settings: ArchiveSettings) -> AsyncIterator[Finding]:
    """Check how far the archive is, where one is configured, and that streams let go as they are meant to."""
    if settings.directory is None:
        if (late := await _begins_late(bus)) is not None:
            yield late
        return
    for stream, days in ((EVENTS, settings.retain_days), (BODIES, settings.retain_bodies_days)):
        if (found := await _retention(bus, stream, days)) is not None:
            yield found
    if not await asyncio.to_thread(Path(settings.directory).is_dir):
        yield warn("archive", f"{settings.directory} is not there: nothing is sealed, or it is on another host", SEALS)
        return
    from cutor.projections.archive.place import Archive  # noqa: PLC0415 - it imports duckdb
    from cutor.projections.archive.reports import report  # noqa: PLC0415 - as above

    try:
        archive = Archive(Path(settings.directory))
        yield judge_archive(await report(archive, bus), settings, datetime.now(UTC).timestamp())
        if (fault := await asyncio.to_thread(lambda: look(archive).fault)) is not None:
            yield warn("sealed fold", f"{fault}: rebuilds fold every event", "`cutor archive fold` seals one anew")
    except CutorError as error:
        yield fail("archive", line_of(error), "docs/how-to/archive.md says what to do")


def judge_archive(reports: list[StreamReport], settings: ArchiveSettings, now_s: float) -> Finding:
    """Return what so much that is sealed, and not sealed, means."""
    late_s = settings.segment_age_s + SETTLED_S + ROUNDS * settings.interval_s
    gaps = [f"{first} to {last} of {one.manifest.stream}" for one in reports for first, last in one.manifest.gaps]
    sealed = ", ".join(f"{one.manifest.stream} up to {one.manifest.last}" for one in reports if one.manifest.segments)
    late = [one for one in reports if one.oldest_ns is not None and one.oldest_ns / NS_PER_S < now_s - late_s]
    if late:
        hours = max(int((now_s - (one.oldest_ns or 0) / NS_PER_S) // 3600) for one in late)
        names = ", ".join(f"{one.unsealed} of {one.manifest.stream}" for one in late)
        return warn("archive", f"not sealed are {names}, the oldest for {hours} h", SEALS)
    if gaps:
        some = ", ".join(gaps[:GAPS_SHOWN]) + (f" and {len(gaps) - GAPS_SHOWN} more gaps" if len(gaps) > GAPS_SHOWN else "")
        return warn("archive", f"sealed without what was acknowledged as missing: {some}", "a backup may have it")
    return ok("archive", f"sealed are {sealed}" if sealed else "nothing is old enough to be sealed")


async def _begins_late(bus: Bus) -> Finding | None:
    """Return what there is to say of a stream whose beginning is gone, where no archive is configured."""
    try:
        first = int((await bus.stream_info(EVENTS))["state"]["first_seq"])
    except StreamMissing:
        return None
    if first <= 1:
        return None
    what = f"EVENTS begins at {first}, and no archive is configured: views that are made anew begin there, and look whole"
    return warn("archive", what, "set [archive] directory to where it was sealed")


async def _retention(bus: Bus, stream: str, days: int | None) -> Finding | None:
    """Return what there is to say of a limit beside the archive, and of a stream that cannot let go."""
    try:
        config = (await bus.stream_info(stream))["config"]
    except StreamMissing:
        return None
    if config.get("max_age"):
        what = f"{stream} has a max_age: it lets go of messages whether they are sealed or not"
        return warn("retention", what, "`max_age: unlimited` in streams.yaml and `cutor streams apply` take it back")
    if days is not None and config.get("deny_purge"):
        return warn(
            "retention", f"{stream} was made with deny_purge, and lets go of nothing", "docs/how-to/archive.md says what to do"
        )
    return None

"""What ``cutor doctor`` says of room: what the file system of the store has left, and the environments that take it."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Final

from cutor.bus.connection import Bus
from cutor.cli.checks.findings import Finding, fail, ok, warn
from cutor.containers.engine import Engine
from cutor.containers.errors import EngineRefused
from cutor.errors import CutorError
from cutor.model.units import about
from cutor.nix.settings import NixSettings
from cutor.projections.queries.client import query

USED_WARNING_PERCENT: Final = 80
"""The check warns of a store's disk of which so much is used."""
OLD_DAYS: Final = 30
"""Environments that nothing has touched for so long are counted, since `cutor gc --older-than` may take them."""
TIMEOUT_S: Final = 5.0
"""How long the projector may take to count environments; without its answer the rest is said all the same. A choice."""
REMEDY: Final = "`cutor gc` makes room; `--older-than` and `--max-size` have environments go, too"
SQL: Final = """
SELECT count(*), count(*) FILTER (pinned), count(*) FILTER (NOT pinned AND greatest(built_at, last_used_at) < '{moment}')
FROM environments WHERE built_at IS NOT NULL AND NOT removed
"""


async def check_store_space(engine: Engine, settings: NixSettings) -> AsyncIterator[Finding]:
    """Check what is free where the store lies; nothing is said where it cannot be seen from here."""
    try:
        places = await engine.volume_places(settings.store_volume)
    except EngineRefused:
        return  # it is missing: `check_volumes` tells of it
    for place in places:
        try:
            usage = shutil.disk_usage(place)
        except OSError:
            continue
        yield judge_store_space(usage.used, usage.free, settings.min_free_bytes)
        return


def judge_store_space(used_bytes: int, free_bytes: int, least_bytes: int) -> Finding:
    """Return what so much means of what may be filled."""
    size_bytes = used_bytes + free_bytes
    used_percent = -(-100 * used_bytes // size_bytes) if size_bytes else 100  # as df does
    detail = f"{about(free_bytes)} of {about(size_bytes)} are free where the store is, {used_percent} % used"
    if free_bytes < least_bytes:
        return fail("store space", f"{detail}: no build begins with less than {about(least_bytes)}, nix.min_free_bytes", REMEDY)
    if used_percent >= USED_WARNING_PERCENT:
        return warn("store space", detail, REMEDY)
    return ok("store space", detail)


async def check_environments(bus: Bus, now: datetime | None = None) -> Finding | None:
    """Say how many environments stand, and how many nothing uses; None without a projector, which is told of elsewhere."""
    moment = ((now or datetime.now(UTC)) - timedelta(days=OLD_DAYS)).replace(tzinfo=None).isoformat(sep=" ")
    try:
        [[standing, pinned, old]] = (await query(bus, SQL.format(moment=moment), TIMEOUT_S)).rows
    except CutorError:
        return None
    return judge_environments(standing, pinned, old)


def judge_environments(standing: int, pinned: int, old: int) -> Finding:
    """Return what there is to say of so many environments, so many of them pinned, and not pinned and old."""
    stand = f"{standing} stand{'s' if standing == 1 else ''}" if standing else "none stands"
    detail = stand + (f", {pinned} of them pinned" if pinned else "")
    if old:
        detail += f"; nothing has touched {old} for {OLD_DAYS} days: `cutor gc --older-than {OLD_DAYS}d` takes them"
    return ok("environments", detail)

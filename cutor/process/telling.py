"""How a role tells who looks on how it fares: its statistics, once a second while they change, as notices that no stream keeps.

It asks nobody for anything: a server that is away, or nobody who listens, costs nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from cutor.bus.connection import Bus
from cutor.bus.errors import BusError
from cutor.metrics.statistics import HEARTBEAT_S, RoleName, Statistics, statistics_of, subject_of
from cutor.process.context import RoleContext

log = logging.getLogger(__name__)

EVERY_S: Final = 1.0
"""How often it is looked whether there is something new to tell."""


@asynccontextmanager
async def telling(context: RoleContext, bus: Bus, role: RoleName) -> AsyncIterator[None]:
    """Tell of a role while the block lasts."""
    teller = asyncio.create_task(_tell(context, bus, role), name="statistics")
    try:
        yield
    finally:
        teller.cancel()
        await asyncio.wait({teller})


async def _tell(context: RoleContext, bus: Bus, role: RoleName) -> None:
    subject, started_ms = subject_of(role, context.worker), time.time_ns() // 1_000_000
    told, told_at_s = None, float("-inf")
    while True:
        try:
            now = await _statistics(context, role, started_ms)
            if now != told or time.monotonic() - told_at_s >= HEARTBEAT_S:
                told, told_at_s = now, time.monotonic()
                await bus.notify(subject, msgspec.json.encode(now))
        except BusError as error:
            log.debug("statistics not told: %s", error)
        except Exception:
            log.exception("a bug in the statistics: they are told no more")
            return
        await asyncio.sleep(EVERY_S)


async def _statistics(context: RoleContext, role: RoleName, started_ms: int) -> Statistics:
    measures = context.measures
    return statistics_of(
        await measures.glance(),
        role=role,
        worker=context.worker,
        instance=context.instance,
        started_ms=started_ms,
        ready=measures.was_ready and not context.stop.is_set(),
    )

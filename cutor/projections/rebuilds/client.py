"""Has the projector of a stack make its views anew; without DuckDB."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec

from cutor.bus.connection import Bus
from cutor.bus.errors import BusError
from cutor.bus.service import NobodyServes, NoReply, request
from cutor.projections.errors import RebuildFailed
from cutor.projections.rebuilds.orders import ANSWER_S, SUBJECT, Order, RebuildReport, subject_of
from cutor.undisturbed import to_the_end

LOOK_S: Final = 0.2
"""Between two questions how far it is."""


async def order_rebuild(bus: Bus, tell: Callable[[RebuildReport], None], *, from_events: bool = False) -> RebuildReport:
    """Have the views made anew, and return what the projector reports in the end. Cancelled, it calls the rebuild off.

    ``from_events``: every event is folded, none comes from a sealed fold.
    Raises `NobodyServes` where no projector lives, `NoReply` where it does not say that it begins, `RebuildFailed` where it
    could not do it, or is not heard any more.
    """
    begun = await _ask(bus, SUBJECT, Order(from_events=from_events))
    if begun.state == "busy":
        raise RebuildFailed("the projector makes the views anew already: wait for that to end")
    try:
        return await _until_done(bus, begun, tell)
    except (NoReply, NobodyServes) as error:
        raise RebuildFailed(f"the projector does not answer any more ({error}): it has the old views, or new ones") from error


async def _until_done(bus: Bus, report: RebuildReport, tell: Callable[[RebuildReport], None]) -> RebuildReport:
    subject = subject_of(report.id)
    try:
        while report.state == "working":
            tell(report)
            await asyncio.sleep(LOOK_S)
            report = await _ask(bus, subject)
    except asyncio.CancelledError:
        await to_the_end(_call_off(bus, subject))
        raise
    if report.state == "failed":
        raise RebuildFailed(report.error)
    return report


async def _call_off(bus: Bus, subject: str) -> None:
    with suppress(BusError):  # one that nobody asks about is given up all the same
        await _ask(bus, subject, Order(cancel=True))


async def _ask(bus: Bus, subject: str, order: Order = Order()) -> RebuildReport:  # noqa: B008 - it is never changed
    return msgspec.json.decode(await request(bus, subject, msgspec.json.encode(order), timeout_s=ANSWER_S), type=RebuildReport)

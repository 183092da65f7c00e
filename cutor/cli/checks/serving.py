"""What ``cutor doctor`` sees of the roles: whether somebody serves each, and how far the views are."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from cutor.bus.connection import Bus
from cutor.bus.errors import ApiRefused
from cutor.cli.checks.findings import Finding, fail, ok, warn
from cutor.cli.failures import line_of
from cutor.config import Config
from cutor.errors import CutorError
from cutor.model.subjects import EVENTS
from cutor.model.units import counted
from cutor.projections.errors import is_left_out
from cutor.projections.queries.client import query

PROJECTOR_TIMEOUT_S: Final = 5.0
"""A question for one number is answered in milliseconds; a projector that takes longer is not well. A choice."""
BRING_BACK: Final = "bring an archive back that is away"
LAG_WARNING_EVENTS: Final = 10_000
"""Events that the projector may be behind before the check warns."""
SERVING_LOOKS: Final = 5
"""How often it is looked whether somebody serves a role, with `SERVING_PAUSE_S` between."""
SERVING_PAUSE_S: Final = 0.3
"""A role pulls anew every few seconds, one lane at a time: whether one serves is looked at a few times."""


async def check_role(bus: Bus, config: Config, role: str) -> Finding:
    """Check that somebody serves a role: a pull of it waits at a consumer of some tenant, or a delivery is in work."""
    for _ in range(SERVING_LOOKS):
        consumers = [await _consumer(bus, f"{role}-{tenant}") for tenant in sorted(config.tenants)]
        busy = sum(consumer.get("num_ack_pending", 0) for consumer in consumers)
        at_work = f"{counted(busy, 'submission')} in work" if busy else ""
        if any(consumer.get("num_waiting", 0) for consumer in consumers):
            return ok(role, f"{at_work or 'waits for work'}; {_waiting(consumers)}")
        await asyncio.sleep(SERVING_PAUSE_S)
    if at_work:
        return ok(role, f"{at_work}; {_waiting(consumers)}")
    return fail(role, f"none serves; {_waiting(consumers)}", f"`cutor up` starts one, `cutor {role}` one by itself")


async def _consumer(bus: Bus, name: str) -> dict[str, Any]:
    """Return what the server knows of a consumer, nothing where there is none: `check_streams` tells of that."""
    try:
        return dict(await bus.api.call(f"consumer {name}", f"CONSUMER.INFO.{EVENTS}.{name}"))
    except ApiRefused:
        return {}


def _waiting(consumers: list[dict[str, Any]]) -> str:
    queued = sum(consumer.get("num_pending", 0) for consumer in consumers)
    return f"{counted(queued, 'submission')} queued" if queued else "nothing queued"


async def check_projector(bus: Bus) -> Finding:
    """Check that a projector answers queries, and how far behind the stream it is."""
    try:
        answer = await query(bus, "SELECT max(sequence) FROM events", PROJECTOR_TIMEOUT_S)
    except CutorError as error:
        return fail("projector", line_of(error), "")
    for at in (answer.as_of or {}).values():
        if at.waits_for is not None:
            left_out = is_left_out(at.waits_for)
            remedy = "see whether the server is well, which has that and does not deliver it" if left_out else BRING_BACK
            return fail("projector", f"its views are not whole: {at.waits_for}", f"{remedy}; it goes on by itself")
    seen = int(answer.rows[0][0] or 0)
    behind = int((await bus.stream_info(EVENTS))["state"]["last_seq"]) - seen
    if behind > LAG_WARNING_EVENTS:
        return warn(
            "projector", f"{counted(behind, 'event')} behind the stream", "it catches up by itself; its log says why if not"
        )
    return ok("projector", f"answers; its views hold the events up to sequence {seen}")

"""What a builder or runner has at a moment: slots, what it has in hand, queues, and its connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cutor.bus.connection import Bus
from cutor.metrics import table
from cutor.metrics.tally import Observation
from cutor.model.events import Role
from cutor.model.limits import Policy
from cutor.model.subjects import EVENTS
from cutor.process.measures import Measures, connection
from cutor.roles.places import Places


@asynccontextmanager
async def sampling_the_loop(measures: Measures, bus: Bus, role: Role, policy: Policy, places: Places) -> AsyncIterator[None]:
    """Have slots, queues and the connection of a builder or runner sampled while the block lasts."""

    async def slots() -> list[Observation]:
        now = places.census()
        states = {"working": now.busy, "looking": now.looking, "waiting": now.waiting}
        return [
            Observation(table.SLOTS, now.busy, ("busy",)),
            Observation(table.SLOTS, max(0, now.slots - now.busy), ("free",)),
            *(Observation(table.IN_HAND, number, (state,)) for state, number in states.items()),
        ]

    async def queues() -> list[Observation]:
        depths = await asyncio.gather(*(bus.api.queue(EVENTS, f"{role}-{tenant}") for tenant in policy.tenants))
        pairs = [*zip(policy.tenants, depths, strict=True)]
        return [
            *(Observation(table.QUEUE, depth.pending, (role, tenant)) for tenant, depth in pairs),
            *(Observation(table.UNACKNOWLEDGED, depth.unacknowledged, (role, tenant)) for tenant, depth in pairs),
        ]

    with (
        measures.sampling(slots, table.SLOTS, table.IN_HAND, local=True),
        measures.sampling(queues, table.QUEUE, table.UNACKNOWLEDGED),
        measures.sampling(connection(bus), table.CONNECTED),
    ):
        yield

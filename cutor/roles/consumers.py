"""The consumers that one role pulls from: one for each tenant, with its weight, and how long a lease of each lasts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from cutor.bus.connection import Bus
from cutor.bus.consumer import WeightedQueues
from cutor.bus.errors import BusError
from cutor.bus.topology_promises import LEASE_S
from cutor.model.events import Role
from cutor.model.limits import Policy
from cutor.model.subjects import EVENTS

log = logging.getLogger(__name__)


def queues(bus: Bus, role: Role, policy: Policy, full: Callable[[str], bool] = lambda _tenant: False) -> WeightedQueues:
    """Return the deliveries of a role, in weighted turns; a tenant that is ``full`` has none."""
    weights = [(f"{role}-{tenant}", weight) for tenant, weight in sorted(policy.tenants.items())]
    return WeightedQueues(bus, EVENTS, weights, wanted=lambda consumer: not full(consumer.removeprefix(f"{role}-")))


async def lease_times(bus: Bus, role: Role, policy: Policy) -> dict[str, float]:
    """Return how long a lease lasts without a sign of life, in seconds by consumer: as the server says, or the least there may
    be.
    """

    async def of(consumer: str) -> tuple[str, float]:
        try:
            return consumer, await bus.api.ack_wait_s(EVENTS, consumer)
        except BusError as error:
            log.warning("%s: a lease of it is counted as %g s long: %s", consumer, LEASE_S, error)
            return consumer, LEASE_S

    return dict(await asyncio.gather(*(of(f"{role}-{tenant}") for tenant in policy.tenants)))

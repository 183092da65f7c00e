"""What one role process measures, and the endpoint that exposes it.

What happens is counted when it happens: each append (`cutor.metrics.observing`), each commit of the projector. What is at a
moment (queues, slots, disks) is looked at when somebody asks, by samplers, at the most once a second.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cutor.bus.connection import Bus
from cutor.bus.errors import BusError
from cutor.logs import EVENTS_LOGGER
from cutor.metrics import table
from cutor.metrics.observing import observed
from cutor.metrics.tally import Observation, Tally
from cutor.model.events import Event, Role, kind_of
from cutor.model.state import Submission

log = logging.getLogger(__name__)
events = logging.getLogger(EVENTS_LOGGER)

SAMPLE_S: Final = 2.0
"""How long the samplers may take together: a server that is away must not hold up a scrape."""
FRESH_S: Final = 1.0
"""For so long what was sampled is not looked at again, however many ask."""

Sampler = Callable[[], Awaitable[list[Observation]]]


class Measures:
    """The tally of one role process, and its samplers.

    ``was_ready``: the role has begun to serve. ``exposed_at``: the address of its endpoint, empty for none.
    """

    def __init__(self) -> None:
        self.tally = Tally()
        self.was_ready = False
        self.exposed_at = ""
        self._samplers: dict[Sampler, tuple[table.Metric, ...]] = {}
        self._local: set[Sampler] = set()
        self._sampled_at = float("-inf")
        self._sampling = asyncio.Lock()

    def appended(self, before: Submission, event: Event, after: Submission) -> None:
        """Count an event that this process has appended, and log it for machines."""
        events.info("appended", extra={"appended": {"kind": kind_of(event), "sequence": after.last_sequence}})
        self.tally.take(observed(before, event, after))

    def lease_lost(self, role: Role) -> None:
        """Count a lease that was taken over while its work went on."""
        self.note(Observation(table.LEASES_LOST, labels=(role,)))

    def note(self, *observations: Observation) -> None:
        """Take values in."""
        self.tally.take(observations)

    @contextmanager
    def sampling(self, sampler: Sampler, *metrics: table.Metric, local: bool = False) -> Iterator[None]:
        """Have a sampler asked while the block lasts. Where it gives no answer, its gauges have no value.

        ``local``: it asks no server.
        """
        self._samplers[sampler] = metrics
        if local:
            self._local.add(sampler)
        try:
            yield
        finally:
            del self._samplers[sampler]
            self._local.discard(sampler)
            self._forget(metrics)

    async def sampled(self) -> Tally:
        """Return the tally, with what is at this moment."""
        async with self._sampling:
            if time.monotonic() - self._sampled_at >= FRESH_S:
                await asyncio.gather(*(self._sample(sampler, metrics) for sampler, metrics in [*self._samplers.items()]))
                self._sampled_at = time.monotonic()
        return self.tally

    async def glance(self) -> Tally:
        """Return the tally, with what can be seen at this moment without a server."""
        for sampler in [*self._local]:
            await self._sample(sampler, self._samplers[sampler])
        return self.tally

    async def _sample(self, sampler: Sampler, metrics: tuple[table.Metric, ...]) -> None:
        try:
            async with asyncio.timeout(SAMPLE_S):
                observations = await sampler()
        except (BusError, OSError, TimeoutError) as error:
            log.debug("not sampled: %s", error)
            observations = []
        self._forget(metrics)
        self.tally.take(observations)

    def _forget(self, metrics: tuple[table.Metric, ...]) -> None:
        for metric in metrics:
            self.tally.forget(metric)


def connection(bus: Bus) -> Sampler:
    """Return the sampler of a connection."""

    async def sample() -> list[Observation]:
        return [Observation(table.CONNECTED, float(bus.connected))]

    return sample


def disk(directory: Path, free: table.Metric = table.DATA_FREE, size: table.Metric = table.DATA_SIZE) -> Sampler:
    """Return the sampler of the disk that a directory is on."""

    async def sample() -> list[Observation]:
        found = os.statvfs(directory)
        return [
            Observation(free, float(found.f_bavail * found.f_frsize)),
            Observation(size, float(found.f_blocks * found.f_frsize)),
        ]

    return sample

"""What ``cutor top`` asks the server: the depths of queues, the ends of streams, what JetStream holds, what is parked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from cutor.bus.connection import Bus
from cutor.bus.errors import BusError
from cutor.cli.top_document import Looked, ShownQueue
from cutor.errors import CutorError
from cutor.journal.journal import Journal
from cutor.journal.parked import ParkedSubmissions
from cutor.journal.stack_policy import read_policy
from cutor.model.subjects import DEADLETTERS, ENVIRONMENTS, EVENTS

LOOK_S: Final = 2.0
"""How long one look may take; what is not answered by then is not known."""
PARKED_EVERY_S: Final = 15.0
"""Looking reads the histories of parked submissions, which is dear where they are many: not at each look. A choice."""
PARKED_S: Final = 10.0
"""How long that may take: less than until the next time."""
PARKED_AT_MOST: Final = 100
"""Each that is counted is read."""
TENANTS_AT_MOST: Final = 64
"""Tenants whose queues are looked at, the first by name."""
QUEUE_ROLES: Final = ("builder", "runner")

T = TypeVar("T")


class Looking:
    """Looks again and again, one look at a time, and never holds up who shows what it has seen."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.looked = Looked()
        self._tenants: list[str] = []
        self._look: asyncio.Task[None] | None = None
        self._count: asyncio.Task[None] | None = None
        self._counted_at_s = float("-inf")

    async def begin(self) -> None:
        """Find out which tenants there are. Raises `PolicyMissing`, and what the bus raises where one may not ask."""
        policy = await read_policy(self.bus)
        self._tenants = sorted(policy.tenants)[:TENANTS_AT_MOST]
        await self.look(wait=True)

    async def look(self, *, wait: bool = False) -> None:
        """Begin to look, unless one look is under way; ``wait``: until it is done, parked submissions included."""
        self.looked = replace(self.looked, connected=self.bus.connected)
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._see(), name="look")
        if (self._count is None or self._count.done()) and time.monotonic() - self._counted_at_s >= PARKED_EVERY_S:
            self._counted_at_s = time.monotonic()
            self._count = asyncio.create_task(self._count_parked(), name="parked")
        if wait:
            await asyncio.wait([task for task in (self._look, self._count) if task is not None])

    async def end(self) -> None:
        """Look no more."""
        tasks = [task for task in (self._look, self._count) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _see(self) -> None:
        queues, last, info, dead = await asyncio.gather(
            asyncio.gather(*(self._queue(role, tenant) for tenant in self._tenants for role in QUEUE_ROLES)),
            asyncio.gather(*(_known(partial(self._state, stream)) for stream in (EVENTS, ENVIRONMENTS))),
            _known(self.bus.api.info),
            _known(partial(self._state, DEADLETTERS)),
        )
        limit = -1 if info is None else int(info.get("limits", {}).get("max_storage", -1))
        self.looked = replace(
            self.looked,
            connected=self.bus.connected,
            queues=tuple(queues),
            last={name: state["last_seq"] for name, state in zip((EVENTS, ENVIRONMENTS), last, strict=True) if state},
            used_bytes=None if info is None else int(info.get("storage", 0)),
            limit_bytes=None if limit < 0 else limit,
            dead_letters=None if dead is None else dead["messages"],
        )

    async def _queue(self, role: str, tenant: str) -> ShownQueue:
        depth = await _known(partial(self.bus.api.queue, EVENTS, f"{role}-{tenant}"))
        if depth is None:
            return ShownQueue(role=role, tenant=tenant)
        return ShownQueue(role=role, tenant=tenant, pending=depth.pending, unacknowledged=depth.unacknowledged)

    async def _state(self, stream: str) -> dict[str, int]:
        state: dict[str, int] = (await self.bus.stream_info(stream))["state"]
        return state

    async def _count_parked(self) -> None:
        parked_ones = ParkedSubmissions(Journal(self.bus))
        listing = await _known(partial(parked_ones.list, limit=PARKED_AT_MOST), timeout_s=PARKED_S)
        parked = None if listing is None else len(listing.found)
        self.looked = replace(self.looked, parked=parked, parked_more=listing is not None and bool(listing.more))


async def _known(ask: Callable[[], Coroutine[Any, Any, T]], timeout_s: float = LOOK_S) -> T | None:
    """Return an answer, or None where there is none in time, or not for this user."""
    try:
        async with asyncio.timeout(timeout_s):
            return await ask()
    except (BusError, CutorError, TimeoutError):
        return None

"""What Nix prints while an environment is built, told to whoever listens: plain notices, which no stream stores.

A build never waits for it and never fails by it. A builder tells at most one piece every `INTERVAL_S`, and none while it has no
server; who listens too slowly misses the oldest, and who may not listen hears nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Final, TypeVar

import msgspec

from cutor.bus.connection import Bus
from cutor.bus.errors import BusError
from cutor.bus.subscription import Notice, overhearing
from cutor.model.build_progress import BuildProgress, Printed, decode_progress
from cutor.model.subjects import Address, progress_subject

INTERVAL_S: Final = 0.25
"""People who watch see it at once, and a build costs the server four messages a second at the most. A choice."""
WAITING: Final = 256
"""Most pieces that wait for a listener."""

T = TypeVar("T")

log = logging.getLogger(__name__)


@asynccontextmanager
async def telling(bus: Bus, address: Address, lease: int) -> AsyncIterator[Callable[[bytes], None]]:
    """Give what takes the output of Nix while the block lasts, and tells it under a submission's name.

    What is left at the end is told before the block is left, so in front of the event that the build gives.
    """
    teller = _Teller(bus, progress_subject(address), lease)
    task = asyncio.create_task(teller.run(), name=f"progress of {address}")
    try:
        yield teller.take
        await teller.tell()
    finally:
        task.cancel()
        await asyncio.wait({task})


class _Teller:
    def __init__(self, bus: Bus, subject: str, lease: int) -> None:
        self._bus = bus
        self._subject = subject
        self._printed = Printed(lease)
        self._more = asyncio.Event()

    def take(self, data: bytes) -> None:
        self._printed.add(data)
        self._more.set()

    async def run(self) -> None:
        while await self._more.wait():
            self._more.clear()
            await self.tell()
            await asyncio.sleep(INTERVAL_S)

    async def tell(self) -> None:
        if (piece := self._printed.take()) is None:
            return
        try:
            await self._bus.notify(self._subject, msgspec.json.encode(piece))
        except BusError as error:
            log.debug("%s: not told: %s", self._subject, error)


class _Heard:
    """The pieces that were heard and not taken yet, the oldest first."""

    def __init__(self) -> None:
        self.some = asyncio.Event()
        self._pieces: deque[BuildProgress] = deque(maxlen=WAITING)

    def hear(self, notice: Notice) -> None:
        """Keep a notice's piece; whatever else somebody says there is nothing."""
        if (piece := decode_progress(notice.body)) is not None:
            self._pieces.append(piece)
            self.some.set()

    def take(self) -> list[BuildProgress]:
        """Return all of them."""
        pieces = [*self._pieces]
        self._pieces.clear()
        self.some.clear()
        return pieces


async def with_progress(bus: Bus, address: Address, updates: AsyncGenerator[T]) -> AsyncGenerator[T | BuildProgress]:
    """Yield what ``updates`` does and, between that, what builders tell of a submission's environment from now on.

    It costs no round trip; where this user may not hear it, there is nothing of it.
    """
    heard = _Heard()
    async with overhearing(bus.link, progress_subject(address), heard.hear), aclosing(updates):
        update = asyncio.create_task(_next(updates), name=f"next update of {address}")
        try:
            while True:
                some = asyncio.create_task(heard.some.wait(), name=f"progress of {address}")
                await asyncio.wait({update, some}, return_when=asyncio.FIRST_COMPLETED)
                some.cancel()
                for piece in heard.take():
                    yield piece
                if update.done():
                    if (found := update.result()) is None:
                        return
                    yield found
                    update = asyncio.create_task(_next(updates), name=update.get_name())
        finally:
            update.cancel()
            await asyncio.gather(update, return_exceptions=True)


async def _next(updates: AsyncGenerator[T]) -> T | None:
    return await anext(updates, None)

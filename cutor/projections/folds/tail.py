"""The end of a stream, whose reading begins before anybody asks for it: what it takes to begin is over by then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from cutor.bus.connection import Bus
from cutor.projections.folds.batch import Batch
from cutor.projections.folds.batches import read_batches


class Tail:
    """The messages of a range, in batches; the first is being read. To be closed in the end."""

    def __init__(self, bus: Bus, stream: str, first: int, last: int, fed_from: int | None = None) -> None:
        self.span = (first, last)
        self._reading = read_batches(bus, stream, first, last, fed_from)
        self._first = asyncio.create_task(self._next(), name=f"read {stream} from {first} on")

    async def _next(self) -> Batch | None:
        return await anext(self._reading, None)

    async def batches(self) -> AsyncIterator[Batch]:
        """Yield them, once. Raises what `read_batches` raises."""
        batch = await self._first
        while batch is not None:
            yield batch
            batch = await self._next()

    async def close(self) -> None:
        """End the reading."""
        self._first.cancel()
        await asyncio.gather(self._first, return_exceptions=True)
        await self._reading.aclose()

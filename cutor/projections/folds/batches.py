"""Batches of any stream that is folded, as the fold takes them; and a stream in batches, of which the next is read ahead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from cutor.bus.bulk.columns import Columns
from cutor.bus.connection import Bus
from cutor.projections.folds.batch import Batch
from cutor.projections.folds.feeding import Fed
from cutor.projections.folds.incoming import Incoming
from cutor.projections.folds.incoming_environments import IncomingEnvironments
from cutor.projections.folds.row_groups import ENDLESS, GROUP_BYTES, ROW_GROUP, end_of_first
from cutor.projections.folds.sharing import Mapped, SharedBatch
from cutor.projections.folds.streams import INCOMING

FED_FROM: Final = 40_000
"""So many messages are worth the start of a process that reads them."""
AT_ONCE: Final = 5_000
"""So many are read as soon as they have come, where no process does it: the server sends meanwhile."""


def batch_of(stream: str, columns: Columns) -> Incoming | IncomingEnvironments:
    """Read messages of a stream."""
    return INCOMING[stream].of(columns)


def unfoldable(stream: str, columns: Columns, reason: str) -> Batch:
    """Return messages that the fold leaves alone: they become messages that could not be read, for ``reason``."""
    return INCOMING[stream].unfoldable(columns, reason)


async def read_batches(
    bus: Bus, stream: str, first: int, last: int, fed_from: int | None = None
) -> AsyncGenerator[Batch, None]:
    """Yield the messages of a range in batches, read ahead.

    Where they are more than ``fed_from`` (None: `FED_FROM`), they are read by a process of its own, in batches as DuckDB writes
    them best; else in two, the second one while the first is folded.
    """
    if last - first < (FED_FROM if fed_from is None else fed_from):
        reading = bus.read_columns(stream, from_sequence=first, until_sequence=last, batch=AT_ONCE)
        found = gathered(reading, stream, end_of_first(first, last))
    else:
        reading = None
        found = _fed(bus, stream, first, last)
    async with aclosing(reading or found), aclosing(one_ahead(found)) as batches:
        async for batch in batches:
            yield batch


async def ahead(columns: AsyncGenerator[Columns, None], stream: str) -> AsyncGenerator[Batch, None]:
    """Read what comes of a stream; the next of it is read in a thread while whoever asks is busy with one.

    DuckDB folds without Python's lock, so that the two overlap.
    """
    async with aclosing(one_ahead(_each(columns, stream))) as batches:
        async for batch in batches:
            yield batch


async def one_ahead(batches: AsyncGenerator[Batch, None]) -> AsyncGenerator[Batch, None]:
    """Yield batches; the next one is fetched while whoever asks is busy with one."""
    async with aclosing(batches):

        async def fetch() -> Batch | None:
            return await anext(batches, None)

        following = asyncio.create_task(fetch())
        try:
            while batch := await following:
                following = asyncio.create_task(fetch())
                yield batch
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def _each(columns: AsyncGenerator[Columns, None], stream: str) -> AsyncGenerator[Batch, None]:
    async with aclosing(columns):
        async for some in columns:
            yield await asyncio.to_thread(batch_of, stream, some)


async def gathered(columns: AsyncGenerator[Columns, None], stream: str, halfway: int) -> AsyncGenerator[Batch, None]:
    """Yield two batches, of which the first ends with a sequence, or, where the stream lacks that, with the piece behind it;
    more where one has `GROUP_BYTES`.

    What comes is read at once, while the rest of its batch is on its way.
    """
    batch, held_bytes, end = INCOMING[stream].of(Columns.empty()), 0, halfway
    async with aclosing(columns):
        async for some in columns:
            before = some.up_to(end)
            for part in filter(len, (before, some.part(len(before), len(some)))):
                await asyncio.to_thread(batch.add, part)
                held_bytes += sum(map(len, part.bodies))
                if part.last >= end or held_bytes >= GROUP_BYTES:
                    yield batch
                    batch, held_bytes, end = INCOMING[stream].of(Columns.empty()), 0, end if part.last < end else ENDLESS
    if len(batch):
        yield batch


async def _fed(bus: Bus, stream: str, first: int, last: int) -> AsyncGenerator[Batch, None]:
    """Yield batches that another process makes; what it could not read is read here."""
    shapes = INCOMING[stream].shapes()
    pieces: list[Mapped] = []
    left = Columns.empty()
    reading = bus.read_in_bulk(stream, Fed().read, from_sequence=first, until_sequence=last)
    async with aclosing(reading):
        async for found in reading:
            if isinstance(found, Mapped):
                pieces.append(found)
                if not found.piece.ends_batch:
                    continue
            if pieces:
                yield SharedBatch(stream, shapes, pieces)
                pieces = []
            if isinstance(found, Columns):
                left.add(found)
                if len(left) >= ROW_GROUP or sum(map(len, left.bodies)) >= GROUP_BYTES:
                    yield await asyncio.to_thread(batch_of, stream, left)
                    left = Columns.empty()
    if pieces:
        yield SharedBatch(stream, shapes, pieces)
    if len(left):
        yield await asyncio.to_thread(batch_of, stream, left)

"""Batches of any stream that is folded, as the fold takes them; and a stream in batches, of which the next is read ahead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from collections.abc import Set as AbstractSet
from contextlib import aclosing
from typing import Final, Protocol

from cutor.bus.bulk.columns import Columns
from cutor.bus.connection import Bus
from cutor.model.subjects import ENVIRONMENTS, EVENTS
from cutor.projections.folds.arrow import Relation
from cutor.projections.folds.incoming import Incoming
from cutor.projections.folds.incoming_environments import IncomingEnvironments, environment_kind
from cutor.projections.folds.readings import read
from cutor.projections.folds.row_groups import in_row_groups


class Batch(Protocol):
    """Messages that have been read."""

    @property
    def columns(self) -> Columns:
        """The messages."""

    @property
    def kinds(self) -> AbstractSet[str | None]:
        """Those of its events."""

    @property
    def faults(self) -> int:
        """How many of its messages cannot be read."""

    def relations(self) -> dict[str, Relation]:
        """Return what the statements of the fold read, by name."""


_KINDS: Final[dict[str, type[Incoming] | type[IncomingEnvironments]]] = {EVENTS: Incoming, ENVIRONMENTS: IncomingEnvironments}


def batch_of(stream: str, columns: Columns) -> Batch:
    """Read messages of a stream."""
    return _KINDS[stream].of(columns)


def event_kinds(stream: str, columns: Columns) -> list[str | None]:
    """Return the kind of the event that each message is; None for one that is none, and in a stream that is not folded."""
    if stream == EVENTS:
        return [kind for readings in read(columns) for kind in readings.event_kinds]
    if stream == ENVIRONMENTS:
        return [environment_kind(*one) for one in zip(columns.subjects, columns.bodies, strict=True)]
    return [None] * len(columns)


def unfoldable(stream: str, columns: Columns, reason: str) -> Batch:
    """Return messages that the fold leaves alone: they become messages that could not be read, for ``reason``."""
    return _KINDS[stream].unfoldable(columns, reason)


async def read_batches(bus: Bus, stream: str, first: int, last: int) -> AsyncGenerator[Batch, None]:
    """Yield the messages of a range, in batches as DuckDB writes them best, read ahead."""
    reading = bus.read_columns(stream, from_sequence=first, until_sequence=last)
    async with aclosing(reading), aclosing(ahead(in_row_groups(reading), stream)) as batches:
        async for batch in batches:
            yield batch


async def ahead(columns: AsyncGenerator[Columns, None], stream: str) -> AsyncGenerator[Batch, None]:
    """Read what comes of a stream; the next of it is read in a thread while whoever asks is busy with one.

    DuckDB folds without Python's lock, so that the two overlap.
    """
    async with aclosing(columns) as coming:

        async def read_next() -> Batch | None:
            found = await anext(coming, None)
            return None if found is None else await asyncio.to_thread(batch_of, stream, found)

        following = asyncio.create_task(read_next())
        try:
            while batch := await following:
                following = asyncio.create_task(read_next())
                yield batch
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

"""Batches are read one ahead of who folds them: in order, no further ahead, and nothing goes on where either side gives up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from cutor.bus.bulk.columns import Columns
from cutor.model.subjects import EVENTS
from cutor.projections.folds.batches import Batch, ahead
from tests.bench.lives import lives

LIVES = [*lives(12)]


class Source:
    """Batches of three messages, and what becomes of who yields them."""

    def __init__(self, error: Exception | None = None) -> None:
        self.yielded = 0
        self.closed = False
        self._error = error

    async def columns(self) -> AsyncGenerator[Columns, None]:
        try:
            for start in range(0, len(LIVES), 3):
                self.yielded += 1
                yield Columns.of(LIVES[start : start + 3])
            if self._error is not None:
                raise self._error
        finally:
            self.closed = True


@asynccontextmanager
async def no_task_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    assert asyncio.all_tasks() == before


async def settled() -> None:
    """Wait until nothing happens any more that needs no longer than a thread's turn."""
    for _ in range(5):
        await asyncio.to_thread(lambda: None)


def sequences(batches: list[Batch]) -> list[int]:
    return [sequence for batch in batches for sequence in batch.columns.sequences]


async def test_all_that_comes_is_read_in_its_order() -> None:
    source = Source()
    async with no_task_left():
        found = [batch async for batch in ahead(source.columns(), EVENTS)]
    assert sequences(found) == [one.sequence for one in LIVES]
    assert {kind for batch in found for kind in batch.kinds} == {"submitted"}
    assert source.closed


async def test_one_batch_is_read_ahead_and_no_more() -> None:
    source = Source()
    async with aclosing(ahead(source.columns(), EVENTS)) as batches:
        await anext(batches)
        await settled()
        assert source.yielded == 2
        await anext(batches)
        await settled()
        assert source.yielded == 3


async def test_an_error_comes_behind_what_came_before_it() -> None:
    source = Source(OSError("the server is gone"))
    async with no_task_left():
        batches = ahead(source.columns(), EVENTS)
        found = [await anext(batches) for _ in range(4)]
        with pytest.raises(OSError, match="the server is gone"):
            await anext(batches)
    assert sequences(found) == [one.sequence for one in LIVES]
    assert source.closed


async def test_who_closes_half_way_leaves_nothing_behind() -> None:
    source = Source()
    async with no_task_left():
        async with aclosing(ahead(source.columns(), EVENTS)) as batches:
            await anext(batches)
        assert source.closed


async def test_who_is_cancelled_while_waiting_leaves_nothing_behind() -> None:
    begun = asyncio.Event()
    closed = False

    async def never() -> AsyncGenerator[Columns, None]:
        nonlocal closed
        try:
            begun.set()
            await asyncio.Event().wait()
            yield Columns.empty()
        finally:
            closed = True

    async def take() -> None:
        async for _ in ahead(never(), EVENTS):
            pass

    async with no_task_left():
        task = asyncio.create_task(take())
        await begun.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
    assert closed

"""Turns of questions: in order, so many at one time, and not all of them for long while somebody waits."""

from __future__ import annotations

import asyncio

import pytest

from cutor.projections.queries.turns import TurnOver, Turns

PATIENCE_S = 60.0
NEVER_S = 3600.0


class Asked:
    """A question that has its turn until it is let go."""

    def __init__(self, turns: Turns, *, at_once: bool = True) -> None:
        self.at_once = at_once
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.task = asyncio.create_task(self._ask(turns))

    async def _ask(self, turns: Turns) -> str:
        try:
            async with turns.turn() as begin:
                self.begun.set()
                if self.at_once:
                    begin()
                await self.go.wait()
                return "answered"
        except TurnOver:
            return "over"

    async def has_begun(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self.begun.wait()

    async def came_to(self) -> str:
        async with asyncio.timeout(PATIENCE_S):
            return await self.task


async def two_running(turns: Turns) -> tuple[Asked, Asked]:
    first = Asked(turns)
    await first.has_begun()
    second = Asked(turns)
    await second.has_begun()
    return first, second


async def test_long_ones_go_on_while_nobody_waits_and_the_newest_makes_room_then() -> None:
    turns = Turns(2, 0.0)
    first, second = await two_running(turns)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not first.task.done()
    assert not second.task.done()
    third = Asked(turns)
    assert await second.came_to() == "over"
    await third.has_begun()
    assert not first.task.done()
    for asked in (first, third):
        asked.go.set()
        assert await asked.came_to() == "answered"


async def test_one_long_one_among_short_ones_goes_on() -> None:
    """The other place changes hands before it is long: who waits gets that."""
    turns = Turns(2, NEVER_S)
    first, second = await two_running(turns)
    waiting = [Asked(turns) for _ in range(5)]
    for asked in (second, *waiting):
        await asked.has_begun()
        asked.go.set()
        assert await asked.came_to() == "answered"
    assert not first.task.done()
    first.go.set()
    assert await first.came_to() == "answered"


async def test_who_waits_for_something_before_the_question_begins_is_not_ended() -> None:
    turns = Turns(2, 0.0)
    both = [Asked(turns, at_once=False) for _ in range(2)]
    for asked in both:
        await asked.has_begun()
    third = Asked(turns)
    for _ in range(10):
        await asyncio.sleep(0)
    for asked in (*both, third):
        asked.go.set()
        assert await asked.came_to() == "answered"


async def test_who_gives_up_waiting_ends_nobody() -> None:
    turns = Turns(1, NEVER_S)
    first = Asked(turns)
    await first.has_begun()
    second = Asked(turns)
    await asyncio.sleep(0)
    second.task.cancel()
    await asyncio.wait([second.task])
    turns._end_the_newest()  # the time is over
    first.go.set()
    assert await first.came_to() == "answered"


async def test_an_error_of_a_question_is_its_own_and_gives_the_place_back() -> None:
    turns = Turns(1, NEVER_S)
    with pytest.raises(TimeoutError, match="its own"):
        async with turns.turn():
            raise TimeoutError("its own")
    asked = Asked(turns)
    await asked.has_begun()
    asked.go.set()
    assert await asked.came_to() == "answered"

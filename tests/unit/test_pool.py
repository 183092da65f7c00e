"""A pool lends what it holds once, replaces what fails, grows with demand, shrinks without, and leaves nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest

from cutor.containers import pool as pool_module
from cutor.containers.errors import EngineFailure
from cutor.containers.pool import Bounds, Pool

PATIENCE_S = 30.0


class Made:
    """A member that is made at once, and fails when it is told to."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.breaks = asyncio.Event()
        self.closed = 0

    async def failed(self) -> str:
        await self.breaks.wait()
        return f"{self.number} broke"

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.closed += 1


class Maker:
    """Makes members; ``fails`` so often first, ``gate`` holds them up."""

    def __init__(self, fails: int = 0) -> None:
        self.made: list[Made] = []
        self.fails = fails
        self.tries = 0
        self.at_once = self.most_at_once = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self) -> Made:
        self.tries += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.gate.wait()
            await asyncio.sleep(0)
        finally:
            self.at_once -= 1
        if self.tries <= self.fails:
            raise EngineFailure("Docker could not start it")
        self.made.append(made := Made(len(self.made)))
        return made


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.001)


async def test_each_member_is_lent_once_the_oldest_first_and_replaced() -> None:
    maker = Maker()
    pool = Pool(maker, Bounds(2, 4))
    async with pool.keeping():
        await until(lambda: pool.census().ready == 2)
        lent = [await pool.take(), await pool.take()]
        assert [one.number for one in lent if one] == [0, 1]
        await until(lambda: pool.census().ready == 2)
        third = await pool.take()
        assert third is not None
        assert third.number == 2
        assert pool.census()[2:] == (2, 3, 0)
    assert [one.closed for one in maker.made[:3]] == [0, 0, 0], "what was lent is its user's"
    assert all(one.closed == 1 for one in maker.made[3:])
    assert await pool.take() is None


async def test_who_finds_none_makes_the_pool_larger_up_to_its_maximum() -> None:
    maker = Maker()
    pool = Pool(maker, Bounds(0, 3))
    async with pool.keeping():
        for wanted in (1, 2, 3, 3, 3):
            while await pool.take() is not None:
                pass
            assert pool.census().wanted == wanted
        await until(lambda: pool.census().ready == 3)
        assert maker.most_at_once <= Bounds(0, 3).making
    assert all(one.closed == 1 for one in maker.made if one.number >= len(maker.made) - 3)


async def test_a_pool_of_no_size_makes_nothing() -> None:
    maker = Maker()
    pool = Pool(maker, Bounds(0, 0))
    async with pool.keeping():
        assert await pool.take() is None
        await asyncio.sleep(0.01)
    assert (maker.tries, pool.census().wanted) == (0, 0)


async def test_what_fails_while_it_waits_is_replaced_and_never_lent(caplog: pytest.LogCaptureFixture) -> None:
    maker = Maker()
    pool = Pool(maker, Bounds(1, 1))
    async with pool.keeping():
        await until(lambda: pool.census().ready == 1)
        maker.made[0].breaks.set()
        await until(lambda: maker.made[0].closed == 1 and pool.census().ready == 1)
        taken = await pool.take()
        assert taken is maker.made[1]
    assert "replaced: 0 broke" in caplog.text


async def test_what_fails_at_the_moment_it_is_lent_is_passed_over() -> None:
    maker = Maker()
    pool = Pool(maker, Bounds(2, 2))
    async with pool.keeping():
        await until(lambda: pool.census().ready == 2)
        maker.made[0].breaks.set()
        await asyncio.sleep(0)  # its watch has ended, and nobody has looked yet
        assert await pool.take() is maker.made[1]
        await until(lambda: maker.made[0].closed == 1)


async def test_where_none_can_be_made_it_is_tried_again_and_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pool_module, "PAUSES_S", (0.001, 0.002))
    caplog.set_level("INFO")
    maker = Maker(fails=5)
    pool = Pool(maker, Bounds(1, 1))
    async with pool.keeping():
        await until(lambda: pool.census().ready == 1)
    assert maker.tries == 6
    assert caplog.text.count("Docker could not start it") == 1
    assert "made ready ahead again" in caplog.text


async def test_what_was_lent_is_left_alone_for_a_moment_while_another_one_stands_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "RESTS_S", 10_000.0)
    maker = Maker()
    pool = Pool(maker, Bounds(2, 2))
    async with pool.keeping():
        await until(lambda: pool.census().ready == 2)
        await pool.take()
        for _ in range(100):
            await asyncio.sleep(0)
        assert (maker.tries, pool.census().ready) == (2, 1)
        await pool.take()
        await until(lambda: pool.census().ready == 2)


async def test_who_finds_none_has_the_next_that_is_made_and_who_comes_behind_him_makes_one_himself() -> None:
    maker = Maker()
    maker.gate.clear()
    pool = Pool(maker, Bounds(2, 2))
    async with pool.keeping():
        await until(lambda: maker.at_once == 2)
        takers = [asyncio.create_task(pool.take()) for _ in range(3)]
        await until(takers[2].done)
        assert (takers[2].result(), pool.census().missed) == (None, 3)
        maker.gate.set()
        taken = await asyncio.gather(*takers[:2])
        assert sorted(one.number for one in taken if one) == [0, 1]
        await until(lambda: pool.census().ready == 2)
    assert [one.closed for one in maker.made] == [0, 0, 1, 1]


async def test_who_waits_for_one_that_can_not_be_made_makes_it_himself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "PAUSES_S", (10_000.0,))
    maker = Maker(fails=1)
    maker.gate.clear()
    pool = Pool(maker, Bounds(1, 1))
    async with pool.keeping():
        await until(lambda: maker.at_once == 1)
        taker = asyncio.create_task(pool.take())
        await asyncio.sleep(0)
        maker.gate.set()
        assert await taker is None
        pool.encourage()
        await until(lambda: pool.census().ready == 1)
    assert maker.tries == 2


async def test_who_stops_waiting_leaves_what_is_made_to_others() -> None:
    maker = Maker()
    maker.gate.clear()
    pool = Pool(maker, Bounds(1, 1))
    async with pool.keeping():
        await until(lambda: maker.at_once == 1)
        for _ in range(2):
            taker = asyncio.create_task(pool.take())
            await asyncio.sleep(0)
            taker.cancel()
            with suppress(asyncio.CancelledError):
                await taker
        maker.gate.set()
        await until(lambda: pool.census().ready == 1)


async def test_who_stops_waiting_at_the_moment_he_is_given_one_leaves_it_to_others() -> None:
    maker = Maker()
    maker.gate.clear()
    pool = Pool(maker, Bounds(1, 1))
    async with pool.keeping():
        await until(lambda: maker.at_once == 1)
        taker = asyncio.create_task(pool.take())
        await asyncio.sleep(0)
        maker.gate.set()
        await until(lambda: bool(maker.made))
        taker.cancel()
        with suppress(asyncio.CancelledError):
            assert await taker is not None
            maker.made[0].closed += 1  # he has it, and closes it
        await until(lambda: pool.census().ready == 1 and pool.census().making == 0)
    assert [one.closed for one in maker.made] == [1] * len(maker.made)


async def test_a_taker_that_is_cancelled_loses_no_member() -> None:
    maker = Maker()
    pool = Pool(maker, Bounds(1, 1))
    async with pool.keeping():
        await until(lambda: pool.census().ready == 1)
        taker = asyncio.create_task(pool.take())
        await asyncio.sleep(0)
        taker.cancel()
        with suppress(asyncio.CancelledError):
            await taker
        await until(lambda: pool.census().ready == 1)
    assert all(one.closed == 1 for one in maker.made)


async def test_what_is_never_needed_is_given_up_down_to_the_minimum() -> None:
    maker = Maker()
    pool = Pool(maker, Bounds(1, 4), quiet_s=0.25)
    async with pool.keeping():
        for _ in range(8):
            await pool.take()
        assert pool.census().wanted == 4
        await until(lambda: pool.census()[:3] == (1, 0, 1))
        await asyncio.sleep(0.6)
        assert pool.census().ready == 1


async def test_an_end_in_the_midst_of_giving_up_leaves_nothing() -> None:
    class Held(Made):
        """A member whose watch takes its time to end."""

        async def failed(self) -> str:
            try:
                return await super().failed()
            finally:
                ending.set()
                await asyncio.wait([release])

    ending, release = asyncio.Event(), asyncio.get_running_loop().create_future()
    made: list[Held] = []

    async def make() -> Held:
        made.append(one := Held(len(made)))
        return one

    pool = Pool(make, Bounds(0, 3), quiet_s=0.25)  # until it is full, on a busy machine too
    async with pool.keeping():
        lent = [await pool.take() for _ in range(3)]
        await until(lambda: pool.census().ready == 3)
        async with asyncio.timeout(PATIENCE_S):
            await ending.wait()
        asyncio.get_running_loop().call_later(0.02, release.set_result, None)
    assert [one.closed for one in made if one not in lent] == [1] * 3


async def test_an_end_in_the_midst_of_making_leaves_nothing() -> None:
    maker = Maker()
    maker.gate.clear()
    pool = Pool(maker, Bounds(3, 3))
    async with pool.keeping():
        await until(lambda: maker.at_once == 2)
    assert maker.at_once == 0
    assert maker.made == []


async def test_what_comes_back_keeps_its_place_and_is_lent_again() -> None:
    maker = Maker()
    pool = Pool(maker, Bounds(1, 2), returning=True)
    async with pool.keeping():
        first = await taken(pool)
        for _ in range(3):
            await asyncio.sleep(0)
        assert pool.census() == (0, 0, 1, 1, 0)  # none is made in its place
        assert pool.admit(first)
        assert await pool.take() is first
        pool.gone(first)
        second = await taken(pool)
        assert second is not first
        assert pool.admit(second)
        assert pool.admit(Made(99))  # one that somebody made for himself
        assert not pool.admit(Made(100))  # as many as there may be
    assert second.closed == 1
    assert not pool.admit(second)


async def taken(pool: Pool[Made]) -> Made:
    """Return a member once one is ready."""
    async with asyncio.timeout(PATIENCE_S):
        while not pool.census().ready:
            await asyncio.sleep(0)
    member = await pool.take()
    assert member is not None
    return member

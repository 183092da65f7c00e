"""What a builder keeps of the requests of those that wait in it, and of those that it puts off: a key, and who shares it."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from cutor.bus.connection import Bus
from cutor.config import Config
from cutor.containers.engine import Engine
from cutor.journal.journal import Journal
from cutor.journal.stack_policy import publish_policy
from cutor.model.limits import Bounds, Policy
from cutor.model.request import ValidRequest
from cutor.model.state import Submission
from cutor.model.subjects import Address
from cutor.nix.settings import NixSettings
from cutor.roles import places
from cutor.roles.builder import BuildStep
from cutor.roles.claims import alone
from cutor.roles.step import Arrival, LeasedStep, LeasedWork, PutOff
from tests.child_image import IMAGE
from tests.integration.test_role_claims import built, built_elsewhere, hand_in
from tests.scripted_roles import PATIENCE_S, Waiting, end, request, role, set_ack_wait, until

if TYPE_CHECKING:
    from cutor.process.context import RoleContext
    from cutor.roles.private import PrivateEnvironments

WAITERS = 2
SHELL = {"shell.nix": b"{}"}
"""As in `tests.scripted_roles.request`."""


@pytest.fixture
async def journal(own_bus: Bus) -> Journal:
    await set_ack_wait(own_bus, 120.0)
    journal = Journal(own_bus)
    await publish_policy(journal.bus, Policy())
    return journal


class Looks:
    """The builder's own step, whose looks are counted."""

    def __init__(self, step: BuildStep) -> None:
        self._step = step
        self.of: Counter[str] = Counter()

    async def approach(self, arrival: Arrival) -> LeasedWork | PutOff:
        self.of[arrival.state.address.id] += 1
        return await self._step.approach(arrival)

    async def __call__(self, leased: LeasedStep) -> None:
        raise AssertionError("what is done is what `approach` returned")

    async def at_least(self, count: int) -> None:
        """Wait until so many looks were needed at one after another of all but those who wait."""
        async with asyncio.timeout(PATIENCE_S):
            while sorted(self.of.values())[WAITERS:][:1] < [count]:
                await asyncio.sleep(0.02)


def loads_counted(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count from now on how often each request is read."""
    loads: Counter[str] = Counter()
    load = journal.contents.load_request

    async def counted(address: Address, stored: Any, bounds: Bounds | None = None) -> ValidRequest:
        loads[address.id] += 1
        return await load(address, stored, bounds)

    monkeypatch.setattr(journal.contents, "load_request", counted)
    return loads


def histories_read(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count from now on how often the whole history of each submission is read."""
    histories: Counter[str] = Counter()
    state = journal.state

    async def counted(address: Address, **more: int) -> Submission | None:
        histories[address.id] += 1
        return await state(address, **more)

    monkeypatch.setattr(journal, "state", counted)
    return histories


def build_step(engine: Engine) -> BuildStep:
    """Return the builder's own step, for looks alone."""
    context = SimpleNamespace(config=Config(nix=NixSettings(image=IMAGE)), instance="one", data=None, worker="w1", server="")
    return BuildStep(cast("RoleContext", context), engine, cast("PrivateEnvironments", None))


async def test_who_waits_keeps_no_request_and_who_is_put_off_is_not_read_again(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "WAITING_AT_MOST", WAITERS)
    loads = loads_counted(journal, monkeypatch)
    async with Engine.connect("") as engine:
        step = build_step(engine)
        looks = Looks(step)
        async with built_elsewhere(journal, await step._key(SHELL)) as owner, role(journal, looks):
            histories = histories_read(journal, monkeypatch)
            addresses = [await hand_in(journal, f"same-{n}") for n in range(5)]
            async with asyncio.timeout(PATIENCE_S):
                while len(looks.of) < len(addresses):
                    await asyncio.sleep(0.02)
            await looks.at_least(4)
            assert loads == dict.fromkeys((address.id for address in addresses), 1)
            assert histories["owner"] == 1, "whoever may append to it makes it as long as he likes"
            gc.collect()
            assert not [one for one in gc.get_objects() if isinstance(one, ValidRequest)]
            owner.go_on.set()
            for address in addresses:
                await until(journal, address, built)
    assert max(loads.values()) <= 2, "once more where it was put off"


@pytest.mark.parametrize("cache", [True, False])
async def test_without_room_who_was_put_off_is_not_read_again_and_is_told_why_each_time(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, cache: bool
) -> None:
    """Many may be, for as long as it takes an operator to make some."""

    async def no_room() -> bool:
        return False

    loads, told = loads_counted(journal, monkeypatch), 0
    async with Engine.connect("") as engine:
        step = build_step(engine)
        monkeypatch.setattr(step._room, "suffices", no_room)
        looks = Looks(step)
        async with role(journal, looks), journal.bus.subscribe("cutor.progress.>") as notices:
            addresses = [(await journal.submit(request(f"s-{n}", cache=cache))).address for n in range(WAITERS + 2)]
            await looks.at_least(4)
            assert loads == dict.fromkeys((address.id for address in addresses), 1)
            async with asyncio.timeout(PATIENCE_S):
                async for notice in notices:
                    told += b"no room for builds" in notice.body
                    if told > len(addresses):
                        break


class OneOfThem(Looks):
    """As `Looks`: ``busy`` has a slot until it is told to go on, ``next`` has it then, ``private`` works without a build."""

    def __init__(self, step: BuildStep) -> None:
        super().__init__(step)
        self.busy, self.private = Waiting(end), Waiting(end)
        self.put_off = asyncio.Event()

    async def approach(self, arrival: Arrival) -> LeasedWork | PutOff:
        name = arrival.state.address.id
        if name in ("busy", "next"):
            turn = await alone(arrival)
            return turn if turn != "mine" else self.busy if name == "busy" else end
        found = await super().approach(arrival)
        if name != "private":
            return found
        if isinstance(found, str):
            if found != "pass on":
                self.put_off.set()
            return found
        return self.private


async def test_who_shares_no_build_and_was_put_off_has_the_next_free_slot(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``cache: false``; what others build under the key of the same files is nothing to it."""
    monkeypatch.setattr(places, "WAITING_AT_MOST", WAITERS)
    async with Engine.connect("") as engine:
        step = build_step(engine)
        steps = OneOfThem(step)
        async with built_elsewhere(journal, await step._key(SHELL)), role(journal, steps, slots=1):
            async with asyncio.timeout(PATIENCE_S):
                await hand_in(journal, "busy")
                await steps.busy.began.wait()
                for n in range(WAITERS):
                    await hand_in(journal, f"same-{n}")
                while len(steps.of) < WAITERS:
                    await asyncio.sleep(0.02)
                await hand_in(journal, "next")
                address = (await journal.submit(request("private", cache=False))).address
                await steps.put_off.wait()
                steps.busy.go_on.set()
                await steps.private.began.wait()  # while the other one is still built elsewhere
            steps.private.go_on.set()
            await until(journal, address, lambda state: state.ended)

"""Identical builds are done once, and failures are never shared: the claims of a builder, on a real server without containers.

The steps here do what the builder's does, with an ``env-built`` in the place of a build.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec
import pytest

from cutor.bus.connection import Bus
from cutor.bus.errors import BusUnreachable
from cutor.bus.publish_ack import Appended
from cutor.journal.environments import Environments, Known
from cutor.journal.journal import Journal
from cutor.journal.stack_policy import publish_policy
from cutor.model.decide import decide_cancel
from cutor.model.environments import EnvironmentBuilding
from cutor.model.events import CacheBuilt, CacheLost, EnvironmentRef, Event, Finished, Lease, Leased
from cutor.model.limits import Policy
from cutor.model.state import Submission
from cutor.model.subjects import Address, environment_subject, event_subject
from cutor.roles import places
from cutor.roles.answers import Answers
from cutor.roles.claims import WAITS, Claim, alone
from cutor.roles.step import Arrival, LeasedStep, LeasedWork, PutOff, StepFault
from tests.nats_server import OwnServer
from tests.scripted_roles import (
    PATIENCE_S,
    histories_are_read,
    kinds,
    pending_acks,
    request,
    role,
    set_ack_wait,
    take_over,
    until,
)
from tests.unit.histories import OK
from tests.unit.test_environments import BUILT

ACK_WAIT_S = 120.0
"""Longer than any test: nobody goes on because a clock has run out."""


@pytest.fixture
async def journal(own_bus: Bus) -> Journal:
    await set_ack_wait(own_bus, ACK_WAIT_S)
    journal = Journal(own_bus)
    await publish_policy(journal.bus, Policy(max_leases=3))
    return journal


class Builder:
    """A step that comes by its environment as the builder does. Builds wait until they may end, and do then what they must."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.builds: list[Address] = []
        self.at_once = 0
        self.most_at_once = 0
        self.go_on = asyncio.Event()
        self.fails: set[str] = set()
        self.faults: set[str] = set()
        self.told: set[str] = set()
        self.queued: set[str] = set()

    async def approach(self, arrival: Arrival) -> LeasedWork | PutOff:
        claim = Claim(arrival, self.key)

        def tell(waits_for: bytes) -> None:
            (self.told if waits_for == WAITS else self.queued).add(arrival.state.address.id)

        found = await claim.standing() or await claim.settle(arrival.place, "w", tell=tell)
        if isinstance(found, Known):
            return partial(self._report, hit=True)
        return self if found == "mine" else found

    async def __call__(self, leased: LeasedStep) -> None:
        await self._build(leased)
        await self._report(leased, hit=False)

    async def _build(self, leased: LeasedStep) -> None:
        address = leased.state.address
        assert leased.place.has_slot
        self.builds.append(address)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.go_on.wait()
        finally:
            self.at_once -= 1
        if address.id in self.faults:
            self.faults.remove(address.id)
            raise StepFault("a test")
        if address.id in self.fails:
            await leased.report(Finished(lease=leased.lease, outcome="DEPENDENCY_ERROR"))
        else:
            await Environments(leased.journal.bus).append_built(msgspec.structs.replace(BUILT, key=self.key))

    async def _report(self, leased: LeasedStep, *, hit: bool) -> None:
        if not leased.state.ended:
            environment = EnvironmentRef(key=self.key, derivation="/nix/store/x.drv", hit=hit)
            await leased.report(CacheBuilt(lease=leased.lease, environment=environment, stage=OK))

    async def waited_for(self, names: list[str]) -> None:
        """Wait until so many wait."""
        async with asyncio.timeout(PATIENCE_S):
            while not set(names) <= self.told:
                await asyncio.sleep(0.02)

    async def building(self, count: int) -> None:
        """Wait until so many builds have begun."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.builds) < count:
                await asyncio.sleep(0.02)


class Either:
    """Two steps in one: submissions whose names begin with ``other`` need the second one's environment."""

    def __init__(self, builder: Builder | Private, other: Builder) -> None:
        self._builder = builder
        self._other = other

    async def approach(self, arrival: Arrival) -> LeasedWork | PutOff:
        return await (self._other if arrival.state.address.id.startswith("other") else self._builder).approach(arrival)

    async def __call__(self, leased: LeasedStep) -> None:
        raise AssertionError("what is done is what `approach` returned")


class Private:
    """A step that needs an environment of each submission's own."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder

    async def approach(self, arrival: Arrival) -> LeasedWork | PutOff:
        turn = await alone(arrival)
        return self._builder if turn == "mine" else turn

    async def __call__(self, leased: LeasedStep) -> None:
        await self._builder(leased)


@pytest.fixture
def builder() -> Builder:
    return Builder(secrets.token_hex(16))


def has_lease(state: Submission) -> bool:
    return state.lease is not None


def built(state: Submission) -> bool:
    return state.environment is not None


def settled(state: Submission) -> bool:
    return built(state) or state.cleaned_ns is not None


async def hand_in(journal: Journal, name: str) -> Address:
    return (await journal.submit(request(name))).address


async def waiting(journal: Journal, builder: Builder, names: list[str]) -> list[Address]:
    """Hand in submissions behind the first one, and return once they wait for it: without a lease."""
    addresses = [await hand_in(journal, name) for name in names]
    await builder.waited_for(names)
    assert len(builder.builds) == 1
    assert not any([has_lease(await journal.known(address)) for address in addresses])
    return addresses


@asynccontextmanager
async def two_builders(journal: Journal, builder: Builder) -> AsyncIterator[None]:
    """Two role processes' loops, with two slots each."""
    async with role(journal, builder, worker="w1"), role(journal, builder, worker="w2"):
        yield


async def test_twenty_identical_submissions_to_two_builders_are_one_build(journal: Journal, builder: Builder) -> None:
    addresses = [await hand_in(journal, f"same-{n}") for n in range(20)]
    async with two_builders(journal, builder):
        async with asyncio.timeout(PATIENCE_S):
            while len(builder.told) < 19:  # waiting takes no slot
                await asyncio.sleep(0.02)
        builder.go_on.set()
        states = [await until(journal, address, built) for address in addresses]
    assert len(builder.builds) == 1
    hits = [state.environment.hit for state in states if state.environment is not None]
    assert sorted(hits) == [False, *([True] * 19)]
    assert [state.attempts.builder for state in states] == [1] * 20


async def test_who_waits_is_in_nobodys_way(journal: Journal, builder: Builder) -> None:
    other = Builder(secrets.token_hex(16))

    async with role(journal, Either(builder, other)):
        first = await hand_in(journal, "first")
        await builder.building(1)
        rest = await waiting(journal, builder, [f"same-{n}" for n in range(5)])
        another = await hand_in(journal, "other")
        await other.building(1)  # in the second slot
        other.go_on.set()
        await until(journal, another, built)
        builder.go_on.set()
        for address in (first, *rest):
            await until(journal, address, built)
    assert len(builder.builds) == 1


async def test_after_a_failure_each_builds_by_itself_and_none_waits_for_another(journal: Journal, builder: Builder) -> None:
    names = [f"same-{n}" for n in range(4)]
    builder.fails = {"first", *names}
    async with two_builders(journal, builder):
        await hand_in(journal, "first")
        await builder.building(1)
        addresses = await waiting(journal, builder, names)
        builder.go_on.set()
        states = [await until(journal, address, settled) for address in addresses]
    assert [state.outcome for state in states] == ["DEPENDENCY_ERROR"] * 4
    assert len(builder.builds) == 5


async def test_who_comes_after_a_failure_claims_again_and_is_waited_for(journal: Journal, builder: Builder) -> None:
    builder.fails = {"first"}
    builder.go_on.set()
    async with two_builders(journal, builder):
        await until(journal, await hand_in(journal, "first"), settled)
        builder.go_on.clear()
        addresses = [await hand_in(journal, f"later-{n}") for n in range(6)]
        await builder.building(2)
        async with asyncio.timeout(PATIENCE_S):
            while len(builder.told) < 5:
                await asyncio.sleep(0.02)
        builder.go_on.set()
        for address in addresses:
            await until(journal, address, built)
    assert (builder.most_at_once, len(builder.builds)) == (1, 2)


class Only(Builder):
    """A builder that takes up some submissions, and leaves the rest to others."""

    def __init__(self, key: str, names: set[str]) -> None:
        super().__init__(key)
        self._names = names

    async def approach(self, arrival: Arrival) -> LeasedWork | PutOff:
        return await super().approach(arrival) if arrival.state.address.id in self._names else "pass on"


async def test_who_waited_for_a_failure_waits_for_no_newcomer(journal: Journal, builder: Builder) -> None:
    """A newcomer has the next claim before those who wait have seen the failure."""
    here, elsewhere = Only(builder.key, {"waits"}), Only(builder.key, {"first", "newcomer"})
    here.go_on.set()
    elsewhere.fails = {"first"}
    async with role(journal, elsewhere, worker="w1", slots=1), role(journal, here, worker="w2", slots=1):
        first = await hand_in(journal, "first")
        await elsewhere.building(1)
        waits = await hand_in(journal, "waits")
        await here.waited_for(["waits"])
        elsewhere.go_on.set()
        await until(journal, first, lambda state: state.ended)
        elsewhere.go_on.clear()
        newcomer = await hand_in(journal, "newcomer")
        state = await until(journal, waits, built)
        assert (here.builds, state.attempts.builder) == ([waits], 1)
        elsewhere.go_on.set()
        await until(journal, newcomer, built)


async def test_who_was_there_before_a_failure_knows_of_it_however_often_it_is_passed_on(
    journal: Journal, builder: Builder
) -> None:
    """One slot, which a newcomer has, and the claim: who is passed on meanwhile comes back to wait for the slot alone."""
    builder.fails = {"first", "waits", "new"}
    came, approach = asyncio.Semaphore(0), builder.approach

    async def counted(arrival: Arrival) -> LeasedWork | PutOff:
        if arrival.state.address.id == "waits":
            came.release()
        return await approach(arrival)

    builder.approach = counted  # type: ignore[method-assign]
    async with role(journal, builder, slots=1):
        first = await hand_in(journal, "first")
        await builder.building(1)
        waits = await hand_in(journal, "waits")
        await builder.waited_for(["waits"])
        builder.go_on.set()
        await until(journal, first, lambda state: state.ended)
        builder.go_on.clear()
        new = await hand_in(journal, "new")
        await builder.building(2)
        if builder.builds[1] == new:
            async with asyncio.timeout(PATIENCE_S):
                for _ in range(4):
                    await came.acquire()
        builder.go_on.set()
        await until(journal, waits, lambda state: state.ended)
    assert waits in builder.builds


async def test_those_who_build_after_a_failure_do_so_at_once_as_many_as_there_are_slots(
    journal: Journal, builder: Builder
) -> None:
    names = [f"same-{n}" for n in range(6)]
    builder.fails = {"first"}
    async with two_builders(journal, builder):
        await hand_in(journal, "first")
        await builder.building(1)
        addresses = await waiting(journal, builder, names)
        builder.go_on.set()
        while builder.most_at_once != 1 or builder.at_once:  # the first one has failed
            await asyncio.sleep(0)
        builder.go_on.clear()
        await builder.building(5)
        assert builder.at_once == 4
        builder.go_on.set()
        states = [await until(journal, address, built) for address in addresses]
    hits = [state.environment.hit for state in states if state.environment is not None]
    assert sorted(hits) == [False] * 4 + [True] * 2


async def test_a_cancelled_owner_is_followed_by_one_of_those_who_wait(journal: Journal, builder: Builder) -> None:
    async with two_builders(journal, builder):
        first = await hand_in(journal, "first")
        await builder.building(1)
        addresses = await waiting(journal, builder, [f"same-{n}" for n in range(5)])
        await journal.settle(await journal.known(first), lambda state: decide_cancel(state, None))
        await builder.building(2)
        builder.go_on.set()
        for address in addresses:
            await until(journal, address, built)
    assert (builder.most_at_once, len(builder.builds)) == (1, 2)


async def test_an_owner_that_a_fault_stopped_builds_again_or_another_does(journal: Journal, builder: Builder) -> None:
    builder.faults = {"first"}
    async with two_builders(journal, builder):
        first = await hand_in(journal, "first")
        await builder.building(1)
        addresses = await waiting(journal, builder, [f"same-{n}" for n in range(5)])
        builder.go_on.set()
        states = [await until(journal, address, built) for address in (first, *addresses)]
    assert len(builder.builds) == 2
    assert [state.attempts.builder for state in states] == [2, 1, 1, 1, 1, 1]


async def test_an_owner_comes_again_though_nothing_else_is_delivered_any_more(journal: Journal, builder: Builder) -> None:
    """As many wait as the server lets be under way: what it delivers again is not kept back for that."""
    consumer = "builder-default"
    info = await journal.bus.api.call("consumer", f"CONSUMER.INFO.EVENTS.{consumer}")
    config = info["config"] | {"max_ack_pending": 4}
    request = {"stream_name": "EVENTS", "config": config, "action": "update"}
    await journal.bus.api.call("consumer", f"CONSUMER.CREATE.EVENTS.{consumer}", request)
    builder.faults = {"first"}
    async with two_builders(journal, builder):
        first = await hand_in(journal, "first")
        await builder.building(1)
        addresses = await waiting(journal, builder, [f"same-{n}" for n in range(3)])
        kept_back = await hand_in(journal, "same-3")
        await asyncio.sleep(0.5)
        assert not has_lease(await journal.known(kept_back))
        builder.go_on.set()
        for address in (first, *addresses, kept_back):
            await until(journal, address, built)
    assert len(builder.builds) == 2


async def test_an_owner_whose_lease_another_took_is_dead(journal: Journal, builder: Builder) -> None:
    """As when its builder was killed: the one who has its delivery then and those who wait contend for the claim."""
    first = await hand_in(journal, "gone")
    dead = Lease(role="builder", worker="dead", token="dead", number=1)
    await journal.settle(await journal.known(first), lambda _state: Leased(lease=dead))
    environments = Environments(journal.bus)
    claim = EnvironmentBuilding(key=builder.key, **first._asdict(), lease_token="dead", worker="dead")
    await environments.claim(await environments.state(builder.key), claim)
    async with two_builders(journal, builder):
        addresses = [await hand_in(journal, f"same-{n}") for n in range(5)]
        builder.go_on.set()
        for address in (first, *addresses):
            await until(journal, address, built)
    assert len(builder.builds) == 1


async def test_who_waits_can_be_cancelled_and_says_what_it_was_at(journal: Journal, builder: Builder) -> None:
    async with role(journal, builder):
        await hand_in(journal, "first")
        await builder.building(1)
        (address,) = await waiting(journal, builder, ["waits"])
        await journal.settle(await journal.known(address), lambda state: decide_cancel(state, None))
        state = await until(journal, address, settled)
        assert (state.status, await kinds(journal, address)) == ("CANCELLED", ["submitted", "cancelled", "cleaned"])
        builder.go_on.set()
    assert len(builder.builds) == 1


async def test_a_shutdown_ends_the_wait_at_once_and_hands_back(journal: Journal, builder: Builder) -> None:
    """Who builds may end in the time of grace; who waits is somebody else's to take up."""
    async with role(journal, builder, worker="w1", grace_s=30.0):
        first = await hand_in(journal, "first")
        await builder.building(1)
        (address,) = await waiting(journal, builder, ["waits"])
        stopping = asyncio.create_task(until(journal, first, built))
        asyncio.get_running_loop().call_later(2.0, builder.go_on.set)
    await stopping
    assert not built(await journal.known(address))
    async with role(journal, builder, worker="w2"):
        state = await until(journal, address, built)
    assert state.environment is not None
    assert state.environment.hit
    assert len(builder.builds) == 1
    assert await pending_acks(journal) == 0


async def test_lost_environments_are_rebuilt_once(journal: Journal, builder: Builder) -> None:
    """Ten runners miss the same paths: one submission builds them again, nine wait, and nobody takes what was missed."""
    builder.go_on.set()
    async with two_builders(journal, builder):
        addresses = [await hand_in(journal, f"same-{n}") for n in range(10)]
        states = [await until(journal, address, built) for address in addresses]
        builder.go_on.clear()
        builder.told.clear()
        known = await Environments(journal.bus).find(builder.key)
        assert known is not None
        for state in states:
            lease = Lease(role="runner", worker="r", token=f"r-{state.address.id}", number=1)
            taken = (await journal.settle(state, lambda _state, lease=lease: Leased(lease=lease))).state
            lost = CacheLost(lease=lease, key=builder.key, missing="p", environment_sequence=known.sequence)
            await journal.settle(taken, lambda _state, lost=lost: lost)
        async with asyncio.timeout(PATIENCE_S):
            while len(builder.told) < 9:
                await asyncio.sleep(0.02)
        builder.go_on.set()
        again = [await until(journal, address, built) for address in addresses]
    assert len(builder.builds) == 2
    hits = [state.environment.hit for state in again if state.environment is not None]
    assert sorted(hits) == [False, *([True] * 9)]


class Owner:
    """A builder elsewhere that takes up one submission, claims its environment, and builds until it is told to end."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.began, self.go_on = asyncio.Event(), asyncio.Event()

    async def __call__(self, leased: LeasedStep) -> None:
        environments, address = Environments(leased.journal.bus), leased.state.address
        claim = EnvironmentBuilding(key=self.key, **address._asdict(), lease_token=leased.lease.token, worker="elsewhere")
        assert await environments.claim(await environments.state(self.key), claim) is not None
        self.began.set()
        await self.go_on.wait()
        await environments.append_built(msgspec.structs.replace(BUILT, key=self.key))
        environment = EnvironmentRef(key=self.key, derivation="/nix/store/x.drv", hit=False)
        await leased.report(CacheBuilt(lease=leased.lease, environment=environment, stage=OK))


@asynccontextmanager
async def built_elsewhere(journal: Journal, key: str) -> AsyncIterator[Owner]:
    """Let an environment be built elsewhere, by a process that takes up nothing else meanwhile."""
    owner = Owner(key)
    async with role(journal, owner, worker="elsewhere", slots=1, grace_s=60.0):
        await hand_in(journal, "owner")
        async with asyncio.timeout(PATIENCE_S):
            await owner.began.wait()
        yield owner
        owner.go_on.set()


async def test_who_only_waited_is_not_parked_however_often_its_builder_starts_again(journal: Journal, builder: Builder) -> None:
    """Three leases are what a submission has: waiting takes none."""
    async with built_elsewhere(journal, builder.key) as owner:
        names = [f"same-{n}" for n in range(3)]
        addresses = [await hand_in(journal, name) for name in names]
        for _life in range(4):
            async with role(journal, builder, worker="w1"):
                await builder.waited_for(names)
            builder.told.clear()
        async with role(journal, builder, worker="w1"):
            await builder.waited_for(names)
            owner.go_on.set()
            states = [await until(journal, address, settled) for address in addresses]
    assert [(state.status, state.attempts.builder) for state in states] == [("DEPENDENCIES_INSTALLED", 1)] * 3
    assert builder.builds == []


async def test_a_hit_goes_on_while_every_slot_builds(journal: Journal, builder: Builder) -> None:
    known = Builder(secrets.token_hex(16))
    await Environments(journal.bus).append_built(msgspec.structs.replace(BUILT, key=known.key))
    async with role(journal, Either(builder, known), slots=1):
        await hand_in(journal, "first")
        await builder.building(1)
        for n in range(5):
            state = await until(journal, await hand_in(journal, f"other-{n}"), built)
            assert state.environment is not None
            assert state.environment.hit
        assert builder.at_once == 1
        builder.go_on.set()


async def test_a_hit_goes_on_however_many_builds_wait_for_a_slot(
    journal: Journal, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "WAITING_AT_MOST", 2)
    known, cold = Builder(secrets.token_hex(16)), Private(builder)
    await Environments(journal.bus).append_built(msgspec.structs.replace(BUILT, key=known.key))
    async with role(journal, Either(cold, known), slots=1):
        queued = [await hand_in(journal, f"cold-{n}") for n in range(12)]
        await builder.building(1)
        hit = await until(journal, await hand_in(journal, "other"), built)
        assert hit.environment is not None
        assert (builder.at_once, len(builder.builds)) == (1, 1)
        builder.go_on.set()
        states = [await until(journal, address, built) for address in queued]
    assert [state.attempts.builder for state in states] == [1] * 12
    assert builder.most_at_once == 1


async def test_a_hit_goes_on_behind_more_than_a_thousand_that_wait_for_one_build(journal: Journal, builder: Builder) -> None:
    """More than wait in a builder are put off: each stays under way for the server, and comes again."""
    known = Builder(secrets.token_hex(16))
    await Environments(journal.bus).append_built(msgspec.structs.replace(BUILT, key=known.key))
    async with role(journal, Either(builder, known), slots=1, grace_s=0.1):
        await hand_in(journal, "first")
        await builder.building(1)
        for start in range(0, 1100, 50):
            await asyncio.gather(*(hand_in(journal, f"same-{start + n}") for n in range(50)))
        hit = await until(journal, await hand_in(journal, "other"), built)
        assert hit.environment is not None
        assert hit.environment.hit
        assert await pending_acks(journal) > 1000
        assert len(builder.builds) == 1


async def test_one_idle_builder_of_five_has_what_the_busy_ones_were_asked_first(journal: Journal, builder: Builder) -> None:
    """One after the other, within the time in which each of the four would have kept one of them for as long as it may."""
    idle = Builder(builder.key)
    idle.go_on.set()
    async with AsyncExitStack() as stack:
        for n in range(4):
            await stack.enter_async_context(role(journal, Private(builder), worker=f"busy-{n}", slots=1))
            await hand_in(journal, f"busy-{n}")
            await builder.building(n + 1)
        await stack.enter_async_context(role(journal, Private(idle), worker="idle", slots=1))
        async with asyncio.timeout(PATIENCE_S):
            for n in range(4):
                await until(journal, await hand_in(journal, f"new-{n}"), built)
        assert (len(idle.builds), builder.at_once) == (4, 4)
        builder.go_on.set()


async def test_what_waits_for_a_slot_goes_to_a_builder_that_has_one(journal: Journal, builder: Builder) -> None:
    async with role(journal, Private(builder), worker="w1", slots=1):
        addresses = [await hand_in(journal, f"cold-{n}") for n in range(4)]
        await builder.building(1)
        elsewhere = Builder(builder.key)
        elsewhere.go_on.set()
        async with role(journal, Private(elsewhere), worker="w2", slots=1):
            rest = [address for address in addresses if address not in builder.builds]
            for address in rest:
                await until(journal, address, built)
            assert (sorted(elsewhere.builds), len(builder.builds)) == (sorted(rest), 1)
            builder.go_on.set()


async def test_who_begins_to_wait_while_its_builder_stops_is_handed_back_at_once(journal: Journal, builder: Builder) -> None:
    """It was looked at already when the others were sent away, and the time of grace is for what works."""
    gate, late = asyncio.Event(), Builder(builder.key)

    async def approach(arrival: Arrival) -> LeasedWork | PutOff:
        if arrival.state.address.id == "late":
            late.told.add("looked at")
            await gate.wait()
        return await Builder.approach(builder, arrival)

    builder.approach = approach  # type: ignore[method-assign]
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(role(journal, builder, worker="w1", slots=1, grace_s=600.0))
        await hand_in(journal, "first")
        await builder.building(1)
        address = await hand_in(journal, "late")
        await late.waited_for(["looked at"])
        stopping = asyncio.create_task(stack.aclose())
        await asyncio.sleep(0.5)
        gate.set()
        async with role(journal, late, worker="w2", slots=1):
            await late.waited_for(["late"])
            assert not stopping.done()
            builder.go_on.set()
            state = await until(journal, address, built)
        await stopping
    assert (state.attempts.builder, len(builder.builds), late.builds) == (1, 1, [])


async def test_who_has_a_slot_and_no_lease_when_its_builder_stops_takes_none(journal: Journal, builder: Builder) -> None:
    """Its build would be cut off at the end of the grace, and the lease be spent."""
    granted, gate, approach = asyncio.Event(), asyncio.Event(), builder.approach

    async def late(arrival: Arrival) -> LeasedWork | PutOff:
        found = await approach(arrival)
        assert arrival.place.has_slot
        granted.set()
        await gate.wait()
        return found

    builder.approach = late  # type: ignore[method-assign]
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(role(journal, builder, worker="w1", slots=1, grace_s=600.0))
        address = await hand_in(journal, "late")
        await granted.wait()
        stopping = asyncio.create_task(stack.aclose())
        await asyncio.sleep(1)
        gate.set()
        async with asyncio.timeout(PATIENCE_S):
            await stopping
    assert (builder.builds, await kinds(journal, address), await pending_acks(journal)) == ([], ["submitted"], 1)
    elsewhere = Builder(builder.key)
    elsewhere.go_on.set()
    async with role(journal, elsewhere, worker="w2"):
        state = await until(journal, address, built)
    assert state.attempts.builder == 1


async def test_who_waits_leaves_its_submission_to_a_worker_that_took_its_lease(
    journal: Journal, builder: Builder, caplog: pytest.LogCaptureFixture
) -> None:
    async with built_elsewhere(journal, builder.key), role(journal, builder, worker="w1"):
        address = await hand_in(journal, "waits")
        await builder.waited_for(["waits"])
        lease = await take_over(journal, address, 1)
        async with asyncio.timeout(PATIENCE_S):
            while "it waits for it no more" not in caplog.text:
                await asyncio.sleep(0.02)
        assert (await journal.known(address)).lease == lease
        assert await kinds(journal, address) == ["submitted", "leased"]


async def test_a_server_that_fails_those_who_wait_costs_no_lease(journal: Journal, builder: Builder) -> None:
    failures = 4

    async def approach(arrival: Arrival) -> LeasedWork | PutOff:
        nonlocal failures
        if failures:
            failures -= 1
            raise BusUnreachable("a test")
        return await Builder.approach(builder, arrival)

    builder.approach = approach  # type: ignore[method-assign]
    builder.go_on.set()
    async with role(journal, builder):
        state = await until(journal, await hand_in(journal, "first"), built)
    assert (failures, state.attempts.builder) == (0, 1)


async def claim_without_lease(journal: Journal, key: str, owner: Address) -> None:
    """Claim an environment as a builder does that dies before it has its lease."""
    sequence = (await journal.known(owner)).last_sequence
    claim = EnvironmentBuilding(
        key=key, **owner._asdict(), lease_token="dead", worker="dead", lease_number=1, submission_sequence=sequence
    )
    environments = Environments(journal.bus)
    assert await environments.claim(await environments.state(key), claim) is not None


async def test_an_owner_whose_lease_is_kept_from_the_log_keeps_nobody_waiting(journal: Journal, builder: Builder) -> None:
    """Somebody publishes under it without end, so that no append of its builder's ever comes first."""
    owner = await hand_in(journal, "drowned")
    append, flood = journal._append, True

    async def drowned(address: Address, event: Event, message_id: str, expected_sequence: int) -> Appended:
        if flood and address == owner:
            await journal.bus.publish(event_subject(address, "cancelled"), b"garbage")
        return await append(address, event, message_id, expected_sequence)

    journal._append = drowned  # type: ignore[method-assign]
    async with role(journal, builder):
        async with asyncio.timeout(PATIENCE_S):
            while (await Environments(journal.bus).state(builder.key)).building is None:
                await asyncio.sleep(0.02)
        addresses = [await hand_in(journal, f"same-{n}") for n in range(3)]
        await builder.building(1)
        assert builder.builds[0] in addresses
        builder.go_on.set()
        states = [await until(journal, address, built) for address in addresses]
        flood = False
        last = await until(journal, owner, built)
    assert [state.attempts.builder for state in (*states, last)] == [1] * 4
    assert sum(address in addresses for address in builder.builds) == 1, "the owner itself may build beside it"


async def test_a_claim_of_a_tenant_that_is_no_more_keeps_nobody_waiting(journal: Journal, builder: Builder) -> None:
    """Nobody is given its deliveries any more, so nobody would ever claim anew."""
    policy = Policy(tenants={"default": 1, "gone": 1})
    owner = (await journal.submit(request("owner", tenant="gone", policy=policy))).address
    await claim_without_lease(journal, builder.key, owner)
    builder.go_on.set()
    async with role(journal, builder):
        await until(journal, await hand_in(journal, "first"), built)
    assert len(builder.builds) == 1


async def test_a_claim_of_one_whose_history_cannot_be_folded_parks_nobody_who_needs_the_same(
    journal: Journal, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug of cutor's: it would count as one of each of those who look at the owner."""
    owner = await hand_in(journal, "owner")
    await claim_without_lease(journal, builder.key, owner)
    state_of = journal.state

    async def broken(address: Address, **more: int) -> Submission | None:
        if address == owner:
            raise RecursionError("maximum recursion depth exceeded")
        return await state_of(address, **more)

    histories_are_read(journal, monkeypatch)
    monkeypatch.setattr(journal, "state", broken)
    builder.go_on.set()
    async with role(journal, builder):
        states = [await until(journal, await hand_in(journal, f"same-{n}"), settled) for n in range(2)]
    assert [(state.status, state.attempts.builder) for state in states] == [("DEPENDENCIES_INSTALLED", 1)] * 2


async def test_a_claim_whose_lease_is_still_to_come_is_waited_for(journal: Journal, builder: Builder) -> None:
    """Its builder died in between: who is given its delivery claims anew, and nobody else builds before that."""
    owner = await hand_in(journal, "owner")
    await claim_without_lease(journal, builder.key, owner)
    async with role(journal, builder):
        others = await waiting(journal, builder, ["same-1", "same-2"])
        builder.go_on.set()
        states = [await until(journal, address, built) for address in (owner, *others)]
    assert builder.builds == [owner]
    assert [state.attempts.builder for state in states] == [1, 1, 1]


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two wait at the most."""
    monkeypatch.setattr(places, "WAITING_AT_MOST", 2)


@pytest.mark.usefixtures("crowded")
async def test_an_owner_comes_again_however_many_wait_for_it(journal: Journal, builder: Builder) -> None:
    """Its build was a fault of cutor's, and its former lease is still the newest: it must not wait for itself."""
    builder.faults.add("first")
    async with role(journal, builder):
        first = await hand_in(journal, "first")
        await builder.building(1)
        waits = await waiting(journal, builder, ["same-1", "same-2"])
        builder.go_on.set()
        states = [await until(journal, address, built) for address in (first, *waits)]
    assert [state.attempts.builder for state in states] == [2, 1, 1]
    assert builder.builds == [first, first]


@pytest.mark.usefixtures("crowded")
async def test_an_owner_that_comes_again_waits_for_a_slot_though_as_many_wait_for_it_as_may(
    journal: Journal, builder: Builder
) -> None:
    """No slot is free when it comes, so it has to wait; put off it would have to come in just when there is one."""
    other = Builder(secrets.token_hex(16))
    owner = await hand_in(journal, "owner")
    await claim_without_lease(journal, builder.key, owner)
    gate, looked, approach = asyncio.Event(), asyncio.Event(), builder.approach

    async def late(arrival: Arrival) -> LeasedWork | PutOff:
        if arrival.state.address == owner:
            looked.set()
            await gate.wait()
        return await approach(arrival)

    builder.approach = late  # type: ignore[method-assign]
    async with role(journal, Either(builder, other), slots=1):
        await hand_in(journal, "other")
        await other.building(1)
        waits = [await hand_in(journal, name) for name in ("same-1", "same-2")]
        await builder.waited_for(["same-1", "same-2"])
        await looked.wait()
        gate.set()
        async with asyncio.timeout(PATIENCE_S):
            while "owner" not in builder.queued:
                await asyncio.sleep(0.02)
        other.go_on.set()
        builder.go_on.set()
        for address in (owner, *waits):
            await until(journal, address, built)
    assert builder.builds == [owner]


@pytest.mark.usefixtures("crowded")
async def test_what_would_be_one_too_many_to_wait_is_not_taken_up_and_costs_no_lease(
    journal: Journal, builder: Builder
) -> None:
    async with role(journal, builder):
        first = await hand_in(journal, "first")
        await builder.building(1)
        waits = await waiting(journal, builder, ["same-1", "same-2"])
        more = [await hand_in(journal, f"more-{n}") for n in range(3)]
        await asyncio.sleep(1)
        assert [(await journal.known(address)).attempts.builder for address in more] == [0, 0, 0]
        builder.go_on.set()
        states = [await until(journal, address, built) for address in (first, *waits, *more)]
    assert [state.attempts.builder for state in states] == [1] * 6
    assert len(builder.builds) == 1


@pytest.mark.usefixtures("crowded")
async def test_who_is_cancelled_while_it_is_put_off_is_clean_before_it_comes_again(
    journal: Journal, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_off = asyncio.Event()

    def long_s(*_some: object) -> float:
        put_off.set()
        return 600.0

    monkeypatch.setattr(Answers, "_crowded_s", long_s)
    async with role(journal, builder):
        await hand_in(journal, "first")
        await builder.building(1)
        await waiting(journal, builder, ["same-1", "same-2"])
        address = await hand_in(journal, "more")
        await asyncio.wait_for(put_off.wait(), PATIENCE_S)
        await journal.settle(await journal.known(address), lambda state: decide_cancel(state, None))
        state = await until(journal, address, settled)
        builder.go_on.set()
    assert (state.status, await kinds(journal, address)) == ("CANCELLED", ["submitted", "cancelled", "cleaned"])


async def test_who_is_cancelled_while_a_runner_puts_it_off_is_clean_before_it_comes_again(
    journal: Journal, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The builder's lease is over. Another runner's may not be: then that one says so."""
    monkeypatch.setattr(Answers, "_crowded_s", lambda *_some: 600.0)
    builder.go_on.set()
    put_off: set[str] = set()

    class Full:
        async def approach(self, arrival: Arrival) -> PutOff:
            put_off.add(arrival.state.address.id)
            return "crowded"

        async def __call__(self, _leased: LeasedStep) -> None:
            raise AssertionError("it is put off")

    async with role(journal, builder), role(journal, Full(), "runner"):
        addresses = [await hand_in(journal, name) for name in ("waits", "runs")]
        async with asyncio.timeout(PATIENCE_S):
            while len(put_off) < len(addresses):
                await asyncio.sleep(0.02)
        lease = Lease(role="runner", worker="other", token="other", number=1)
        await journal.settle(await journal.known(addresses[1]), lambda _state: Leased(lease=lease))
        for address in reversed(addresses):
            await journal.settle(await journal.known(address), lambda state: decide_cancel(state, None))
        await until(journal, addresses[0], lambda state: state.cleaned_ns is not None)
        await asyncio.sleep(1)
        assert (await kinds(journal, addresses[1]))[-2:] == ["leased", "cancelled"]


async def test_who_is_cancelled_just_as_it_is_put_off_is_clean_before_it_comes_again(
    journal: Journal, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The notice comes while it is still looked at, and the look has ended before anybody has read the log for that."""
    monkeypatch.setattr(Answers, "_crowded_s", lambda *_some: 600.0)

    async def approach(arrival: Arrival) -> PutOff:
        await journal.settle(arrival.state, lambda state: decide_cancel(state, None))
        return "crowded"

    builder.approach = approach  # type: ignore[method-assign,assignment]
    async with role(journal, builder):
        address = await hand_in(journal, "more")
        await until(journal, address, settled)
    assert await kinds(journal, address) == ["submitted", "cancelled", "cleaned"]


@pytest.mark.parametrize(
    "body", [b"", b'{"kind":"env-building","key":"KEY","tenant":"/","id":"","lease_token":"","worker":""}']
)
async def test_garbage_under_the_key_keeps_nobody_waiting(journal: Journal, builder: Builder, body: bytes) -> None:
    await journal.bus.publish(environment_subject(builder.key), body.replace(b"KEY", builder.key.encode()))
    builder.go_on.set()
    async with role(journal, builder):
        state = await until(journal, await hand_in(journal, "first"), built)
    assert state.environment is not None
    assert not state.environment.hit


async def be_killed(server: str, key: str, mark: Path) -> None:
    """Be a builder that is killed while it builds."""
    async with Bus.connect(server, name="killed") as bus, AsyncExitStack() as stack:
        owner = Owner(key)
        await stack.enter_async_context(role(Journal(bus), owner, worker="killed", data=mark.parent, slots=1))
        await owner.began.wait()
        mark.touch()  # noqa: ASYNC240 - once, in a process of its own
        await asyncio.sleep(PATIENCE_S)


async def test_the_builder_of_the_owner_is_killed_and_starts_again(
    journal: Journal, builder: Builder, own_server: OwnServer, tmp_path: Path
) -> None:
    """Its next life hands back what it had in hand: so the claim is dead, and somebody else's, without a clock."""
    mark = tmp_path / "building"
    code = f"import asyncio; from pathlib import Path; from {__name__} import be_killed"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", f"{code}; asyncio.run(be_killed({own_server.url!r}, {builder.key!r}, Path({str(mark)!r})))"
    )
    first = await hand_in(journal, "first")
    async with asyncio.timeout(PATIENCE_S):
        while not mark.exists():
            await asyncio.sleep(0.05)
    async with role(journal, builder, worker="w1"):
        addresses = [await hand_in(journal, f"same-{n}") for n in range(5)]
        await builder.waited_for([address.id for address in addresses])
        await asyncio.sleep(1.5)
        assert not builder.builds, "the owner is alive as far as anybody knows"
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()
        builder.go_on.set()
        async with role(journal, builder, worker="killed", data=tmp_path):
            states = [await until(journal, address, built) for address in (first, *addresses)]
    assert len(builder.builds) == 1
    assert states[0].attempts.builder == 2
    assert all(state.environment is not None and state.environment.key == builder.key for state in states)


@pytest.mark.parametrize(("owns", "answer"), [(True, "later"), (False, "crowded")])
async def test_without_room_an_owner_comes_again_soon_and_others_when_there_is_time(
    journal: Journal, builder: Builder, owns: bool, answer: str
) -> None:
    owner = await hand_in(journal, "owner")
    if owns:
        await claim_without_lease(journal, builder.key, owner)
    arrival = Arrival(journal, Policy(), await journal.known(owner), "token", places.Places(1, looks=True).looking())

    async def no_room() -> bool:
        return False

    assert await Claim(arrival, builder.key).settle(arrival.place, "w", may_build=no_room) == answer


@pytest.mark.parametrize(("owns", "answer"), [(True, "later"), (False, "crowded")])
async def test_held_back_an_owner_comes_again_soon_and_others_when_there_is_time(
    journal: Journal, builder: Builder, owns: bool, answer: str
) -> None:
    """Thousands may be held back at one time, and what is new has its turn between them."""
    owner = await hand_in(journal, "owner")
    if owns:
        await claim_without_lease(journal, builder.key, owner)
    arrival = Arrival(journal, Policy(), await journal.known(owner), "token", places.Places(1, looks=True).looking())
    assert await Claim(arrival, builder.key).held_back() == answer

"""Fair turns between tenants, by the loop of builder and runner on a real server: what counts is the order in the log.

A tenant's flood costs another tenant one turn, whatever its length; shares are the weights'; a restart changes nothing. Steps
are scripts without containers; those of the builder are looked at before they are leased, as the builder's own are.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from cutor.bus.connection import Bus
from cutor.bus.embedded import EmbeddedServer
from cutor.bus.topology import apply, default_text, parse
from cutor.journal.journal import Journal
from cutor.journal.stack_policy import publish_policy
from cutor.model.events import Finished, Role
from cutor.model.limits import Policy
from cutor.model.subjects import Address
from cutor.roles.claims import alone
from cutor.roles.step import Arrival, LeasedStep, LeasedWork, PutOff
from tests.ports import free_port
from tests.queues import BEFORE, queue, taken_up
from tests.scripted_roles import PATIENCE_S, Waiting, Work, end, role, until
from tests.unit.histories import BUILT

ROLES = pytest.mark.parametrize("name", ["builder", "runner"])
FLOOD = 10_000
SLOTS = 2
AT_ONCE = 8
"""Deliveries that a builder looks at at one time: so many may stand before one that comes, beside those in slots."""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    async with await EmbeddedServer.start(tmp_path / "nats", port=free_port("127.0.0.1")) as server:
        yield server


@pytest.fixture
async def stack(server: EmbeddedServer) -> AsyncIterator[Callable[..., asyncio.Future[Journal]]]:
    """Make the streams for tenants with weights, and return a journal."""
    async with Bus.connect(server.url, name="test") as bus:

        async def of(**weights: int) -> Journal:
            tenants = {tenant.replace("_", "-"): weight for tenant, weight in weights.items()}
            await apply(bus, parse(default_text(), list(tenants)))
            journal = Journal(bus)
            await publish_policy(journal.bus, Policy(tenants=tenants))
            return journal

        yield of  # type: ignore[misc]


async def finish(leased: LeasedStep) -> None:
    """End what a runner has."""
    await leased.report(Finished(lease=leased.lease, outcome="OK"))


class Looked:
    """A step that is looked at first, and goes on at once, without a slot: as a builder's whose environment is there."""

    async def approach(self, _arrival: Arrival) -> LeasedWork | PutOff:
        return self

    async def __call__(self, leased: LeasedStep) -> None:
        await end(leased)


class Cold:
    """A step that waits for a slot: as a builder's whose environment is to be built."""

    def __init__(self, work: Work) -> None:
        self._work = work

    async def approach(self, arrival: Arrival) -> LeasedWork | PutOff:
        turn = await alone(arrival)
        return self._work if turn == "mine" else turn

    async def __call__(self, leased: LeasedStep) -> None:
        raise AssertionError("what is done is what `approach` returned")


def quick(name: Role) -> Work:
    return Looked() if name == "builder" else finish


async def hand_in(journal: Journal, name: Role, tenant: str, submission: str) -> Address:
    """Hand one in, of which all has happened that comes before the role."""
    address = Address(tenant, submission)
    state = None
    for event in BEFORE[name]:
        if state is None:
            state = await journal._submit(address, event)  # type: ignore[arg-type]
        else:
            state = (await journal.settle(state, lambda _state, event=event: event)).state  # type: ignore[misc]
    return address


async def taken(journal: Journal, name: Role, count: int) -> list[Address]:
    """Wait until so many are leased, and return them in order."""
    async with asyncio.timeout(PATIENCE_S):
        while len(found := await taken_up(journal.bus, name)) < count:
            await asyncio.sleep(0.05)
    return found


@ROLES
async def test_a_single_submission_waits_for_a_turn_and_not_for_the_queue(
    server: EmbeddedServer, stack: Callable[..., asyncio.Future[Journal]], name: Role
) -> None:
    """Handed in while another tenant has ten thousand: before it come those that were taken up already, and a turn's."""
    journal = await stack(flood=1, single=1)
    await queue(server.url, name, {"flood": FLOOD})
    for life in range(2):  # the second one with a queue that was there before the role was
        async with role(journal, quick(name), name, worker=f"w{life}-1", slots=SLOTS):
            await taken(journal, name, 20 * (life + 1))
            single = await hand_in(journal, name, "single", f"one-{life}")
            await until(journal, single, lambda state: state.ended)
        handed_in = (await journal.entries(single))[len(BEFORE[name]) - 1].stored.sequence
        before = len(await taken_up(journal.bus, name, before=handed_in))
        order = await taken_up(journal.bus, name)
        assert order.index(single) - before <= 3 * AT_ONCE, (before, order.index(single))
        assert len(order) < FLOOD // 4


@ROLES
async def test_shares_are_those_of_the_weights(
    server: EmbeddedServer, stack: Callable[..., asyncio.Future[Journal]], name: Role
) -> None:
    journal = await stack(batch=1, live=3)
    await queue(server.url, name, {"batch": 300, "live": 300})
    async with role(journal, quick(name), name, worker="w1", slots=SLOTS):
        order = await taken(journal, name, 200)
    shares = Counter(address.tenant for address in order[:200])
    assert 140 <= shares["live"] <= 160, shares


@ROLES
async def test_of_fifty_tenants_each_has_its_turn(
    server: EmbeddedServer, stack: Callable[..., asyncio.Future[Journal]], name: Role
) -> None:
    """One with a flood, and 49 with a few: all of these are done while the flood has had as many turns as one of them."""
    tenants = {"a-flood": 2_000} | {f"few-{number}": 3 for number in range(49)}
    journal = await stack(**dict.fromkeys(tenants, 1))
    await queue(server.url, name, tenants)
    async with role(journal, quick(name), name, worker="w1", slots=SLOTS):
        order = await taken(journal, name, 3 * 50 + AT_ONCE)
    first = Counter(address.tenant for address in order[: 3 * 50 + AT_ONCE])
    assert {tenant: first[tenant] for tenant in tenants if tenant != "a-flood"} == dict.fromkeys([*tenants][1:], 3)


@ROLES
async def test_slots_that_become_free_go_to_who_has_had_none(
    server: EmbeddedServer, stack: Callable[..., asyncio.Future[Journal]], name: Role
) -> None:
    """A tenant's long work has all slots, as nobody else wants any; the first one that ends leaves its slot to the other."""
    journal = await stack(flood=1, single=1)
    await queue(server.url, name, {"flood": 50})
    work = Waiting(end if name == "builder" else finish)
    async with role(journal, Cold(work) if name == "builder" else work, name, worker="w1", slots=1):
        async with asyncio.timeout(PATIENCE_S):
            await work.began.wait()
        single = await hand_in(journal, name, "single", "one")
        work.go_on.set()
        await until(journal, single, lambda state: state.ended)
    order = await taken_up(journal.bus, name)
    assert order.index(single) <= 3, order[:10]


@ROLES
async def test_a_tenant_that_may_not_have_all_slots_leaves_one_to_others_and_has_it_never(
    server: EmbeddedServer, stack: Callable[..., asyncio.Future[Journal]], name: Role
) -> None:
    """Its long work goes on, and its queue waits for that; the other tenant's go one after the other beside it."""
    journal = await stack(flood=1, other=1)
    await queue(server.url, name, {"flood": 20})
    long, short = Waiting(end if name == "builder" else finish), end if name == "builder" else finish

    async def work(leased: LeasedStep) -> None:
        await (long if leased.state.address.tenant == "flood" else short)(leased)

    step = Cold(work) if name == "builder" else work
    async with role(journal, step, name, worker="w1", slots=2, slots_per_tenant=1):
        async with asyncio.timeout(PATIENCE_S):
            await long.began.wait()
        for number in range(5):
            single = await hand_in(journal, name, "other", f"one-{number}")
            await until(journal, single, lambda state: state.ended)
        assert len(long.taken) == 1
        long.go_on.set()
        await taken(journal, name, 5 + 20)
    order = await taken_up(journal.bus, name)
    assert [address.tenant for address in order[:6]] == ["flood", *["other"] * 5]


def test_the_histories_are_of_submissions_that_wait() -> None:
    assert {name: events[-1].__class__.__name__ for name, events in BEFORE.items()} == {
        "builder": "Submitted",
        "runner": type(BUILT[-1]).__name__,
    }

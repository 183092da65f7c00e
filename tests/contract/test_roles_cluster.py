"""The loop of the roles on a cluster of three: its leader dies under work, two workers compete, strangers write between."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import pytest

from cutor.bus.connection import Bus
from cutor.bus.errors import BusError
from cutor.journal.journal import Journal
from cutor.journal.stack_policy import publish_policy
from cutor.model.codec import encode
from cutor.model.decide import holds
from cutor.model.events import TERMINAL_KINDS, Finished, Lease, Leased, kind_of
from cutor.model.limits import Policy
from cutor.model.messages import Unreadable
from cutor.model.state import STEP_OF_ROLE
from cutor.model.subjects import Address, event_subject
from cutor.roles.step import LeasedStep
from tests.cluster import Cluster, start_cluster
from tests.scripted_roles import Waiting, build, end, kinds, request, role, set_ack_wait, take_over, until

SUBMISSIONS = 30


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with start_cluster() as three:
        yield three


@pytest.fixture
async def journal(cluster: Cluster) -> AsyncIterator[Journal]:
    async with Bus.connect(cluster.url(), name="test") as bus:
        journal = Journal(bus)
        await publish_policy(journal.bus, Policy(max_leases=5))
        yield journal


async def run(leased: LeasedStep) -> None:
    await asyncio.sleep(0.05)
    await leased.report(Finished(lease=leased.lease, outcome="OK"))


async def slow_build(leased: LeasedStep) -> None:
    await asyncio.sleep(0.05)
    await build(leased)


async def submit(journal: Journal, name: str) -> Address:
    """As a producer does that wants to know: the same again where it was not told."""
    while True:
        try:
            return (await journal.submit(request(name))).address
        except BusError:
            await asyncio.sleep(0.1)


async def stray(journal: Journal, address: Address) -> None:
    """Write what a stranger may: nothing of it is an event of this submission."""
    wrong = Lease(role="builder", worker="x", token="x", number=77)
    for kind, body in (("leased", encode(Leased(lease=wrong))), ("finished", encode(Finished(lease=wrong, outcome="OK")))):
        await journal.bus.link.send(event_subject(address, kind), body)
    await journal.bus.link.send(event_subject(address, "note"), b"\xff garbage")


async def one_end(journal: Journal, address: Address) -> None:
    """One terminal event that counts, one ``cleaned``, no lease twice; what else is there is counted as a stray."""
    state = await until(journal, address, lambda state: state.cleaned_ns is not None)
    messages = [one.message for one in await journal.entries(address)]
    events = [one for one in messages if not isinstance(one, Unreadable)]
    own = [one for one in events if not isinstance(one, Finished | Leased) or one.lease.worker != "x"]
    counted = Counter(kind_of(one) for one in own)
    assert sum(counted[kind] for kind in TERMINAL_KINDS) == 1, counted
    assert (counted["submitted"], counted["cleaned"], state.status, state.outcome) == (1, 1, "FINISHED", "OK")
    leases = [(one.lease.role, one.lease.number) for one in own if isinstance(one, Leased)]
    assert len(set(leases)) == len(leases)
    assert state.attempts.builder + state.attempts.runner == len(leases)
    assert state.strays == len(messages) - len(own)


async def test_a_leader_that_dies_under_two_workers_a_role_costs_no_submission_its_one_end(
    cluster: Cluster, journal: Journal
) -> None:
    await set_ack_wait(journal.bus, 5.0, "builder-default")
    await set_ack_wait(journal.bus, 5.0, "runner-default")
    async with Bus.connect(cluster.url(), name="second") as bus:
        second = Journal(bus)
        async with (
            role(journal, slow_build, worker="b1"),
            role(second, slow_build, worker="b2"),
            role(journal, run, "runner", worker="r1"),
            role(second, run, "runner", worker="r2"),
        ):
            addresses = []
            for number in range(SUBMISSIONS):
                if number == SUBMISSIONS // 3:
                    leader = await cluster.leader("EVENTS")
                    cluster.kill(leader)
                addresses.append(await submit(journal, f"led-{number}"))
                await stray(journal, addresses[-1])
            await asyncio.gather(*(one_end(journal, address) for address in addresses))
    cluster.start(leader)
    await cluster.current("EVENTS")


async def test_work_stops_when_the_next_lease_passes_by_another_node(cluster: Cluster) -> None:
    """The lease is appended by way of one node, the worker that loses its own is connected to another."""
    work = Waiting(end)
    async with (
        Bus.connect(cluster.url(nodes=[0]), name="loser") as losing,
        Bus.connect(cluster.url(nodes=[1]), name="taker") as taking,
    ):
        taker = Journal(taking)
        submitted = await taker.submit(request("passing"))
        async with role(Journal(losing), work):
            await work.began.wait()
            lease = await take_over(taker, submitted.address)
            async with asyncio.timeout(180):
                await work.stopped.wait()
        state = await taker.known(submitted.address)
        assert holds(state, lease)
        assert state.status in STEP_OF_ROLE["builder"]
        assert await kinds(taker, submitted.address) == ["submitted", "leased", "leased"]

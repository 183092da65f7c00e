"""Garbage under some submissions without end: those that get none are not held up by it, and those end when it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cutor.bus.connection import Bus
from cutor.bus.publish_ack import Appended
from cutor.journal.journal import Journal
from cutor.journal.stack_policy import publish_policy
from cutor.model.events import Event
from cutor.model.limits import Policy
from cutor.model.state import Submission
from cutor.model.subjects import Address, event_subject
from cutor.roles.handler import CONFLICTS_BEFORE_LEASE
from tests.nats_server import OwnServer
from tests.scripted_roles import end, request, role, until


@pytest.fixture
async def journal(own_bus: Bus) -> Journal:
    journal = Journal(own_bus)
    await publish_policy(journal.bus, Policy(max_leases=3))
    return journal


def ended(state: Submission) -> bool:
    return state.ended


def cleaned(state: Submission) -> bool:
    return state.cleaned_ns is not None


@asynccontextmanager
async def flooded(server: OwnServer, addresses: list[Address]) -> AsyncIterator[None]:
    """Publish garbage under submissions while the block lasts, a hundred times a second for each."""
    async with Bus.connect(server.url, name="flood") as bus:

        async def flood(address: Address) -> None:
            while True:
                await bus.link.send(event_subject(address, "cancelled"), bytes(20))
                await asyncio.sleep(0.01)

        tasks = [asyncio.create_task(flood(address)) for address in addresses]
        try:
            yield
        finally:
            assert not any(task.done() for task in tasks), "the flood ended by itself"
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def test_a_flood_under_some_holds_up_no_others(journal: Journal, own_server: OwnServer) -> None:
    """As many are flooded as there are slots."""
    two = [(await journal.submit(request(f"flooded-{number}"))).address for number in range(2)]
    async with flooded(own_server, two):
        for address in two:
            await until(journal, address, lambda state: state.strays >= 50)
        async with role(journal, end):
            innocent = (await journal.submit(request("innocent"))).address
            state = await until(journal, innocent, ended)
    assert (state.status, state.attempts.builder, state.strays) == ("FINISHED", 1, 0)
    async with role(journal, end):
        for address in two:
            state = await until(journal, address, cleaned)
            assert (state.status, state.message) == ("FINISHED", None)
            assert state.strays >= 50


async def test_what_can_take_no_lease_gives_its_slot_to_others(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    """A flood in which no append of theirs ever comes first: they wait until it ends, and nobody else does."""
    two = [(await journal.submit(request(f"drowned-{number}"))).address for number in range(2)]
    innocent = (await journal.submit(request("innocent"))).address
    append, tries, flood = journal._append, dict.fromkeys(two, 0), True

    async def drowned(address: Address, event: Event, message_id: str, expected_sequence: int) -> Appended:
        if flood and address in tries:
            tries[address] += 1
            await journal.bus.publish(event_subject(address, "cancelled"), b"garbage")
        return await append(address, event, message_id, expected_sequence)

    journal._append = drowned  # type: ignore[method-assign]
    async with role(journal, end):
        state = await until(journal, innocent, ended)
        assert state.attempts.builder == 1
        assert all(0 < count <= 6 * CONFLICTS_BEFORE_LEASE for count in tries.values()), tries
        again = max(tries.values()) + 2 * CONFLICTS_BEFORE_LEASE
        async with asyncio.timeout(180):
            while min(tries.values()) < again:
                await asyncio.sleep(0.05)
        flood = False
        for address in two:
            state = await until(journal, address, cleaned)
            assert (state.status, state.attempts.builder, state.strays) == ("FINISHED", 1, tries[address])
    said = [record.message for record in caplog.records if "something else writes" in record.message]
    assert len(said) == 2, "once for each"

"""Floods of what consumers deliver: the work that they make is counted at the bus, and grows as the flood does, not faster."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import msgspec
import pytest

from cutor.bus.connection import Bus
from cutor.bus.consumer import WeightedQueues
from cutor.bus.message import Stored
from cutor.journal.journal import Journal
from cutor.journal.stack_policy import publish_policy
from cutor.model.codec import encode
from cutor.model.decide import TakeLease, decide_step
from cutor.model.events import CacheLost, Event, Finished, Role
from cutor.model.limits import Policy
from cutor.model.request import ValidRequest
from cutor.model.state import Stamp, Submission, evolve
from cutor.model.subjects import Address, event_subject, fence, parse_event_subject
from cutor.roles import attention
from cutor.roles.answers import Answers
from cutor.roles.glance import Glances
from cutor.roles.step import Arrival, LeasedStep, LeasedWork, PutOff
from tests.nats_server import TENANTS, OwnServer, apply_streams
from tests.reads import Reads
from tests.scripted_roles import PATIENCE_S, Waiting, build, request, role, until
from tests.unit.histories import cache_built, lease

STRAYS: Final = 2000
STRAYS_MEANWHILE: Final = 500
FEW: Final = 100
"""Requests that are no flood's: of the innocent submissions, and of the flooded one's own step."""


class Kind(NamedTuple):
    """What a consumer of a role delivers, as a flood: an event that can be read, or a body that can't."""

    role: Role
    kind: str
    body: bytes


LOST: Final = encode(CacheLost(lease=lease("runner"), key="k", missing="p"))
KINDS: Final = {
    "submitted": Kind("builder", "submitted", b"x" * 5000),
    "cache-lost": Kind("builder", "cache-lost", LOST),
    "cache-lost, garbage": Kind("builder", "cache-lost", b"x" * 5000),
    "cache-built": Kind("runner", "cache-built", encode(cache_built())),
    "cache-built, garbage": Kind("runner", "cache-built", b"x" * 5000),
}
CANCELS: Final = Kind("builder", "cancelled", b"x" * 100)


@pytest.fixture
async def journal(own_bus: Bus) -> Journal:
    journal = Journal(own_bus)
    await publish_policy(journal.bus, Policy(max_leases=3, tenants=dict.fromkeys(TENANTS, 1)))
    return journal


@pytest.fixture
async def flooder(own_server: OwnServer) -> AsyncIterator[Bus]:
    async with Bus.connect(own_server.url, name="flood") as bus:
        yield bus


def of_tenant(tenant: str, submission_id: str) -> ValidRequest:
    return msgspec.structs.replace(request(submission_id), address=Address(tenant, submission_id))


def ended(state: Submission) -> bool:
    return state.ended


async def finish(leased: LeasedStep) -> None:
    await leased.report(Finished(lease=leased.lease, outcome="DEPENDENCY_ERROR" if leased.lease.role == "builder" else "OK"))


async def submitted_for(journal: Journal, kind: Kind, *requests: ValidRequest) -> list[Address]:
    """Submit, and build for a runner; return the addresses."""
    addresses = [(await journal.submit(one)).address for one in requests]
    if kind.role == "runner":
        async with role(journal, build):
            for address in addresses:
                await until(journal, address, lambda state: state.environment is not None)
    return addresses


async def flood(bus: Bus, address: Address, kind: Kind, count: int) -> None:
    for _ in range(count):
        await bus.link.send(event_subject(address, kind.kind), kind.body)
    await bus.flush(PATIENCE_S)


async def unanswered(journal: Journal, consumer: str) -> int:
    """Return how many events a consumer has yet to deliver, or was not answered about."""
    info = await journal.bus.api.call("consumer", f"CONSUMER.INFO.EVENTS.{consumer}")
    return int(info["num_pending"]) + int(info["num_ack_pending"])


async def all_answered(journal: Journal, kind: Kind) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await unanswered(journal, f"{kind.role}-default"):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
async def test_a_flood_from_before_the_start_is_read_once(
    journal: Journal, flooder: Bus, monkeypatch: pytest.MonkeyPatch, own_server: OwnServer, kind: Kind
) -> None:
    """Behind it wait one of the same tenant and one of another: all end, and the flooded one, too."""
    (flooded,) = await submitted_for(journal, kind, request("flooded"))
    await flood(flooder, flooded, kind, STRAYS)
    addresses = [flooded, *await submitted_for(journal, kind, request("same"), of_tenant("batch", "other"))]
    async with Bus.connect(own_server.url, name="role") as bus:
        reads = Reads(bus, monkeypatch)
        async with role(Journal(bus), finish, kind.role):
            states = [await until(journal, address, ended) for address in addresses]
            await all_answered(journal, kind)
    assert [state.strays for state in states] == [STRAYS, 0, 0]
    assert [state.attempts.of(kind.role) for state in states] == [1, 1, 1]
    assert reads.requests <= FEW, (reads.requests, reads.messages)
    assert reads.messages <= 2 * STRAYS + FEW, "the history is read for the due event, and once more at the most"


@pytest.mark.parametrize("answer", ["pass on", "crowded"])
async def test_who_waits_and_is_handed_back_again_and_again_has_its_flood_read_once(
    journal: Journal, flooder: Bus, monkeypatch: pytest.MonkeyPatch, own_server: OwnServer, answer: PutOff
) -> None:
    """What no consumer delivers: so all of it is read for the due event alone, at each look if it were for that."""
    (flooded,) = await submitted_for(journal, CANCELS, request("flooded"))
    await flood(flooder, flooded, CANCELS, STRAYS)
    handed_back = 0

    class Busy:
        async def approach(self, _arrival: Arrival) -> LeasedWork | PutOff:
            nonlocal handed_back
            handed_back += 1
            return answer if handed_back <= 5 else finish

        async def __call__(self, _leased: LeasedStep) -> None:
            raise AssertionError("what is done is what `approach` returned")

    async with Bus.connect(own_server.url, name="role") as bus:
        reads = Reads(bus, monkeypatch)
        async with role(Journal(bus), Busy()):
            state = await until(journal, flooded, ended)
    assert (state.strays, state.attempts.builder, handed_back) == (STRAYS, 1, 6)
    assert reads.messages <= STRAYS + FEW


async def test_a_notice_of_a_cancel_that_is_none_has_no_history_read_again(
    journal: Journal, flooder: Bus, monkeypatch: pytest.MonkeyPatch, own_server: OwnServer
) -> None:
    """Of one that was put off: whether it is clean is looked for a few times."""
    monkeypatch.setattr(attention, "LOOKS_AFTER_S", (0.0, 0.02, 0.05))
    monkeypatch.setattr(Answers, "_crowded_s", lambda *_some: 600.0)
    put_off, cleaned = asyncio.Event(), asyncio.Event()
    clean = attention.Attention._clean

    async def look(self: attention.Attention, known: Submission) -> None:
        await clean(self, known)
        cleaned.set()

    monkeypatch.setattr(attention.Attention, "_clean", look)
    (flooded,) = await submitted_for(journal, CANCELS, request("flooded"))
    await flood(flooder, flooded, CANCELS, STRAYS)

    class Busy:
        async def approach(self, _arrival: Arrival) -> PutOff:
            put_off.set()
            return "crowded"

        async def __call__(self, _leased: LeasedStep) -> None:
            raise AssertionError("it is put off")

    async with Bus.connect(own_server.url, name="role") as bus:
        reads = Reads(bus, monkeypatch)
        async with role(Journal(bus), Busy(), grace_s=0.1):
            async with asyncio.timeout(PATIENCE_S):
                await put_off.wait()
                while not cleaned.is_set():  # until the notice comes after it was put off
                    await flood(flooder, flooded, CANCELS, 1)
                    await asyncio.sleep(0.1)
    assert reads.messages <= STRAYS + FEW


@asynccontextmanager
async def flooding(bus: Bus, address: Address, kind: Kind) -> AsyncIterator[list[int]]:
    """Flood while the block lasts; yield a list whose one number says how often."""
    sent = [0]

    async def without_end() -> None:
        while True:
            await flood(bus, address, kind, 20)
            sent[0] += 20
            await asyncio.sleep(0.05)

    task = asyncio.create_task(without_end())
    try:
        yield sent
    finally:
        assert not task.done(), "the flood ended by itself"
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
async def test_a_flood_while_a_role_serves_is_read_as_it_comes(
    journal: Journal, flooder: Bus, monkeypatch: pytest.MonkeyPatch, own_server: OwnServer, kind: Kind
) -> None:
    """Of one that has ended, so that nothing else is read of it: each message as news, and as the end of an outline."""
    flooded, *others = await submitted_for(journal, kind, request("flooded"), request("same"), of_tenant("batch", "other"))
    async with Bus.connect(own_server.url, name="role") as bus:
        async with role(Journal(bus), finish, kind.role):
            for address in (flooded, *others):
                await until(journal, address, ended)
            reads = Reads(bus, monkeypatch)
            async with flooding(flooder, flooded, kind) as sent:
                async with asyncio.timeout(PATIENCE_S):
                    while sent[0] < STRAYS_MEANWHILE:
                        await asyncio.sleep(0.05)
                for address in await submitted_for(journal, kind, request("later"), of_tenant("batch", "later")):
                    await until(journal, address, ended)
            await all_answered(journal, kind)
        total = (await journal.known(flooded)).strays
    assert total >= STRAYS_MEANWHILE
    assert reads.messages <= 4 * total + FEW, (reads.messages, total)


async def test_a_large_stray_is_not_read_for_each_small_one(
    journal: Journal, flooder: Bus, monkeypatch: pytest.MonkeyPatch, own_server: OwnServer
) -> None:
    small, large = KINDS["submitted"]._replace(body=b"x"), KINDS["submitted"]._replace(body=bytes(4 << 20))
    ahead = (await journal.submit(request("flooded"))).address
    for kind, count in ((large, 1), (small, 500), (large, 1)):
        await flood(flooder, ahead, kind, count)
    async with Bus.connect(own_server.url, name="role") as bus:
        reads = Reads(bus, monkeypatch)
        async with role(Journal(bus), finish):
            await until(journal, ahead, ended)
            await all_answered(journal, small)
    assert reads.size_bytes <= 8 * (4 << 20), reads.size_bytes


async def test_strays_do_not_wait_for_the_end_of_what_is_on_hand(journal: Journal, flooder: Bus) -> None:
    """More than a consumer lets be under way at once: handed back, they would hold up everything of this tenant."""
    work = Waiting(finish)
    (first,) = await submitted_for(journal, KINDS["submitted"], request("on-hand"))

    async def by_id(leased: LeasedStep) -> None:
        await (work if leased.state.address == first else finish)(leased)

    async with role(journal, by_id):
        await work.began.wait()
        await flood(flooder, first, KINDS["submitted"], 600)
        await flood(flooder, first, KINDS["cache-lost"], 600)
        (behind,) = await submitted_for(journal, KINDS["submitted"], request("behind"))
        await until(journal, behind, ended)
        assert not (await journal.known(first)).ended
        work.go_on.set()
        state = await until(journal, first, ended)
    assert (state.attempts.builder, state.strays) == (1, 1200)


async def deliver(journal: Journal, *sequences: int) -> dict[int, Stored]:
    """Return events as the builder's consumer delivers them."""
    found: dict[int, Stored] = {}
    async with WeightedQueues(journal.bus, "EVENTS", [("builder-default", 1)]) as queue:
        while not found.keys() >= set(sequences):
            delivery = await queue.next(PATIENCE_S)
            assert delivery is not None
            found[delivery.stored.sequence] = delivery.stored
            await delivery.ack()
    return found


async def test_a_stream_that_lost_its_tail_is_not_taken_for_the_one_before(
    journal: Journal, flooder: Bus, own_server: OwnServer
) -> None:
    """The same id is submitted anew, and its first event stands where strays stood: it is due all the same."""
    glances, bus = Glances(journal), journal.bus
    first = await journal.submit(request("again"))
    await flood(flooder, first.address, KINDS["submitted"], 50)
    before = (await deliver(journal, first.step_sequence))[first.step_sequence]
    subject = parse_event_subject(before.subject)
    assert subject is not None
    assert (await glances.due(before, subject)) is not None
    stray = await bus.get("EVENTS", 20)
    assert stray is not None
    assert glances.old(stray, subject)

    await own_server.kill()
    shutil.rmtree(own_server.directory / "jetstream")
    await own_server.start()
    await apply_streams(own_server.url)
    for _ in range(19):
        await bus.publish("cutor.ev.default.another.submitted", b"x")
    anew = await journal.submit(request("again"))
    assert anew.step_sequence == 20
    after = (await deliver(journal, 20))[20]
    assert not glances.old(after, subject)
    state = await glances.due(after, subject)
    assert state is not None
    assert (state.step_sequence, state.strays) == (20, 0)
    assert not glances.old(after, subject)


async def test_an_outline_ends_where_the_stream_has_the_same_message(journal: Journal, flooder: Bus) -> None:
    """Another message of the submission stands at the sequence that an outline ends with: all is read anew."""
    glances, bus = Glances(journal), journal.bus
    first = await journal.submit(request("again"))
    await flood(flooder, first.address, KINDS["submitted"], 2)
    opening = await bus.get("EVENTS", first.step_sequence)
    last = await bus.last("EVENTS", fence(first.address))
    assert opening is not None
    assert last is not None
    subject = parse_event_subject(opening.subject)
    assert subject is not None
    assert await glances.due(opening, subject) is not None
    kept = glances._known[first.address]
    glances._known[first.address] = msgspec.structs.replace(kept, last_ns=kept.last_ns - 1, step_sequence=last.sequence + 1)
    await flood(flooder, first.address, KINDS["cache-lost"], 1)
    newest = await bus.last("EVENTS", fence(first.address))
    assert newest is not None
    lost = parse_event_subject(newest.subject)
    assert lost is not None
    assert await glances.due(newest, lost) is None
    assert glances._known[first.address].step_sequence == first.step_sequence


@pytest.mark.parametrize("lost", [1, 2], ids=["its end", "more"])
async def test_an_event_is_due_again_where_the_stream_lost_the_one_that_took_its_place(journal: Journal, lost: int) -> None:
    """The server's machine lost its power while this role lived on: it remembers what is nowhere any more."""
    glances = Glances(journal)
    first = await journal.submit(request("again"))
    taken = decide_step(first, "builder", first.step_sequence, worker="w", token="t", max_leases=3)
    assert isinstance(taken, TakeLease)
    opening = await journal.bus.get("EVENTS", first.step_sequence)
    assert opening is not None
    built = msgspec.structs.replace(cache_built(), lease=taken.event.lease)
    events: list[Event] = [taken.event, built]
    known = first
    for event in events[: len(events) - lost]:
        known = (await journal.settle(known, lambda _: event)).state  # noqa: B023 - called at once
    for sequence, event in enumerate(events[len(events) - lost :], known.last_sequence + 1):
        known = evolve(known, event, Stamp(sequence, time.time_ns()))
    assert known.step_sequence == first.step_sequence + 2
    glances.keep(known)
    subject = parse_event_subject(opening.subject)
    assert subject is not None
    assert not glances.old(opening, subject)
    state = await glances.due(opening, subject)
    assert state is not None
    assert (state.step_sequence, state.status) == (first.step_sequence, "SUBMITTED")
    assert glances._known[first.address].step_sequence == first.step_sequence, "what is nowhere is forgotten"


async def test_of_what_is_forgotten_only_the_opening_is_read(
    journal: Journal, flooder: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More submissions are flooded than are remembered: each stray costs a few messages, however many there are."""
    monkeypatch.setattr("cutor.roles.glance.REMEMBERED", 2)
    monkeypatch.setattr("cutor.roles.glance.MESSAGES_AT_ONCE", 10)
    addresses = [(await journal.submit(request(f"flooded-{n}"))).address for n in range(4)]
    for _ in range(50):
        for address in addresses:
            await flood(flooder, address, KINDS["submitted"], 2)
    reads = Reads(journal.bus, monkeypatch)
    glances = Glances(journal)
    last = (await journal.bus.stream_info("EVENTS"))["state"]["last_seq"]
    async for stored in journal.bus.read("EVENTS", filter="cutor.ev.default.*.submitted", until_sequence=last):
        subject = parse_event_subject(stored.subject)
        assert subject is not None
        if not glances.old(stored, subject) and stored.body == KINDS["submitted"].body:
            assert await glances.due(stored, subject) is None
    assert len(glances._known) == 2
    assert reads.requests <= 4 * 400

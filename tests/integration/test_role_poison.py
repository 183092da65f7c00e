"""Deliveries that nobody can attend to: bounded, loud, and in nobody's way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cutor.bus.connection import Bus
from cutor.bus.errors import NotPermitted
from cutor.journal.dead_letters import list_letters, show_letter
from cutor.journal.journal import Journal
from cutor.journal.stack_policy import publish_policy
from cutor.model.codec import encode
from cutor.model.decide import decide_cancel, decide_cleaned, decide_step
from cutor.model.events import CacheLost, Cleaned, Lease
from cutor.model.letters import Letter, headers_of
from cutor.model.limits import Policy
from cutor.model.state import Submission
from cutor.model.subjects import Address
from cutor.roles import poison as module
from cutor.roles.poison import POISON_DELIVERIES
from cutor.roles.step import Arrival, LeasedStep, LeasedWork, PutOff
from tests.scripted_roles import (
    PATIENCE_S,
    Scripted,
    build,
    end,
    histories_are_read,
    kinds,
    pending_acks,
    request,
    role,
    set_ack_wait,
    take_over,
    until,
)
from tests.unit.histories import lease

CONSUMER = "builder-default"


@pytest.fixture
async def journal(own_bus: Bus) -> Journal:
    journal = Journal(own_bus)
    await publish_policy(journal.bus, Policy(max_leases=2))
    return journal


def cleaned(state: Submission) -> bool:
    return state.cleaned_ns is not None


async def cleaned_by(journal: Journal, address: Address) -> str:
    (said,) = [one.message for one in await journal.entries(address) if isinstance(one.message, Cleaned)]
    return said.by


async def unanswered(journal: Journal) -> int:
    """Return how many messages of the consumer are not answered for good: under way, to come again, or never delivered."""
    info = await journal.bus.api.call("consumer", f"CONSUMER.INFO.EVENTS.{CONSUMER}")
    return int(info["num_ack_pending"]) + int(info["num_pending"])


async def nothing_pending(journal: Journal) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await pending_acks(journal):
            await asyncio.sleep(0.05)


def bug_in_decide(monkeypatch: pytest.MonkeyPatch, poisoned: str) -> list[str]:
    """Make a decision fail for one submission; return what is filled with its deliveries."""
    deliveries: list[str] = []

    def broken(state: Submission, *some: object, **more: object) -> object:
        if state.address.id == poisoned:
            deliveries.append(poisoned)
            raise ZeroDivisionError("no decision")
        return decide_step(state, *some, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("cutor.roles.handler.decide_step", broken)
    return deliveries


async def test_a_delivery_that_meets_a_bug_before_its_lease_is_parked_and_others_go_on(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    deliveries = bug_in_decide(monkeypatch, "poison")
    poison = await journal.submit(request("poison"))
    others = [await journal.submit(request(f"other-{number}")) for number in range(5)]
    with caplog.at_level(logging.CRITICAL, logger="cutor.roles.poison"):
        async with role(journal, end):
            for other in others:
                assert (await until(journal, other.address, cleaned)).status == "FINISHED"
            state = await until(journal, poison.address, cleaned)
            await nothing_pending(journal)
    assert state.status == "PARKED"
    assert await kinds(journal, poison.address) == ["submitted", "parked", "cleaned"]
    assert await cleaned_by(journal, poison.address) == "worker", "no lease was ever taken: there is nothing to take over"
    assert (
        state.message
        == f"{POISON_DELIVERIES} deliveries to a builder failed; the last by a bug: ZeroDivisionError: no decision"
    )
    assert (len(deliveries), state.attempts.builder, state.strays) == (POISON_DELIVERIES, 0, 0)
    (told,) = caplog.records
    assert told.exc_info is not None
    assert (await list_letters(journal.bus)).total == 0


async def test_a_few_bugs_do_not_park_what_was_handed_back_many_times_because_it_waited(journal: Journal) -> None:
    """Who waits is passed on and put off: the server's count of deliveries says nothing of bugs."""
    looks = 0

    class Waits:
        async def approach(self, _arrival: Arrival) -> LeasedWork | PutOff:
            nonlocal looks
            looks += 1
            if looks <= 2 * POISON_DELIVERIES:
                return "pass on"
            if looks < 3 * POISON_DELIVERIES:
                raise ZeroDivisionError("a look")
            return end

        async def __call__(self, _leased: LeasedStep) -> None:
            raise AssertionError("what is done is what `approach` returned")

    async with role(journal, Waits()):
        state = await until(journal, (await journal.submit(request("waits"))).address, cleaned)
    assert (state.status, state.attempts.builder, looks) == ("FINISHED", 1, 3 * POISON_DELIVERIES)


async def test_bugs_that_are_long_ago_do_not_count(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for days may meet a passing one now and then."""
    monkeypatch.setattr(module, "FORGOTTEN_AFTER_S", 0.0)
    looks = 0

    class Stumbles:
        async def approach(self, _arrival: Arrival) -> LeasedWork | PutOff:
            nonlocal looks
            looks += 1
            if looks <= POISON_DELIVERIES:
                raise ZeroDivisionError("a look")
            return end

        async def __call__(self, _leased: LeasedStep) -> None:
            raise AssertionError("what is done is what `approach` returned")

    async with role(journal, Stumbles()):
        state = await until(journal, (await journal.submit(request("waits"))).address, cleaned)
    assert (state.status, looks) == ("FINISHED", POISON_DELIVERIES + 1)


async def test_one_that_had_ended_before_its_poison_is_cleaned_and_is_no_dead_letter(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliveries = bug_in_decide(monkeypatch, "ended")
    submitted = await journal.submit(request("ended"))
    await journal.settle(submitted, lambda state: decide_cancel(state, None))
    async with role(journal, end):
        state = await until(journal, submitted.address, cleaned)
        await nothing_pending(journal)
    assert (len(deliveries), state.status) == (POISON_DELIVERIES, "CANCELLED")
    assert await kinds(journal, submitted.address) == ["submitted", "cancelled", "cleaned"]
    assert (await list_letters(journal.bus)).total == 0


async def test_one_that_another_worker_had_leased_is_parked_and_cleaned_by_takeover(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    bug_in_decide(monkeypatch, "leased")
    submitted = await journal.submit(request("leased"))
    await take_over(journal, submitted.address, number=1)
    async with role(journal, end):
        state = await until(journal, submitted.address, cleaned)
        await nothing_pending(journal)
    assert state.status == "PARKED"
    assert await cleaned_by(journal, submitted.address) == "takeover"


async def test_an_old_delivery_that_fails_is_acknowledged_and_parks_nothing(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its step is done: whatever becomes of it, the submission goes on with another."""
    bug_in_decide(monkeypatch, "old")
    submitted = await journal.submit(request("old"))
    lease = await take_over(journal, submitted.address, number=1)
    await build(LeasedStep(journal, Policy(), await journal.known(submitted.address), lease))
    async with role(journal, end):
        async with asyncio.timeout(PATIENCE_S):
            while await unanswered(journal):
                await asyncio.sleep(0.05)
    assert await kinds(journal, submitted.address) == ["submitted", "leased", "cache-built"]
    assert (await list_letters(journal.bus)).total == 0


def unfoldable(journal: Journal, monkeypatch: pytest.MonkeyPatch, poisoned: Address) -> None:
    """Let the history of one submission fail to be folded."""
    state_of = journal.state

    async def broken(address: Address, **more: int) -> Submission | None:
        if address == poisoned:
            raise RecursionError("maximum recursion depth exceeded")
        return await state_of(address, **more)

    histories_are_read(journal, monkeypatch)
    monkeypatch.setattr(journal, "state", broken)


async def test_what_cannot_even_be_folded_is_ended_with_the_reason(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    poison = await journal.submit(request("unfoldable"))
    state_of = journal.state
    unfoldable(journal, monkeypatch, poison.address)
    older = Letter(
        stream="EVENTS", sequence=900, subject="x", time="2026-01-01T00:00:00Z", reason="an older one", message_id=None,
        size_bytes=0, truncated=False, complete_to=850,
    )  # fmt: skip
    await journal.bus.append_once("cutor.dead.message.EVENTS.900", b"", headers=headers_of(older))
    advisories: list[bytes] = []
    subject = f"$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.EVENTS.{CONSUMER}"
    async with journal.bus.subscribe(subject) as told:

        async def listen() -> None:
            async for one in told:
                advisories.append(one.body)  # noqa: PERF401 - one after the other, while others look

        listener = asyncio.create_task(listen())
        async with role(journal, end):
            other = await journal.submit(request("beside"))
            await until_by(state_of, other.address)
            async with asyncio.timeout(PATIENCE_S):
                while not advisories:
                    await asyncio.sleep(0.05)
            await nothing_pending(journal)
        listener.cancel()
    assert b"RecursionError: maximum recursion depth exceeded" in advisories[0]
    assert await kinds(journal, poison.address) == ["submitted"]
    (stored,) = [one.stored for one in await journal.entries(poison.address)]
    letter, body = await show_letter(journal.bus, "EVENTS", poison.step_sequence)
    failed = f"{POISON_DELIVERIES} deliveries to a builder failed"
    assert letter.reason == f"{failed}; the last by a bug: RecursionError: maximum recursion depth exceeded"
    assert (letter.subject, letter.message_id, body) == (stored.subject, stored.message_id, stored.body)
    assert letter.complete_to == older.complete_to, "the projector goes on where it was"
    assert letter in (await list_letters(journal.bus)).letters


async def test_a_letter_that_cannot_be_written_is_said_and_the_delivery_ended(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    poison = await journal.submit(request("no-letter"))
    unfoldable(journal, monkeypatch, poison.address)

    async def refused(*_some: object, **_more: object) -> bool:
        raise NotPermitted("the server does not let the user 'builder' publish there")

    monkeypatch.setattr(journal.bus, "append_once", refused)
    with caplog.at_level(logging.ERROR, logger="cutor.roles.poison"):
        async with role(journal, end), asyncio.timeout(PATIENCE_S):
            while await unanswered(journal):
                await asyncio.sleep(0.05)
    assert sum("no dead letter could be written" in record.getMessage() for record in caplog.records) == 1
    assert (await list_letters(journal.bus)).total == 0


async def until_by(state_of: Callable[[Address], Awaitable[Submission | None]], address: Address) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while (state := await state_of(address)) is None or not cleaned(state):
            await asyncio.sleep(0.05)


async def test_deliveries_that_were_handed_back_for_other_reasons_do_not_count_alone(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that was away for an hour makes the server's number large: one bug behind that is tried again."""
    submitted = await journal.submit(request("away"))
    async with role(journal, end, unable_times=10_000):
        await asyncio.sleep(0.2)
    for _ in range(2 * POISON_DELIVERIES):
        async with role(journal, end, unable_times=10_000):
            await asyncio.sleep(0.1)
    failed = False

    def once(state: Submission, *some: object, **more: object) -> object:
        nonlocal failed
        if not failed:
            failed = True
            raise ZeroDivisionError
        return decide_step(state, *some, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("cutor.roles.handler.decide_step", once)
    async with role(journal, end):
        state = await until(journal, submitted.address, cleaned)
    assert (failed, state.status, state.attempts.builder) == (True, "FINISHED", 1)


async def test_a_bug_behind_the_work_leaves_the_delivery_to_its_clock(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Handing back could take it from a worker that has the next lease; here nobody has, and the next one cleans up."""
    await set_ack_wait(journal.bus, 2.0)
    failed: list[str] = []

    def broken(state: Submission, worker: str, lease: Lease | None, *more: Any) -> Cleaned | None:
        if lease is not None and state.ended:
            failed.append("")
            raise ZeroDivisionError
        return decide_cleaned(state, worker, lease, *more)

    monkeypatch.setattr("cutor.roles.handler.decide_cleaned", broken)
    submitted = await journal.submit(request("behind-the-work"))
    async with role(journal, end):
        state = await until(journal, submitted.address, cleaned)
        await nothing_pending(journal)
    assert (len(failed), state.status, state.attempts.builder) == (1, "FINISHED", 1)
    (said,) = [one.message for one in await journal.entries(submitted.address) if isinstance(one.message, Cleaned)]
    assert said.by == "takeover"


async def test_a_check_that_fails_by_a_bug_is_nobodys_fault(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cutor.roles.ability.PAUSES_S", (0.05,))
    checks: list[str] = []

    async def check(_step: Scripted) -> None:
        checks.append("")
        if len(checks) < 3 * POISON_DELIVERIES:
            raise KeyError("Version")

    monkeypatch.setattr(Scripted, "check", check)
    addresses = [(await journal.submit(request(f"check-{n}"))).address for n in range(4)]
    async with role(journal, end):
        for address in addresses:
            state = await until(journal, address, cleaned)
            assert (state.status, state.attempts.builder) == ("FINISHED", 1)


async def test_garbage_is_acknowledged_at_once(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    """What is of no submission is said; of what can't be read the dead letters tell."""
    lost = encode(CacheLost(lease=lease("runner"), key="k", missing="p"))
    for subject in ("cutor.ev.default.nobody.cache-lost", "cutor.ev.default.Bad!.submitted"):
        await journal.bus.publish(subject, b"garbage")
        await journal.bus.publish(subject, lost)
    with caplog.at_level(logging.ERROR):
        async with role(journal, end):
            await nothing_pending(journal)
            last = await journal.submit(request("behind"))
            await until(journal, last.address, cleaned)
            await nothing_pending(journal)
    assert sum("dropped" in record.getMessage() for record in caplog.records) == 3

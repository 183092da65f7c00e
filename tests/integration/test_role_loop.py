"""The loop of builder and runner against a real nats-server: leases, retries, parking, cancelling, strangers' messages.

The step is a script of the test: what a real builder and runner do under a lease has tests of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import pytest
from msgspec import UNSET

from cutor.bus.connection import Bus
from cutor.bus.consumer import WeightedQueues
from cutor.bus.embedded import EmbeddedServer
from cutor.bus.errors import BusUnreachable
from cutor.bus.topology import apply, default_text
from cutor.bus.topology_file import parse
from cutor.journal.errors import SubmissionConflict
from cutor.journal.journal import Appended, Journal
from cutor.journal.stack_policy import publish_policy
from cutor.model.codec import encode
from cutor.model.decide import decide_cancel, event_message_id
from cutor.model.events import Event, Finished, Lease, Leased, Rejected, Stage, Submitted, kind_of, output
from cutor.model.limits import Policy
from cutor.model.messages import Unreadable
from cutor.model.result import result
from cutor.model.state import Submission
from cutor.model.subjects import EVENTS, Address, event_subject, fence
from cutor.roles.results import Results
from cutor.roles.step import LeasedStep, StepFault, WorkerUnable
from cutor.undisturbed import to_the_end
from tests.scripted_roles import Scripted, Waiting, build, end, kinds, pending_acks, request, role, take_over, until

SOON_S: Final = 60.0
"""How long a busy machine may take for what is heard at once; what is not heard is seen after a heartbeat, which is longer."""


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    async with await EmbeddedServer.start(tmp_path / "nats") as server, Bus.connect(server.url, name="test") as bus:
        await apply(bus, parse(default_text(), ["default"]))
        journal = Journal(bus)
        await publish_policy(journal.bus, Policy(max_leases=2))
        yield journal


async def test_a_step_is_leased_done_and_cleaned_once(journal: Journal) -> None:
    submitted = await journal.submit(request("a"))
    async with role(journal, end):
        state = await until(journal, submitted.address, lambda state: state.cleaned_ns is not None)
    assert await kinds(journal, submitted.address) == ["submitted", "leased", "finished", "cleaned"]
    assert (state.outcome, state.attempts.builder, state.strays) == ("DEPENDENCY_ERROR", 1, 0)


async def test_the_next_role_takes_over_where_the_first_is_done(journal: Journal) -> None:
    async def run(leased: LeasedStep) -> None:
        await leased.report(Finished(lease=leased.lease, outcome="OK"))

    async with role(journal, build), role(journal, run, "runner"):
        submitted = await journal.submit(request("b"))
        await until(journal, submitted.address, lambda state: state.cleaned_ns is not None)
    expected = ["submitted", "leased", "cache-built", "leased", "finished", "cleaned"]
    assert await kinds(journal, submitted.address) == expected


async def test_a_fault_is_retried_under_a_new_lease_and_then_parked(journal: Journal) -> None:
    async def fail(_leased: LeasedStep) -> None:
        raise StepFault("no container could be started")

    submitted = await journal.submit(request("c"))
    async with role(journal, fail):
        state = await until(journal, submitted.address, lambda state: state.cleaned_ns is not None)
    assert await kinds(journal, submitted.address) == ["submitted", "leased", "leased", "parked", "cleaned"]
    assert state.message == "2 builder leases failed; the last: no container could be started"


async def test_a_bug_is_retried_and_bounded_too(journal: Journal) -> None:
    async def explode(_leased: LeasedStep) -> None:
        raise ZeroDivisionError

    submitted = await journal.submit(request("d"))
    async with role(journal, explode):
        state = await until(journal, submitted.address, lambda state: state.ended)
    assert (state.status, state.attempts.builder) == ("PARKED", 2)


async def test_a_worker_that_lost_its_lease_appends_nothing_more(journal: Journal) -> None:
    work = Waiting(end)
    submitted = await journal.submit(request("e"))
    async with role(journal, work):
        await work.began.wait()
        taken = Leased(lease=Lease(role="builder", worker="other", token="other", number=2))
        await journal.settle(await journal.known(submitted.address), lambda _state: taken)
        work.go_on.set()
        await asyncio.sleep(0.3)
    state = await journal.known(submitted.address)
    assert (state.status, state.lease, state.strays) == ("SUBMITTED", taken.lease, 0)
    assert await kinds(journal, submitted.address) == ["submitted", "leased", "leased"]


async def test_a_strangers_event_does_not_kill_a_healthy_run(journal: Journal) -> None:
    work = Waiting(end)
    submitted = await journal.submit(request("f"))
    address = submitted.address
    async with role(journal, work):
        await work.began.wait()
        await journal.bus.publish(event_subject(address, "exploded"), b"no event at all")
        work.go_on.set()
        state = await until(journal, address, lambda state: state.cleaned_ns is not None)
    assert (state.status, state.strays) == ("FINISHED", 1)


async def test_cancelling_stops_the_work_at_once(journal: Journal) -> None:
    work = Waiting(end)
    submitted = await journal.submit(request("g"))
    async with role(journal, work):
        await work.began.wait()
        await journal.settle(submitted, lambda state: decide_cancel(state, "typo"))
        async with asyncio.timeout(SOON_S):
            await work.stopped.wait()
        state = await until(journal, submitted.address, lambda state: state.cleaned_ns is not None)
    assert (state.status, state.message) == ("CANCELLED", "typo")
    assert await kinds(journal, submitted.address) == ["submitted", "leased", "cancelled", "cleaned"]


LARGE: Final = Stage(outcome="CANCELLED", stdout=output(b"x" * 100_000, 100_000))


async def test_results_that_were_not_appended_come_with_cleaned_and_what_was_stopped_last(journal: Journal) -> None:
    began = asyncio.Event()

    async def run(leased: LeasedStep) -> None:
        async with Results(leased) as results:
            try:
                for outcome in ("OK", "WA", "RE"):  # the first is appended at once, the others wait
                    await results.add(Stage(outcome=outcome))
                    await asyncio.sleep(0)
                began.set()
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                results.interrupt(LARGE)
                raise

    submitted = await journal.submit(request("results", cases=5))
    address = submitted.address
    async with role(journal, build), role(journal, run, "runner"):
        await began.wait()
        await journal.settle(await journal.known(address), lambda state: decide_cancel(state, None))
        state = await until(journal, address, lambda state: state.cleaned_ns is not None)
    assert [stage.outcome for stage in state.runs] == ["OK", "WA", "RE", "CANCELLED"]
    assert (state.told, state.strays) == (True, 0)
    assert state.runs[-1].stdout.body is not UNSET, "large outputs live in BODIES"
    shown = await journal.contents.resolve(result(state))
    assert [stage.outcome for stage in shown.run] == ["OK", "WA", "RE", "CANCELLED", "SKIPPED"]
    assert shown.run[3] == LARGE


async def test_who_takes_over_tells_nothing_of_what_was_interrupted(journal: Journal) -> None:
    """The worker died before the cancel: its delivery comes to another one."""
    submitted = await journal.submit(request("taken-over"))
    dead = Lease(role="builder", worker="dead", token="dead", number=1)
    await journal.settle(submitted, lambda _state: Leased(lease=dead))
    await journal.settle(await journal.known(submitted.address), lambda state: decide_cancel(state, None))
    async with role(journal, end):
        state = await until(journal, submitted.address, lambda state: state.cleaned_ns is not None)
    assert (state.told, result(state).dependencies) == (False, Stage(outcome="CANCELLED"))


async def test_a_cancel_notice_that_the_stream_does_not_confirm_stops_nothing(journal: Journal) -> None:
    work = Waiting(end)
    submitted = await journal.submit(request("h"))
    async with role(journal, work):
        await work.began.wait()
        await journal.bus.publish(event_subject(submitted.address, "cancelled"), b"{}")
        await asyncio.sleep(0.3)
        work.go_on.set()
        state = await until(journal, submitted.address, lambda state: state.ended)
    assert (state.status, state.strays) == ("FINISHED", 1)


async def test_a_queued_submission_that_was_cancelled_is_cleaned_by_who_receives_it(journal: Journal) -> None:
    submitted = await journal.submit(request("i"))
    await journal.settle(submitted, lambda state: decide_cancel(state, None))
    async with role(journal, end):
        await until(journal, submitted.address, lambda state: state.cleaned_ns is not None)
    assert await kinds(journal, submitted.address) == ["submitted", "cancelled", "cleaned"]


async def test_messages_of_no_submission_are_dropped_and_the_rest_goes_on(journal: Journal) -> None:
    await journal.bus.publish("cutor.ev.default.nobody.cache-lost", b"garbage")
    await journal.bus.publish("cutor.ev.default.Bad!.submitted", b"garbage")
    await journal.bus.publish("cutor.ev.default.poison.submitted", b"garbage")
    async with role(journal, end):
        submitted = await journal.submit(request("j"))
        await until(journal, submitted.address, lambda state: state.cleaned_ns is not None)


@pytest.mark.parametrize(("grace_s", "hurried"), [(0.0, False), (0.1, False), (3600.0, True)])
async def test_a_shutdown_hands_back_what_runs(journal: Journal, grace_s: float, hurried: bool) -> None:
    is_leased = asyncio.Event()

    async def endless(_leased: LeasedStep) -> None:
        is_leased.set()
        await asyncio.sleep(3600)

    submitted = await journal.submit(request("k"))
    async with role(journal, endless, grace_s=grace_s, hurried=hurried):
        await is_leased.wait()
    async with role(journal, end, worker="w2"):
        state = await until(journal, submitted.address, lambda state: state.cleaned_ns is not None)
    assert (state.outcome, state.attempts.builder) == ("DEPENDENCY_ERROR", 2)


async def test_the_same_body_twice_is_one_submission_from_many_producers_at_once(journal: Journal) -> None:
    states = await asyncio.gather(*(journal.submit(request("l")) for _ in range(20)))
    assert len({state.last_sequence for state in states}) == 1
    assert await kinds(journal, Address("default", "l")) == ["submitted"]


async def test_another_body_under_a_known_id_is_a_conflict(journal: Journal) -> None:
    await journal.submit(request("m"))
    with pytest.raises(SubmissionConflict, match="the id 'm' is taken by a submission with another body"):
        await journal.submit(request("m", "false"))


async def test_an_append_whose_answer_was_lost_counts_once(journal: Journal) -> None:
    """The event is in the stream, but its writer does not know: the same append again finds it by its message id."""
    submitted = await journal.known((await journal.submit(request("n"))).address)
    lease = Lease(role="builder", worker="w", token="t", number=1)
    first = await journal.settle(submitted, lambda _state: Leased(lease=lease))
    again = await journal.settle(submitted, lambda _state: Leased(lease=lease))
    assert (first.done, again.done) == (True, True)
    assert await kinds(journal, submitted.address) == ["submitted", "leased"]
    assert again.state == await journal.known(submitted.address)


async def test_watch_yields_every_event_until_the_end(journal: Journal) -> None:
    submitted = await journal.submit(request("o"))
    seen: list[Event] = []
    async with role(journal, end):
        async for entry, _state in journal.watch(submitted.address):
            assert not isinstance(entry.message, Unreadable)
            seen.append(entry.message)
    assert [kind_of(event) for event in seen] == ["submitted", "leased", "finished"]


async def test_large_contents_live_in_bodies_and_come_back_unseen(journal: Journal) -> None:
    script = "#" + "x" * 200_000
    submitted = await journal.submit(request("p", script))
    stored = next(file for file in submitted.request.files if file.name == "cutor-run.sh")
    assert stored.content.body is not None
    loaded = await journal.contents.load_request(submitted.address, submitted.request)
    assert loaded == request("p", script)


@pytest.mark.parametrize("failure", [None, StepFault("no container"), ZeroDivisionError()])
async def test_a_worker_whose_lease_is_over_neither_stops_nor_takes_the_clock_of_the_next_one(
    journal: Journal, failure: Exception | None
) -> None:
    """Its acknowledgement would leave the submission to nobody once the next one dies; its hand-back would rob that one."""

    async def fail_or_end(leased: LeasedStep) -> None:
        if failure is not None:
            raise failure
        await end(leased)

    work = Waiting(fail_or_end)
    submitted = await journal.submit(request("q"))
    async with role(journal, work):
        await work.began.wait()
        lease = await take_over(journal, submitted.address)
        work.go_on.set()
        await asyncio.sleep(0.5)
        assert await pending_acks(journal) == 1
    state = await journal.known(submitted.address)
    assert (state.lease, state.attempts.builder) == (lease, 2)


async def test_an_event_delivered_again_to_the_worker_that_is_at_it_changes_nothing(journal: Journal) -> None:
    work = Waiting(end)
    submitted = await journal.submit(request("r"))
    async with role(journal, work):
        await work.began.wait()
        await redeliver(journal)
        await asyncio.sleep(0.3)
        assert await pending_acks(journal) == 1, "its clock runs on while the work does"
        work.go_on.set()
        state = await until(journal, submitted.address, lambda state: state.cleaned_ns is not None)
    assert (len(work.taken), state.attempts.builder) == (1, 1)


async def redeliver(journal: Journal) -> None:
    """Make the server deliver again what is under way, by a hand-back that its holder never sent: event and delivery are 1."""
    await journal.bus.link.send("$JS.ACK.EVENTS.builder-default.1.1.1.0.0", b"-NAK")
    await journal.bus.flush()


async def test_a_cancel_is_heard_before_the_work_begins_and_after_it_ended_badly(journal: Journal) -> None:
    """The notice comes while the lease is being appended: the work must not begin."""
    began: list[str] = []

    async def work(leased: LeasedStep) -> None:
        began.append(leased.state.address.id)
        await asyncio.sleep(3600)

    submitted = await journal.submit(request("s"))
    settle = journal.settle

    async def slow_settle(state: Submission, decide: Callable[[Submission], Event | None], **more: int) -> Appended:
        appended = await settle(state, decide, **more)
        if appended.state.lease is not None and not appended.state.ended:
            await settle(appended.state, lambda state: decide_cancel(state, None))
            await asyncio.sleep(0.3)
        return appended

    journal.settle = slow_settle  # type: ignore[method-assign]
    async with role(journal, work):
        state = await until(journal, submitted.address, lambda state: state.cleaned_ns is not None)
    assert (state.status, began) == ("CANCELLED", [])


async def test_a_notice_that_comes_before_its_event_is_stored_is_not_forgotten(journal: Journal) -> None:
    work = Waiting(end)
    submitted = await journal.submit(request("t"))
    async with role(journal, work):
        await work.began.wait()
        newer = journal.newer

        async def stale(known: Submission) -> Submission:
            journal.newer = newer  # type: ignore[method-assign]
            return known

        journal.newer = stale  # type: ignore[method-assign]
        notice = event_subject(submitted.address, "cancelled")
        await journal.bus.publish(notice, b"{}")  # heard, and not confirmed
        await journal.settle(await journal.known(submitted.address), lambda state: decide_cancel(state, None))
        async with asyncio.timeout(SOON_S):
            await work.stopped.wait()


async def test_what_a_stop_hands_back_is_not_delivered_to_who_stops(journal: Journal) -> None:
    """A slot is free, so that a pull waits; and the stop goes on, as another one's work takes its time to end."""
    await journal.submit(request("quick"))
    slow = await journal.submit(request("slow"))
    began: list[str] = []

    async def work(leased: LeasedStep) -> None:
        began.append(leased.state.address.id)
        try:
            await asyncio.Event().wait()
        finally:
            if leased.state.address == slow.address:
                await to_the_end(asyncio.sleep(1))

    async with role(journal, work, slots=3, grace_s=0):
        async with asyncio.timeout(SOON_S):
            while len(began) < 2:
                await asyncio.sleep(0.02)
        await asyncio.sleep(1)  # the third slot has asked
    counts = {}
    async with WeightedQueues(journal.bus, EVENTS, [("builder-default", 1)]) as pulled:
        for _ in range(2):
            delivery = await pulled.next(SOON_S)
            assert delivery is not None
            counts[delivery.stored.subject.split(".")[3]] = delivery.delivered_count
    assert counts == {"quick": 2, "slow": 2}


async def test_a_read_that_fails_does_not_end_the_listening(journal: Journal) -> None:
    work = Waiting(end)
    submitted = await journal.submit(request("u"))
    async with role(journal, work):
        await work.began.wait()
        newer = journal.newer

        async def away(_known: Submission) -> Submission:
            journal.newer = newer  # type: ignore[method-assign]
            raise BusUnreachable("NATS does not answer")

        journal.newer = away  # type: ignore[method-assign]
        await journal.settle(submitted, lambda state: decide_cancel(state, None))
        async with asyncio.timeout(SOON_S):
            await work.stopped.wait()


async def test_cancelled_twice_the_clean_up_is_waited_for_all_the_same(journal: Journal) -> None:
    is_leased, removed = asyncio.Event(), asyncio.Event()

    async def remove() -> None:
        await asyncio.sleep(0.5)
        removed.set()

    async def endless(_leased: LeasedStep) -> None:
        is_leased.set()
        try:
            await asyncio.sleep(3600)
        finally:
            await to_the_end(remove())

    submitted = await journal.submit(request("v"))
    async with role(journal, endless):
        await is_leased.wait()
        cancels = (journal.settle(submitted, lambda state: decide_cancel(state, None)) for _ in range(3))
        assert sorted(done.done for done in await asyncio.gather(*cancels)) == [False, False, True]
        await until(journal, submitted.address, lambda state: state.cleaned_ns is not None)
        assert removed.is_set()


async def test_a_first_event_that_cannot_be_read_ends_as_rejected(journal: Journal) -> None:
    """Whoever sent it, with the fence that cutor's own carry or without."""
    address = Address("default", "w")

    async def reject(leased: LeasedStep) -> None:
        assert leased.state.fault is not None
        await leased.report(Rejected(lease=leased.lease, message=leased.state.fault))

    subject = event_subject(address, "submitted")
    await journal.bus.append(subject, b"garbage", message_id="m", fence=fence(address), expected_sequence=0)
    await journal.bus.publish(event_subject(Address("default", "x"), "submitted"), b'{"kind":"submitted"}')
    async with role(journal, reject):
        for submission_id in "wx":
            state = await until(journal, Address("default", submission_id), lambda state: state.cleaned_ns is not None)
            assert state.status == "REJECTED"
    with pytest.raises(SubmissionConflict):
        await journal.submit(request("w"))


async def test_a_second_submitted_from_elsewhere_is_a_stray_whenever_it_comes(journal: Journal) -> None:
    work = Waiting(end)
    submitted = await journal.submit(request("y"))
    again = encode(Submitted(request=submitted.request, digest="another"))
    subject = event_subject(submitted.address, "submitted")
    async with role(journal, work):
        await work.began.wait()
        await journal.bus.publish(subject, b"garbage")
        work.go_on.set()
        await until(journal, submitted.address, lambda state: state.cleaned_ns is not None)
        await journal.bus.publish(subject, again)
        async with asyncio.timeout(180):
            while await pending_acks(journal):
                await asyncio.sleep(0.05)
    state = await journal.known(submitted.address)
    assert (state.status, state.strays, state.digest, state.attempts.builder) == ("FINISHED", 2, submitted.digest, 1)
    watched = [state.status async for _, state in journal.watch(submitted.address)]
    assert watched[-1] == "FINISHED"


async def test_an_id_that_only_strangers_used_is_refused_in_one_line(journal: Journal) -> None:
    await journal.bus.publish(event_subject(Address("default", "z"), "note"), b"garbage")
    with pytest.raises(SubmissionConflict, match="messages that are none of cutor's"):
        await journal.submit(request("z"))


async def test_an_engine_that_is_away_spends_no_lease(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no submission's fault: nothing is pulled until it is back, and then everything goes on."""
    monkeypatch.setattr("cutor.roles.ability.PAUSES_S", (0.1,))
    addresses = [(await journal.submit(request(f"away-{n}"))).address for n in range(5)]
    async with role(journal, end, unable_times=8):
        for address in addresses:
            state = await until(journal, address, lambda state: state.cleaned_ns is not None)
            assert (state.status, state.attempts.builder) == ("FINISHED", 1)


async def test_a_shutdown_lets_what_runs_finish_within_the_grace(journal: Journal) -> None:
    is_leased = asyncio.Event()

    async def brief(leased: LeasedStep) -> None:
        is_leased.set()
        await asyncio.sleep(1)
        await end(leased)

    submitted = await journal.submit(request("brief"))
    async with role(journal, brief, grace_s=3600):
        await is_leased.wait()
    state = await journal.known(submitted.address)
    assert (state.outcome, state.attempts.builder) == ("DEPENDENCY_ERROR", 1)


async def test_a_shutdown_hands_nothing_back_that_another_worker_holds(journal: Journal) -> None:
    work = Waiting(end)
    submitted = await journal.submit(request("shutdown"))
    async with role(journal, work, grace_s=0.1):
        await work.began.wait()
        await take_over(journal, submitted.address)
    assert await pending_acks(journal) == 1


async def test_a_lease_whose_answer_was_lost_and_that_is_not_the_newest_leaves_the_clock_alone(journal: Journal) -> None:
    submitted = await journal.submit(request("late"))
    settle, was_overtaken = journal.settle, asyncio.Event()

    async def overtaken(state: Submission, decide: Callable[[Submission], Event | None], **more: int) -> Appended:
        journal.settle = settle  # type: ignore[method-assign]
        await settle(state, decide, **more)
        await take_over(journal, submitted.address)
        was_overtaken.set()
        return Appended(await journal.known(submitted.address), done=True)

    journal.settle = overtaken  # type: ignore[method-assign]
    async with role(journal, end):
        async with asyncio.timeout(SOON_S):
            await was_overtaken.wait()
        await asyncio.sleep(0.5)
        assert await pending_acks(journal) == 1
    assert (await journal.known(submitted.address)).status == "SUBMITTED"


async def test_a_cancel_that_came_while_the_connection_was_lost_is_found_afterwards(journal: Journal, tmp_path: Path) -> None:
    work = Waiting(end)
    submitted = await journal.submit(request("gap"))
    async with role(journal, work):
        await work.began.wait()
        link = journal.bus.link
        handlers = dict(link._client._subs)
        link._client._subs = {  # notices are lost, as they are without a connection
            number: raw for number, raw in handlers.items() if "cancelled" not in raw.subject
        }
        await journal.settle(submitted, lambda state: decide_cancel(state, None))
        await asyncio.sleep(0.3)
        assert not work.stopped.is_set()
        link._client._subs = handlers
        for back in tuple(link._back_callbacks):
            back()
        async with asyncio.timeout(SOON_S):
            await work.stopped.wait()


async def test_nothing_is_pulled_while_the_worker_is_unable_and_errors_of_looking_end_nothing(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cutor.roles.ability.PAUSES_S", (3.0, 0.05))
    checks: list[str] = []
    looked = asyncio.Event()

    async def check(step: Scripted) -> None:
        checks.append("")
        looked.set()
        if len(checks) < 4:
            raise WorkerUnable("no Docker Engine answers") if len(checks) != 2 else ValueError("what is that?")

    monkeypatch.setattr(Scripted, "check", check)
    addresses = [(await journal.submit(request(f"pull-{n}"))).address for n in range(5)]
    async with role(journal, end):
        await looked.wait()
        await asyncio.sleep(0.15)
        assert len(checks) == 1, "one look, and then none for each delivery"
        assert await pending_acks(journal) <= 2
        for address in addresses:
            state = await until(journal, address, lambda state: state.cleaned_ns is not None)
            assert (state.status, state.attempts.builder) == ("FINISHED", 1)


async def test_an_id_of_a_message_that_a_stranger_took_stops_nobody(journal: Journal) -> None:
    """Message ids can be guessed. What carries one and is not the event that was to be appended, is not that event."""
    submitted = await journal.submit(request("guessed"))
    address = submitted.address
    taken = event_message_id(address, Finished(lease=Lease(role="builder", worker="w1", token="x", number=1), outcome="OK"))
    subject = event_subject(address, "note")
    await journal.bus.append(subject, b"x", message_id=taken, fence=fence(address), expected_sequence=submitted.last_sequence)
    async with role(journal, end):
        state = await until(journal, address, lambda state: state.cleaned_ns is not None)
    assert (state.status, state.strays, state.attempts.builder) == ("FINISHED", 1, 1)


async def test_a_subject_with_more_tokens_is_a_stray_whatever_it_says(journal: Journal) -> None:
    await journal.bus.publish("cutor.ev.default.deep.x.submitted", b"garbage")
    with pytest.raises(SubmissionConflict, match="none of cutor's"):
        await journal.submit(request("deep"))
    submitted = await journal.submit(request("deep3"))
    await journal.bus.publish("cutor.ev.default.deep3.x.cancelled", b'{"kind":"cancelled"}')
    state = await journal.known(submitted.address)
    assert (state.status, state.strays) == ("SUBMITTED", 1)


async def test_a_history_cannot_be_cut_off_by_a_later_beginning(journal: Journal) -> None:
    submitted = await journal.submit(request("forged"))
    async with role(journal, end):
        await until(journal, submitted.address, lambda state: state.cleaned_ns is not None)
    subject = event_subject(submitted.address, "submitted")
    forged = b"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: 4\r\nNats-Expected-Last-Subject-Sequence: 0\r\n\r\n"
    body = encode(Submitted(request=submitted.request, digest="evil"))
    client = journal.bus.link._client
    await client._send_command(f"HPUB {subject} {len(forged)} {len(forged) + len(body)}\r\n".encode() + forged + body + b"\r\n")
    await client._flush_pending()
    await journal.bus.flush()
    state = await journal.known(submitted.address)
    assert (state.status, state.digest) == ("FINISHED", submitted.digest)

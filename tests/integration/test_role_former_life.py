"""What a role's former life left in the log: handed back at the next start, said to be clean, and never taken from another.

The consumers of these tests wait two minutes for a sign of life, and the tests less: by waiting alone none of them passes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cutor.bus.connection import Bus
from cutor.bus.consumer import WeightedQueues
from cutor.bus.errors import BusUnreachable
from cutor.journal.journal import Journal
from cutor.journal.stack_policy import publish_policy
from cutor.model.decide import decide_cancel
from cutor.model.events import Cleaned, Interrupted, Lease, Leased
from cutor.model.limits import Policy
from cutor.model.state import Submission
from cutor.model.subjects import Address
from cutor.notes import DIRECTORY
from cutor.roles.in_hand import InHand, Note
from cutor.roles.step import LeasedStep
from cutor.roles.sweep import Stuck
from tests.nats_server import OwnServer
from tests.scripted_roles import (
    PATIENCE_S,
    Waiting,
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
from tests.unit.histories import OK

ACK_WAIT_S = 120.0


@pytest.fixture
async def journal(own_bus: Bus) -> Journal:
    await set_ack_wait(own_bus, ACK_WAIT_S)
    journal = Journal(own_bus)
    await publish_policy(journal.bus, Policy(max_leases=3))
    return journal


def cleaned(state: Submission) -> bool:
    return state.cleaned_ns is not None


def notes(data: Path) -> list[str]:
    return sorted(path.name for path in (data / DIRECTORY / "builder").iterdir())


async def delivered(journal: Journal) -> str:
    """Take a delivery as a role that dies with it; return where it is answered."""
    async with WeightedQueues(journal.bus, "EVENTS", [("builder-default", 1)]) as queue:
        delivery = await queue.next(PATIENCE_S)
    assert delivery is not None
    return delivery.ack_subject


def leave_note(data: Path, submitted: Submission, ack_subject: str, *, token: str = "mine", seen: str = "") -> None:
    tenant, identity = submitted.address
    sequence = submitted.step_sequence
    note = Note(ack_subject=ack_subject, sequence=sequence, tenant=tenant, id=identity, token=token, seen=seen)
    InHand(data, "builder").note(note)


async def lease_of(journal: Journal, address: Address, worker: str) -> Lease:
    number = (await journal.known(address)).attempts.builder + 1
    lease = Lease(role="builder", worker=worker, token=f"of-{worker}-{number}", number=number)
    await journal.settle(await journal.known(address), lambda _state: Leased(lease=lease))
    return lease


async def cleaned_event(journal: Journal, address: Address) -> Cleaned:
    (found,) = [one.message for one in await journal.entries(address) if isinstance(one.message, Cleaned)]
    return found


@pytest.mark.parametrize("end_server", ["stop", "kill"])
async def test_what_a_shutdown_hands_back_is_taken_up_after_a_restart_of_the_server(
    journal: Journal, own_server: OwnServer, end_server: str, tmp_path: Path
) -> None:
    """A plain hand-back lives in the server's memory: with one, this waits for two minutes."""
    submitted = await journal.submit(request("down"))
    async with role(journal, Waiting(end), grace_s=0.1, data=tmp_path):
        await until(journal, submitted.address, lambda state: state.lease is not None)
    assert notes(tmp_path) == []
    assert own_server.server is not None
    await asyncio.sleep(0.5)  # a server that is killed may lose the last tenth of a second
    await (own_server.server.kill() if end_server == "kill" else own_server.server.stop())
    await own_server.start()
    async with role(journal, end, worker="w2"):
        state = await until(journal, submitted.address, cleaned)
    assert (state.status, state.attempts.builder) == ("FINISHED", 2)


async def handed_back(journal: Journal) -> None:
    """Wait until a delivery is there: what is tried is that this is not after `ACK_WAIT_S`."""
    await delivered(journal)


def slow_once(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Let the first read of a state hang; return what says that it does."""
    hangs, state_of = asyncio.Event(), journal.state

    async def slow(address: Address, **more: int) -> Submission | None:
        if not hangs.is_set():
            hangs.set()
            await asyncio.sleep(3600)
        return await state_of(address, **more)

    histories_are_read(journal, monkeypatch)
    monkeypatch.setattr(journal, "state", slow)
    return hangs


async def test_a_shutdown_hands_back_what_it_had_not_even_read(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted = await journal.submit(request("unread"))
    hangs = slow_once(journal, monkeypatch)
    async with role(journal, end, grace_s=0.1, data=tmp_path):
        await hangs.wait()
    assert notes(tmp_path) == []
    await handed_back(journal)
    assert await kinds(journal, submitted.address) == ["submitted"]


@pytest.mark.parametrize("stored", ["before it is stored", "once it is stored"])
async def test_a_shutdown_hands_back_whatever_became_of_its_lease(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: str
) -> None:
    submitted = await journal.submit(request("in-flight"))
    hangs, append = asyncio.Event(), journal._append

    async def unanswered(*some: Any) -> Any:
        if stored == "once it is stored":
            await append(*some)
        hangs.set()
        await asyncio.sleep(3600)

    monkeypatch.setattr(journal, "_append", unanswered)
    async with role(journal, end, grace_s=0.1, data=tmp_path):
        await hangs.wait()
    assert notes(tmp_path) == []
    monkeypatch.undo()
    async with role(journal, end, worker="w2"):
        state = await until(journal, submitted.address, cleaned)
    assert (state.status, state.attempts.builder) == ("FINISHED", 2 if stored == "once it is stored" else 1)


async def test_a_shutdown_leaves_what_another_worker_leased_while_it_had_no_lease(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted = await journal.submit(request("lost-unread"))
    hangs = slow_once(journal, monkeypatch)
    async with role(journal, end, grace_s=0.1, data=tmp_path):
        await hangs.wait()
        await take_over(journal, submitted.address, number=1)
    assert await pending_acks(journal) == 1, "the clock of the one who has it now"
    assert notes(tmp_path) == ["1"], "nothing was answered"


@pytest.mark.parametrize("at", ["the end of the work", "the cleaning"])
async def test_a_cancel_and_a_shutdown_at_once_leave_a_clean_submission_with_what_was_interrupted(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """The shutdown comes while the container of the cancelled work is removed, or while the end of that is appended."""
    submitted = await journal.submit(request("both"))
    began, ends, append = asyncio.Event(), asyncio.Event(), journal._append

    async def work(leased: LeasedStep) -> None:
        leased.at("dependencies", OK)
        began.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ends.set()
            if at == "the end of the work":
                await asyncio.sleep(PATIENCE_S)  # the shutdown cuts it short

    async def slow(address: Address, event: Any, *some: Any) -> Any:
        if isinstance(event, Cleaned) and not cleaning.is_set():
            cleaning.set()
            await asyncio.sleep(3600)
        return await append(address, event, *some)

    cleaning = asyncio.Event()
    if at == "the cleaning":
        monkeypatch.setattr(journal, "_append", slow)
    async with role(journal, work, grace_s=0.1, data=tmp_path):
        await began.wait()
        await ended_by_cancel(journal, submitted.address)
        await (ends if at == "the end of the work" else cleaning).wait()
    said = await cleaned_event(journal, submitted.address)
    assert (said.worker, said.by) == ("w1", "worker")
    assert isinstance(said.interrupted, Interrupted)
    assert said.interrupted.stages == (OK,)
    assert await pending_acks(journal) == 0
    assert notes(tmp_path) == []


async def test_a_note_stays_where_a_shutdown_could_answer_nothing(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cutor.roles.handler.HAND_BACK_TIMEOUT_S", 0.2)
    work, state_of = Waiting(end), journal.state
    submitted = await journal.submit(request("unanswered"))
    async with role(journal, work, grace_s=0.1, data=tmp_path):
        await work.began.wait()

        async def away(_address: Address, **_more: int) -> Submission | None:
            raise BusUnreachable("NATS does not answer")

        monkeypatch.setattr(journal, "state", away)
    assert notes(tmp_path) == [str(submitted.step_sequence)]
    monkeypatch.setattr(journal, "state", state_of)
    async with role(journal, end, data=tmp_path):
        await until(journal, submitted.address, cleaned)


async def test_the_next_life_of_a_killed_role_takes_its_work_up_again(
    journal: Journal, own_server: OwnServer, tmp_path: Path
) -> None:
    submitted = await journal.submit(request("killed"))
    marks, data = tmp_path / "marks", tmp_path / "data"
    marks.mkdir()
    data.mkdir()
    command = [sys.executable, "-m", "tests.scripted_roles", own_server.url, str(data), "builder", "same", str(marks)]

    async def life(number: int) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command)  # noqa: ASYNC220 - takes a millisecond
        async with asyncio.timeout(PATIENCE_S):
            while not (marks / f"same-began-{number}").exists():
                assert process.poll() is None
                await asyncio.sleep(0.02)
        return process

    first = await life(1)
    assert notes(data) == ["1"]
    first.kill()
    first.wait()
    second = await life(2)
    try:
        (marks / "go-on").touch()
        state = await until(journal, submitted.address, cleaned)
        second.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(second.wait, PATIENCE_S) == 0
    finally:
        second.kill()
        second.wait()
    assert await kinds(journal, submitted.address) == ["submitted", "leased", "leased", "finished", "cleaned"]
    assert state.strays == 0
    assert notes(data) == []


@pytest.mark.parametrize("age_s", [ACK_WAIT_S, -3600.0], ids=["old", "of another clock"])
async def test_an_old_note_takes_nothing_from_a_worker_that_has_no_lease_yet(
    journal: Journal, tmp_path: Path, age_s: float
) -> None:
    """The server gave the delivery to another one meanwhile, which the log does not tell."""
    submitted = await journal.submit(request("others"))
    sequence = submitted.step_sequence
    async with WeightedQueues(journal.bus, "EVENTS", [("builder-default", 1)]) as queue:
        first = await queue.next(PATIENCE_S)
        assert first is not None
        leave_note(tmp_path, submitted, first.ack_subject)
        path, then = tmp_path / DIRECTORY / "builder" / str(sequence), time.time() - age_s
        os.utime(path, (then, then))
        await first.nak()  # as when its clock runs out
        others = await queue.next(PATIENCE_S)
        assert others is not None
        assert others.delivered_count == 2
        async with role(journal, end, data=tmp_path):
            assert notes(tmp_path) == []
            await asyncio.sleep(1)
        assert await kinds(journal, submitted.address) == ["submitted"]
        assert await pending_acks(journal) == 1


async def test_an_old_note_is_handed_back_where_nobody_was_given_it(journal: Journal, tmp_path: Path) -> None:
    """As after a night in which the whole stack stood still."""
    submitted = await journal.submit(request("alone"))
    leave_note(tmp_path, submitted, await delivered(journal))
    os.utime(tmp_path / DIRECTORY / "builder" / str(submitted.step_sequence), (0, 0))
    async with role(journal, end, data=tmp_path):
        await until(journal, submitted.address, cleaned)


async def test_a_note_is_as_young_as_the_last_heartbeat(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cutor.roles.handler.HEARTBEAT_S", 0.05)
    submitted, work = await journal.submit(request("beating")), Waiting(end)
    async with role(journal, work, data=tmp_path):
        await work.began.wait()
        path = tmp_path / DIRECTORY / "builder" / str(submitted.step_sequence)
        os.utime(path, (0, 0))
        async with asyncio.timeout(PATIENCE_S):
            while path.stat().st_mtime == 0:
                await asyncio.sleep(0.02)
        work.go_on.set()
        await until(journal, submitted.address, cleaned)
    assert notes(tmp_path) == []


async def test_nothing_is_handed_back_that_another_worker_has_leased(journal: Journal, tmp_path: Path) -> None:
    submitted = await journal.submit(request("others"))
    leave_note(tmp_path, submitted, await delivered(journal))
    lease = await take_over(journal, submitted.address, number=1)
    async with role(journal, end, data=tmp_path):
        assert notes(tmp_path) == []
        await asyncio.sleep(1)
        assert (await journal.known(submitted.address)).lease == lease
        assert await pending_acks(journal) == 1


async def test_a_lease_that_was_over_when_the_delivery_came_keeps_nothing_from_being_handed_back(
    journal: Journal, tmp_path: Path
) -> None:
    """Another worker lost its lease, the delivery came here, and this one died before its own lease was in the log."""
    submitted = await journal.submit(request("before"))
    dead = await lease_of(journal, submitted.address, "dead")
    leave_note(tmp_path, submitted, await delivered(journal), seen=dead.token)
    async with role(journal, end, data=tmp_path):
        state = await until(journal, submitted.address, cleaned)
    assert (state.status, state.attempts.builder) == ("FINISHED", 2)


async def test_a_delivery_is_noted_while_it_is_in_hand_and_no_longer(journal: Journal, tmp_path: Path) -> None:
    work = Waiting(end)
    submitted = await journal.submit(request("noted"))
    async with role(journal, work, data=tmp_path):
        await work.began.wait()
        assert notes(tmp_path) == [str(submitted.step_sequence)]
        work.go_on.set()
        await until(journal, submitted.address, cleaned)
        async with asyncio.timeout(PATIENCE_S):
            while notes(tmp_path):
                await asyncio.sleep(0.02)
    assert await pending_acks(journal) == 0


async def ended_by_cancel(journal: Journal, address: Address) -> None:
    await journal.settle(await journal.known(address), lambda state: decide_cancel(state, None))


async def ended_by_itself(journal: Journal, address: Address) -> None:
    state = await journal.known(address)
    assert state.lease is not None
    await end(LeasedStep(journal, Policy(), state, state.lease))


@pytest.mark.parametrize("ended", [ended_by_cancel, ended_by_itself])
@pytest.mark.parametrize("known_by", ["container", "note"])
async def test_an_ended_submission_whose_worker_died_is_cleaned_by_its_next_life(
    journal: Journal, tmp_path: Path, ended: Callable[[Journal, Address], Awaitable[None]], known_by: str
) -> None:
    submitted = await journal.submit(request("swept"))
    ack_subject = await delivered(journal)
    await lease_of(journal, submitted.address, "w1")
    await ended(journal, submitted.address)
    if known_by == "note":
        leave_note(tmp_path, submitted, ack_subject)
    swept = (submitted.address,) if known_by == "container" else ()
    async with role(journal, end, data=tmp_path, swept=swept):
        await until(journal, submitted.address, cleaned)
    assert await cleaned_event(journal, submitted.address) == Cleaned(worker="w1", by="sweep")


async def test_nothing_is_said_to_be_clean_whose_container_is_still_there(journal: Journal, tmp_path: Path) -> None:
    """Its delivery is left to its clock; once Docker has let the container go, it is clean."""
    submitted = await journal.submit(request("stuck"))
    leave_note(tmp_path, submitted, await delivered(journal))
    await lease_of(journal, submitted.address, "w1")
    await ended_by_cancel(journal, submitted.address)
    removal: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    async with role(journal, end, data=tmp_path, stuck=(Stuck(submitted.address, None, removal),)):
        other = await journal.submit(request("served"))
        await until(journal, other.address, cleaned)
        assert notes(tmp_path) == [str(submitted.step_sequence)], "for the next start, if this one ends before"
        assert not cleaned(await journal.known(submitted.address))
        removal.set_result(None)
        await until(journal, submitted.address, cleaned)
    assert await cleaned_event(journal, submitted.address) == Cleaned(worker="w1", by="sweep")
    assert notes(tmp_path) == []


@pytest.mark.parametrize("ended", ["before", "now"])
async def test_a_delivery_that_comes_again_beside_a_stuck_container_cleans_nothing(
    journal: Journal, tmp_path: Path, ended: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither of what had ended, nor of what ends in this life."""
    submitted = await journal.submit(request("stuck"))
    if ended == "before":
        await lease_of(journal, submitted.address, "w1")
        await ended_by_cancel(journal, submitted.address)
    removal: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    with caplog.at_level(logging.INFO):
        async with role(journal, end, data=tmp_path, stuck=(Stuck(submitted.address, None, removal),)):
            await until(journal, submitted.address, lambda state: state.ended)
            async with asyncio.timeout(PATIENCE_S):
                while "left to its clock" not in caplog.text:
                    await asyncio.sleep(0.02)
            assert not cleaned(await journal.known(submitted.address))
            removal.set_result(None)
            await until(journal, submitted.address, cleaned)
    assert await cleaned_event(journal, submitted.address) == Cleaned(worker="w1", by="sweep")


def test_a_note_that_is_written_again_keeps_its_time(tmp_path: Path) -> None:
    """Before a lease behind another one: nobody has confirmed anything since."""
    note = Note(ack_subject="$JS.ACK.x", sequence=5, tenant="default", id="a", token="t")
    in_hand, path = InHand(tmp_path, "builder"), tmp_path / DIRECTORY / "builder" / "5"
    in_hand.note(note)
    os.utime(path, (1000, 1000))
    in_hand.note(msgspec.structs.replace(note, seen="s"), again=True)
    assert (path.stat().st_mtime, msgspec.json.decode(path.read_bytes())["seen"]) == (1000, "s")
    in_hand.note(note)
    assert path.stat().st_mtime > 1000, "a delivery that came again"


async def test_a_lease_behind_another_leaves_the_notes_time(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted, work, noted = await journal.submit(request("behind")), Waiting(end), InHand.note
    await lease_of(journal, submitted.address, "dead")
    path = tmp_path / DIRECTORY / "builder" / str(submitted.step_sequence)

    def aged(self: InHand, note: Note, *, again: bool = False) -> None:
        noted(self, note, again=again)
        if not again:
            os.utime(path, (1000, 1000))

    monkeypatch.setattr(InHand, "note", aged)
    async with role(journal, work, data=tmp_path):
        await work.began.wait()
        assert path.stat().st_mtime == 1000
        assert msgspec.json.decode(path.read_bytes())["seen"] == "of-dead-1"
        work.go_on.set()
        await until(journal, submitted.address, cleaned)


async def test_nothing_is_said_of_what_goes_on_or_was_anothers(journal: Journal, tmp_path: Path) -> None:
    running, others, clean, unknown = (Address("default", one) for one in ("running", "others-end", "clean", "unknown"))
    for address in (running, others, clean):
        await journal.submit(request(address.id))
    await lease_of(journal, running, "elsewhere")
    await lease_of(journal, others, "other")
    await ended_by_cancel(journal, others)
    await lease_of(journal, clean, "w1")
    await ended_by_cancel(journal, clean)
    said = Cleaned(worker="w1", by="worker")
    await journal.settle(await journal.known(clean), lambda _state: said)
    before = {address: await kinds(journal, address) for address in (running, others, clean)}
    async with role(journal, end, "runner", swept=(running, others, clean, unknown)):
        pass
    assert {address: await kinds(journal, address) for address in before} == before


GARBAGE = {
    "17": b"",
    "18": b'{"ack_subject":"$JS.ACK.EVENTS.builder-default.1.18.1.1.0","sequence":18,"ten',
    "19": b'{"ack_subject":"$JS.ACK.EVENTS.builder-default.1.19.1.1.0","sequence":7,"tenant":"default","id":"x"}',
    "20": b'{"ack_subject":"$JS.API.STREAM.PURGE.EVENTS","sequence":20,"tenant":"default","id":"x"}',
    "21": b'{"ack_subject":"$JS.ACK.EVENTS.builder-default.1.21.1.1.0 x","sequence":21,"tenant":"default","id":"x"}',
    "22": b'{"ack_subject":"$JS.ACK.EVENTS.runner-default.1.22.1.1.0","sequence":22,"tenant":"default","id":"x"}',
    "23": b'{"ack_subject":"$JS.ACK.EVENTS.builder-default.1.23.1.1.0","sequence":23,"tenant":"Bad!","id":"../x"}',
    "24": b"\xff" * 10_000,
    "25": b'{"ack_subject":"$JS.ACK.x.y.z","sequence":25,"tenant":"default","id":"x"}',
}
NO_NOTES = ("0", ".hidden", "name with spaces", "thesis\n.tex", "7.txt")
"""Names that no note has: what is called so was put there by somebody else, and is nobody's to remove."""


async def test_garbage_among_the_notes_is_removed_and_said_and_harms_nothing(
    journal: Journal, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / DIRECTORY / "builder"
    directory.mkdir(parents=True)
    for name, content in GARBAGE.items():
        (directory / name).write_bytes(content)
    for name in NO_NOTES:
        (directory / name).write_bytes(b"{}")
    os.mkfifo(directory / "30")
    (directory / "31").symlink_to("/etc/passwd")
    (directory / "32").mkdir()
    good = await journal.submit(request("among-garbage"))
    leave_note(tmp_path, good, await delivered(journal))
    with caplog.at_level(logging.WARNING):
        async with role(journal, end, data=tmp_path):
            await until(journal, good.address, cleaned)
    assert notes(tmp_path) == sorted([*NO_NOTES, "32"])
    told = [record.getMessage() for record in caplog.records if "is no note of a delivery" in record.getMessage()]
    assert len(told) == len(GARBAGE) + len(NO_NOTES) + 3
    assert all("\n" not in one for one in told)
    assert sum("left alone" in one for one in told) == len(NO_NOTES)


@pytest.mark.parametrize("link", [f"{DIRECTORY}/runner", DIRECTORY])
def test_a_link_in_the_place_of_the_notes_leads_nowhere(tmp_path: Path, link: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever could write to the directory once may have left a link there: to somebody's files, called as notes or not."""
    home = tmp_path / "home"
    (home / "runner").mkdir(parents=True)
    kept = [home / name for name in ("thesis.tex", "5", "runner/5", "runner/thesis.tex")]
    for file in kept:
        file.write_text("ten years of work")
    place = tmp_path / "data" / link
    place.parent.mkdir(parents=True)
    place.symlink_to(home)
    with caplog.at_level(logging.WARNING):
        in_hand = InHand(tmp_path / "data", "runner")
        assert in_hand.left() == []
        in_hand.note(Note(ack_subject="$JS.ACK.x", sequence=5, tenant="default", id="a", token="t"))
        in_hand.forget(5)
    assert [file.read_text() for file in kept] == ["ten years of work"] * len(kept)
    assert sum("cannot be noted" in record.getMessage() for record in caplog.records) == 1


async def test_a_log_that_cannot_be_read_at_the_start_keeps_the_notes_and_the_role_serves(
    journal: Journal, tmp_path: Path
) -> None:
    submitted = await journal.submit(request("unreadable"))
    leave_note(tmp_path, submitted, await delivered(journal))
    state = journal.state

    async def away(_address: Address, **_more: int) -> Submission | None:
        raise BusUnreachable("NATS does not answer")

    journal.state = away  # type: ignore[method-assign]
    async with role(journal, end, data=tmp_path):
        journal.state = state  # type: ignore[method-assign]
        assert notes(tmp_path) == ["1"]
        other = await journal.submit(request("served"))
        await until(journal, other.address, cleaned)
    async with role(journal, end, data=tmp_path):
        await until(journal, submitted.address, cleaned)


async def test_where_nothing_can_be_noted_work_goes_on(
    journal: Journal, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / DIRECTORY).write_bytes(b"a file where the directory should be")
    with caplog.at_level(logging.WARNING):
        async with role(journal, end, data=tmp_path):
            for name in ("one", "two"):
                submitted = await journal.submit(request(name))
                await until(journal, submitted.address, cleaned)
    assert sum("cannot be noted" in record.getMessage() for record in caplog.records) == 1


def test_notes_come_back_in_order_and_what_one_costs_is_told(tmp_path: Path) -> None:
    """No threshold: the figure that docs/explanation/leases.md gives is from here."""
    in_hand, written, took = InHand(tmp_path, "runner"), [], []
    for sequence in range(1, 1001):
        subject = f"$JS.ACK.EVENTS.runner-default.1.{sequence}.654321.1700000000000000000.12"
        note = Note(ack_subject=subject, sequence=sequence, tenant="default", id="a" * 26, token="0123456789abcdef")
        began = time.perf_counter()
        in_hand.note(note)
        in_hand.forget(sequence)
        took.append(time.perf_counter() - began)
        in_hand.note(note)
        in_hand.note(note)  # a delivery that could not be answered, and came again
        written.append(note)
    print(f"note and forget: {statistics.median(took) * 1e6:.0f} µs")
    assert InHand(tmp_path, "runner").left() == written

"""The journal reads no more than it has to, and keeps none of it, whatever else stands under a submission."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncGenerator

import msgspec
import pytest

from cutor.bus.connection import Bus
from cutor.bus.message import Stored
from cutor.journal.errors import JournalBusy
from cutor.journal.journal import Journal
from cutor.journal.stack_policy import publish_policy
from cutor.model.decide import decide_cancel, event_message_id
from cutor.model.events import Event, Lease, Leased
from cutor.model.limits import Policy
from cutor.model.state import Submission
from cutor.model.subjects import event_subject, fence
from tests.scripted_roles import request

LEASE = Lease(role="builder", worker="w", token="t", number=1)


@pytest.fixture
async def journal(own_bus: Bus) -> Journal:
    journal = Journal(own_bus)
    await publish_policy(journal.bus, Policy())
    return journal


async def test_a_server_that_is_there_and_confirms_nothing_may_be_full(journal: Journal) -> None:
    assert journal.silence() == "is there and did not say so, as where its disk is full (`cutor doctor`)"


async def submitted_with_strays(journal: Journal, name: str, strays: int) -> Submission:
    """A submission as it was known before so many strays came."""
    state = await journal.known((await journal.submit(request(name))).address)
    for number in range(strays):
        await journal.bus.publish(event_subject(state.address, "cancelled"), b"garbage %d" % number)
    return state


def only_what_is_behind(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let nobody read a history from its beginning; returns the sequences that are read behind one that is known."""
    read: list[int] = []
    since = journal.bus.since_batches

    async def counted(subjects: str, sequence: int, *, at_least: int = 0) -> AsyncGenerator[list[Stored], None]:
        async for batch in since(subjects, sequence, at_least=at_least):
            read.extend(stored.sequence for stored in batch)
            yield batch

    def whole(*_some: object, **_more: object) -> AsyncGenerator[list[Stored], None]:
        raise AssertionError("the whole history is read")

    monkeypatch.setattr(journal.bus, "since_batches", counted)
    monkeypatch.setattr(journal.bus, "history_batches", whole)
    return read


async def test_a_conflict_reads_only_what_is_new(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    known = await journal.known((await submitted_with_strays(journal, "many", 300)).address)
    for _ in range(3):
        await journal.bus.publish(event_subject(known.address, "cancelled"), b"more")
    with monkeypatch.context() as patch:
        read = only_what_is_behind(journal, patch)
        appended = await journal.settle(known, lambda _state: Leased(lease=LEASE))
    assert (appended.done, appended.state.strays, appended.state.lease) == (True, 303, LEASE)
    assert read == [known.last_sequence + n for n in range(4)], "and the one that it knew"
    found = await journal.known(known.address)
    assert (found.last_sequence, found.strays) == (appended.state.last_sequence, 303)


async def test_a_lost_answer_is_found_in_what_is_new(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    known = await submitted_with_strays(journal, "lost", 0)
    assert (await journal.settle(known, lambda _state: Leased(lease=LEASE))).done
    await journal.bus.publish(event_subject(known.address, "cancelled"), b"behind it")
    only_what_is_behind(journal, monkeypatch)
    again = await journal.settle(known, lambda _state: Leased(lease=LEASE))
    assert (again.done, again.state.attempts.builder, again.state.strays) == (True, 1, 1)


async def test_an_event_that_is_known_already_is_found_by_its_id(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    known = await submitted_with_strays(journal, "again", 0)
    assert (await journal.settle(known, lambda _state: Leased(lease=LEASE))).done
    newest = await journal.known(known.address)
    only_what_is_behind(journal, monkeypatch)
    again = await journal.settle(newest, lambda _state: Leased(lease=LEASE))
    assert again == (newest, True)


async def test_an_id_that_something_else_has_is_made_longer(journal: Journal) -> None:
    known = await submitted_with_strays(journal, "taken", 0)
    taken = event_message_id(known.address, Leased(lease=LEASE))
    subject = event_subject(known.address, "note")
    await journal.bus.append(subject, b"x", message_id=taken, fence=fence(known.address), expected_sequence=known.last_sequence)
    appended = await journal.settle(known, lambda _state: Leased(lease=LEASE))
    assert (appended.done, appended.state.attempts.builder, appended.state.strays) == (True, 1, 1)


async def test_what_is_behind_is_read_although_the_replica_that_answers_lacks_it(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is imitated by one that has nothing at all: the leader is asked for what the conflict told of."""
    known = await submitted_with_strays(journal, "replica", 3)

    async def nothing(*_: object) -> AsyncGenerator[list[Stored], None]:
        for found in ():
            yield found

    monkeypatch.setattr(journal.bus._reading, "behind", nothing)
    appended = await journal.settle(known, lambda _state: Leased(lease=LEASE))
    assert (appended.done, appended.state.strays) == (True, 3)


async def test_a_stream_that_lost_its_tail_is_read_from_the_beginning(journal: Journal) -> None:
    known = await submitted_with_strays(journal, "rewound", 2)
    other = await journal.submit(request("another"))
    dreamt = msgspec.structs.replace(known, last_sequence=other.last_sequence, strays=7)
    assert (await journal.newer(dreamt)).strays == 2
    appended = await journal.settle(dreamt, lambda state: decide_cancel(state, None))
    assert (appended.done, appended.state.strays, appended.state.status) == (True, 2, "CANCELLED")


async def test_newer_is_the_state_of_now(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    known = await submitted_with_strays(journal, "newer", 4)
    wanted = await journal.known(known.address)
    read = only_what_is_behind(journal, monkeypatch)
    assert await journal.newer(known) == wanted
    assert len(read) == 5
    assert await journal.newer(wanted) == wanted
    assert len(read) == 5, "where nothing is new, the newest message says so"


async def test_a_submission_that_others_write_to_without_end_is_busy(journal: Journal) -> None:
    known = await submitted_with_strays(journal, "busy", 0)
    append, tries = journal._append, 0

    async def late(*arguments: object) -> object:
        nonlocal tries
        tries += 1
        await journal.bus.publish(event_subject(known.address, "cancelled"), b"garbage")
        return await append(*arguments)  # type: ignore[arg-type]

    journal._append = late  # type: ignore[method-assign, assignment]
    with pytest.raises(JournalBusy):
        await journal.settle(known, lambda _state: Leased(lease=LEASE), conflicts_at_most=4)
    assert tries == 4


async def test_a_history_of_any_size_is_folded_without_being_kept(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """40 MiB of strays, of which no more than a batch is to be held at one time."""
    monkeypatch.setattr("cutor.bus.reading.BATCH_BYTES", 2 << 20)
    known = await submitted_with_strays(journal, "fat", 0)
    for _ in range(40):
        await journal.bus.publish(event_subject(known.address, "cancelled"), bytes(1_000_000))

    def wanted(state: Submission) -> Event | None:
        return decide_cancel(state, None)

    tracemalloc.start()
    try:
        state = await journal.state(known.address)
        appended = await journal.settle(known, wanted)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert state is not None
    assert (state.strays, appended.state.strays, appended.done) == (40, 40, True)
    assert peak_bytes < 16 << 20

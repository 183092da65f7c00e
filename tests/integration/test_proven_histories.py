"""The fences tell what a history is, without a read or in one round trip; who writes headers of his own proves nothing."""

from __future__ import annotations

import re

import pytest

from cutor.bus.connection import Bus
from cutor.bus.message import Stored
from cutor.journal.journal import Journal
from cutor.journal.stack_policy import publish_policy
from cutor.model.codec import encode
from cutor.model.events import Cancelled, Event, Leased
from cutor.model.limits import Policy
from cutor.model.state import Submission
from cutor.model.subjects import Address, event_subject, fence
from tests.nats_server import OwnServer
from tests.raw_nats import send_raw
from tests.reads import Reads
from tests.scripted_roles import request
from tests.unit.histories import cache_built, lease

LEASE = lease("builder")
SEQUENCE, SUBJECT = "Nats-Expected-Last-Subject-Sequence", "Nats-Expected-Last-Subject-Sequence-Subject"


@pytest.fixture
async def journal(own_bus: Bus) -> Journal:
    journal = Journal(own_bus)
    await publish_policy(journal.bus, Policy())
    return journal


async def appended(journal: Journal, state: Submission, *events: Event) -> Submission:
    for event in events:
        done = await journal.settle(state, lambda _state, event=event: event)  # type: ignore[misc]
        assert done.done
        state = done.state
    return state


async def newest(journal: Journal, address: Address) -> Stored:
    found = await journal.bus.last("EVENTS", fence(address))
    assert found is not None
    return found


async def test_a_submission_that_was_just_handed_in_is_known_without_a_read(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = (await journal.submit(request("a"))).address
    opening = await newest(journal, address)
    reads = Reads(journal.bus, monkeypatch)
    proven = await journal.proven(address, opening)
    assert reads.requests == 0
    assert proven is not None
    assert proven == await journal.state(address)


async def test_what_calls_for_a_run_is_known_in_one_round_trip(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    state = await journal.submit(request("a"))
    state = await appended(journal, state, Leased(lease=LEASE), cache_built())
    called_for = await newest(journal, state.address)
    reads = Reads(journal.bus, monkeypatch)
    proven = await journal.proven(state.address, called_for)
    assert reads.requests == 2
    assert proven is not None
    assert proven.step_sequence == called_for.sequence
    assert proven == await journal.state(state.address)


async def test_what_came_behind_is_left_to_the_next_append(journal: Journal) -> None:
    state = await journal.submit(request("a"))
    opening = await newest(journal, state.address)
    await appended(journal, state, Cancelled())
    proven = await journal.proven(state.address, opening)
    assert proven is not None
    assert not proven.ended
    done = await journal.settle(proven, lambda state: None if state.ended else Leased(lease=LEASE))
    assert not done.done
    assert done.state.status == "CANCELLED"


async def test_longer_histories_are_read(journal: Journal) -> None:
    state = await journal.submit(request("a"))
    state = await appended(journal, state, Leased(lease=LEASE), Leased(lease=lease("builder", 2)), cache_built(2))
    assert await journal.proven(state.address, await newest(journal, state.address)) is None


async def test_a_second_opening_proves_nothing_and_makes_others_read(journal: Journal) -> None:
    state = await journal.submit(request("a"))
    body = (await newest(journal, state.address)).body
    await journal.bus.publish(event_subject(state.address, "submitted"), body)
    assert await journal.proven(state.address, await newest(journal, state.address)) is None
    done = await journal.settle(state, lambda _state: Leased(lease=LEASE))
    state = await appended(journal, done.state, cache_built())
    assert await journal.proven(state.address, await newest(journal, state.address)) is None


def block(*lines: tuple[str, str]) -> bytes:
    return b"NATS/1.0\r\n" + b"".join(f"{name}: {value}\r\n".encode() for name, value in lines) + b"\r\n"


MESSAGE_ID = ("Nats-Msg-Id", "x")
OWN = "cutor.ev.default.a.>"
FORGED: dict[str, tuple[tuple[str, str], ...]] = {
    "no headers": (),
    "the fence of another": (MESSAGE_ID, (SEQUENCE, "0"), (SUBJECT, "cutor.ev.default.other.>")),
    "names in another case": (MESSAGE_ID, (SEQUENCE.lower(), "0"), (SUBJECT.lower(), OWN)),
    "another one first": (MESSAGE_ID, (SEQUENCE, "LAST"), (SEQUENCE, "0"), (SUBJECT, OWN)),
    "another one behind": (MESSAGE_ID, (SEQUENCE, "LAST"), (SUBJECT, OWN), (SEQUENCE, "0")),
    "another one's subject behind": (MESSAGE_ID, (SEQUENCE, "0"), (SUBJECT, "cutor.ev.default.o.>"), (SUBJECT, OWN)),
    "the subject first": (MESSAGE_ID, (SUBJECT, OWN), (SEQUENCE, "0")),
    "a name within a value": (("Nats-Msg-Id", f"x{SEQUENCE}"), (SEQUENCE, "0"), (SUBJECT, OWN)),
    "a name within a name": (MESSAGE_ID, (f"X-{SEQUENCE}", "1"), (SEQUENCE, "0"), (SUBJECT, OWN)),
    "without a message id": ((SEQUENCE, "0"), (SUBJECT, OWN)),
    "not a number": (MESSAGE_ID, (SEQUENCE, "-0"), (SUBJECT, OWN)),
}


@pytest.mark.parametrize("name", FORGED)
async def test_a_stranger_whose_headers_the_server_did_not_compare_proves_nothing(
    journal: Journal, own_server: OwnServer, name: str
) -> None:
    """Where the server refuses such a message, so much the better."""
    state = await journal.submit(request("a"))
    opening = await newest(journal, state.address)
    headers = block(*((key, str(opening.sequence) if value == "LAST" else value) for key, value in FORGED[name]))
    subject = event_subject(state.address, "submitted")
    body = opening.body.replace(b"true", b"echo")
    frame = f"HPUB {subject} {len(headers)} {len(headers) + len(body)}\r\n".encode()
    await send_raw(own_server.url, frame + headers + body + b"\r\n")
    stray = await newest(journal, state.address)
    if stray.sequence != opening.sequence:
        assert await journal.proven(state.address, stray) is None
        from_leader = await journal.bus.last("EVENTS", fence(state.address), consistent=True)
        assert from_leader is not None
        assert from_leader.compared == stray.compared
        assert await journal.proven(state.address, from_leader) is None


async def test_the_fence_of_an_append_is_read_alike_from_a_replica_and_from_the_leader(journal: Journal) -> None:
    state = await journal.submit(request("a"))
    one = await journal.bus.last("EVENTS", fence(state.address))
    other = await journal.bus.last("EVENTS", fence(state.address), consistent=True)
    assert one == other
    assert one is not None
    assert one.compared == (fence(state.address), 0)
    assert re.fullmatch(r"default/a/submitted/.*", one.message_id or "")
    await journal.bus.publish(event_subject(state.address, "cancelled"), encode(Cancelled()))
    assert (await newest(journal, state.address)).compared is None

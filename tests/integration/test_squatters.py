"""Names and ids that somebody takes before their owners come: contents, results and submissions get there all the same."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, Final

import msgspec
import pytest

from cutor import Client
from cutor.bus.bodies import CHUNK_BYTES, body_subject, reference_of
from cutor.bus.connection import Bus
from cutor.journal.contents import Contents
from cutor.journal.errors import SubmissionConflict
from cutor.journal.journal import Journal
from cutor.journal.stack_policy import publish_policy
from cutor.model.codec import encode
from cutor.model.content import INLINE_BYTES, BodyRef, Content, encode_text
from cutor.model.decide import event_message_id
from cutor.model.errors import InvalidRequest
from cutor.model.events import Cancelled, Finished, Output, Ran, Stage, StoredFile, Submitted
from cutor.model.limits import Policy
from cutor.model.request import ValidRequest, digest
from cutor.model.result import result
from cutor.model.subjects import Address, event_subject, fence
from cutor.roles.step import LeasedStep
from tests.nats_server import OwnServer
from tests.scripted_roles import build, end, kinds, request, role, until
from tests.unit.test_contents import MemoryBodies

AT_ONCE: Final = 8


@pytest.fixture
async def journal(own_bus: Bus) -> Journal:
    """Return a journal of a stack with a policy."""
    journal = Journal(own_bus)
    await publish_policy(journal.bus, Policy(max_leases=2))
    return journal


def large_text() -> str:
    """Return a text of two chunks that nobody has stored yet."""
    return secrets.token_hex(16) * (CHUNK_BYTES // 20)


async def squat_body(bus: Bus, data: bytes, chunk: int = 0) -> None:
    """Write something else under the hash of a content."""
    assert await bus.append_once(body_subject(reference_of(data).sha256, chunk), b"garbage")


async def squat_id(bus: Bus, message_id: str) -> None:
    """Send a message under a message id that is somebody else's, on a subject of no submission."""
    subject = f"cutor.ev.junk.{secrets.token_hex(4)}.cancelled"
    sent = await bus.append(subject, b"junk", message_id=message_id, fence=subject, expected_sequence=0)
    assert not sent.duplicate


# -- contents ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [0, 1])
async def test_a_file_whose_bodys_name_is_taken_is_submitted(own_server: OwnServer, journal: Journal, chunk: int) -> None:
    text = large_text()
    await squat_body(journal.bus, text.encode(), chunk)
    document: dict[str, Any] = {
        "files": [
            {"name": "shell.nix", "content": "{ }"},
            {"name": "cutor-run.sh", "content": "true"},
            {"name": "data", "content": text},
        ],
        "test_cases": [{}],
    }
    async with Client(own_server.url) as client:
        receipt = await client.submit(document)
        again = await client.submit(document, id=receipt.id)
    assert again.id == receipt.id
    state = await journal.known(Address("default", receipt.id))
    loaded = await journal.contents.load_request(state.address, state.request)
    assert loaded.files["data"] == text.encode()
    assert await kinds(journal, state.address) == ["submitted"]


async def test_producers_at_one_time_of_a_content_whose_name_is_taken_are_one_submission(journal: Journal) -> None:
    wanted = request("at-once", large_text())
    await squat_body(journal.bus, wanted.files["cutor-run.sh"], 1)
    states = await asyncio.gather(*(journal.submit(wanted) for _ in range(AT_ONCE)))
    assert {state.digest for state in states} == {digest(wanted)}
    state = await journal.known(wanted.address)
    assert await journal.contents.load_request(wanted.address, state.request) == wanted
    assert await kinds(journal, wanted.address) == ["submitted"]


async def test_a_run_whose_outputs_body_has_a_taken_name_ends_as_it_should(journal: Journal) -> None:
    """What a program will print can be known before."""
    printed = large_text().encode()
    await squat_body(journal.bus, printed)

    async def run(leased: LeasedStep) -> None:
        encoding, data = encode_text(printed)
        stage = Stage(outcome="OK", exit_code=0, stdout=Output(encoding=encoding, data=data, bytes_total=len(printed)))
        stages = await leased.journal.contents.spill_stages([stage])
        assert isinstance(stages[0].stdout.body, BodyRef)
        await leased.report(Ran(lease=leased.lease, index=0, stages=stages))
        await leased.report(Finished(lease=leased.lease, outcome="OK"))

    submitted = await journal.submit(request("output"))
    async with role(journal, build), role(journal, run, "runner", "w2"):
        state = await until(journal, submitted.address, lambda state: state.cleaned_ns is not None)
    assert (state.status, state.outcome, state.attempts.runner) == ("FINISHED", "OK", 1)
    document = await journal.contents.resolve(result(state))
    assert [(stage.stdout.encoding, stage.stdout.data) for stage in document.run] == [("utf8", printed.decode())]


async def logged(journal: Journal, wanted: ValidRequest) -> Submitted:
    """Append ``submitted`` of a request whose bodies are not there, as a power failure leaves it."""
    stored = await Contents(MemoryBodies()).store_request(wanted)  # type: ignore[arg-type]
    event = Submitted(request=stored, digest=digest(wanted))
    await journal.bus.append(
        event_subject(wanted.address, "submitted"),
        encode(event),
        message_id=event_message_id(wanted.address, event),
        fence=fence(wanted.address),
        expected_sequence=0,
    )
    return event


async def bodies_stored(journal: Journal) -> int:
    """Return how many chunks there are."""
    return int((await journal.bus.stream_info("BODIES"))["state"]["messages"])


async def test_a_lost_body_is_mended_by_handing_in_again(journal: Journal) -> None:
    wanted = request("lost", large_text())
    event = await logged(journal, wanted)
    with pytest.raises(InvalidRequest, match="is not in the stream BODIES"):
        await journal.contents.load_request(wanted.address, event.request)
    assert (await journal.submit(wanted)).digest == event.digest
    assert await journal.contents.load_request(wanted.address, event.request) == wanted
    assert await kinds(journal, wanted.address) == ["submitted"]
    stored = await bodies_stored(journal)
    await journal.submit(wanted)
    assert await bodies_stored(journal) == stored


async def test_a_lost_body_in_whose_place_something_else_came_is_refused_by_who_reads_it(journal: Journal) -> None:
    wanted = request("replaced", large_text())
    event = await logged(journal, wanted)
    await squat_body(journal.bus, wanted.files["cutor-run.sh"])
    assert (await journal.submit(wanted)).digest == event.digest
    with pytest.raises(InvalidRequest, match=r"cannot be read: body [0-9a-f]{64}"):
        await journal.contents.load_request(wanted.address, event.request)


@pytest.mark.parametrize("what", ["ended", "another body"])
async def test_nothing_is_stored_for_what_nobody_will_read(journal: Journal, what: str) -> None:
    wanted = request("over", large_text())
    event = await logged(journal, wanted)
    if what == "ended":
        await journal.settle(await journal.known(wanted.address), lambda _state: Cancelled())
        assert (await journal.submit(wanted)).digest == event.digest
    else:
        with pytest.raises(SubmissionConflict):
            await journal.submit(request("over", large_text()))
    assert await bodies_stored(journal) == 0


async def test_a_forged_event_makes_nobody_store_under_names_that_it_chose(journal: Journal) -> None:
    """Whoever hands in the same digest afterwards stores what the event names and the request has, and nothing else."""
    wanted = request("forged", large_text())
    honest = await Contents(MemoryBodies()).store_request(wanted)  # type: ignore[arg-type]
    claims = [BodyRef(sha256="a" * 64, size_bytes=1, chunks=1)]
    for salt in (">", "x.y", "A" * 16):
        ref = reference_of(wanted.files["cutor-run.sh"])
        claims.append(BodyRef(sha256=ref.sha256, size_bytes=ref.size_bytes, chunks=ref.chunks, salt=salt))
    files = tuple(StoredFile(name="cutor-run.sh", content=Content(body=claim)) for claim in claims)
    event = Submitted(request=msgspec.structs.replace(honest, files=files), digest=digest(wanted))
    await journal.bus.publish(event_subject(wanted.address, "submitted"), encode(event))
    assert (await journal.submit(wanted)).digest == event.digest
    assert await bodies_stored(journal) == 0


# -- message ids -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, AT_ONCE])
@pytest.mark.parametrize("script", ["true", "#" + "x" * INLINE_BYTES], ids=["small", "large"])
async def test_a_message_id_that_somebody_took_stands_in_nobodys_way(journal: Journal, times: int, script: str) -> None:
    wanted = request("squatted", script)
    await squat_id(journal.bus, f"{wanted.address}/submitted/{digest(wanted)}")
    states = await asyncio.gather(*(journal.submit(wanted) for _ in range(times)))
    assert {state.last_sequence for state in states} == {(await journal.known(wanted.address)).last_sequence}
    assert await kinds(journal, wanted.address) == ["submitted"]
    again = await journal.submit(wanted)
    assert again.last_sequence == states[0].last_sequence
    with pytest.raises(SubmissionConflict, match="taken by a submission with another body"):
        await journal.submit(request("squatted", "false"))


async def test_a_submission_is_worked_on_whose_message_id_was_taken(journal: Journal) -> None:
    wanted = request("worked")
    await squat_id(journal.bus, f"{wanted.address}/submitted/{digest(wanted)}")
    submitted = await journal.submit(wanted)
    async with role(journal, end):
        state = await until(journal, submitted.address, lambda state: state.cleaned_ns is not None)
    assert state.status == "FINISHED"


@pytest.mark.parametrize("kind", ["cancelled", "leased"])
async def test_an_id_under_which_something_else_stands_is_said_to_be_taken(journal: Journal, kind: str) -> None:
    wanted = request("occupied")
    await journal.bus.publish(event_subject(wanted.address, kind), b"junk")
    with pytest.raises(SubmissionConflict, match="taken by messages that are none of cutor's"):
        await journal.submit(wanted)

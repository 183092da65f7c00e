"""Events of a version that only a newer cutor knows, on a stack that has it: nothing is decided past them, nothing is lost."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cutor.bus.connection import Bus
from cutor.cli.checks.versions import check_versions
from cutor.cli.env_pin import _pin
from cutor.client.client import Client
from cutor.journal.environments import Environments
from cutor.journal.journal import Journal
from cutor.journal.parked import ParkedSubmissions
from cutor.journal.stack_policy import publish_policy
from cutor.journal.versions import EventNewer, StackOlder, Versions
from cutor.model import codec
from cutor.model.codec import decode_policy, encode
from cutor.model.events import Cancelled, Event, Submitted, kind_of
from cutor.model.limits import Policy
from cutor.model.state import Submission
from cutor.model.subjects import POLICY_SUBJECT, STACK, Address, event_subject
from cutor.projections import schema
from cutor.projections.folds import rows
from tests.bare_stack import one_line
from tests.integration.projecting import projector
from tests.integration.projecting import until as until_view
from tests.nats_server import OwnServer
from tests.scripted_roles import PATIENCE_S, Waiting, build, end, pending_acks, request, role, set_ack_wait, until
from tests.unit.histories import REQUEST, cache_built, leased

NEWER_KINDS = (
    *("submitted", "cancelled", "cache-built", "parked-resolved"),
    *("env-built", "env-pinned", "env-unpinned", "env-removed"),
)
NEWER = dict.fromkeys(NEWER_KINDS, 2)
GOLDEN = Path(__file__).parents[1] / "golden"


def second(event: Event) -> bytes:
    """Return an event as a newer cutor wrote it: this one can't know in what it differs."""
    return json.dumps(json.loads(encode(event)) | {"version": 2}, separators=(",", ":")).encode()


@contextmanager
def upgraded() -> Iterator[None]:
    """Know the second version: of the same shape, for this test."""
    with pytest.MonkeyPatch.context() as patch:
        for kind in NEWER:
            patch.setitem(codec.VERSIONS, kind, 2)
            patch.setitem(codec.UPCASTERS, (kind, 1), lambda document: document)
        for cached in (schema.rules_digest, rows.reading_rules):
            cached.cache_clear()
        yield
    for cached in (schema.rules_digest, rows.reading_rules):
        cached.cache_clear()


@pytest.fixture
async def journal(own_bus: Bus) -> Journal:
    journal = Journal(own_bus)
    await publish_policy(journal.bus, Policy(versions=NEWER))
    for consumer in ("builder-default", "runner-default"):
        await set_ack_wait(own_bus, 1.0, consumer)
    return journal


def ended(state: Submission) -> bool:
    return state.cleaned_ns is not None


async def logged(caplog: pytest.LogCaptureFixture, text: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while text not in caplog.text:
            await asyncio.sleep(0.02)


async def test_work_stops_at_a_newer_cancel_and_goes_on_after_the_upgrade(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    work = Waiting(end)
    submitted = await journal.submit(request("running"))
    async with role(journal, work):
        await work.began.wait()
        await journal.bus.publish(event_subject(submitted.address, "cancelled"), second(Cancelled()))
        await asyncio.wait_for(work.stopped.wait(), PATIENCE_S)
        await logged(
            caplog, "EVENTS 3 (cutor.ev.default.running.cancelled) is version 2 of cancelled, of which this cutor knows 1"
        )
        assert await pending_acks(journal) == 1, "its delivery waits for a newer role"
    with upgraded():
        async with role(journal, build):
            state = await until(journal, submitted.address, ended)
    assert (state.status, state.strays) == ("CANCELLED", 0)


async def test_a_newer_submission_waits_for_a_newer_builder(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    address = Address("default", "new")
    body = second(Submitted(request=REQUEST, digest="d"))
    async with role(journal, end):
        await journal.bus.publish(event_subject(address, "submitted"), body)
        await logged(caplog, "(cutor.ev.default.new.submitted) is version 2 of submitted")
    assert [stored.subject async for stored in journal.bus.read("EVENTS")] == [event_subject(address, "submitted")]
    with upgraded():
        async with role(journal, end):
            state = await until(journal, address, ended)
    assert (state.status, state.outcome, state.attempts.builder) == ("FINISHED", "DEPENDENCY_ERROR", 1)


async def test_a_newer_result_of_a_builder_waits_for_a_newer_runner(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    submitted = await journal.submit(request("built"))
    for event in (leased("builder"), cache_built()):
        body = second(event) if kind_of(event) == "cache-built" else encode(event)
        await journal.bus.publish(event_subject(submitted.address, kind_of(event)), body)
    async with role(journal, end, "runner"):
        await logged(caplog, "(cutor.ev.default.built.cache-built) is version 2 of cache-built")
        assert await pending_acks(journal, "runner-default") == 1
    with upgraded():
        async with role(journal, end, "runner"):
            state = await until(journal, submitted.address, ended)
    assert (state.status, state.attempts.runner, state.strays) == ("FINISHED", 1, 0)


async def test_clients_and_environments_say_so(journal: Journal, own_server: OwnServer) -> None:
    submitted = await journal.submit(request("asked"))
    await journal.bus.publish(event_subject(submitted.address, "cancelled"), second(Cancelled()))
    command = [sys.executable, "-m", "cutor", "status", "asked", "--server", own_server.url]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=180, check=False)
    assert "version 2 of cancelled, of which this cutor knows 1 to 1: upgrade this cutor" in one_line(done, 3)
    built = json.loads((GOLDEN / "env-built.v1.json").read_bytes()) | {"version": 2}
    await journal.bus.publish(f"cutor.env.{built['key']}", json.dumps(built).encode())
    with pytest.raises(EventNewer, match="version 2 of env-built"):
        await Environments(journal.bus).find(built["key"])


async def test_doctor_says_which(journal: Journal) -> None:
    found = await check_versions(journal.bus)
    assert found is not None
    assert "version 2 of cache-built, of which this cutor knows 1 to 1" in found.detail
    with upgraded():
        assert await check_versions(journal.bus) is None


async def test_a_newer_client_hands_nothing_in_that_an_older_stack_would_take_for_a_stray(
    own_bus: Bus, own_server: OwnServer
) -> None:
    journal = Journal(own_bus)
    await publish_policy(journal.bus, Policy())
    running = (await journal.submit(request("running"))).address
    last = (await own_bus.stream_info("EVENTS"))["state"]["last_seq"]
    with upgraded():
        async with Client(own_server.url) as client:
            with pytest.raises(StackOlder, match=r"version 2 of submitted, and the stack at .* has only 1; nothing"):
                await client.journal.submit(request("new"))
            with pytest.raises(StackOlder, match="version 2 of cancelled"):
                await client.cancel(running.id)
            with pytest.raises(StackOlder, match="version 2 of submitted"):
                await client.journal.resubmit(Address("default", "again"), REQUEST, "d", running.id)
            assert (await own_bus.stream_info("EVENTS"))["state"]["last_seq"] == last
            parked = ParkedSubmissions(client.journal)
            for decide in (parked.retry, parked.drop):
                with pytest.raises(StackOlder, match="version 2 of parked-resolved"):
                    await decide(running)
            with pytest.raises(StackOlder, match="version 2 of env-pinned"):
                await _pin(own_server.url, ["0" * 8], pinned=True)
            with pytest.raises(StackOlder, match="version 2 of env-unpinned"):
                await _pin(own_server.url, ["0" * 8], pinned=False)
            with pytest.raises(StackOlder, match="version 2 of env-removed"):
                await Environments(own_bus).check_written("env-removed")
            await publish_policy(journal.bus, Policy())  # as the first `cutor up` of the new version does
            assert await client.cancel(running.id)


async def test_a_version_that_the_stack_does_not_have_is_a_stray(own_bus: Bus) -> None:
    journal = Journal(own_bus)
    await publish_policy(journal.bus, Policy())
    submitted = await journal.submit(request("healthy"))
    await own_bus.publish(event_subject(submitted.address, "cancelled"), second(Cancelled()))
    await own_bus.publish(event_subject(Address("default", "no"), "submitted"), second(Submitted(request=REQUEST, digest="")))
    assert (await journal.known(submitted.address)).strays == 1
    assert "submitted has version 2" in ((await journal.known(Address("default", "no"))).fault or "")


async def test_an_older_cutor_does_not_take_back_what_a_newer_one_has_published(journal: Journal) -> None:
    await publish_policy(journal.bus, Policy(max_leases=7))
    stored = await journal.bus.last(STACK, POLICY_SUBJECT)
    assert stored is not None
    policy = decode_policy(stored.body)
    assert (policy.max_leases, policy.versions) == (7, NEWER)


async def test_a_flood_of_versions_that_are_not_there_costs_a_read_now_and_then(
    own_bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish_policy(own_bus, Policy())
    await own_bus.publish("cutor.ev.default.x.cancelled", second(Cancelled()))
    stored = await own_bus.last("EVENTS", "cutor.ev.default.x.>")
    assert stored is not None
    versions, reads, last = Versions(own_bus), [], own_bus.last

    async def counted(stream: str, subject: str, **more: bool) -> object:
        reads.append(subject)
        return await last(stream, subject, **more)

    monkeypatch.setattr(own_bus, "last", counted)
    monkeypatch.setattr("cutor.journal.versions.KNOWN_S", 600.0)
    for _ in range(50):
        await versions.check(stored)
    assert reads == [POLICY_SUBJECT]


async def test_the_views_have_it_as_a_fault_and_are_made_anew_after_the_upgrade(
    journal: Journal, own_server: OwnServer, tmp_path: Path
) -> None:
    submitted = await journal.submit(request("viewed"))
    await journal.bus.publish(event_subject(submitted.address, "cancelled"), second(Cancelled(reason="enough")))
    async with projector(own_server.url, tmp_path / "views.duckdb"):
        told = "cancelled has version 2; this cutor knows 1 to 1"
        await until_view(journal.bus, "SELECT max(fault) FROM events", told)
        await until_view(journal.bus, "SELECT reason FROM dead_letters", told)
    with upgraded():
        async with projector(own_server.url, tmp_path / "views.duckdb"):
            await until_view(journal.bus, "SELECT status || message FROM submissions", "CANCELLEDenough")
            await until_view(journal.bus, "SELECT count(*) FROM dead_letters", 0)

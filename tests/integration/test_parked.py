"""Parked submissions on a real server: listed from the stream, retried once whoever retries, dropped, through garbage."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cutor import AlreadyDecided, Client, InvalidRequest, NotParked, SubmissionUnknown
from cutor.bus.bodies import body_subject, reference_of
from cutor.bus.connection import Bus
from cutor.bus.embedded import EmbeddedServer
from cutor.bus.errors import StreamMissing
from cutor.journal.journal import Journal
from cutor.journal.parked import NoIdLeft, ParkedSubmissions
from cutor.journal.stack_policy import publish_policy
from cutor.model.codec import encode
from cutor.model.decisions import ParkedResolved
from cutor.model.events import Cancelled, Parked
from cutor.model.limits import Bounds, Policy
from cutor.model.request import ValidRequest
from cutor.model.subjects import Address, parked_subject
from tests.nats_server import TENANTS, OwnServer, apply_streams_but
from tests.parking import MESSAGE, park, stray
from tests.ports import free_port
from tests.raw_nats import pub, send_raw

POLICY = Policy(tenants=dict.fromkeys(TENANTS, 1))
FILES = [{"name": "shell.nix", "content": "{ }: { }"}, {"name": "cutor-run.sh", "content": "true"}]


def document(**more: Any) -> dict[str, Any]:
    return {"id": secrets.token_hex(8), "files": FILES, "test_cases": [{}]} | more


@pytest.fixture
async def client(own_server: OwnServer) -> AsyncIterator[Client]:
    async with Client(own_server.url) as client:
        await publish_policy(client.journal.bus, POLICY)
        yield client


async def ids(client: Client, **wanted: Any) -> list[str]:
    return [one.id for one in await client.parked(**wanted)]


async def test_what_is_parked_is_listed_the_newest_first(client: Client) -> None:
    assert await client.parked() == []
    first = await park(client, document(), leases=3)
    second = await park(client, document(tenant="batch"), role="runner", stage="run", message="\x1b[31m")
    await client.submit(document())
    newest, oldest = await client.parked()
    assert (newest.id, newest.tenant, newest.role, newest.stage, newest.reason) == (
        second,
        "batch",
        "runner",
        "run",
        "\x1b[31m",
    )
    assert (oldest.id, oldest.tenant, oldest.role, oldest.stage, oldest.reason) == (
        first,
        "default",
        "builder",
        "dependencies",
        MESSAGE,
    )
    assert (oldest.leases.builder, oldest.leases.runner, oldest.decision) == (3, 0, None)
    assert oldest.parked_at < newest.parked_at
    assert await ids(client, tenant="batch") == [second]
    assert await ids(client, limit=1) == [second]
    assert await ids(client, tenant="nobody") == []


async def test_a_parked_event_from_elsewhere_parks_nothing(client: Client) -> None:
    """Under an id that nobody submitted, before `submitted`, after another end, and a second time."""
    event = Parked(role="runner", message="from elsewhere", stage="run")
    real = await park(client, document())
    await stray(client.journal, Address("default", "nobody"), event)
    await stray(client.journal, Address("default", real), event)
    cancelled = (await client.submit(document())).id
    await client.cancel(cancelled)
    await stray(client.journal, Address("default", cancelled), event)
    running = (await client.submit(document())).id
    await client.journal.bus.publish(f"cutor.ev.default.{running}.parked", b'{"kind":"parked"}')
    [one] = await client.parked()
    assert (one.id, one.reason, one.role) == (real, MESSAGE, "builder")
    with pytest.raises(NotParked, match=f"{running} is not parked: `cutor status {running}`"):
        await client.retry(running)


async def test_a_retry_is_a_new_submission_of_the_same_request(client: Client) -> None:
    parked = await park(client, document(labels={"course": "a"}, test_cases=[{"name": "one", "input": "x" * 70_000}]))
    bodies = (await client.journal.bus.stream_info("BODIES"))["state"]["messages"]
    retry = await client.retry(parked)
    assert (retry.id, retry.tenant, retry.submission, retry.new) == (parked, "default", f"{parked}-r2", True)
    old, new = [await client.journal.known(Address("default", one)) for one in (parked, retry.submission)]
    assert (new.request, new.digest, new.caused_by, new.status) == (old.request, old.digest, parked, "SUBMITTED")
    assert (await client.result(retry.submission)).caused_by == parked
    assert (await client.journal.bus.stream_info("BODIES"))["state"]["messages"] == bodies, "what is large is not stored again"
    assert await client.parked() == []
    [one] = await client.parked(everything=True)
    assert one.decision is not None
    assert (one.decision.action, one.decision.submission) == ("retried", retry.submission)


async def test_names_that_somebody_took_stand_in_the_way_of_no_retry(client: Client) -> None:
    """The message id of the retry, which follows from the parked one, and the hash of a content when it was submitted."""
    content = secrets.token_hex(40_000)
    bus = client.journal.bus
    await bus.append_once(body_subject(reference_of(content.encode()).sha256, 0), b"garbage")
    parked = await park(client, document(test_cases=[{"name": "one", "input": content}]))
    old = await client.journal.known(Address("default", parked))
    message_id = f"default/{parked}-r2/submitted/{old.digest}"
    await bus.append("cutor.ev.junk.junk.cancelled", b"", message_id=message_id, fence="cutor.ev.junk.>", expected_sequence=0)
    retry = await client.retry(parked)
    assert retry.submission == f"{parked}-r2"
    new = await client.journal.known(Address("default", retry.submission))
    loaded = await client.journal.contents.load_request(new.address, new.request)
    assert loaded.test_cases[0].input == content.encode()


async def test_who_retries_again_is_told_as_what(client: Client) -> None:
    parked = await park(client, document())
    before = await client.retry(parked)
    last = (await client.journal.bus.stream_info("EVENTS"))["state"]["last_seq"]
    again = await client.retry(parked)
    assert (again.submission, again.new) == (before.submission, False)
    assert (await client.journal.bus.stream_info("EVENTS"))["state"]["last_seq"] == last


async def test_several_who_retry_at_once_make_one(client: Client, own_server: OwnServer) -> None:
    parked = await park(client, document())
    async with Client(own_server.url) as other:
        retries = await asyncio.gather(*(one.retry(parked) for one in (client, other) for _ in range(4)))
    assert {retry.submission for retry in retries} == {f"{parked}-r2"}
    assert [retry.new for retry in retries].count(True) == 1
    assert await client.journal.state(Address("default", f"{parked}-r3")) is None
    assert (await client.journal.bus.stream_info("PARKED"))["state"]["messages"] == 1


async def test_who_died_between_submission_and_record_is_followed_by_the_next(client: Client) -> None:
    parked = await park(client, document())
    state = await client.journal.known(Address("default", parked))
    died = await client.journal.resubmit(Address("default", f"{parked}-r2"), state.request, state.digest, parked)
    assert await ids(client) == [parked], "nothing says yet that it was retried"
    retry = await client.retry(parked)
    assert (retry.submission, retry.new) == (died.address.id, True)
    assert await ids(client) == []
    assert len(await client.journal.entries(died.address)) == 1


async def test_ids_of_others_are_passed_over(client: Client) -> None:
    """Of another body, of the same body but not caused by it, and one where something lies that is no submission."""
    wanted = document()
    parked = await park(client, wanted)
    await client.submit(document(id=f"{parked}-r2", labels={"other": "body"}))
    await client.submit(wanted | {"id": f"{parked}-r3"})
    await stray(client.journal, Address("default", f"{parked}-r4"), Cancelled(reason="x"))
    retry = await client.retry(parked)
    assert (retry.submission, retry.new) == (f"{parked}-r5", True)
    assert (await client.retry(parked)).submission == f"{parked}-r5"


async def test_where_every_id_is_taken(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cutor.journal.parked.IDS_AT_MOST", 2)
    parked = await park(client, document())
    for number in (2, 3):
        await client.submit(document(id=f"{parked}-r{number}"))
    with pytest.raises(NoIdLeft, match=f"{parked}-r2 and the next 1 ids are taken"):
        await client.retry(parked)
    assert await ids(client) == [parked]


async def test_a_retry_that_is_parked_is_retried_as_the_next(client: Client) -> None:
    long = "x" * 64
    for identity, names in ((secrets.token_hex(8), ()), (long, ("x" * 61 + "-r2", "x" * 61 + "-r3"))):
        parked = await park(client, document(id=identity))
        second = await client.retry(parked)
        state = await client.journal.known(Address("default", second.submission))
        assert (await client.journal.settle(state, lambda _: Parked(role="builder", message="again"))).state.status == "PARKED"
        third = await client.retry(second.submission)
        assert (second.submission, third.submission) == (names or (f"{parked}-r2", f"{parked}-r3"))
        assert (await client.result(third.submission)).caused_by == second.submission


async def test_a_changed_policy_refuses_a_retry_and_nothing_happens(client: Client) -> None:
    parked = await park(client, document(labels={"a": "1", "b": "2"}))
    await publish_policy(client.journal.bus, msgspec.structs.replace(POLICY, bounds=Bounds(labels=1)))
    with pytest.raises(
        InvalidRequest, match=f"{parked} cannot be retried: labels: 2 are more than the maximum of 1"
    ) as refused:
        await client.retry(parked)
    assert "\n" not in str(refused.value)
    await publish_policy(client.journal.bus, Policy(tenants={"batch": 1}))
    with pytest.raises(InvalidRequest, match="tenant 'default' is not declared"):
        await client.retry(parked)
    assert await ids(client) == [parked]
    assert await client.journal.state(Address("default", f"{parked}-r2")) is None


async def test_what_is_dropped_is_not_listed_and_not_retried(client: Client) -> None:
    parked = await park(client, document())
    drop = await client.drop(parked, reason="the lab is closed")
    assert (drop.id, drop.reason, drop.new) == (parked, "the lab is closed", True)
    again = await client.drop(parked, reason="another")
    assert (again.reason, again.new) == ("the lab is closed", False)
    assert await ids(client) == []
    with pytest.raises(AlreadyDecided, match=r"was dropped at 2\S+: the lab is closed; submit it anew under an id of its own"):
        await client.retry(parked)
    retried = await park(client, document())
    await client.retry(retried)
    with pytest.raises(AlreadyDecided, match=f"was retried as {retried}-r2 at .*: there is nothing to drop"):
        await client.drop(retried)


async def test_a_drop_while_it_is_retried_names_what_was_handed_in(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    parked = await park(client, document())
    checked = ParkedSubmissions._checked_request

    async def dropped_meanwhile(self: ParkedSubmissions, state: Any) -> ValidRequest:
        await client.drop(parked)
        return await checked(self, state)

    monkeypatch.setattr(ParkedSubmissions, "_checked_request", dropped_meanwhile)
    with pytest.raises(AlreadyDecided, match=f"`cutor cancel {parked}-r2` stops it"):
        await client.retry(parked)


async def test_what_is_unknown_or_not_parked(client: Client) -> None:
    queued = (await client.submit(document())).id
    for act in (client.retry, client.drop):
        with pytest.raises(SubmissionUnknown, match="no submission 'nobody' of the tenant 'default' is known"):
            await act("nobody")
        with pytest.raises(NotParked):
            await act(queued)
        with pytest.raises(InvalidRequest):
            await act("a b")
    assert (await client.journal.bus.stream_info("PARKED"))["state"]["messages"] == 0


GARBAGE = (b"", b"\xff" * 100_000, b"[" * 100_000, b"{}", b'{"kind":"parked-resolved","action":"eaten"}', encode(Cancelled()))


async def test_garbage_in_place_of_a_record_decides_nothing(client: Client) -> None:
    parked, other = await park(client, document()), await park(client, document())
    bus = client.journal.bus
    for body in GARBAGE:
        await bus.publish(parked_subject(Address("default", parked)), body)
    for subject in ("x", "default", "No.x", "default.a.b", "default.nobody", "*.>", "default.>", ">.a", "*.*"):
        await bus.publish(f"cutor.dead.parked.{subject}", encode(ParkedResolved(action="dropped")))
    newest, oldest = await client.parked()
    assert (newest.id, newest.unreadable_records) == (other, 0)
    assert (oldest.id, oldest.unreadable_records, oldest.decision) == (parked, len(GARBAGE), None)
    assert (await client.retry(parked)).new
    assert (await client.retry(parked)).submission == f"{parked}-r2"
    await bus.publish(parked_subject(Address("default", parked)), encode(ParkedResolved(action="dropped", reason="too late")))
    assert not (await client.retry(parked)).new, "the first record that can be read counts"
    assert await ids(client) == [other]


async def test_a_stack_without_the_stream_lists_and_says_what_a_retry_needs(tmp_path: Path) -> None:
    server = await EmbeddedServer.start(tmp_path, port=free_port("127.0.0.1"))
    async with server:
        await apply_streams_but(server.url, "PARKED")
        async with Client(server.url) as client:
            await publish_policy(client.journal.bus, POLICY)
            parked = await park(client, document())
            assert await ids(client) == [parked]
            detail = await ParkedSubmissions(client.journal).show(Address("default", parked))
            assert (detail.parked.id, detail.retry) == (parked, None)
            for act in (client.retry, client.drop):
                with pytest.raises(StreamMissing, match="`cutor streams apply`"):
                    await act(parked)
            assert await client.journal.state(Address("default", f"{parked}-r2")) is None


@pytest.mark.parametrize(
    "subject", [b"default.>.parked", b">.a.parked", b"default.a.>", b"*.*.parked", b">", b"default.\xff.parked", b"default.*.>"]
)
async def test_no_subject_keeps_the_list_waiting(own_server: OwnServer, client: Client, subject: bytes) -> None:
    """The server takes them all, also those whose tokens are wildcards, and counts some of them otherwise than it delivers."""
    real = await park(client, document())
    body = encode(Parked(role="runner", message="x"))
    await send_raw(own_server.url, pub(b"cutor.ev." + subject, body), pub(b"cutor.dead.parked." + subject, body))
    async with asyncio.timeout(180):
        assert await ids(client) == [real]
        assert await ids(client, tenant="default", everything=True) == [real]
        assert (await client.retry(real)).new


async def test_it_is_listed_behind_many_of_others(client: Client) -> None:
    real = await park(client, document())
    event = Parked(role="runner", message="x")
    await asyncio.gather(*(stray(client.journal, Address("default", f"no-{number}"), event) for number in range(500)))
    assert await ids(client) == [real]


async def test_everything_about_one(client: Client) -> None:
    parked = await park(client, document(labels={"a": "b"}), leases=2, message="no room")
    await client.retry(parked)
    detail = await ParkedSubmissions(client.journal).show(Address("default", parked))
    assert [(one.role, one.number, one.worker) for one in detail.attempts] == [
        ("builder", 1, "worker-1"),
        ("builder", 2, "worker-2"),
    ]
    assert (detail.result.outcome, detail.result.labels) == ("PARKED", {"a": "b"})
    assert detail.result.dependencies is not None
    assert (detail.result.dependencies.outcome, detail.result.dependencies.message) == ("XX", "no room")
    assert detail.retry is not None
    assert (detail.retry.id, detail.retry.status, detail.retry.outcome) == (f"{parked}-r2", "SUBMITTED", None)


@pytest.mark.parametrize(
    ("limit", "said"), [(0, "limit is 0"), (True, "got `bool`"), ("5", "got `str`"), (None, "got `NoneType`")]
)
async def test_a_limit_that_is_none(client: Client, limit: Any, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        await client.parked(limit=limit)


async def test_a_journal_is_all_it_needs(own_bus: Bus, tmp_path: Path) -> None:
    listing = await ParkedSubmissions(Journal(own_bus)).list()
    assert listing == ([], False)

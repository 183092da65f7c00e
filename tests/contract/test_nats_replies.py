"""What an untrusted user of `deploy/nats/cluster/accounts.conf` could have the server publish for it.

JetStream answers on whatever subject it is told, and no permission looks at that one: an answer in the account of the streams
would be a request to delete one, or an event of somebody else's. So whatever such a user may ask, with whatever subject for the
answer, no stream and no consumer is changed by it.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any, Final

import pytest

from cutor.bus.connection import Bus
from cutor.bus.errors import BusError
from tests.cluster import DEPLOYED, DeployedCluster, start_deployed

UNTRUSTED: Final = ("producer", "analyst", "physics")
STREAMS: Final = ("EVENTS", "BODIES", "ENVIRONMENTS", "STACK", "PARKED", "DEADLETTERS")
CONSUMERS: Final = ("EVENTS.builder-default", "EVENTS.runner-default")
MISSING: Final = 1 << 40
"""A sequence that no stream has: the answer is a status line with an empty body, and so a valid request."""
OTHERS: Final = "cutor.ev.victim.x"
REPLIES: Final = (
    *(f"$JS.API.STREAM.{what}.EVENTS" for what in ("DELETE", "PURGE", "UPDATE", "MSG.DELETE", "LEADER.STEPDOWN")),
    *(f"$JS.API.STREAM.{what}.{stream}" for what in ("DELETE", "PURGE") for stream in STREAMS[1:]),
    *(f"$JS.API.CONSUMER.{what}.EVENTS.builder-default" for what in ("DELETE", "CREATE", "PAUSE", "RESET", "MSG.NEXT")),
    *("$JS.API.STREAM.CREATE.MINE", "$JS.API.CONSUMER.CREATE.EVENTS.mine", "$JS.ACK.EVENTS.builder-default.1.1.1.1.0"),
    *(f"{OTHERS}.{kind}" for kind in ("leased", "cache-built", "ran", "finished", "rejected", "parked", "cleaned")),
    *("cutor.stack.policy", "cutor.env.k", "cutor.dead.parked.victim.x", "cutor.dead.message.EVENTS.1"),
)
"""Subjects that none of them may publish to."""
APPENDS: Final = (f"{OTHERS}.submitted", f"{OTHERS}.cancelled", "cutor.body.victim.0")
"""Subjects that some may publish to; it is a forgery of those who may not."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[DeployedCluster]:
    with start_deployed(physics=True) as three:
        yield three


@pytest.fixture
async def admin(cluster: DeployedCluster) -> AsyncIterator[Bus]:
    async with Bus.connect(cluster.url(), name="admin") as bus:
        yield bus


async def ask(bus: Bus, subject: str, body: bytes = b"", **headers: str) -> Any:
    """One request to the server, and its answer."""
    until = asyncio.get_running_loop().time() + 30
    return json.loads((await bus.link.ask(subject, body, until=until, headers=headers)).data)


async def everything(admin: Bus) -> dict[str, object]:
    """What streams and consumers are: settings, how many messages each subject has, what is in hand and acknowledged."""
    held: dict[str, object] = {"streams": (await ask(admin, "$JS.API.STREAM.NAMES"))["streams"]}
    for stream in STREAMS:
        info = await ask(admin, f"$JS.API.STREAM.INFO.{stream}", b'{"subjects_filter": ">"}')
        held[stream] = info["config"], info["created"], info["state"].get("subjects"), info["state"]["consumer_count"]
    for consumer in CONSUMERS:
        info = await ask(admin, f"$JS.API.CONSUMER.INFO.{consumer}")
        held[consumer] = *(info[key] for key in ("config", "created", "ack_floor")), info["num_ack_pending"]
    return held


def permitted(user: str) -> list[str]:
    """The subjects that a user may publish to, as `accounts.conf` says, under the name that clients know."""
    text = re.sub(r"(?m)^  # ", "  ", (DEPLOYED / "accounts.conf").read_text())
    found = re.search(rf'user: "{user}"\n.*?allow: \[(.*?)\]', text, re.DOTALL)
    assert found
    return [subject.replace("JSC.", "$JS.") for subject in re.findall(r'"(.+?)"', found[1])]


def own(subject: str) -> str:
    """A subject of the user's own that matches what is permitted."""
    for place in (secrets.token_hex(8), secrets.token_hex(8)):
        subject = subject.replace("*", f"mallory-{place}", 1)
    return subject


async def stored_bodies(admin: Bus, cluster: DeployedCluster) -> list[int]:
    """Sequences of messages in EVENTS whose bodies are requests and events, as any producer may store them."""
    settings = (await admin.stream_info("EVENTS"))["config"] | {"max_msgs": 1}
    consumer = {"stream_name": "EVENTS", "config": {"ack_policy": "none", "deliver_subject": f"{OTHERS}.finished"}}
    event = {"kind": "finished", "version": 1, "outcome": "OK"}
    bodies = [b"", b"+TERM", *(json.dumps(one).encode() for one in (settings, consumer, event, {"seq": 1}, {"batch": 1}))]
    async with Bus.connect(cluster.url("producer"), name="stores") as bus:
        return [await bus.publish(own("cutor.ev.default.*.submitted"), body) for body in bodies]


async def take_one(cluster: DeployedCluster) -> None:
    """Have a builder take a delivery, and leave it in hand."""
    async with Bus.connect(cluster.url("builder"), name="builder") as builder:
        inbox = builder.link.new_inbox()
        async with asyncio.timeout(180), builder.subscribe(inbox) as notices:
            await builder.link.send("$JS.API.CONSUMER.MSG.NEXT.EVENTS.builder-default", b'{"batch": 1}', reply=inbox)
            await anext(aiter(notices))


def questions(subject: str, stored: list[int]) -> list[bytes]:
    """Bodies for a permitted request: what reads a message is asked for each of those stored, and for one that is not there."""
    if ".GET." not in subject:
        return [b"", b'{"sql": "SELECT 1"}']
    queries = [*({"seq": sequence} for sequence in (*stored, MISSING)), {"seq": 1, "batch": 100, "next_by_subj": ">"}]
    return [json.dumps(query).encode() for query in queries]


async def settled(bus: Bus, admin: Bus) -> None:
    """All that was sent is handled, and its answers are where they go."""
    await bus.flush(30)
    for stream in STREAMS:
        with suppress(BusError):
            await bus.last(stream, "cutor.ev.nothing.here.submitted")
    await asyncio.sleep(0.5)
    await admin.flush(30)


@pytest.mark.parametrize("user", UNTRUSTED)
async def test_an_answer_on_a_subject_of_others_reaches_nobody(cluster: DeployedCluster, admin: Bus, user: str) -> None:
    stored = await stored_bodies(admin, cluster)
    await take_one(cluster)
    reads = [subject for subject in permitted(user) if not subject.startswith(("cutor.ev.", "cutor.body."))]
    replies = REPLIES if user == "producer" else (*REPLIES, *APPENDS[: 2 if user == "physics" else 3])
    before = await everything(admin)
    assert before["EVENTS.builder-default"][-1] > 0, "there is something in hand that a forged acknowledgement could take"  # type: ignore[index]
    async with Bus.connect(cluster.url(user), name="attacks") as bus:
        for subject in reads:
            for question in questions(subject, stored):
                for reply in replies:
                    await bus.link.send(subject, question, reply=reply)
            await bus.flush(30)
        await settled(bus, admin)
    assert await everything(admin) == before


@pytest.mark.parametrize("user", ["producer", "physics"])
async def test_an_acknowledgement_on_a_subject_of_others_reaches_nobody(
    cluster: DeployedCluster, admin: Bus, user: str
) -> None:
    """Of an append that succeeds, and of one that the stream refuses: nothing is there but what was appended."""
    writes = [subject for subject in permitted(user) if subject.startswith(("cutor.ev.", "cutor.body."))]
    assert len(writes) == 3
    before = await everything(admin)
    written = set()
    async with Bus.connect(cluster.url(user), name="attacks") as bus:
        for subject in writes:
            for reply in REPLIES:
                for headers in ({}, {"Nats-Expected-Last-Subject-Sequence": "9999"}):
                    written.add(one := own(subject))
                    await bus.link.send(one, b"{}", reply=reply, headers=headers)
        await settled(bus, admin)
    assert without(await everything(admin), written) == without(before, written)


async def test_headers_reach_no_further(cluster: DeployedCluster, admin: Bus) -> None:
    """Headers by which a server does something for a sender: nothing of it is done for a producer."""
    before = await everything(admin)
    victim = f"{OTHERS}.finished"
    tricks = (
        *({"Nats-Trace-Dest": victim}, {"Nats-Trace-Dest": victim, "Nats-Trace-Only": "true"}),
        *({"Nats-Schedule": "@every 1s", "Nats-Schedule-Target": victim}, {"Nats-Rollup": "all"}, {"Nats-Rollup": "sub"}),
        *(
            {"Nats-TTL": "1s"},
            {"Nats-Subject": victim},
            {"Nats-Stream": "STACK"},
            {"Nats-Batch-Id": "b", "Nats-Batch-Sequence": "1"},
        ),
        {"Nats-Request-Info": json.dumps({"acc": "CUTOR", "svc": "CUTOR", "reply": victim, "user": "admin"})},
    )
    written = set()
    async with Bus.connect(cluster.url("producer"), name="attacks") as bus:
        for headers in tricks:
            for subject in permitted("producer"):
                written.add(one := own(subject))
                await bus.link.send(one, b"{}", reply=victim, headers=headers)
        await settled(bus, admin)
    assert without(await everything(admin), written) == without(before, written)


async def test_a_message_id_of_others_does_not_pass_for_their_message(cluster: DeployedCluster) -> None:
    """Who takes the id of a message that is still to come has the server call that one a duplicate, and the sender hears so."""
    identity = secrets.token_hex(8)
    async with Bus.connect(cluster.url("producer"), name="attacks") as bus:
        message_id = f"default/{identity}/submitted"
        await ask(bus, own("cutor.ev.junk.*.cancelled"), b"x", **{"Nats-Msg-Id": message_id})
        fence = f"cutor.ev.default.{identity}.>"
        appended = await bus.append(
            f"cutor.ev.default.{identity}.submitted", b"{}", message_id=message_id, fence=fence, expected_sequence=0
        )
        assert appended.duplicate, "so whoever appends reads what is there, and finds that it is not its own"
        assert await bus.history(fence, f"cutor.ev.default.{identity}.submitted", consistent=True) == []


async def test_large_answers_and_what_is_too_large(cluster: DeployedCluster) -> None:
    """Through an import, too: many messages in one answer, several MiB of them, and a message over the limit is refused."""
    identity = secrets.token_hex(8)
    subject = f"cutor.ev.default.{identity}.submitted"
    async with (
        Bus.connect(cluster.url("producer"), name="test") as bus,
        Bus.connect(cluster.url("analyst"), name="test") as analyst,
    ):
        bodies = [secrets.token_bytes(20_000) for _ in range(400)] + [secrets.token_bytes(7 << 20)]
        sequences = [await bus.publish(subject, body) for body in bodies]
        for reader in (bus, analyst):
            held = await reader.history(f"cutor.ev.default.{identity}.>", subject, at_least=sequences[-1], timeout_s=60)
            assert [stored.body for stored in held] == bodies
        with pytest.raises(BusError, match="the server takes at most"):
            await bus.publish(subject, bytes(9 << 20))


def without(held: dict[str, Any], subjects: set[str]) -> dict[str, Any]:
    """The same without some subjects, and without what counts deliveries of further messages."""
    kept = dict(held)
    for stream in STREAMS:
        config, created, counts, consumers = held[stream]
        kept[stream] = config, created, {one: many for one, many in (counts or {}).items() if one not in subjects}, consumers
    return kept

"""Messages that no client of cutor's would send, by a raw connection: every reader lives through them."""

from __future__ import annotations

import asyncio

import pytest

from cutor.bus.connection import Bus
from tests.nats_server import OwnServer
from tests.raw_nats import hpub, pub, send_raw

SUBJECT = b"cutor.ev.default.poison.submitted"
POISON = {
    "a subject that is no UTF-8": pub(b"cutor.ev.default.\xff\xe2\x82.submitted", b"x"),
    "a subject with control characters": pub(b"cutor.ev.default.a\x01\x00\x1bb.submitted", b"x"),
    "a subject as long as the server takes": pub(b"cutor.ev.default." + b"a" * 3900 + b".submitted", b"x"),
    "a subject with wildcards": pub(b"cutor.ev.*.*.>", b"x"),
    "headers of one byte": hpub(SUBJECT, b"N", b"x"),
    "headers that end in the first line": hpub(SUBJECT, b"NATS/1.0", b"x"),
    "headers without an end": hpub(SUBJECT, b"NATS/1.0\r\nNats-Msg-Id: a", b"x"),
    "headers without a first line": hpub(SUBJECT, b"Nats-Msg-Id: a\r\n\r\n", b"x"),
    "headers that are no text": hpub(SUBJECT, b"NATS/1.0\r\n\xff\xfe: \xff\r\nNats-Sequence: 99\r\n\r\n", b"x"),
    "a status": hpub(SUBJECT, b"NATS/1.0 404 No Messages\r\n\r\n", b"x"),
    "a status of no responders": hpub(SUBJECT, b"NATS/1.0 503\r\n\r\n", b""),
    "a status that is no text": hpub(SUBJECT, b"NATS/1.0 \xff\xff\xff \xff\r\n\r\n", b"x"),
    "a time of its own": hpub(SUBJECT, b"NATS/1.0\r\nNats-Time-Stamp: never\r\nNats-Subject: x\r\n\r\n", b"x"),
}


@pytest.mark.parametrize("frame", POISON.values(), ids=POISON)
async def test_what_is_behind_it_is_read(own_server: OwnServer, own_bus: Bus, frame: bytes) -> None:
    await send_raw(own_server.url, frame)
    last = await own_bus.publish("cutor.ev.default.after.note", b"{}")
    assert last == 2, "the server has stored the frame"
    async with asyncio.timeout(180):
        poison, after = [stored async for stored in own_bus.read("EVENTS")]
        assert (after.subject, after.body) == ("cutor.ev.default.after.note", b"{}")
        direct, leader = await own_bus.get("EVENTS", 1), await own_bus.get("EVENTS", 1, consistent=True)
    assert direct is not None
    assert leader is not None
    for stored in (direct, leader):
        assert (stored.stream, stored.sequence, stored.time_ns, stored.body) == ("EVENTS", 1, poison.time_ns, poison.body)
    assert (leader.subject, leader.message_id) == (poison.subject, poison.message_id), "or the projector takes it for another"


async def test_notices_go_on_behind_it(own_server: OwnServer, own_bus: Bus) -> None:
    """A worker hears of cancels by a plain subscription: it must not end at a stranger's subject."""
    async with own_bus.subscribe("cutor.ev.*.*.cancelled") as notices:
        await send_raw(own_server.url, pub(b"cutor.ev.default.\xff.cancelled", b"x"), hpub(SUBJECT, b"N", b"x"))
        await own_bus.publish("cutor.ev.default.real.cancelled", b"{}")
        async with asyncio.timeout(180):
            async for notice in notices:
                if notice.subject == "cutor.ev.default.real.cancelled":
                    break


@pytest.mark.parametrize("subject", [b"cutor.ev.default.>.parked", b"cutor.ev.>.a.parked", b"cutor.ev.default.*.parked"])
async def test_a_subject_of_wildcards_keeps_no_reader_waiting(own_server: OwnServer, own_bus: Bus, subject: bytes) -> None:
    """The server counts some of them for a filter with wildcards, and never delivers them."""
    await own_bus.publish("cutor.ev.default.a.parked", b"1")
    await send_raw(own_server.url, pub(subject, b"x"))
    await own_bus.publish("cutor.ev.default.b.parked", b"2")
    await send_raw(own_server.url, pub(subject, b"x"))
    async with asyncio.timeout(180):
        found = [stored.body async for stored in own_bus.read("EVENTS", filter="cutor.ev.*.*.parked")]
    assert [body for body in found if body != b"x"] == [b"1", b"2"]

"""What the bus relies on in nats-server, and that every way of reading gives the same message."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from cutor.bus.connection import Bus
from cutor.bus.errors import StreamMissing
from cutor.bus.message import Stored
from tests.nats_server import Append


async def read_all(bus: Bus, matching: str) -> list[Stored]:
    return [stored async for stored in bus.read("EVENTS", filter=matching)]


async def test_every_way_of_reading_gives_the_same_message(bus: Bus, fresh_id: str) -> None:
    subject = f"cutor.ev.default.{fresh_id}.submitted"
    appended = await bus.append(
        subject,
        b"\x00body",
        message_id="m",
        fence=f"cutor.ev.default.{fresh_id}.>",
        expected_sequence=0,
        headers={"Trace": "t"},
    )
    stored = await bus.get("EVENTS", appended.sequence)
    assert stored is not None
    assert (stored.subject, stored.body, stored.message_id, dict(stored.headers)) == (subject, b"\x00body", "m", {"Trace": "t"})
    assert await bus.get("EVENTS", appended.sequence, consistent=True) == stored
    assert await bus.last("EVENTS", subject) == stored
    assert await bus.last("EVENTS", f"cutor.ev.default.{fresh_id}.>", consistent=True) == stored
    assert await bus.history(f"cutor.ev.default.{fresh_id}.>", subject) == [stored]
    assert await bus.history(f"cutor.ev.default.{fresh_id}.>", subject, consistent=True) == [stored]
    assert await read_all(bus, subject) == [stored]


async def test_a_sender_cannot_forge_the_servers_headers(bus: Bus, fresh_id: str) -> None:
    subject = f"cutor.ev.default.{fresh_id}.submitted"
    forged = {"Nats-Sequence": "999999", "Nats-Subject": "cutor.ev.other.x.finished", "Status": "404", "Nats-Stream": "OTHER"}
    await bus.link.send(subject, b"x", headers=forged)
    await bus.link.round_trip(2.0)
    (stored,) = await read_all(bus, subject)
    assert (stored.subject, stored.stream) == (subject, "EVENTS")
    assert stored.sequence != 999999
    assert await bus.last("EVENTS", subject) == stored
    assert await bus.last("EVENTS", subject, consistent=True) == stored


async def test_what_is_not_there_is_none_and_not_an_error(bus: Bus) -> None:
    for consistent in (False, True):
        assert await bus.get("EVENTS", 10**9, consistent=consistent) is None
        assert await bus.last("EVENTS", "cutor.ev.default.nobody.>", consistent=consistent) is None
    assert await bus.history("cutor.ev.default.nobody.>", "cutor.ev.default.nobody.submitted") == []
    assert await bus.history("cutor.ev.default.nobody.>", "cutor.ev.default.nobody.submitted", consistent=True) == []


async def test_a_missing_stream_is_named_at_once(bus: Bus) -> None:
    async with asyncio.timeout(30):
        with pytest.raises(StreamMissing, match=r"stream NOWHERE: .*cutor streams apply"):
            await bus.last("NOWHERE", "a")
        with pytest.raises(StreamMissing):
            await bus.get("NOWHERE", 1, consistent=True)
        with pytest.raises(StreamMissing):
            await anext(bus.read("NOWHERE"))
        with pytest.raises(StreamMissing):
            await bus.stream_info("NOWHERE")


async def test_a_history_longer_than_a_batch_is_complete_and_in_order(
    bus: Bus, fresh_id: str, append: Append, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cutor.bus.reading.BATCH", 7)
    sequences = [await append(fresh_id, "submitted", 0)]
    for _ in range(40):
        sequences.append(await append(fresh_id, "ran", sequences[-1]))
        await append(f"{fresh_id}-other-{sequences[-1]}", "submitted", 0)
    found = await bus.history(f"cutor.ev.default.{fresh_id}.>", f"cutor.ev.default.{fresh_id}.submitted")
    assert [stored.sequence for stored in found] == sequences


async def test_a_history_in_many_bytes_is_complete(
    bus: Bus, fresh_id: str, append: Append, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cutor.bus.reading.BATCH_BYTES", 1000)
    sequences = [await append(fresh_id, "submitted", 0)]
    for _ in range(9):
        sequences.append(await append(fresh_id, "ran", sequences[-1], body=b"x" * 700))
    found = await bus.history(f"cutor.ev.default.{fresh_id}.>", f"cutor.ev.default.{fresh_id}.submitted")
    assert [stored.sequence for stored in found] == sequences


async def test_a_history_reaches_the_sequence_asked_for_even_if_the_batch_is_behind(
    bus: Bus, fresh_id: str, append: Append, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica that is behind is imitated by dropping what the direct reads bring; the leader is asked for the rest."""
    sequences = [await append(fresh_id, "submitted", 0)]
    for kind in ("leased", "cache-built", "cleaned"):
        sequences.append(await append(fresh_id, kind, sequences[-1]))

    async def nothing(*_: object) -> AsyncGenerator[list[Stored], None]:
        for found in ():
            yield found

    monkeypatch.setattr(bus._reading, "behind", nothing)
    found = await bus.history(f"cutor.ev.default.{fresh_id}.>", f"cutor.ev.default.{fresh_id}.submitted", at_least=sequences[2])
    assert [stored.sequence for stored in found] == sequences


async def test_headers_longer_than_usual_and_empty_bodies_survive(bus: Bus, fresh_id: str) -> None:
    subject = f"cutor.ev.default.{fresh_id}.submitted"
    headers = {"Long": "x" * 4000, "Umlaut": "äöü"}
    await bus.append(subject, b"", message_id="ü", fence=subject, expected_sequence=0, headers=headers)
    stored = await bus.last("EVENTS", subject)
    assert stored is not None
    assert (dict(stored.headers), stored.body, stored.message_id) == (headers, b"", "ü")
    assert await read_all(bus, subject) == [stored]
    assert await bus.last("EVENTS", subject, consistent=True) == stored

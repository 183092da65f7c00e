"""Following in bulk: what is there, what comes, each once and in order, through whatever gets lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from cutor.bus.bulk import reader
from cutor.bus.bulk.columns import Columns
from cutor.bus.bulk.following import as_it_comes
from cutor.bus.bulk.pulling import LostLater
from cutor.bus.bulk.reader import Wanted
from cutor.bus.bulk.wire import Wire, WireFailed
from cutor.bus.connection import Bus
from cutor.bus.errors import StreamMissing, StreamRewound
from tests.bench.lives import lives, publish
from tests.integration.test_bus_bulk import consumers
from tests.integration.test_bus_poison import POISON
from tests.nats_server import OwnServer
from tests.raw_nats import send_raw


async def follow(bus: Bus, count: int, start: int = 1, batch: int = 1000) -> Columns:
    """Read so many messages, and leave."""
    found = Columns.empty()
    async with asyncio.timeout(180), aclosing(bus.follow_columns("EVENTS", from_sequence=start, batch=batch)) as batches:
        async for some in batches:
            assert 0 < len(some) <= batch
            found.add(some)
            if len(found) >= count:
                break
    assert len(found) == count
    return found


async def test_it_reads_what_the_ordinary_reader_reads(own_server: OwnServer, own_bus: Bus) -> None:
    """Whole lives, what no client would send, messages larger than a pull; and then what comes."""
    await publish(own_server.url, lives(3000))
    await send_raw(own_server.url, *POISON.values())
    for number in range(2):
        await own_bus.publish(f"cutor.ev.default.large{number}.submitted", bytes(7 << 20))
    last = await own_bus.publish("cutor.ev.default.after.note", b"{}")
    following = asyncio.create_task(follow(own_bus, last + 2, batch=700))
    for number in range(2):
        await own_bus.publish(f"cutor.ev.default.later{number}.note", b"{}")
    found = await following
    ordinary = [stored async for stored in own_bus.read("EVENTS")]
    assert found == Columns.of(ordinary)
    assert [(one.sequence, one.subject, one.body) for one in found.each("EVENTS")] == [
        (one.sequence, one.subject, one.body) for one in ordinary
    ]
    assert (await follow(own_bus, 2, start=last + 1)) == Columns.of(ordinary[-2:])
    assert await consumers(own_bus) == []


async def test_an_idle_one_goes_on_where_its_consumer_or_its_server_is_lost(own_server: OwnServer, own_bus: Bus) -> None:
    await publish(own_server.url, lives(10))
    seen: list[int] = []
    async with asyncio.timeout(180), aclosing(own_bus.follow_columns("EVENTS", from_sequence=1, batch=1000)) as batches:

        async def next_ones(count: int) -> None:
            while count > 0:
                some = await anext(batches)
                seen.extend(some.sequences)
                count -= len(some)

        await next_ones(10)
        (name,) = await consumers(own_bus)
        waiting = asyncio.create_task(next_ones(1))
        await own_bus.api.call("loss", f"CONSUMER.DELETE.EVENTS.{name}")
        await own_bus.publish("cutor.ev.default.one.note", b"{}")
        await waiting
        waiting = asyncio.create_task(next_ones(1))
        await own_server.kill()
        await own_server.start()
        await own_bus.publish("cutor.ev.default.two.note", b"{}")
        await waiting
    assert seen == list(range(1, 13))
    assert await consumers(own_bus) == []


async def test_what_is_not_there_is_named(own_server: OwnServer, own_bus: Bus) -> None:
    with pytest.raises(StreamMissing):
        await anext(own_bus.follow_columns("NOWHERE", from_sequence=1, batch=1))
    await publish(own_server.url, lives(3))
    with pytest.raises(StreamRewound, match="read up to sequence 9, but now ends at 3"):
        await anext(own_bus.follow_columns("EVENTS", from_sequence=10, batch=1))


async def test_without_a_wire_the_ordinary_reader_does_it(
    own_server: OwnServer, own_bus: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise WireFailed("no way")

    monkeypatch.setattr(Wire, "open", refuse)
    await publish(own_server.url, lives(300))
    with caplog.at_level(logging.WARNING):
        following = asyncio.create_task(follow(own_bus, 292, start=10, batch=50))
        await publish(own_server.url, list(lives(301))[300:])
        assert (await following).sequences == list(range(10, 302))
    assert "read in the ordinary way, from 10 on" in caplog.text


async def test_losses_of_wires_that_were_of_use_are_not_counted(own_bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """An idle follower is not brought a message between one loss and the next."""
    losses = 0

    async def lossy(wanted: Wanted) -> AsyncGenerator[Columns, None]:
        nonlocal losses
        if losses < 2 * reader.ATTEMPTS:
            losses += 1
            raise LostLater("lost")
        async with aclosing(as_it_comes(wanted)) as parts:
            async for columns in parts:
                yield columns

    await own_bus.publish("cutor.ev.default.one.note", b"{}")
    parts = reader.BulkReader(own_bus.link, own_bus.api, "EVENTS", 1, None, lossy).parts()
    async with asyncio.timeout(180), aclosing(parts):
        assert (await anext(parts)).last == 1
    assert losses == 2 * reader.ATTEMPTS
    assert "in the ordinary way" not in caplog.text


async def test_a_follower_goes_back_to_a_wire(
    own_bus: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried, back = 0, asyncio.Event()

    async def refused_at_first(wanted: Wanted) -> AsyncGenerator[Columns, None]:
        nonlocal tried
        tried += 1
        if tried <= reader.ATTEMPTS + 1:
            raise WireFailed("no way")
        back.set()
        async with aclosing(as_it_comes(wanted)) as parts:
            async for columns in parts:
                yield columns

    monkeypatch.setattr(reader, "ORDINARY_S", 0.3)
    parts = reader.BulkReader(own_bus.link, own_bus.api, "EVENTS", 1, None, refused_at_first).parts()
    async with asyncio.timeout(180), aclosing(parts):
        waiting = asyncio.ensure_future(anext(parts))
        await back.wait()
        await own_bus.publish("cutor.ev.default.one.note", b"{}")
        assert (await waiting).last == 1
        assert len(await consumers(own_bus)) == 1
    assert caplog.text.count("in the ordinary way, from 1 on") == 2
    names = (await own_bus.api.call("consumers", "CONSUMER.NAMES.EVENTS"))["consumers"]
    assert not [name for name in names if name.startswith(("bulk-", "reader-"))]

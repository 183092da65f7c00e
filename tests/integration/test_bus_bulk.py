"""Reading in bulk gives what the ordinary reader gives: whole, in order, once, and through whatever gets lost."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing

import pytest

from cutor.bus.bulk.columns import Columns
from cutor.bus.bulk.wire import Wire, WireFailed
from cutor.bus.connection import Bus
from cutor.bus.errors import StreamMissing, StreamRewound
from tests.bench.lives import lives, publish
from tests.integration.test_bus_poison import POISON
from tests.nats_server import OwnServer
from tests.raw_nats import send_raw

MANY = 30_000


async def read(bus: Bus, start: int, until: int, batch: int = 5000) -> Columns:
    columns = Columns.empty()
    async with (
        asyncio.timeout(180),
        aclosing(bus.read_columns("EVENTS", from_sequence=start, until_sequence=until, batch=batch)) as batches,
    ):
        async for some in batches:
            columns.add(some)
    return columns


async def test_it_reads_what_the_ordinary_reader_reads(own_server: OwnServer, own_bus: Bus) -> None:
    """Whole lives, what no client would send, messages larger than a pull, and every part of it."""
    assert len(await read(own_bus, 1, 100)) == 0
    await publish(own_server.url, lives(3000))
    await send_raw(own_server.url, *POISON.values())
    for number in range(3):
        await own_bus.publish(f"cutor.ev.default.large{number}.submitted", bytes(7 << 20))
    last = await own_bus.publish("cutor.ev.default.after.note", b"{}")
    ordinary = Columns.of([stored async for stored in own_bus.read("EVENTS")])
    assert await read(own_bus, 1, last) == ordinary
    assert await read(own_bus, 1, last, batch=1) == ordinary
    assert (await read(own_bus, 100, 2000)) == ordinary.part(99, 2000)
    assert (await read(own_bus, last, last + 1000)).sequences == [last]
    assert len(await read(own_bus, 5, 4)) == 0
    with pytest.raises(StreamRewound):
        await read(own_bus, last + 2, last + 3)


async def test_a_stream_that_is_not_there_is_named(own_bus: Bus) -> None:
    with pytest.raises(StreamMissing):
        await anext(own_bus.read_columns("NOWHERE", from_sequence=1, until_sequence=2))


async def consumers(bus: Bus) -> list[str]:
    names = (await bus.api.call("consumers", "CONSUMER.NAMES.EVENTS"))["consumers"]
    return [name for name in names if name.startswith("bulk-")]


async def test_it_goes_on_where_its_consumer_or_its_server_is_lost(own_server: OwnServer, own_bus: Bus) -> None:
    await publish(own_server.url, lives(MANY))
    seen: list[int] = []
    async with (
        asyncio.timeout(180),
        aclosing(own_bus.read_columns("EVENTS", from_sequence=1, until_sequence=MANY, batch=1000)) as batches,
    ):
        async for columns in batches:
            before = len(seen)
            seen += columns.sequences
            if before < 2000 <= len(seen):
                (name,) = await consumers(own_bus)
                await own_bus.api.call("loss", f"CONSUMER.DELETE.EVENTS.{name}")
            if before < MANY // 2 <= len(seen):
                await own_server.kill()
                await own_server.start()
    assert seen == list(range(1, MANY + 1))
    assert await consumers(own_bus) == []


async def test_one_that_is_left_early_leaves_nothing(own_server: OwnServer, own_bus: Bus) -> None:
    await publish(own_server.url, lives(3000))
    async with aclosing(own_bus.read_columns("EVENTS", from_sequence=1, until_sequence=3000, batch=100)) as batches:
        await anext(batches)
    assert await consumers(own_bus) == []


async def test_without_a_wire_the_ordinary_reader_does_it(
    own_server: OwnServer, own_bus: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise WireFailed("no way")

    monkeypatch.setattr(Wire, "open", refuse)
    await publish(own_server.url, lives(300))
    with caplog.at_level(logging.WARNING):
        assert (await read(own_bus, 10, 300)).sequences == list(range(10, 301))
    assert "read in the ordinary way, from 10 on" in caplog.text

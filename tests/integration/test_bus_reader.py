"""Bulk reading: complete, in order, once, through restarts and lost consumers."""

import asyncio
from contextlib import aclosing

import pytest

from cutor.bus.connection import Bus
from cutor.bus.errors import BusError, BusUnreachable, StreamRewound
from cutor.bus.message import Stored
from tests.nats_server import Append, OwnServer, appender


async def fill(bus: Bus, count: int, prefix: str = "r") -> None:
    append = appender(bus)
    await asyncio.gather(*(append(f"{prefix}{number}", "submitted", 0) for number in range(count)))


def sequences(messages: list[Stored]) -> list[int]:
    return [stored.sequence for stored in messages]


async def test_a_finite_read_ends_at_the_end(own_bus: Bus) -> None:
    assert [stored async for stored in own_bus.read("EVENTS")] == []
    await fill(own_bus, 2500)
    assert [stored.sequence async for stored in own_bus.read("EVENTS", batch=100)] == list(range(1, 2501))
    assert [stored.sequence async for stored in own_bus.read("EVENTS", from_sequence=2400, until_sequence=2410)] == list(
        range(2400, 2411)
    )
    assert [stored async for stored in own_bus.read("EVENTS", from_sequence=2501)] == []
    assert [s.subject async for s in own_bus.read("EVENTS", filter="cutor.ev.*.r77.*")] == ["cutor.ev.default.r77.submitted"]
    assert [s async for s in own_bus.read("EVENTS", filter=["cutor.ev.no.*.*", "cutor.ev.none.*.*"])] == []


async def test_batches_are_no_longer_than_asked_for(own_bus: Bus) -> None:
    await fill(own_bus, 500)
    batches = [batch async for batch in own_bus.read_batches("EVENTS", batch=64)]
    assert all(1 <= len(batch) <= 64 for batch in batches)
    assert sequences([stored for batch in batches for stored in batch]) == list(range(1, 501))


async def test_batches_are_bounded_in_bytes_too(own_bus: Bus) -> None:
    for number in range(5):
        await own_bus.publish(f"cutor.ev.default.large{number}.submitted", bytes(7 << 20))
    await fill(own_bus, 20)
    batches = [batch async for batch in own_bus.read_batches("EVENTS", batch=20_000)]
    assert all(sum(len(stored.body) for stored in batch) <= 16 << 20 for batch in batches)
    assert sequences([stored for batch in batches for stored in batch]) == list(range(1, 26))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"from_sequence": 0}, "start at 1"),
        ({"follow": True, "until_sequence": 3}, "not both"),
        ({"batch": 0}, "1 message or more"),
    ],
)
async def test_ranges_that_make_no_sense(bus: Bus, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(BusError, match=message):
        await anext(bus.read("EVENTS", **arguments))  # type: ignore[arg-type]


async def test_following_brings_what_is_appended_later(bus: Bus, fresh_id: str, append: Append) -> None:
    first = await append(fresh_id, "submitted", 0)
    async with asyncio.timeout(180), aclosing(bus.read("EVENTS", filter=f"cutor.ev.*.{fresh_id}.>", follow=True)) as reading:
        assert (await anext(reading)).sequence == first
        waiting = asyncio.ensure_future(anext(reading))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        second = await append(fresh_id, "leased", first)
        assert (await waiting).sequence == second


async def test_a_reader_leaves_no_consumer_behind(own_bus: Bus) -> None:
    await fill(own_bus, 10)
    async with aclosing(own_bus.read("EVENTS", follow=True)) as reading:
        await anext(reading)
        assert await readers(own_bus) == 1
    assert await readers(own_bus) == 0


async def readers(bus: Bus) -> int:
    answer = await bus.api.call("consumers", "CONSUMER.NAMES.EVENTS", {"offset": 0})
    return len([name for name in answer["consumers"] or [] if name.startswith("reader-")])


async def test_a_reader_goes_on_when_its_consumer_is_deleted(own_bus: Bus) -> None:
    await fill(own_bus, 30)
    async with asyncio.timeout(180), aclosing(own_bus.read("EVENTS", follow=True)) as reading:
        seen = [(await anext(reading)).sequence for _ in range(30)]
        waiting = asyncio.ensure_future(anext(reading))
        await asyncio.sleep(0.05)
        answer = await own_bus.api.call("consumers", "CONSUMER.NAMES.EVENTS", {"offset": 0})
        (name,) = [name for name in answer["consumers"] if name.startswith("reader-")]
        await own_bus.api.call("delete", f"CONSUMER.DELETE.EVENTS.{name}")
        await fill(own_bus, 5, "later")
        seen.append((await waiting).sequence)
        seen += [(await anext(reading)).sequence for _ in range(4)]
    assert seen == list(range(1, 36))


@pytest.mark.parametrize("missing", [7, 20], ids=["seen by the next one", "the last one: seen by a heartbeat"])
async def test_a_lost_delivery_is_noticed_and_read_again(own_bus: Bus, monkeypatch: pytest.MonkeyPatch, missing: int) -> None:
    """A delivery is thrown away as an overflow would, once."""
    await fill(own_bus, 20)
    dropped: set[int] = set()
    real = own_bus.link.subscribe_raw

    async def leaky(subject: str, handler: object) -> object:
        def drop_some(message: object) -> None:
            tokens = message.reply.split(".")  # type: ignore[attr-defined]
            if len(tokens) == 9 and int(tokens[5]) in {missing} - dropped:
                dropped.add(int(tokens[5]))
                return
            handler(message)  # type: ignore[operator]

        return await real(subject, drop_some)

    monkeypatch.setattr(own_bus.link, "subscribe_raw", leaky)
    async with asyncio.timeout(180):
        assert [stored.sequence async for stored in own_bus.read("EVENTS")] == list(range(1, 21))
    assert dropped == {missing}


async def test_a_reader_survives_kill_and_restart_in_the_middle(own_server: OwnServer, own_bus: Bus) -> None:
    await fill(own_bus, 3000)
    seen: list[int] = []
    async with asyncio.timeout(180), aclosing(own_bus.read("EVENTS", follow=True, batch=50)) as reading:
        async for stored in reading:
            seen.append(stored.sequence)
            if len(seen) == 120:
                await own_server.kill()
                await asyncio.sleep(0.1)
                await own_server.start()
                await fill(own_bus, 100, "after")
            if len(seen) == 3100:
                break
    assert seen == list(range(1, 3101))


async def test_an_idle_follower_notices_what_comes_after_a_restart(own_server: OwnServer, own_bus: Bus) -> None:
    await fill(own_bus, 1)
    async with asyncio.timeout(180), aclosing(own_bus.read("EVENTS", follow=True)) as reading:
        await anext(reading)
        waiting = asyncio.ensure_future(anext(reading))
        await asyncio.sleep(0.05)
        await own_server.kill()
        await own_server.start()
        await fill(own_bus, 1, "after")
        assert (await waiting).sequence == 2


async def test_a_position_past_the_end_is_not_waited_for(own_bus: Bus) -> None:
    await fill(own_bus, 3)
    with pytest.raises(StreamRewound, match="read up to sequence 9, but now ends at 3") as caught:
        await anext(own_bus.read("EVENTS", from_sequence=10, follow=True))
    assert (caught.value.position, caught.value.last_sequence) == (9, 3)


async def test_two_readers_at_once_see_the_same(own_bus: Bus) -> None:
    await fill(own_bus, 2000)

    async def read() -> list[int]:
        return [stored.sequence async for stored in own_bus.read("EVENTS")]

    assert await read() == (await asyncio.gather(read(), read()))[1] == list(range(1, 2001))


async def test_a_follower_with_patience_ends_where_the_server_stays_away(own_server: OwnServer, own_bus: Bus) -> None:
    await fill(own_bus, 1)
    async with asyncio.timeout(180), aclosing(own_bus.read("EVENTS", follow=True, patience_s=0.5)) as reading:
        await anext(reading)
        await own_server.kill()
        with pytest.raises(BusUnreachable, match=r"lost 0\.5 s ago and does not come back"):
            await anext(reading)
    await own_server.start()

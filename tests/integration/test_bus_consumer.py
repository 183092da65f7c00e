"""Work queues: leases by heartbeat, redelivery, restarts, and fair turns."""

import asyncio
import time
from collections import Counter

import pytest

from cutor.bus.connection import Bus
from cutor.bus.consumer import WeightedQueues
from cutor.bus.delivery import Delivery, Pulse
from cutor.bus.errors import BusClosed, BusError
from tests.nats_server import Append, OwnServer, appender

AT_ONCE_S = 20.0
"""Far less than an ack_wait of 30 s, far more than a busy machine takes."""


async def make_consumer(
    bus: Bus, name: str, *, ack_wait_s: float = 30, matching: str = "cutor.ev.>", pending: int = 1000
) -> str:
    """A durable consumer on EVENTS, as streams.yaml makes them, with another clock and filter."""
    config = {
        "durable_name": name,
        "name": name,
        "ack_policy": "explicit",
        "ack_wait": int(ack_wait_s * 1e9),
        "max_deliver": -1,
        "max_ack_pending": pending,
        "filter_subjects": [matching],
    }
    await bus.api.call("test consumer", f"CONSUMER.CREATE.EVENTS.{name}", {"stream_name": "EVENTS", "config": config})
    return name


async def waiting_pulls(bus: Bus, name: str) -> int:
    return int((await bus.api.call("info", f"CONSUMER.INFO.EVENTS.{name}"))["num_waiting"])


async def pending_acks(bus: Bus, name: str) -> int:
    return int((await bus.api.call("info", f"CONSUMER.INFO.EVENTS.{name}"))["num_ack_pending"])


async def take(queue: WeightedQueues, within_s: float = 60.0) -> Delivery:
    delivery = await queue.next(within_s)
    assert delivery is not None
    return delivery


@pytest.fixture
async def consumer(bus: Bus, fresh_id: str) -> str:
    """A consumer of this test's submission alone, with an ack_wait of 1.5 s: a heartbeat may be late on a busy machine."""
    return await make_consumer(bus, f"test-{fresh_id}", ack_wait_s=1.5, matching=f"cutor.ev.*.{fresh_id}.>")


async def test_what_is_acknowledged_does_not_come_again(bus: Bus, fresh_id: str, append: Append, consumer: str) -> None:
    await append(fresh_id, "submitted", 0, body=b"work")
    async with WeightedQueues(bus, "EVENTS", [(consumer, 1)]) as queue:
        delivery = await take(queue)
        assert (delivery.stored.body, delivery.delivered_count, delivery.pending) == (b"work", 1, 0)
        assert delivery.consumer == consumer
        assert delivery.stored == await bus.last("EVENTS", f"cutor.ev.*.{fresh_id}.>")
        await delivery.ack(confirm=True)
        assert await pending_acks(bus, consumer) == 0
        assert await queue.next(2.0) is None


async def test_without_heartbeats_it_comes_again_and_with_them_it_does_not(
    bus: Bus, fresh_id: str, append: Append, consumer: str
) -> None:
    await append(fresh_id, "submitted", 0)
    async with WeightedQueues(bus, "EVENTS", [(consumer, 1)]) as queue:
        assert (await take(queue)).delivered_count == 1
        second = await take(queue)
        assert second.delivered_count == 2
        async with second.kept_alive(Pulse(0.1)):
            assert await queue.next(2.5) is None
        third = await take(queue)
        assert third.delivered_count == 3
        await third.ack()


async def test_handing_back_with_and_without_delay(bus: Bus, fresh_id: str, append: Append) -> None:
    await append(fresh_id, "submitted", 0)
    consumer = await make_consumer(bus, f"test-{fresh_id}", matching=f"cutor.ev.*.{fresh_id}.>")
    async with WeightedQueues(bus, "EVENTS", [(consumer, 1)]) as queue:
        await (await take(queue)).nak()
        again = await take(queue, AT_ONCE_S)
        began = time.monotonic()
        await again.nak(0.3)
        assert (await take(queue, AT_ONCE_S)).delivered_count == 3
        assert time.monotonic() - began > 0.25


async def test_an_ended_message_never_comes_again_and_its_reason_is_published(
    bus: Bus, fresh_id: str, append: Append, consumer: str
) -> None:
    await append(fresh_id, "submitted", 0)
    advisory = f"$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.EVENTS.{consumer}"
    async with bus.subscribe(advisory) as notices, WeightedQueues(bus, "EVENTS", [(consumer, 1)]) as queue:
        await (await take(queue)).term("poison:\r\nof two lines")
        async with asyncio.timeout(180):
            assert b"poison: of two lines" in (await anext(aiter(notices))).body
        assert await queue.next(2.0) is None


async def test_no_more_is_pulled_than_there_are_callers(bus: Bus, fresh_id: str, append: Append) -> None:
    for number in range(10):
        await append(f"{fresh_id}-{number}", "submitted", 0, tenant=fresh_id)
    name = await make_consumer(bus, f"test-{fresh_id}", matching=f"cutor.ev.{fresh_id}.>")
    async with WeightedQueues(bus, "EVENTS", [(name, 1)]) as queue:
        await asyncio.gather(*(take(queue) for _ in range(3)))
        await asyncio.sleep(0.1)
        assert await pending_acks(bus, name) == 3


async def test_a_cancelled_caller_loses_nothing(bus: Bus, fresh_id: str, append: Append) -> None:
    """ack_wait is 30 s: what a cancelled caller was given has to be handed back to come again at once."""
    name = await make_consumer(bus, f"test-{fresh_id}", matching=f"cutor.ev.{fresh_id}.>")
    async with WeightedQueues(bus, "EVENTS", [(name, 1)]) as queue:
        caller = asyncio.create_task(queue.next())
        await asyncio.sleep(0.05)
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        await append("one", "submitted", 0, tenant=fresh_id)
        await asyncio.sleep(0.05)
        assert (await take(queue, AT_ONCE_S)).stored.subject == f"cutor.ev.{fresh_id}.one.submitted"


async def test_closing_hands_back_what_was_on_its_way(bus: Bus, fresh_id: str, append: Append) -> None:
    name = await make_consumer(bus, f"test-{fresh_id}", matching=f"cutor.ev.{fresh_id}.>")
    first = WeightedQueues(bus, "EVENTS", [(name, 1)])
    assert await first.next(0.05) is None
    await append("one", "submitted", 0, tenant=fresh_id)
    await first.aclose()
    with pytest.raises(BusClosed):
        await first.next(1)
    async with WeightedQueues(bus, "EVENTS", [(name, 1)]) as second:
        assert (await take(second, AT_ONCE_S)).stored.subject == f"cutor.ev.{fresh_id}.one.submitted"


async def test_callers_that_wait_are_told_when_the_bus_is_closed(own_bus: Bus) -> None:
    name = await make_consumer(own_bus, "test")
    queue = WeightedQueues(own_bus, "EVENTS", [(name, 1)])
    waiting = asyncio.create_task(queue.next())
    await asyncio.sleep(0.05)
    await own_bus.close()
    with pytest.raises(BusClosed):
        await asyncio.wait_for(waiting, 180)
    await queue.aclose()


async def test_pulls_go_on_after_kill_and_restart(own_server: OwnServer, own_bus: Bus) -> None:
    name = await make_consumer(own_bus, "test")
    async with WeightedQueues(own_bus, "EVENTS", [(name, 1)]) as queue:
        waiting = asyncio.create_task(take(queue))
        await asyncio.sleep(0.05)
        await own_server.kill()
        await asyncio.sleep(0.1)
        await own_server.start()
        await appender(own_bus)("x", "submitted", 0)
        delivery = await waiting
        await delivery.ack(confirm=True)


async def test_a_consumer_that_is_deleted_and_made_again_is_pulled_again(own_bus: Bus) -> None:
    await make_consumer(own_bus, "test")
    async with WeightedQueues(own_bus, "EVENTS", [("test", 1)]) as queue:
        waiting = asyncio.create_task(take(queue))
        await asyncio.sleep(0.05)
        await own_bus.api.call("delete", "CONSUMER.DELETE.EVENTS.test")
        await asyncio.sleep(0.3)
        await make_consumer(own_bus, "test")
        await appender(own_bus)("x", "submitted", 0)
        await waiting


async def test_a_consumer_that_does_not_exist_is_complained_about_once(
    own_bus: Bus, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cutor.bus.consumer.RETRY_MAX_S", 0.01)
    monkeypatch.setattr("cutor.bus.consumer.TICK_S", 0.02)
    async with WeightedQueues(own_bus, "EVENTS", [("nobody", 1)]) as queue:
        assert await queue.next(0.5) is None
    (line,) = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert "consumer nobody of stream EVENTS does not answer" in line
    assert "cutor streams plan" in line


async def test_silent_pulls_are_given_up(own_bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers of the first pull are thrown away, as if the server had forgotten it."""
    name = await make_consumer(own_bus, "test", ack_wait_s=0.5)
    real = own_bus.link.subscribe_raw

    async def deaf(subject: str, handler: object) -> object:
        def drop_first(message: object) -> None:
            if time.monotonic() > until:
                handler(message)  # type: ignore[operator]

        return await real(subject, drop_first)

    monkeypatch.setattr(own_bus.link, "subscribe_raw", deaf)
    until = time.monotonic() + 0.5
    await appender(own_bus)("x", "submitted", 0)
    async with WeightedQueues(own_bus, "EVENTS", [(name, 1)]) as queue:
        assert (await take(queue)).delivered_count >= 2


# -- turns -------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def lanes(bus: Bus, fresh_id: str) -> list[str]:
    """Two consumers, of the tenants `a-…` and `b-…`."""
    return [
        await make_consumer(bus, f"test-{lane}-{fresh_id}", matching=f"cutor.ev.{lane}-{fresh_id}.*.submitted") for lane in "ab"
    ]


async def flood(append: Append, tenant: str, count: int) -> None:
    await asyncio.gather(*(append(str(number), "submitted", 0, tenant=tenant) for number in range(count)))


def tenant_of(delivery: Delivery) -> str:
    return delivery.stored.subject.split(".")[2][0]


async def test_turns_follow_the_weights(bus: Bus, fresh_id: str, append: Append, lanes: list[str]) -> None:
    await flood(append, f"a-{fresh_id}", 60)
    await flood(append, f"b-{fresh_id}", 60)
    order = []
    async with WeightedQueues(bus, "EVENTS", [(lanes[0], 3), (lanes[1], 1)]) as queues:
        for _ in range(40):
            delivery = await take(queues)
            await delivery.ack()
            order.append(tenant_of(delivery))
    assert Counter(order) == {"a": 30, "b": 10}
    assert order[:4].count("b") == 1


async def test_a_flood_does_not_starve_the_other_tenant(bus: Bus, fresh_id: str, append: Append, lanes: list[str]) -> None:
    await flood(append, f"a-{fresh_id}", 200)
    order = []
    async with WeightedQueues(bus, "EVENTS", [(lanes[0], 1), (lanes[1], 1)]) as queues:
        for number in range(30):
            if number == 20:
                await append("late", "submitted", 0, tenant=f"b-{fresh_id}")
            delivery = await take(queues)
            await delivery.ack()
            order.append(tenant_of(delivery))
    assert "b" not in order[:20]
    assert "b" in order[20:23]


async def test_with_one_slot_one_message_is_held_even_if_both_lanes_fill_at_once(
    bus: Bus, fresh_id: str, append: Append, lanes: list[str]
) -> None:
    """Both lanes have a waiting pull; the message too many is handed back and comes again at once."""
    async with WeightedQueues(bus, "EVENTS", [(lanes[0], 1), (lanes[1], 1)]) as queues:
        waiting = asyncio.create_task(take(queues))
        while await waiting_pulls(bus, lanes[0]) + await waiting_pulls(bus, lanes[1]) < 2:
            await asyncio.sleep(0.01)
        await asyncio.gather(*(append("x", "submitted", 0, tenant=f"{lane}-{fresh_id}") for lane in "ab"))
        first = await waiting
        await asyncio.sleep(0.1)
        assert await pending_acks(bus, lanes[0]) + await pending_acks(bus, lanes[1]) <= 2
        second = await take(queues, AT_ONCE_S)
        assert {tenant_of(first), tenant_of(second)} == {"a", "b"}


async def test_many_slots_and_lanes_bring_everything_once(bus: Bus, fresh_id: str, append: Append, lanes: list[str]) -> None:
    await flood(append, f"a-{fresh_id}", 150)
    await flood(append, f"b-{fresh_id}", 50)
    seen: list[str] = []
    async with WeightedQueues(bus, "EVENTS", [(lanes[0], 1), (lanes[1], 1)]) as queues:

        async def slot() -> None:
            while (delivery := await queues.next(0.5)) is not None:
                seen.append(delivery.stored.subject)
                await delivery.ack()

        await asyncio.gather(*(slot() for _ in range(8)))
    assert len(seen) == len(set(seen)) == 200


async def test_a_lane_at_its_limit_of_unacknowledged_messages_holds_up_no_other(
    bus: Bus, fresh_id: str, append: Append
) -> None:
    full = await make_consumer(bus, f"test-full-{fresh_id}", matching=f"cutor.ev.a-{fresh_id}.>", pending=1)
    other = await make_consumer(bus, f"test-other-{fresh_id}", matching=f"cutor.ev.b-{fresh_id}.>")
    await flood(append, f"a-{fresh_id}", 3)
    async with WeightedQueues(bus, "EVENTS", [(full, 100), (other, 1)]) as queues:
        held = await take(queues)
        assert tenant_of(held) == "a"
        await append("x", "submitted", 0, tenant=f"b-{fresh_id}")
        assert tenant_of(await take(queues, 4)) == "b"
        await held.ack()
        assert tenant_of(await take(queues, 4)) == "a"


async def test_turns_go_on_after_kill_and_restart(own_server: OwnServer, own_bus: Bus) -> None:
    for lane in "ab":
        await make_consumer(own_bus, lane, matching=f"cutor.ev.{lane}.>")
    append = appender(own_bus)
    async with WeightedQueues(own_bus, "EVENTS", [("a", 1), ("b", 1)]) as queues:
        waiting = asyncio.create_task(take(queues, 15))
        await asyncio.sleep(0.05)
        await own_server.kill()
        await own_server.start()
        await append("x", "submitted", 0, tenant="b")
        assert tenant_of(await waiting) == "b"
        await append("x", "submitted", 0, tenant="a")
        assert tenant_of(await take(queues)) == "a"


async def test_one_consumer_twice_is_refused(bus: Bus) -> None:
    with pytest.raises(BusError, match="listed twice"):
        WeightedQueues(bus, "EVENTS", [("a", 1), ("a", 2)])

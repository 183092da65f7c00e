"""What leases rely on in nats-server: which answers to a delivery it confirms, and which it knows after its restart."""

from __future__ import annotations

import asyncio
import time

import pytest

from cutor.bus.connection import Bus
from cutor.bus.consumer import WeightedQueues
from cutor.bus.delivery import HAND_BACK_S, Delivery, Pulse, hand_back, hand_back_body
from cutor.bus.waiting import NoResponders
from tests.nats_server import OwnServer, appender
from tests.scripted_roles import PATIENCE_S, set_ack_wait

CONSUMER = "builder-default"
LONG_S = 600.0


async def take(queue: WeightedQueues) -> Delivery:
    delivery = await queue.next(PATIENCE_S)
    assert delivery is not None
    return delivery


async def ask(bus: Bus, delivery: Delivery, body: bytes) -> bytes:
    answer = await bus.link.ask(delivery.ack_subject, body, until=asyncio.get_running_loop().time() + PATIENCE_S)
    return bytes(answer.data)


async def test_heartbeats_and_hand_backs_are_confirmed_and_so_are_those_of_what_is_answered(own_bus: Bus) -> None:
    """So a confirmation says that the server is there, and not whose the delivery is."""
    await appender(own_bus)("a", "submitted", 0)
    async with WeightedQueues(own_bus, "EVENTS", [(CONSUMER, 1)]) as queue:
        delivery = await take(queue)
        assert await ask(own_bus, delivery, b"+WPI") == b""
        assert await ask(own_bus, delivery, hand_back_body(HAND_BACK_S)) == b""
        again = await take(queue)
        assert again.delivered_count == 2
        await again.ack(confirm=True)
        assert await ask(own_bus, delivery, b"+WPI") == b""
        await hand_back(own_bus.link, delivery.ack_subject)
        assert await queue.next(0.5) is None, "what is acknowledged stays so"


async def test_without_its_consumer_a_heartbeat_is_refused_at_once(own_bus: Bus) -> None:
    with pytest.raises(NoResponders):
        await own_bus.link.ask("$JS.ACK.EVENTS.nobody.1.1.1.1.0", b"+WPI", until=asyncio.get_running_loop().time() + PATIENCE_S)


async def kept(server: OwnServer, told_ns: int) -> None:
    """Wait until the server has written the consumer's state behind a moment: a busy one takes longer than it means to."""
    (state,) = server.directory.rglob(f"obs/{CONSUMER}/o.dat")
    async with asyncio.timeout(PATIENCE_S):
        while state.stat().st_mtime_ns <= told_ns:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.5)  # it may have begun to write before


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_hand_back_with_a_delay_outlives_the_server(own_server: OwnServer, own_bus: Bus, how: str) -> None:
    """Killed, it may lose what it was told in the last tenth of a second: so often it writes a consumer's state."""
    await set_ack_wait(own_bus, LONG_S)
    await appender(own_bus)("a", "submitted", 0)
    async with WeightedQueues(own_bus, "EVENTS", [(CONSUMER, 1)]) as queue:
        await (await take(queue)).hand_back()
        if how == "kill":
            await kept(own_server, time.time_ns())
        assert own_server.server is not None
        await (own_server.server.stop() if how == "stop" else own_server.server.kill())
        await own_server.start()
        await (await take(queue)).ack(confirm=True)


async def test_a_plain_hand_back_is_forgotten_with_the_server(own_server: OwnServer, own_bus: Bus) -> None:
    """Where this fails, the server has learned to keep it, and the delay of a millisecond can go."""
    await set_ack_wait(own_bus, LONG_S)
    await appender(own_bus)("a", "submitted", 0)
    async with WeightedQueues(own_bus, "EVENTS", [(CONSUMER, 1)]) as queue:
        await ask(own_bus, await take(queue), hand_back_body(0))
        assert own_server.server is not None
        await own_server.server.stop()
        await own_server.start()
        assert await queue.next(3) is None


async def test_no_heartbeat_follows_an_answer(own_bus: Bus) -> None:
    """It would take a hand-back back."""
    await set_ack_wait(own_bus, LONG_S)
    await appender(own_bus)("a", "submitted", 0)
    async with WeightedQueues(own_bus, "EVENTS", [(CONSUMER, 1)]) as queue:
        delivery = await take(queue)
        async with delivery.kept_alive(Pulse(0.02)):
            await asyncio.sleep(0.1)
            await delivery.nak(0.5)
            await asyncio.sleep(0.2)
            again = await take(queue)
        assert again.delivered_count == 2
        await again.ack(confirm=True)


async def test_who_is_cut_off_is_told_of_each_doubt_and_once_of_the_end(own_server: OwnServer, own_bus: Bus) -> None:
    await appender(own_bus)("a", "submitted", 0)
    said: list[str] = []
    pulse = Pulse(0.2, 4.0, doubtful=lambda: said.append("doubtful"), cut_off=lambda: said.append("cut off"))
    async with WeightedQueues(own_bus, "EVENTS", [(CONSUMER, 1)]) as queue:
        delivery = await take(queue)
        async with delivery.kept_alive(pulse):
            await asyncio.sleep(5)
            assert said == []
            await own_server.kill()
            async with asyncio.timeout(PATIENCE_S):
                while "cut off" not in said:
                    await asyncio.sleep(0.02)
            await asyncio.sleep(1)
    assert said[0] == "doubtful"
    assert said.count("cut off") == 1
    assert said[-1] == "cut off"
    await own_server.start()

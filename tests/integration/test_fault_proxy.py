"""The proxy of the fault harness does what it says, on a real server."""

from __future__ import annotations

import asyncio

import pytest

from cutor.bus.connection import Bus
from cutor.bus.errors import AppendUnconfirmed, BusUnreachable
from tests.fault.proxy import Messages, Proxy
from tests.nats_server import OwnServer

PATIENCE_S = 180.0


async def append(bus: Bus, identity: str, *, timeout_s: float = PATIENCE_S) -> int:
    """Append the first event of a submission."""
    appended = await bus.append(
        f"cutor.ev.default.{identity}.submitted",
        b"{}" * 100,
        message_id=f"id-of-{identity}",
        fence=f"cutor.ev.default.{identity}.>",
        expected_sequence=0,
        timeout_s=timeout_s,
    )
    return appended.sequence


def test_messages_are_whole() -> None:
    sent = [b"PING\r\n", b"HPUB a.b r 5 12\r\nabcde\r\n12345\r\n", b"PUB a 0\r\n\r\n", b"SUB a 1\r\n"]
    stream = b"".join(sent)
    for step in (1, 3, 7, len(stream)):
        messages = Messages()
        got = [one for at in range(0, len(stream), step) for one in messages.feed(stream[at : at + step])]
        assert got == sent


async def test_what_is_cut_is_gone_until_it_is_resumed(own_server: OwnServer, own_bus: Bus) -> None:
    async with Proxy(own_server.port) as proxy:
        url = proxy.url(own_server.url)
        async with Bus.connect(url, name="test") as bus:
            first = await append(bus, "one")
            proxy.cut()
            with pytest.raises((BusUnreachable, AppendUnconfirmed)):
                await append(bus, "two", timeout_s=1.0)
            with pytest.raises(BusUnreachable):
                async with Bus.connect(url, name="test", connect_timeout_s=1.0):
                    pass
            proxy.resume()
            assert await append(bus, "three") > first


async def test_a_frozen_network_says_nothing_and_then_everything(own_server: OwnServer, own_bus: Bus) -> None:
    async with Proxy(own_server.port) as proxy, Bus.connect(proxy.url(own_server.url), name="test") as bus:
        proxy.freeze()
        with pytest.raises(AppendUnconfirmed):
            await append(bus, "one", timeout_s=0.5)
        assert await own_bus.last("EVENTS", "cutor.ev.default.one.submitted") is None
        assert bus.connected
        proxy.resume()
        assert await append(bus, "one") > 0


async def test_a_slow_network_keeps_the_order(own_server: OwnServer, own_bus: Bus) -> None:
    async with Proxy(own_server.port) as proxy, Bus.connect(proxy.url(own_server.url), name="test") as bus:
        proxy.delay(100)
        began = asyncio.get_running_loop().time()
        sequences = await asyncio.gather(*(append(bus, f"slow{number}") for number in range(5)))
        assert asyncio.get_running_loop().time() - began >= 0.2
        assert sequences == sorted(sequences)


async def test_an_append_is_stored_and_its_answer_is_lost(own_server: OwnServer, own_bus: Bus) -> None:
    """It is asked again by itself on the next connection, and is in the stream once."""
    async with Proxy(own_server.port) as proxy, Bus.connect(proxy.url(own_server.url), name="test") as bus:
        trap = proxy.cut_after(rb"cutor\.ev\.default\.lost\.submitted")
        appending = asyncio.create_task(append(bus, "lost"))
        async with asyncio.timeout(PATIENCE_S):
            await trap.sprung.wait()
        stored = await own_bus.last("EVENTS", "cutor.ev.default.lost.submitted")
        assert stored is not None
        assert await appending == stored.sequence
        assert proxy.accepted == 2


async def test_half_a_message_is_not_stored(own_server: OwnServer, own_bus: Bus) -> None:
    async with Proxy(own_server.port) as proxy, Bus.connect(proxy.url(own_server.url), name="test") as bus:
        trap = proxy.cut_within(rb"cutor\.ev\.default\.half\.submitted")
        sequence = await append(bus, "half")
        assert trap.sprung.is_set()
        history = await own_bus.history("cutor.ev.default.half.>", "cutor.ev.default.half.submitted")
        assert [stored.sequence for stored in history] == [sequence]

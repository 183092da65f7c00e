"""Connecting: at once or a clear line; losing the connection: noticed, and over when the server is back."""

import asyncio
import logging
import socket
import time

import pytest

from cutor.bus.connection import CONNECT_TIMEOUT_S, Bus
from cutor.bus.embedded import EmbeddedServer
from cutor.bus.errors import BusError, BusUnreachable
from tests.nats_server import Append, OwnServer
from tests.ports import free_port

SOON_S = CONNECT_TIMEOUT_S / 2
"""Far less than what is waited for where nothing else is asked for, far more than a busy machine takes."""


async def test_refused_is_said_at_once_and_without_noise(caplog: pytest.LogCaptureFixture) -> None:
    began = time.monotonic()
    with pytest.raises(BusUnreachable) as caught:
        async with Bus.connect(f"nats://user:secret@127.0.0.1:{free_port('127.0.0.1')}", name="test"):
            pass
    assert time.monotonic() - began < SOON_S
    assert "secret" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)
    assert "cutor up" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not [record for record in caplog.records if record.levelno >= logging.INFO]


async def test_a_server_that_says_nothing_is_given_up() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        with pytest.raises(BusUnreachable, match="no answer in time"):
            async with Bus.connect(f"nats://127.0.0.1:{silent.getsockname()[1]}", name="test", connect_timeout_s=0.2):
                pass
        assert time.monotonic() - began < SOON_S


async def test_a_wrong_password_is_said(nats_server: EmbeddedServer) -> None:
    with pytest.raises(BusUnreachable, match="Authorization Violation"):
        async with Bus.connect(f"nats://cutor:wrong@127.0.0.1:{nats_server.port}", name="test"):
            pass


async def test_a_name_that_does_not_resolve_is_said() -> None:
    with pytest.raises(BusUnreachable, match=r"no-such-host\.invalid"):
        async with Bus.connect("nats://no-such-host.invalid:4222", name="test"):
            pass


async def test_tls_is_not_quietly_left_out(nats_server: EmbeddedServer) -> None:
    """The server offers no TLS: the credential must not be sent to it."""
    with pytest.raises(BusUnreachable, match="does not offer TLS"):
        async with Bus.connect(nats_server.url.replace("nats://", "tls://"), name="test"):
            pass


async def test_the_second_address_is_tried(nats_server: EmbeddedServer) -> None:
    dead = f"nats://127.0.0.1:{free_port('127.0.0.1')}"
    async with Bus.connect(f"{dead},{nats_server.url}", name="test") as bus:
        assert bus.connected


async def test_a_reconnect_is_logged_once_each_way_and_reads_go_on(
    own_server: OwnServer, own_bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "cutor.bus")
    await own_server.kill()
    async with asyncio.timeout(180):
        while own_bus.connected:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.6)  # several attempts fail meanwhile
    await own_server.start()
    assert await own_bus.last("EVENTS", "cutor.ev.default.x.>") is None
    assert own_bus.connected
    lines = [record.getMessage() for record in caplog.records if record.name == "cutor.bus"]
    assert [line.split(",")[0] for line in lines] == [
        f"connection to nats://127.0.0.1:{own_server.port} lost",
        f"connected to nats://127.0.0.1:{own_server.port} again",
    ]
    assert not [record for record in caplog.records if record.name.startswith("nats")]


async def test_a_read_without_a_server_ends_in_time(own_server: OwnServer, own_bus: Bus) -> None:
    await own_server.kill()
    began = time.monotonic()
    with pytest.raises(BusUnreachable, match="not connected"):
        await own_bus.history("cutor.ev.default.x.>", "cutor.ev.default.x.submitted", timeout_s=0.3)
    assert time.monotonic() - began < SOON_S


async def test_a_cancelled_call_leaves_the_connection_sound(bus: Bus, fresh_id: str, append: Append) -> None:
    for _ in range(50):
        task = asyncio.create_task(bus.last("EVENTS", f"cutor.ev.default.{fresh_id}.>"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await append(fresh_id, "submitted", 0) > 0
    assert not bus.link._waiting


async def test_notices_come_from_the_moment_the_block_is_entered(bus: Bus, fresh_id: str, append: Append) -> None:
    async with bus.subscribe(f"cutor.ev.*.{fresh_id}.cancelled") as notices:
        sequence = await append(fresh_id, "submitted", 0)
        await append(fresh_id, "cancelled", sequence, body=b"stop")
        async with asyncio.timeout(180):
            notice = await anext(aiter(notices))
    assert (notice.subject, notice.body) == (f"cutor.ev.default.{fresh_id}.cancelled", b"stop")
    assert notice.message_id == f"default/{fresh_id}/cancelled/{sequence}"


async def test_a_gap_in_the_notices_is_told(own_server: OwnServer, own_bus: Bus) -> None:
    gap = asyncio.Event()
    async with own_bus.subscribe("cutor.ev.*.*.cancelled", on_gap=gap.set) as notices:
        await own_server.kill()
        await own_server.start()
        async with asyncio.timeout(180):
            await gap.wait()
        await own_bus.append(
            "cutor.ev.default.a.cancelled", b"", message_id="m", fence="cutor.ev.default.a.>", expected_sequence=0
        )
        async with asyncio.timeout(180):
            assert (await anext(aiter(notices))).subject == "cutor.ev.default.a.cancelled"


async def test_iterating_notices_ends_when_the_bus_is_closed(own_bus: Bus) -> None:
    async with own_bus.subscribe("some.subject") as notices:
        waiting = asyncio.ensure_future(anext(aiter(notices)))
        await asyncio.sleep(0.01)
        await own_bus.close()
        with pytest.raises(BusError):
            await asyncio.wait_for(waiting, 180)

"""The configurations of `deploy/nats` let clients log in that are far away, as docs/explanation/delivery.md says."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from cutor.bus.connection import Bus
from cutor.bus.embedded import find_binary
from cutor.bus.errors import BusUnreachable
from tests.ports import free_port

DEPLOYED = Path(__file__).parents[2] / "deploy" / "nats"
HOST = "127.0.0.1"
AWAY_S = 1.5
"""Each way: a login takes two of them, which is longer than NATS's own two seconds."""
AWAY_WITH_TLS_S = 2.6
"""Likewise: the first piece of a handshake comes after two of them, its last one after four."""


@asynccontextmanager
async def away(port: int, delay_s: float) -> AsyncIterator[int]:
    """A port that leads to another, with every piece so much later in each direction; TLS or not."""
    loop = asyncio.get_running_loop()
    ways: set[asyncio.Task[None]] = set()

    async def way(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def read() -> None:
            while True:
                piece = await reader.read(1 << 16)
                pieces.put_nowait((loop.time() + delay_s, piece))
                if not piece:
                    return

        reading = asyncio.create_task(read())
        with suppress(OSError):
            while (piece := await pieces.get())[1]:
                await asyncio.sleep(piece[0] - loop.time())
                writer.write(piece[1])
        reading.cancel()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(HOST, port)
        ways.update((asyncio.create_task(way(reader, back)), asyncio.create_task(way(there, writer))))

    server = await asyncio.start_server(accept, HOST, 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in ways:
            task.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


def prepare(directory: Path, port: int) -> None:
    for path in directory.rglob("*.conf"):
        text = path.read_text().replace(f"{HOST}:4222", f"{HOST}:{port}").replace(f"{HOST}:6222", f"{HOST}:{free_port(HOST)}")
        path.write_text(text.replace("/var/lib/nats", str(directory / "store")))


@asynccontextmanager
async def serving(directory: Path, configuration: str) -> AsyncIterator[int]:
    """A server with one of the configurations of a copy of `deploy/nats`; its port."""
    port = free_port(HOST)
    prepare(directory, port)
    file = directory / configuration
    server = await asyncio.create_subprocess_exec(
        find_binary(), "-c", file.name, cwd=file.parent, env={**os.environ, "CUTOR_NATS_PASSWORD": "word"}
    )
    try:
        async with asyncio.timeout(180):
            while True:
                with suppress(OSError):
                    (await asyncio.open_connection(HOST, port))[1].close()
                    break
                assert server.returncode is None
                await asyncio.sleep(0.05)
        yield port
    finally:
        server.kill()
        await server.wait()


@pytest.fixture
def deployed(tmp_path: Path) -> Path:
    return shutil.copytree(DEPLOYED, tmp_path / "nats", ignore=shutil.ignore_patterns("secrets", "store"))


def address_for(deployed: Path, configuration: str) -> str:
    """The address of a user in a configuration, with the delivered port; secrets are made where it has some."""
    if configuration in {"single.conf", "durable.conf"}:
        return f"nats://cutor:word@{HOST}:4222"
    plain = ["--plain"] if configuration == "users.conf" else []
    subprocess.run([deployed / "cluster" / "make-secrets", *plain], check=True, capture_output=True)
    secrets = deployed / "cluster" / "secrets"
    first = (secrets / "operator.url").read_text().partition(",")[0].strip()
    return first if plain else f"{first}?tls_ca={secrets / 'ca.pem'}"


@pytest.mark.parametrize("configuration", ["single.conf", "durable.conf", "users.conf", "cluster/n1.conf"])
async def test_a_client_that_is_far_away_logs_in(deployed: Path, configuration: str) -> None:
    address = address_for(deployed, configuration)
    async with (
        serving(deployed, configuration) as port,
        away(port, AWAY_WITH_TLS_S if address.startswith("tls:") else AWAY_S) as far,
    ):
        address = address.replace(":4222", f":{far}")
        async with Bus.connect(address, name="far away") as bus:
            assert bus.connected


async def test_a_server_that_gives_clients_too_little_time_is_told_from_one_that_is_away(deployed: Path) -> None:
    single = deployed / "single.conf"
    single.write_text(single.read_text().replace("authorization { timeout: 10 }", ""))
    async with serving(deployed, "single.conf") as port, away(port, AWAY_S) as far:
        with pytest.raises(BusUnreachable) as refused:
            async with Bus.connect(f"nats://cutor:word@{HOST}:{far}", name="far away"):
                pass
    said = str(refused.value)
    assert "ended the login before it was through" in said
    assert "`authorization { timeout: 10 }`" in said
    assert "cutor up" not in said

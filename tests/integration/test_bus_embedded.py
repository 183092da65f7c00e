"""The embedded server as a process: ports, credential, store, log, and its end."""

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from cutor.bus.connection import Bus
from cutor.bus.embedded import EmbeddedServer, find_binary, last_port
from cutor.bus.errors import BusUnreachable, ServerFailed
from cutor.bus.server_file import sync_interval_of
from tests.ports import free_port
from tests.processes import alive

HOST = "127.0.0.1"


def command_line_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


async def gone(pid: int) -> bool:
    deadline = time.monotonic() + 180
    while alive(pid) and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    return not alive(pid)


async def test_start_answer_and_stop(tmp_path: Path) -> None:
    server = await EmbeddedServer.start(tmp_path / "a b" / 'quo"ted', port=free_port(HOST))
    async with Bus.connect(server.url, name="test") as bus:
        assert bus.address == f"nats://{HOST}:{server.port}"
    assert server.running
    await server.stop()
    await server.stop()
    assert not server.running
    assert await server.wait() == 0 or server._process.returncode == 1
    assert await gone(server.pid)


async def test_files_are_the_owners_alone(tmp_path: Path) -> None:
    async with await EmbeddedServer.start(tmp_path / "nats", port=free_port(HOST)) as server:
        assert stat.S_IMODE((tmp_path / "nats").stat().st_mode) == 0o700
        for name in ("nats-server.conf", "nats-password"):
            assert stat.S_IMODE((tmp_path / "nats" / name).stat().st_mode) == 0o600
        password = (tmp_path / "nats" / "nats-password").read_text().strip()
        command_line = command_line_of(server.pid)
        assert "nats-server.conf" in command_line
        assert password not in command_line


async def test_a_restart_keeps_credential_and_messages(tmp_path: Path) -> None:
    port = free_port(HOST)
    async with await EmbeddedServer.start(tmp_path, port=port) as first:
        url = first.url
        async with Bus.connect(url, name="test") as bus:
            await bus.api.call("stream", "STREAM.CREATE.T", {"name": "T", "subjects": ["t"], "storage": "file"})
            await bus.publish("t", b"kept")
    async with await EmbeddedServer.start(tmp_path, port=port) as second:
        assert second.url == url
        async with Bus.connect(url, name="test") as bus:
            stored = await bus.get("T", 1, consistent=True)
            assert stored is not None
            assert stored.body == b"kept"


async def test_a_demanded_port_that_is_taken_is_a_clear_error(tmp_path: Path) -> None:
    async with await EmbeddedServer.start(tmp_path / "first", port=free_port(HOST)) as first:
        with pytest.raises(ServerFailed, match=f"port {first.port} of 127.0.0.1 is in use: choose another one"):
            await EmbeddedServer.start(tmp_path / "second", port=first.port)
        assert first.running


async def test_without_a_demand_two_servers_find_two_ports(tmp_path: Path) -> None:
    async with await EmbeddedServer.start(tmp_path / "1") as first, await EmbeddedServer.start(tmp_path / "2") as second:
        assert first.port != second.port
        with pytest.raises(BusUnreachable, match="Authorization Violation"):
            async with Bus.connect(first.url.replace(str(first.port), str(second.port)), name="test"):
                pass


async def test_a_later_life_takes_the_port_of_the_former_one(tmp_path: Path) -> None:
    """Whether 4222 is free at that moment or not: clients that reconnect try the port they knew."""
    port = free_port(HOST)
    async with await EmbeddedServer.start(tmp_path, port=port):
        pass
    async with await EmbeddedServer.start(tmp_path) as second:
        assert second.port == port
    other = free_port(HOST)
    async with await EmbeddedServer.start(tmp_path, port=other) as third:
        assert third.port == other, "a demanded port wins"
    with socket.create_server((HOST, other)):
        async with await EmbeddedServer.start(tmp_path) as fourth:
            assert fourth.port != other, "a taken one gives way"
            assert last_port(tmp_path) == fourth.port


@pytest.mark.parametrize("damage", [b"", b"0", b"70000", b"4222 4223", b"\xff", "٤٢٢٢".encode()])
async def test_a_damaged_note_of_the_port_is_no_note(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "nats-port").write_bytes(damage)
    assert last_port(tmp_path) is None
    async with await EmbeddedServer.start(tmp_path) as server:
        assert last_port(tmp_path) == server.port


async def test_a_start_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    starting = asyncio.create_task(EmbeddedServer.start(tmp_path))
    while not (tmp_path / "nats-server.conf").exists():
        await asyncio.sleep(0.001)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    async with await EmbeddedServer.start(tmp_path, start_timeout_s=60) as server:
        assert server.running


async def test_two_servers_never_share_a_store(tmp_path: Path) -> None:
    async with await EmbeddedServer.start(tmp_path, port=free_port(HOST)) as first:
        with pytest.raises(ServerFailed, match=r"another nats-server still uses .*cutor down"):
            await EmbeddedServer.start(tmp_path, start_timeout_s=0.3)
        starting = asyncio.create_task(EmbeddedServer.start(tmp_path))
        await asyncio.sleep(0.1)
        await first.stop()
    async with await starting as second:
        assert second.running


async def test_a_server_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "jetstream").write_text("a file where the store's directory has to be")
    with pytest.raises(
        ServerFailed, match=r"nats-server ended with code 1 while starting: .*storage directory is not a directory$"
    ):
        await EmbeddedServer.start(tmp_path, port=free_port(HOST))
    (tmp_path / "jetstream").unlink()
    async with await EmbeddedServer.start(tmp_path, port=free_port(HOST)) as server:
        assert server.running


async def test_the_end_of_the_server_is_noticed(tmp_path: Path) -> None:
    async with await EmbeddedServer.start(tmp_path, port=free_port(HOST)) as server:
        waiting = asyncio.create_task(server.wait())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        os.kill(server.pid, signal.SIGKILL)
        assert await asyncio.wait_for(waiting, 180) == -signal.SIGKILL


@pytest.mark.parametrize(("interval", "always"), [("always", True), ("2m", False), ("500ms", False)])
async def test_the_server_takes_the_sync_interval(tmp_path: Path, interval: str, always: bool) -> None:
    """The same file that `EmbeddedServer` starts with; this server tells of itself over HTTP, too."""
    async with await EmbeddedServer.start(tmp_path, port=free_port(HOST), sync_interval=interval):
        assert sync_interval_of(tmp_path) == interval
    port = free_port(HOST)
    command = [find_binary(), "-c", tmp_path / "nats-server.conf", "-m", str(port)]
    server = await asyncio.create_subprocess_exec(*command)
    try:
        told = await monitoring(port)
    finally:
        server.kill()
        await server.wait()
    assert bool(told["config"].get("sync_always")) is always
    if not always:
        assert told["config"]["sync_interval"] == {"2m": 120_000_000_000, "500ms": 500_000_000}[interval]


async def monitoring(port: int) -> dict[str, Any]:
    """What a server says of its JetStream."""
    deadline = time.monotonic() + 180
    while True:
        try:
            raw = await asyncio.to_thread(lambda: urllib.request.urlopen(f"http://{HOST}:{port}/jsz", timeout=5).read())
        except OSError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        else:
            told: dict[str, Any] = json.loads(raw)
            return told


def start_parent(directory: Path) -> subprocess.Popen[str]:
    """A process that starts a server, prints its pid and waits."""
    program = textwrap.dedent(
        """
        import asyncio, pathlib, sys, time
        from cutor.bus.embedded import EmbeddedServer
        server = asyncio.run(EmbeddedServer.start(pathlib.Path(sys.argv[1]), port=int(sys.argv[2])))
        print(server.pid, flush=True)
        time.sleep(600)
        """
    )
    arguments = [sys.executable, "-c", program, str(directory), str(free_port(HOST))]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


async def test_the_server_dies_with_its_parent(tmp_path: Path) -> None:
    with start_parent(tmp_path) as parent:
        try:
            assert parent.stdout
            pid = int(parent.stdout.readline())
            assert alive(pid)
        finally:
            parent.kill()
    assert await gone(pid)
    async with await EmbeddedServer.start(tmp_path, port=free_port(HOST)) as server:
        assert server.running


DEPLOYED = Path(__file__).parents[2] / "deploy" / "nats"


@pytest.mark.parametrize("name", ["single.conf", "durable.conf"])
def test_the_example_configuration_of_a_server_of_ones_own_is_valid(name: str) -> None:
    environment = {**os.environ, "CUTOR_NATS_PASSWORD": "x"}
    command = [find_binary(), "-t", "-c", DEPLOYED / name]
    said = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert said.returncode == 0, said.stderr


def settings_of(name: str) -> dict[str, str]:
    """The settings of the block `jetstream` of a configuration."""
    block = (DEPLOYED / name).read_text().partition("\njetstream {")[2].partition("\n}")[0]
    return dict(line.strip().split(": ", 1) for line in block.splitlines() if ": " in line and not line.strip().startswith("#"))


def test_the_durable_configuration_differs_in_one_setting() -> None:
    single, durable = settings_of("single.conf"), settings_of("durable.conf")
    assert (single.pop("sync_interval"), durable.pop("sync_interval")) == ('"2m"', '"always"')
    assert single == durable
    assert len(single) == 4


async def test_a_server_with_the_durable_configuration_writes_at_once(tmp_path: Path) -> None:
    for name in ("single.conf", "durable.conf"):
        text = (DEPLOYED / name).read_text().replace("/var/lib/nats", str(tmp_path / "store"))
        (tmp_path / name).write_text(text.replace("127.0.0.1:4222", f"{HOST}:{free_port(HOST)}"))
    port = free_port(HOST)
    command = [find_binary(), "-c", tmp_path / "durable.conf", "-m", str(port)]
    server = await asyncio.create_subprocess_exec(*command, env={**os.environ, "CUTOR_NATS_PASSWORD": "x"})
    try:
        told = await monitoring(port)
    finally:
        server.kill()
        await server.wait()
    assert told["config"]["sync_always"] is True
    assert told["config"]["strict"] is True

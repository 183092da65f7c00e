"""The stack's server: comes back at its address, however long that takes, and never stands in the way of the stack's end."""

import asyncio
import fcntl
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cutor.bus.connection import Bus
from cutor.stack import server as module
from cutor.stack.keeper import Orders
from cutor.stack.restarts import QUICK_DEATHS
from cutor.stack.server import KeptServer, ServerGivenUp, StoppedAtItsStart
from tests.ports import free_port

SERVER_LOCK = "nats-server.lock"


async def until(true: Callable[[], bool], timeout_s: float = 180) -> None:
    async with asyncio.timeout(timeout_s):
        while not true():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def kept(
    store: Path, *, served: bool, port: int | None = None, moved: Callable[[], None] = lambda: None
) -> AsyncIterator[tuple[KeptServer, Orders, asyncio.Task[None], list[str]]]:
    """Run a server under its keeper; it is gone at the end, whatever the test did."""
    said: list[str] = []
    orders = Orders()
    if served:
        orders.served.set()
    async with KeptServer(store, port, orders, said.append) as server:
        task = asyncio.create_task(server.keep(moved))
        try:
            yield server, orders, task, said
        finally:
            orders.stop.set()
            await asyncio.wait([task])


def kill(server: KeptServer) -> None:
    assert server._server is not None
    os.kill(server._server.pid, signal.SIGKILL)


def take_lock(store: Path) -> int:
    """Hold the store's lock, as a server does that does not end: a start waits for it."""
    descriptor = os.open(store / SERVER_LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


async def test_a_server_that_has_served_is_started_again_for_as_long_as_it_takes(tmp_path: Path) -> None:
    async with kept(tmp_path, served=True) as (server, _, task, said):
        url = server.url
        password, directory = tmp_path / "nats-password", tmp_path / "directory"
        directory.mkdir()
        password.unlink()
        password.symlink_to(directory)  # no start can read it
        kill(server)
        await until(lambda: len(said) > QUICK_DEATHS)
        assert not task.done()
        (tmp_path / "known").write_text(url.partition("cutor:")[2].partition("@")[0])
        (tmp_path / "known").replace(password)  # at once: a start that finds none makes another one
        assert server._server is not None
        await until(lambda: server._server is not None and server._server.running)
        async with Bus.connect(url, name="test"):
            pass
    assert "nats-server was killed by SIGKILL; it is started again in 0.1 s" in said[0]
    assert all("ended before it served" in line for line in said[1:])


async def test_a_server_that_dies_before_the_stack_was_ready_is_given_up(tmp_path: Path) -> None:
    async with kept(tmp_path, served=False) as (server, _, task, _said):
        (tmp_path / "nats-password").unlink()
        (tmp_path / "nats-password").mkdir()
        kill(server)
        with pytest.raises(ServerGivenUp, match=f"died {QUICK_DEATHS} times in a row, the last time it ended before it served"):
            await asyncio.wait_for(task, 180)


async def test_its_pause_ends_when_the_stack_is_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cutor.stack.restarts.FIRST_PAUSE_S", 3600.0)
    monkeypatch.setattr("cutor.stack.restarts.LONGEST_PAUSE_S", 3600.0)
    async with kept(tmp_path, served=True) as (server, orders, task, said):
        kill(server)
        await until(lambda: bool(said))
        orders.stop.set()
        async with asyncio.timeout(180):
            await task


async def test_its_new_start_ends_when_the_stack_is_to_stop(tmp_path: Path) -> None:
    async with kept(tmp_path, served=True) as (server, orders, task, said):
        kill(server)
        lock = take_lock(tmp_path)
        try:
            await until(lambda: bool(said))
            await asyncio.sleep(0.5)  # past the pause, into a start that waits for the lock
            assert not task.done()
            orders.stop.set()
            await asyncio.wait_for(task, 180)
        finally:
            os.close(lock)


async def test_its_first_start_ends_when_the_stack_is_to_stop(tmp_path: Path) -> None:
    lock = take_lock(tmp_path)
    try:
        orders = Orders()
        asyncio.get_running_loop().call_later(0.2, orders.stop.set)
        with pytest.raises(StoppedAtItsStart):
            async with KeptServer(tmp_path, None, orders, lambda _: None):
                pass
    finally:
        os.close(lock)


async def test_a_last_port_that_is_taken_is_said(tmp_path: Path) -> None:
    assert module.last_port(tmp_path) is None
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        (tmp_path / "nats-port").write_text(f"{port}\n")
        async with kept(tmp_path, served=True) as (server, _, _, said):
            assert f":{port}" not in server.address
            assert said == [
                f"port {port}, the server's last one, is taken: it listens on {server.address.rpartition(':')[2]}; "
                f"clients that still try {port} need the new address"
            ]


def kill_and_take_port(server: KeptServer) -> socket.socket:
    """Kill the server and listen on its port, before its keeper is asked anything."""
    kill(server)
    deadline = time.monotonic() + 180
    while True:
        try:
            return socket.create_server(("127.0.0.1", port_of(server)))
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def port_of(server: KeptServer) -> int:
    return int(server.address.rpartition(":")[2])


async def test_a_port_that_was_lost_is_given_up_after_a_few_attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cutor.stack.restarts.FIRST_PAUSE_S", 0.01)
    moves: list[str] = []
    async with kept(tmp_path, served=True, moved=lambda: moves.append("moved")) as (server, _, task, said):
        old = server.url, port_of(server)
        with kill_and_take_port(server):
            await until(lambda: bool(moves))
            assert server.url != old[0]
            assert server.url.rpartition("@")[0] == old[0].rpartition("@")[0]
            assert server.url.endswith(f":{port_of(server)}")
            async with Bus.connect(server.url, name="test"):
                pass
        assert len(said) == module.ATTEMPTS_AT_A_TAKEN_PORT + 2
        assert all(f"port {old[1]} of 127.0.0.1 is in use" in line for line in said[1:-1])
        assert said[-1].startswith(f"port {old[1]} is taken by another program: the server listens on {port_of(server)} now")
        url = server.url
        kill(server)
        await until(lambda: said[-1].startswith("nats-server was killed by SIGKILL"))
        await until(lambda: server._server is not None and server._server.running)
        assert (server.url, len(moves), task.done()) == (url, 1, False)


async def test_a_port_that_is_free_again_in_time_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cutor.stack.restarts.FIRST_PAUSE_S", 0.01)
    moves: list[str] = []
    async with kept(tmp_path, served=True, moved=lambda: moves.append("moved")) as (server, _, _task, said):
        url = server.url
        with kill_and_take_port(server):
            await until(lambda: len(said) == module.ATTEMPTS_AT_A_TAKEN_PORT - 1)
        await until(lambda: server._server is not None and server._server.running)
        assert (server.url, moves) == (url, [])


async def test_a_demanded_port_that_was_lost_ends_the_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cutor.stack.restarts.FIRST_PAUSE_S", 0.01)
    port = free_port()
    async with kept(tmp_path, served=True, port=port) as (server, _, task, said):
        with kill_and_take_port(server):
            with pytest.raises(ServerGivenUp, match=f"port {port} of 127.0.0.1 is in use: choose another one"):
                await asyncio.wait_for(task, 180)
            assert len(said) == module.ATTEMPTS_AT_A_TAKEN_PORT

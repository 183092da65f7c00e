"""Fixtures with a real nats-server: a pytest plugin (``pytest_plugins = ["tests.nats_server"]``).

`nats_server` runs for the whole session and holds cutor's own streams for the tenants in `TENANTS`; tests keep apart by ids or
tenants of their own. `own_server` belongs to one test, which may kill it. `bus` is connected to the first, `own_bus` to the
second.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from cutor.bus.connection import Bus
from cutor.bus.embedded import EmbeddedServer
from cutor.bus.topology import apply, default_text, parse
from tests.ports import free_port

TENANTS: Final = ["default", "batch"]
_numbers: Final = itertools.count(1)


class OwnServer:
    """A server of one test, with cutor's streams: it can be killed and started again under the same address."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.server: EmbeddedServer | None = None
        self.port = free_port("127.0.0.1")

    async def start(self) -> None:
        """Start it (again), on the same port and store."""
        self.server = await EmbeddedServer.start(self.directory, port=self.port)

    async def kill(self) -> None:
        """SIGKILL."""
        assert self.server
        await self.server.kill()

    @property
    def url(self) -> str:
        """Address with the credential."""
        assert self.server
        return self.server.url


async def apply_streams(url: str) -> None:
    """Make cutor's streams on a server."""
    async with Bus.connect(url, name="test set-up") as bus:
        await apply(bus, parse(default_text(), TENANTS))


async def apply_streams_but(url: str, *missing: str) -> None:
    """Make cutor's streams on a server without some of them, as a stack of an older cutor has them."""
    wanted = parse(default_text(), TENANTS)
    older = replace(wanted, streams=tuple(stream for stream in wanted.streams if stream.name not in missing))
    async with Bus.connect(url, name="test set-up") as bus:
        await apply(bus, older)


@pytest.fixture(scope="session")
def nats_server() -> Iterator[EmbeddedServer]:
    """A nats-server with cutor's streams, on a free port, gone with its store at the end of the session."""
    directory = Path(tempfile.mkdtemp(prefix="cutor-test-nats-"))
    try:
        server = asyncio.run(_start_with_streams(directory))
        try:
            yield server
        finally:
            asyncio.run(server.stop())
    finally:
        shutil.rmtree(directory)


async def _start_with_streams(directory: Path) -> EmbeddedServer:
    server = await EmbeddedServer.start(directory, port=free_port("127.0.0.1"))
    await apply_streams(server.url)
    return server


@pytest.fixture
async def bus(nats_server: EmbeddedServer) -> AsyncIterator[Bus]:
    """A bus on the session's server."""
    async with Bus.connect(nats_server.url, name="test") as connected:
        yield connected


@pytest.fixture
async def own_server(tmp_path: Path) -> AsyncIterator[OwnServer]:
    """A server of this test alone, with cutor's streams."""
    async with server_in(tmp_path / "nats") as own:
        yield own


@asynccontextmanager
async def server_in(directory: Path) -> AsyncIterator[OwnServer]:
    """A server with cutor's streams and a store of its own, while the block lasts."""
    own = OwnServer(directory)
    await own.start()
    try:
        await apply_streams(own.url)
        yield own
    finally:
        assert own.server
        await own.server.stop()


@pytest.fixture
async def own_bus(own_server: OwnServer) -> AsyncIterator[Bus]:
    """A bus on this test's own server."""
    async with Bus.connect(own_server.url, name="test") as connected:
        yield connected


@pytest.fixture
def fresh_id() -> str:
    """An id that no other test of the session uses."""
    return f"id-{next(_numbers)}"


Append = Callable[..., Awaitable[int]]


@pytest.fixture
def append(bus: Bus) -> Append:
    """`await append(id, kind, expected)` on the session's server: the sequence of a fenced event."""
    return appender(bus)


def appender(bus: Bus) -> Append:
    """A function that appends a small event under its submission's fence."""

    async def append_one(identity: str, kind: str, expected: int, *, tenant: str = "default", body: bytes = b"{}") -> int:
        appended = await bus.append(
            f"cutor.ev.{tenant}.{identity}.{kind}",
            body,
            message_id=f"{tenant}/{identity}/{kind}/{expected}",
            fence=f"cutor.ev.{tenant}.{identity}.>",
            expected_sequence=expected,
        )
        return appended.sequence

    return append_one

"""The embedded server of a stack: started again when it dies, on the same port with the same password.

Another program may take the port before it is back. After `ATTEMPTS_AT_A_TAKEN_PORT` a port that the user demanded ends the
stack, with a line that says so; else the server takes another one, and the stack makes that known.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cutor.bus.embedded import EmbeddedServer, last_port
from cutor.bus.errors import BusError
from cutor.bus.server_file import DEFAULT_SYNC
from cutor.errors import CutorError
from cutor.stack.keeper import Orders, first_of
from cutor.stack.process import describe_end, exited
from cutor.stack.restarts import QUICK_DEATHS, Restarts
from cutor.stack.stop_times import SERVER_S

ATTEMPTS_AT_A_TAKEN_PORT: Final = 5
"""Clients know the old port: whoever has it only for a moment (an outgoing connection, a server that is being replaced) may."""
_HOST: Final = "127.0.0.1"


class ServerGivenUp(CutorError):
    """The embedded server died again and again, or cannot have the demanded port any more; the message says which."""


class StoppedAtItsStart(CutorError):
    """The stack was told to stop before its server served."""


class KeptServer:
    """``async with KeptServer(…) as server``: runs inside of the block, and is gone after it."""

    def __init__(
        self, store: Path, port: int | None, orders: Orders, say: Callable[[str], None], *, sync_interval: str = DEFAULT_SYNC
    ) -> None:
        self._store = store
        self._sync_interval = sync_interval
        self._port = port
        self._demanded = port is not None
        self._orders = orders
        self._say = say
        self._server: EmbeddedServer | None = None

    async def __aenter__(self) -> Self:
        """Start it. Raises `StoppedAtItsStart` and `ServerFailed`."""
        former = last_port(self._store) if self._port is None else None
        await self._start(self._port)
        if self._server is None:
            raise StoppedAtItsStart("stopped before the server was ready")
        if former not in {None, self._server.port}:
            self._say(
                f"port {former}, the server's last one, is taken: it listens on {self._server.port}; "
                f"clients that still try {former} need the new address"
            )
        self._port = self._server.port
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            try:
                await first_of(self._server.stop(SERVER_S), self._orders.halt.wait())
            finally:
                await self._server.kill()

    @property
    def url(self) -> str:
        """The address with the credential."""
        assert self._server is not None, "entered"
        return self._server.url

    @property
    def address(self) -> str:
        """The address without the credential."""
        return f"nats://{_HOST}:{self._port}"

    async def keep(self, moved: Callable[[], None]) -> None:
        """Start the server again whenever it dies, until ``orders.stop``; ``moved`` is called when `url` is another one then.

        Raises `ServerGivenUp`.
        """
        restarts = Restarts()
        while True:
            assert self._server is not None, "entered"
            started = time.monotonic()
            await first_of(exited(self._server.pid), self._orders.stop.wait())
            if self._orders.stop.is_set():
                return
            ending = describe_end(await self._server.wait())
            restarts = await self._revive(restarts.after(time.monotonic() - started), ending)
            if self._orders.stop.is_set():
                return
            if self._server.port != self._port:
                self._say(
                    f"port {self._port} is taken by another program: the server listens on {self._server.port} now, and the "
                    f"roles are started again; clients that still try {self._port} need the new address"
                )
                self._port = self._server.port
                moved()

    async def _revive(self, restarts: Restarts, ending: str) -> Restarts:
        """Try until the server runs again, or until ``orders.stop``; return the count of quick deaths by then."""
        assert self._server is not None, "entered"
        assert self._port is not None, "entered"
        taken = 0
        while True:
            if restarts.hopeless(served=self._orders.served.is_set()):
                log = self._server.log_path
                raise ServerGivenUp(
                    f"nats-server died {QUICK_DEATHS} times in a row, the last time it {ending}; its log is {log}"
                )
            self._say(f"nats-server {ending}; it is started again in {restarts.pause_s:.1f} s")
            await first_of(self._orders.stop.wait(), asyncio.sleep(restarts.pause_s))
            if self._orders.stop.is_set():
                return restarts
            try:
                await self._start(self._port if taken < ATTEMPTS_AT_A_TAKEN_PORT else None)
            except (BusError, OSError) as error:
                taken += _is_taken(self._port)
                if self._demanded and taken >= ATTEMPTS_AT_A_TAKEN_PORT:
                    raise ServerGivenUp(f"nats-server cannot come back: {error}") from error
                ending = f"ended before it served ({error})"
                restarts = restarts.after(0.0)
            else:
                return restarts

    async def _start(self, port: int | None) -> None:
        """Start it, unless ``orders.stop`` is set meanwhile: then nothing new runs."""

        async def start() -> None:
            self._server = await EmbeddedServer.start(self._store, host=_HOST, port=port, sync_interval=self._sync_interval)

        await first_of(start(), self._orders.stop.wait())


def _is_taken(port: int) -> bool:
    try:
        socket.create_server((_HOST, port)).close()
    except OSError:
        return True
    return False

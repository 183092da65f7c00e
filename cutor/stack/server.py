"""The embedded server of a stack: started again when it dies, on the same port with the same password."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from cutor.bus.embedded import EmbeddedServer
from cutor.errors import CutorError
from cutor.stack.keeper import Orders, first_of
from cutor.stack.process import describe_exit, exited
from cutor.stack.restarts import QUICK_DEATHS, Restarts


class ServerGivenUp(CutorError):
    """The embedded server died again and again; the message says where its log is."""


class KeptServer:
    """``async with KeptServer(…) as server``: runs inside of the block, and is gone after it."""

    def __init__(self, store: Path, port: int | None, orders: Orders, say: Callable[[str], None]) -> None:
        self._store = store
        self._port = port
        self._orders = orders
        self._say = say
        self._server: EmbeddedServer | None = None

    async def __aenter__(self) -> Self:
        self._server = await EmbeddedServer.start(self._store, port=self._port)
        self._port = self._server.port
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            try:
                await first_of(self._server.stop(), self._orders.halt.wait())
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
        return f"nats://127.0.0.1:{self._port}"

    async def keep(self) -> None:
        """Start the server again whenever it dies, until ``orders.stop``. Raises `ServerGivenUp` and `ServerFailed`."""
        restarts = Restarts()
        while not self._orders.stop.is_set():
            assert self._server is not None, "entered"
            started = time.monotonic()
            await first_of(exited(self._server.pid), self._orders.stop.wait())
            if self._orders.stop.is_set():
                return
            code = await self._server.wait()
            restarts = restarts.after(time.monotonic() - started)
            if restarts.hopeless:
                raise ServerGivenUp(f"nats-server died {QUICK_DEATHS} times in a row; its log is {self._server.log_path}")
            self._say(f"nats-server ended with {describe_exit(code)}; it is started again in {restarts.pause_s:.1f} s")
            await asyncio.sleep(restarts.pause_s)
            self._server = await EmbeddedServer.start(self._store, port=self._port)

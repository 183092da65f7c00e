"""A started child container with its pipes attached: what is said to its init and heard from it, its limits, and its end.

Made by `Engine.start`. Errors: those of ``errors``; everything else is a bug.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

import aiohttp
from aiodocker import Docker
from aiodocker.containers import DockerContainer
from aiodocker.exceptions import DockerError
from aiodocker.stream import Stream
from yarl import URL

from cutor.containers.errors import EngineFailure, one_line

STDERR_TAIL_BYTES: Final = 4096
"""The end of a traceback, which says what went wrong. A choice: init programs print nothing else."""
_STDOUT, _STDERR = 1, 2
T = TypeVar("T")


def pipes_of(docker: Docker, container_id: str) -> Stream:
    """Return the pipes of a container without a terminal; aiodocker's own way asks Docker first whether it has one."""

    async def attaching() -> tuple[URL, None, bool]:
        return URL(f"containers/{container_id}/attach").with_query(stdin=1, stdout=1, stderr=1, stream=1), None, False

    return Stream(docker, attaching)


@dataclass(frozen=True)
class ContainerState:
    """What Docker says of a container: running or not, and if not, how it ended. ``exists`` is false once it is removed."""

    exists: bool
    running: bool = False
    exit_code: int | None = None
    oom_killed: bool = False
    error: str = ""

    def describe(self) -> str:
        """Return one line for a fault's message."""
        if not self.exists:
            return "the container is gone"
        if self.running:
            return "the container is running"
        reason = ", killed for want of memory" if self.oom_killed else ""
        return f"the container ended with {self.exit_code}{reason}{': ' + self.error if self.error else ''}"


class Requests(Protocol):
    """What a container asks of the `Engine` that made it."""

    async def call(self, what: str, request: Awaitable[T], *, keep_status: set[int] | None = None) -> T:
        """Await one request. Raises `EngineFailure`."""
        ...

    def post(self, path: str, body: dict[str, Any]) -> Awaitable[Any]:
        """Return a POST request that aiodocker has no method for."""
        ...

    async def remove(self, container_id: str) -> bool:
        """Kill and remove a container. Raises `EngineFailure`."""
        ...

    async def discard(self, container_id: str, name: str) -> None:
        """Kill and remove a container, trying again for as long as Docker fails."""
        ...


class Child:
    """A started container with its stdin, stdout and stderr attached.

    One task may read (`receive`) while another writes (`send`). stderr is kept as a bounded tail while stdout is read.
    """

    def __init__(self, engine: Requests, container: DockerContainer, stream: Stream, name: str) -> None:
        self._engine = engine
        self._container = container
        self._stream = stream
        self._stderr = bytearray()
        self._ended = False
        self._removed = False
        self.id: str = container.id
        self.name = name

    @property
    def stderr_tail(self) -> bytes:
        """The last `STDERR_TAIL_BYTES` of what its init wrote to stderr: for fault messages."""
        return bytes(self._stderr)

    async def send(self, data: bytes) -> None:
        """Write to its stdin, waiting while the pipe is full. Raises `EngineFailure` when the connection is gone."""
        transport = self._transport()
        if transport is None or transport.is_closing():
            raise EngineFailure(f"container {self.name}: its standard input is closed")
        try:
            await self._stream.write_in(data)
        except (RuntimeError, OSError, aiohttp.ClientError) as error:
            raise EngineFailure(f"container {self.name}: its standard input is closed ({error})") from error

    async def receive(self) -> bytes:
        """Return the next piece of its stdout, as it comes; ``b""`` once it ended or the connection closed."""
        while not self._ended:
            try:
                message = await self._stream.read_out()
            except (OSError, aiohttp.ClientError):
                message = None  # the connection broke: for the reader the same as its end; `state` tells more
            if message is None:
                self._ended = True
            elif message.stream == _STDERR:
                self._keep_stderr(message.data)
            elif message.stream == _STDOUT and message.data:
                return message.data
        return b""

    def _keep_stderr(self, data: bytes) -> None:
        self._stderr += data
        del self._stderr[:-STDERR_TAIL_BYTES]

    async def close_stdin(self) -> None:
        """Send end-of-file to its init, which ends then; reading goes on. Nothing happens if it is closed already."""
        self._end_stdin()

    async def end(self, within_s: float) -> None:
        """Have its init end by itself, by its standard input's end, and wait for that, ``within_s`` seconds at the most.

        Its removal kills nobody then: for a kill Docker starts a program, which takes as much CPU time as an init's start.
        """
        if not self._end_stdin():
            return
        try:
            async with asyncio.timeout(within_s):
                while await self.receive():
                    pass
        except TimeoutError:
            return

    def _end_stdin(self) -> bool:
        """Close this half of the connection, by its transport: aiodocker's Stream.close() would close both directions.

        False where that can't be had: over TLS, or once the connection is gone.
        """
        transport = self._transport()
        if transport is None or transport.is_closing() or not transport.can_write_eof():
            return False
        transport.write_eof()
        return True

    def _transport(self) -> asyncio.WriteTransport | None:
        """Return the attached connection's transport, null once the connection is gone; aiodocker has no public way to it."""
        response = self._stream._resp
        connection = None if response is None else response.connection
        return None if connection is None else connection.transport

    async def update(self, *, memory_bytes: int | None = None, processes: int | None = None) -> None:
        """Change its limits while it runs (about 13 ms). Memory includes swap: there is none.

        Raises `EngineFailure`; `EngineRefused` where memory in use can't be pressed below the new limit.
        """
        body: dict[str, int] = {}
        if memory_bytes is not None:
            body |= {"Memory": memory_bytes, "MemorySwap": memory_bytes}
        if processes is not None:
            body["PidsLimit"] = processes
        await self._engine.call(f"update limits of {self.name}", self._engine.post(f"containers/{self.id}/update", body))

    async def kill(self) -> None:
        """Kill every process in it at once. Nothing happens if it ended or is gone."""
        await self._ignoring(self._container.kill(signal="KILL"), "kill", {404, 409})

    async def remove(self) -> None:
        """Kill it if it runs and remove it with its anonymous volumes; safe to call again, and after it died.

        Raises `EngineFailure` if Docker still has it after a minute.
        """
        if not self._removed:
            await self._stream.close()
            await self._engine.remove(self.id)
            self._removed = True

    async def discard(self) -> None:
        """Remove it as `remove` does, trying again for as long as Docker fails: when this returns, it is gone.

        For whoever holds something that must not be given on while the container may still run: its uid, its slot.
        """
        if not self._removed:
            await self._stream.close()
            await self._engine.discard(self.id, self.name)
            self._removed = True

    async def state(self) -> ContainerState:
        """Return what Docker says of it now."""
        try:
            shown = await self._engine.call(f"inspect {self.name}", self._container.show(), keep_status={404})
        except DockerError:
            return ContainerState(exists=False)
        state: dict[str, Any] = shown["State"]
        return ContainerState(
            exists=True,
            running=bool(state["Running"]),
            exit_code=None if state["Running"] else int(state["ExitCode"]),
            oom_killed=bool(state["OOMKilled"]),
            error=one_line(str(state.get("Error", ""))),
        )

    async def _ignoring(self, request: Awaitable[object], what: str, statuses: set[int]) -> None:
        try:
            await self._engine.call(f"{what} {self.name}", request, keep_status=statuses)
        except DockerError:
            return  # one of ``statuses``: what was asked for holds already

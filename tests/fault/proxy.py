"""A proxy between one client and a NATS server that does what networks do: cut, freeze, delay, break in the midst of a message.

What clients send is passed on in whole messages of NATS's protocol, so that a fault can be set to meet a certain one of them
(`cut_after`, `cut_within`). It understands no TLS: there only what concerns all bytes alike works.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from contextlib import suppress
from types import TracebackType
from typing import Final, Literal, Self
from urllib.parse import urlsplit

CHUNK_BYTES: Final = 1 << 16
QUEUED: Final = 1024
"""Pieces under way in one direction; more are left with their sender."""
STORED_S: Final = 5.0
"""How long the answer to a message that is to be cut off is waited for, to know that the server has handled it."""
_ABORT: Final = struct.pack("ii", 1, 0)


class Trap:
    """A fault that meets the first message from a client in which ``pattern`` is found. ``sprung`` is set when it has."""

    def __init__(self, pattern: bytes, where: Literal["after", "within"]) -> None:
        self.pattern = re.compile(pattern, re.DOTALL)
        self.where = where
        self.sprung = asyncio.Event()


class Messages:
    """Splits what a client sends into messages: a line each, with the payload for PUB and HPUB. Pure.

    What cannot be the protocol is passed on as it comes.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the messages that are complete with ``data``."""
        self._rest += data
        found = []
        while (length := _length(self._rest)) is not None and length <= len(self._rest):
            found.append(self._rest[:length])
            self._rest = self._rest[length:]
        return found


def _length(data: bytes) -> int | None:
    """Return the length of the first message, None where its line is not there yet."""
    end = data.find(b"\r\n")
    if end < 0:
        return None
    words = data[:end].split()
    if not words or words[0].upper() not in {b"PUB", b"HPUB"} or not words[-1].isdigit():
        return end + 2
    return end + 2 + int(words[-1]) + 2


class Proxy:
    """``async with Proxy(server_port) as proxy``: a client that is given ``proxy.url(server_url)`` reaches the server by it.

    Everything concerns present and later connections until `resume`. The port stays the same for the proxy's life.
    """

    def __init__(self, target_port: int, *, host: str = "127.0.0.1") -> None:
        self.target_port = target_port
        self._host = host
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._refusing = False
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.delay_s = 0.0
        self.trap: Trap | None = None
        self.accepted = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self._host, 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.drop()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def port(self) -> int:
        """The port that clients connect to."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def connections(self) -> int:
        """How many clients are connected now."""
        return len(self._connections)

    def url(self, server_url: str) -> str:
        """Return the server's address with the proxy's port; scheme and credential stay."""
        parts = urlsplit(server_url)
        credential = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        return parts._replace(netloc=f"{credential}{self._host}:{self.port}").geturl()

    def drop(self) -> None:
        """End every connection at once, as a reset by the peer; new ones are let through."""
        for connection in tuple(self._connections):
            connection.abort()

    def cut(self) -> None:
        """End every connection at once, and every new one as soon as it is made, until `resume`."""
        self._refusing = True
        self.drop()

    def freeze(self) -> None:
        """Let no byte through in either direction and close nothing, as a network does that loses every packet."""
        self.flowing.clear()

    def resume(self) -> None:
        """Let everything through again: what was held back comes now."""
        self._refusing = False
        self.flowing.set()

    def delay(self, milliseconds: float) -> None:
        """Let each piece arrive so much later, in each direction and in order; 0 ends that."""
        self.delay_s = milliseconds / 1000

    def cut_after(self, pattern: bytes) -> Trap:
        """Reset the connection once the server has handled a message that ``pattern`` (a regular expression) is found in.

        Not a byte of the answer is let through. Once; a new connection is let through at once.
        """
        self.trap = Trap(pattern, "after")
        return self.trap

    def cut_within(self, pattern: bytes) -> Trap:
        """Reset the connection when one half of a message that ``pattern`` is found in has passed. Once, as `cut_after`."""
        self.trap = Trap(pattern, "within")
        return self.trap

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.accepted += 1
        if self._refusing:
            _reset(writer)
            return
        connection = _Connection(self, writer)
        self._connections.add(connection)
        try:
            await connection.run(reader)
        except asyncio.CancelledError:
            return  # the proxy ends; asyncio would complain of a connection's task that ends by that
        finally:
            self._connections.discard(connection)
            connection.abort()


class _Connection:
    """One client, and the connection to the server that stands for it."""

    def __init__(self, proxy: Proxy, client: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._client = client
        self._server: asyncio.StreamWriter | None = None
        self._trapped: Trap | None = None
        self._answered = asyncio.Event()

    def abort(self) -> None:
        for writer in (self._client, self._server):
            if writer is not None:
                _reset(writer)

    async def run(self, from_client: asyncio.StreamReader) -> None:
        """Pass bytes on until either side ends."""
        await self._proxy.flowing.wait()
        with suppress(OSError):
            from_server, self._server = await asyncio.open_connection(self._proxy._host, self._proxy.target_port)
            pumps = [
                asyncio.create_task(self._pump(from_client, self._server, from_server=False)),
                asyncio.create_task(self._pump(from_server, self._client, from_server=True)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, from_server: bool) -> None:
        queue: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue(QUEUED)
        deliver = asyncio.create_task(self._deliver(queue, sink, from_server=from_server))
        messages = Messages()
        loop = asyncio.get_running_loop()
        try:
            while not deliver.done() and (data := await self._read(source)):
                for piece in [data] if from_server else messages.feed(data):
                    await queue.put((loop.time() + self._proxy.delay_s, piece))
            await queue.put(None)
            await deliver
        finally:
            deliver.cancel()
            await asyncio.gather(deliver, return_exceptions=True)

    async def _read(self, source: asyncio.StreamReader) -> bytes:
        await self._proxy.flowing.wait()
        try:
            return await source.read(CHUNK_BYTES)
        except OSError:
            return b""

    async def _deliver(
        self, queue: asyncio.Queue[tuple[float, bytes] | None], sink: asyncio.StreamWriter, *, from_server: bool
    ) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while (item := await queue.get()) is not None:
                due, piece = item
                await asyncio.sleep(max(0.0, due - loop.time()))
                await self._proxy.flowing.wait()
                if from_server:
                    await self._to_client(piece, sink)
                else:
                    await self._to_server(piece, sink)

    async def _to_client(self, piece: bytes, sink: asyncio.StreamWriter) -> None:
        if self._trapped is not None:  # the client is to hear no more
            self._answered.set()
            return
        sink.write(piece)
        await sink.drain()

    async def _to_server(self, piece: bytes, sink: asyncio.StreamWriter) -> None:
        trap = self._proxy.trap
        if trap is None or trap.pattern.search(piece) is None:
            sink.write(piece)
            await sink.drain()
            return
        self._proxy.trap, self._trapped = None, trap
        sink.write(piece if trap.where == "after" else piece[: len(piece) // 2])
        await sink.drain()
        if trap.where == "after":
            with suppress(TimeoutError):
                async with asyncio.timeout(STORED_S):
                    await self._answered.wait()
        self.abort()
        trap.sprung.set()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection at once; the peer gets a reset."""
    opened = writer.get_extra_info("socket")
    if opened is not None and opened.fileno() >= 0:
        with suppress(OSError):
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    writer.transport.abort()

"""The endpoint that a scraper reads: two paths over HTTP, in the event loop of the role.

``GET /metrics`` gives the metrics, ``GET /healthz`` 200 while the role serves and 503 else. One request a connection. Who is
slow, asks for more, or comes as one of too many is sent away: whatever is sent here costs a role next to nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, NamedTuple, Self

log = logging.getLogger(__name__)

CONNECTIONS_AT_MOST: Final = 16
"""Connections that are open at one time; one more is closed unread."""
REQUEST_BYTES: Final = 8192
"""Most bytes of a request line and headers together."""
REQUEST_S: Final = 5.0
"""How long a request may take to come, and its answer to go."""
BACKLOG: Final = 32
"""Connections that wait in the kernel to be accepted (listen(2))."""
_END: Final = b"\r\n\r\n"
_PLAIN: Final = "text/plain; charset=utf-8"


class Answer(NamedTuple):
    """What is sent: status with its phrase, type, body."""

    status: str
    body: bytes
    content_type: str = _PLAIN


class EndpointTaken(Exception):
    """The address cannot be listened on; the message says why."""


class Endpoint:
    """Answers as long as its ``async with`` lasts. Raises `EndpointTaken` at its start."""

    def __init__(
        self, host: str, port: int, *, metrics: Callable[[], Awaitable[tuple[bytes, str]]], serves: Callable[[], bool]
    ) -> None:
        """``metrics`` returns body and type of an answer; ``serves`` whether the role does. Port 0: a free one."""
        self._host = host
        self._port = port
        self._metrics = metrics
        self._serves = serves
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        try:
            self._server = await asyncio.start_server(
                self._accept, self._host, self._port, limit=REQUEST_BYTES, backlog=BACKLOG
            )
        except OSError as error:
            raise EndpointTaken(f"{self._host}:{self._port}: {error.strerror or error}") from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    @property
    def address(self) -> str:
        """Where it listens, as ``host:port``."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= CONNECTIONS_AT_MOST:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._converse(reader, writer), name="scrape")
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one request, answer it, and close. Nothing that goes wrong here concerns the role."""
        try:
            async with asyncio.timeout(REQUEST_S):
                answer = await self._answer(reader)
                writer.write(_encoded(answer))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            log.debug("a scrape ended before its answer")
        except Exception:
            log.exception("a scrape was not answered")
        finally:
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader) -> Answer:
        try:
            head = await reader.readuntil(_END)
        except asyncio.LimitOverrunError:
            return Answer("431 Request Header Fields Too Large", b"the request is too long\n")
        match head.split(b"\r\n", 1)[0].split(b" "):
            case [method, target, b"HTTP/1.0" | b"HTTP/1.1"]:
                return await self._routed(method, target.partition(b"?")[0])
        return Answer("400 Bad Request", b"not a request of HTTP/1.1\n")

    async def _routed(self, method: bytes, path: bytes) -> Answer:
        if path not in {b"/metrics", b"/healthz"}:
            return Answer("404 Not Found", b"here are /metrics and /healthz\n")
        if method != b"GET":
            return Answer("405 Method Not Allowed", b"only GET\n")
        if path == b"/metrics":
            body, content_type = await self._metrics()
            return Answer("200 OK", body, content_type)
        return Answer("200 OK", b"ok\n") if self._serves() else Answer("503 Service Unavailable", b"not ready\n")


def _encoded(answer: Answer) -> bytes:
    lines = (
        f"HTTP/1.1 {answer.status}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
        *(["Allow: GET"] if answer.status.startswith("405") else []),
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    )
    return "\r\n".join(lines).encode() + _END + answer.body

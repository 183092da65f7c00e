"""Frames of the NATS protocol, written by hand: what a client library would refuse to send."""

from __future__ import annotations

import asyncio
import json
from typing import Final
from urllib.parse import urlsplit

PATIENCE_S: Final = 180.0


def pub(subject: bytes, body: bytes, *, reply: bytes = b"") -> bytes:
    """Return the frame that publishes a body; ``reply`` is where an answer is to go."""
    return b"PUB %b %b %d\r\n%b\r\n" % (subject, reply, len(body), body)


def hpub(subject: bytes, headers: bytes, body: bytes) -> bytes:
    """Return the frame that publishes a body behind any bytes for headers."""
    return b"HPUB %b %d %d\r\n%b%b\r\n" % (subject, len(headers), len(headers) + len(body), headers, body)


async def connected_raw(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a connection that has told the server who it is, and from which nothing is read yet."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=4096)
    hello = {"verbose": False, "pedantic": False, "headers": True, "user": parts.username, "pass": parts.password}
    writer.write(b"CONNECT %b\r\n" % json.dumps(hello).encode())
    return reader, writer


async def send_raw(url: str, *frames: bytes) -> None:
    """Send frames over a connection of their own; the server has taken them all when this returns."""
    reader, writer = await connected_raw(url)
    try:
        for frame in frames:
            writer.write(frame)
            await writer.drain()
        writer.write(b"PING\r\n")
        async with asyncio.timeout(PATIENCE_S):
            while (line := await reader.readline()) != b"PONG\r\n":
                assert line.startswith((b"INFO", b"PING", b"+OK")), line
    finally:
        writer.close()

"""Who follows never waits for a server that owes him nothing."""

from __future__ import annotations

import asyncio
import socket
from contextlib import aclosing

import pytest

from cutor.bus.bulk import following
from cutor.bus.bulk.reader import Wanted
from cutor.bus.bulk.wire import Wire

PATIENCE_S = 20.0
OVER = "NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 10000\r\nNats-Pending-Bytes: 0\r\n\r\n"
DELIVERY = b"MSG cutor.ev.default.a.note 1 $JS.ACK.S.c.1.7.1.1700000000000000000.0 2\r\n{}\r\n"


async def test_pulls_that_end_while_nothing_comes_are_followed_by_others_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, server = socket.socketpair()
    server.setblocking(False)
    monkeypatch.setattr(Wire, "open", lambda *_: Wire(ours, "inbox"))
    monkeypatch.setattr(following, "LOOK_S", 10 * PATIENCE_S)
    async with asyncio.timeout(PATIENCE_S), aclosing(following.as_it_comes(Wanted("", "S", "c", 0))) as parts:
        coming = asyncio.ensure_future(anext(parts))
        loop, asked = asyncio.get_running_loop(), b""
        while b"inbox.2 " not in asked:
            asked += await loop.sock_recv(server, 4096)
        over = "".join(f"HMSG inbox.{number} 1 {len(OVER)} {len(OVER)}\r\n{OVER}\r\n" for number in (1, 2))
        await loop.sock_sendall(server, over.encode())
        while b"inbox.3 " not in asked:
            asked += await loop.sock_recv(server, 4096)
        await loop.sock_sendall(server, DELIVERY)
        assert (await coming).sequences == [7]
    server.close()

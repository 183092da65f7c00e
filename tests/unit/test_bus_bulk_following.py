"""Who follows never waits for a server that owes him nothing."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from contextlib import aclosing
from functools import partial

import pytest

from cutor.bus.bulk import following, pulling
from cutor.bus.bulk.columns import Columns
from cutor.bus.bulk.pulling import DeliveryLost, LostLater
from cutor.bus.bulk.reader import Wanted
from cutor.bus.bulk.wire import Wire, WireFailed
from cutor.bus.pull import SILENCE_S, PullWindow

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


class Noted:
    """A pace that notes how it is asked."""

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.is_quiet = asyncio.Event()

    async def rest(self, taken: Columns) -> None:
        self.calls.append(taken.sequences)

    def quiet(self) -> None:
        self.calls.append("quiet")
        self.is_quiet.set()


async def test_a_pace_is_asked_behind_each_piece_and_told_that_there_is_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, server = socket.socketpair()
    monkeypatch.setattr(Wire, "open", lambda *_: Wire(ours, "inbox"))
    server.sendall(DELIVERY)
    pace = Noted()
    async with asyncio.timeout(PATIENCE_S), aclosing(following.as_it_comes(Wanted("", "S", "c", 0, pace))) as parts:
        assert (await anext(parts)).sequences == [7]
        assert not pace.calls
        coming = asyncio.ensure_future(anext(parts))
        await pace.is_quiet.wait()
        assert pace.calls[:2] == [[7], "quiet"]
        server.sendall(DELIVERY.replace(b".1.7.1.", b".1.8.2."))
        assert (await coming).sequences == [8]
        pace.calls.clear()
    assert pace.calls == ["quiet"]
    server.close()


async def test_a_server_is_not_silent_where_nobody_listened(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit takes longer than a server may be silent; what it sent meanwhile is there, be it part of a message."""
    ours, server = socket.socketpair()
    monkeypatch.setattr(Wire, "open", lambda *_: Wire(ours, "inbox"))
    monkeypatch.setattr(pulling, "PullWindow", partial(PullWindow, silence_s=-1.0))
    server.sendall(DELIVERY)
    async with asyncio.timeout(PATIENCE_S), aclosing(following.as_it_comes(Wanted("", "S", "c", 0))) as parts:
        assert (await anext(parts)).sequences == [7]
        server.sendall(DELIVERY.replace(b".1.7.1.", b".1.8.2."))
        assert (await anext(parts)).sequences == [8]
        with pytest.raises(DeliveryLost, match="silent"):
            await anext(parts)
    server.close()


def test_part_of_a_message_is_a_sign_of_life() -> None:
    ours, server = socket.socketpair()
    reading = pulling.Pulling(Wire(ours, "inbox"), "S", "c")
    reading.pull()
    reading._window._heard -= 2 * SILENCE_S
    server.sendall(DELIVERY[:20])
    assert not reading.receive(0)
    assert not reading.receive(0)
    server.sendall(DELIVERY[20:])
    assert reading.receive(0).sequences == [7]
    server.close()
    ours.close()


def test_a_message_that_comes_little_by_little_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever receives is to say that it lives; what has come is kept."""
    ours, server = socket.socketpair()
    wire = Wire(ours, "inbox")
    receives = 0

    def little(_timeout_s: float) -> bytes:
        nonlocal receives
        receives += 1
        return ours.recv(1)

    monkeypatch.setattr(wire, "receive", little)
    monkeypatch.setattr(pulling, "RECEIVE_S", 0.0)
    reading = pulling.Pulling(wire, "S", "c")
    server.sendall(DELIVERY)
    found = [reading.receive(0) for _ in range(len(DELIVERY))]
    assert receives == len(DELIVERY)
    assert [columns.sequences for columns in found if columns] == [[7]]
    server.close()
    ours.close()


@pytest.mark.parametrize(("last", "served"), [(0, True), (1, False)])
async def test_a_heartbeat_is_of_use_unless_it_tells_of_a_loss(
    last: int, served: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, server = socket.socketpair()
    monkeypatch.setattr(Wire, "open", lambda *_: Wire(ours, "inbox"))
    beat = f"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: {last}\r\nNats-Last-Stream: {last}\r\n\r\n"
    server.sendall(f"HMSG inbox.1 1 {len(beat)} {len(beat)}\r\n{beat}\r\n".encode())
    server.shutdown(socket.SHUT_WR)
    async with asyncio.timeout(PATIENCE_S), aclosing(following.as_it_comes(Wanted("", "S", "c", 0))) as parts:
        with pytest.raises(DeliveryLost) as lost:
            await anext(parts)
    assert isinstance(lost.value, LostLater) == served
    server.close()


async def test_over_tls_all_that_is_there_is_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """A receive of TLS gives one record of 16 KiB at the most: a commit for each would be the price."""
    ours, server = tls_pair()
    monkeypatch.setattr(Wire, "open", lambda *_: Wire(ours, "inbox"))
    line = b"MSG cutor.ev.default.a.note 1 $JS.ACK.S.c.1.%d.%d.1700000000000000000.0 400\r\n%b\r\n"
    server.sendall(b"".join(line % (number, number, b"x" * 400) for number in range(1, 201)))
    async with asyncio.timeout(PATIENCE_S), aclosing(following.as_it_comes(Wanted("", "S", "c", 0))) as parts:
        assert (await anext(parts)).sequences == [*range(1, 201)]
        server.sendall(DELIVERY.replace(b".1.7.1.", b".1.201.201."))
        server.close()
        assert (await anext(parts)).sequences == [201]
        with pytest.raises(WireFailed):
            await anext(parts)


def tls_pair() -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
    """Two ends of a connection with TLS and without certificates, between which 100 KB may lie."""
    pair = socket.socketpair()
    for end in pair:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        end.settimeout(PATIENCE_S)
    contexts = (ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    for context in contexts:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("aNULL:@SECLEVEL=0")
    ends: list[ssl.SSLSocket] = []
    serving = threading.Thread(target=lambda: ends.append(contexts[1].wrap_socket(pair[1], server_side=True)))
    serving.start()
    ours = contexts[0].wrap_socket(pair[0])
    serving.join()
    return ours, ends[0]

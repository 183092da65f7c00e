"""What the process that reads for a fold hands over where it loses the server, or has no memory: a whole beginning."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any, NamedTuple, cast

import msgspec
import pytest

from cutor.bus.bulk.columns import Columns
from cutor.bus.bulk.pulling import DeliveryLost, Pulling
from cutor.bus.bulk.wire import Wire, WireFailed
from cutor.model.subjects import EVENTS
from cutor.projections.folds import feeder, feeding
from cutor.projections.folds.feeder import Feeder, Order
from cutor.projections.folds.row_groups import Portions
from cutor.projections.folds.sharing import Alive, Piece
from tests.bench.lives import lives

PORTION = 10
MANY = 5 * PORTION
MUCH = 10_000
"""More packets than a socket holds."""


class Ends(NamedTuple):
    """Both ends of the socket between the feeder and its parent, and a connection that the server has closed."""

    parent: socket.socket
    feeder: socket.socket
    wire: socket.socket

    def allow(self, pieces: int) -> None:
        """Say that so many more may come."""
        self.parent.send(b"." * pieces)

    def pieces(self) -> list[Piece]:
        """Return what has come, whose memory is given back."""
        found = []
        self.parent.setblocking(False)
        while True:
            try:
                packet, descriptors, _, _ = socket.recv_fds(self.parent, feeding.PACKET_BYTES, 1)
            except BlockingIOError:
                return found
            for descriptor in descriptors:
                os.close(descriptor)
            found.append(msgspec.msgpack.decode(packet, type=Piece))


@pytest.fixture
def ends() -> Iterator[Ends]:
    parent, own = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    wire, server = socket.socketpair()
    server.close()
    with closing(parent), closing(own), closing(wire):
        yield Ends(parent, own, wire)


class Scripted:
    """Brings everything at once, and is lost then: with the loss the parent makes room, which it had not before."""

    at_end = False

    def __init__(self, ends: Ends, loss: Exception) -> None:
        self._ends = ends
        self._loss = loss
        self._answers = 0

    def pull(self) -> None:
        """Ask for more."""

    def receive(self, _timeout_s: float) -> Columns:
        self._answers += 1
        if self._answers == 1:
            return Columns.of(lives(MANY))
        self._ends.allow(MANY)
        raise self._loss


def reading(ends: Ends, loss: Exception, kind: type[Scripted] = Scripted) -> Feeder:
    pulling = cast("Pulling", kind(ends, loss))
    order = Order("", EVENTS, "consumer", 10 * MANY)
    return Feeder(ends.feeder, cast("Wire", ends.wire), pulling, order, Portions(PORTION, 1 << 30, PORTION, 1 << 30))


@pytest.mark.parametrize(
    "loss", [WireFailed("the server closed the connection"), DeliveryLost("a delivery was lost")], ids=repr
)
def test_a_server_that_goes_away_while_it_waits_for_room_takes_no_piece_along(ends: Ends, loss: Exception) -> None:
    with pytest.raises(type(loss), match=str(loss)):
        reading(ends, loss).run()
    found = ends.pieces()
    assert [piece.last for piece in found] == [*range(PORTION, MANY + 1, PORTION)]
    assert [piece.behind for piece in found] == [0, *(piece.last for piece in found[:-1])]


class Silent(Scripted):
    """Brings nothing for a long time, and is lost then."""

    def receive(self, _timeout_s: float) -> Columns:
        self._answers += 1
        if self._answers <= MUCH:
            return Columns.empty()
        raise self._loss


def test_it_says_that_it_is_alive_and_waits_for_nobody_to_hear_it(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeder, "ALIVE_S", 0)
    with pytest.raises(DeliveryLost):
        reading(ends, DeliveryLost("lost"), Silent).run()
    ends.parent.setblocking(False)
    assert msgspec.msgpack.decode(ends.parent.recv(feeding.PACKET_BYTES), type=Piece | Alive) == Alive()


@pytest.mark.parametrize("bound_s", [60.0, 0.0], ids=["a while", "for ever"])
def test_it_says_that_it_is_alive_while_it_connects_but_not_for_ever(
    ends: Ends, monkeypatch: pytest.MonkeyPatch, bound_s: float
) -> None:
    heard: list[bytes] = []

    def connect(*_: object) -> Wire:
        """Take as long as three signs of life; then there is no server."""
        ends.parent.settimeout(60.0 if bound_s else 0.2)
        with suppress(TimeoutError):
            heard.extend(ends.parent.recv(feeding.PACKET_BYTES) for _ in range(3))
        ends.parent.send(b".")
        ends.parent.shutdown(socket.SHUT_WR)
        raise WireFailed("no server")

    monkeypatch.setattr(feeder, "ALIVE_S", 0.01)
    monkeypatch.setattr(feeder, "CONNECTING_S", bound_s)
    monkeypatch.setattr(Wire, "open", connect)
    ends.parent.send(msgspec.json.encode(Order("", EVENTS, "consumer", 1)))
    with pytest.raises(feeder._Gone):
        feeder.feed(ends.feeder)
    assert [msgspec.msgpack.decode(packet, type=Piece | Alive) for packet in heard] == [Alive()] * (3 if bound_s else 0)


async def test_a_parent_that_stood_still_takes_what_came_meanwhile(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeding, "SILENT_S", 0.05)
    ends.parent.setblocking(False)

    def stand_still() -> None:
        ends.feeder.send(b"said")
        time.sleep(0.1)

    asyncio.get_running_loop().call_soon(stand_still)
    assert await feeding._packet(ends.parent) == (b"said", [])
    with pytest.raises(DeliveryLost, match=r"it has said nothing for 0\.05 s"):
        await feeding._packet(ends.parent)


@pytest.mark.parametrize("lack", [MemoryError(), OSError(errno.ENOMEM, "no memory")], ids=repr)
def test_a_piece_that_cannot_be_made_is_the_end(ends: Ends, monkeypatch: pytest.MonkeyPatch, lack: Exception) -> None:
    made = feeder.write

    def write(*arguments: Any, **named: Any) -> tuple[Piece, int]:
        if named["behind"] == PORTION:
            raise lack
        return made(*arguments, **named)

    monkeypatch.setattr(feeder, "write", write)
    ends.allow(MANY)
    with pytest.raises(type(lack)):
        reading(ends, WireFailed("the server closed the connection")).run()
    assert [piece.last for piece in ends.pieces()] == [PORTION]

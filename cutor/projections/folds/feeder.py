"""The process that reads a stream for a fold: ``python -m cutor.projections.folds.feeder PARENT``, started by `feeding`.

Apart from the one that folds, so that each has a CPU and neither waits for the other's lock. Standard input is a socket: a
packet brings what is to be read (`Order`), pieces of batches go back, each with its memory, and every byte that comes allows
one more. While there is nothing to hand over, also while it connects, it says now and then that it is alive. It has one
connection to the server, tells nobody but its parent what went wrong, and ends with it.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import msgspec

from cutor.bond import end_with_parent
from cutor.bus.bulk.columns import Columns
from cutor.bus.bulk.frames import Garbled
from cutor.bus.bulk.pulling import DeliveryLost, Pulling
from cutor.bus.bulk.wire import CONNECT_S, Wire, WireFailed
from cutor.projections.folds.row_groups import Portions
from cutor.projections.folds.sharing import Alive, Ended, write
from cutor.projections.folds.streams import INCOMING

ORDER_BYTES: Final = 64 << 10
"""Far above what an order has, one line of JSON."""
AHEAD: Final = 2
"""Pieces that nobody has taken; then it waits."""
WAIT_S: Final = 0.25
"""How long it waits for messages before it looks whether its parent wants something else. A choice."""
ALIVE_S: Final = 2.0
"""Between two signs of life of one that has nothing to hand over."""
CONNECTING_S: Final = 60.0
"""So long it says that it is alive while it connects, to one server after the other."""
FAULT_CHARACTERS: Final = 1000
"""Of an error, for one line of the projector's log. A choice."""
GARBAGE: Final = (100_000, 20, 50)
"""Thresholds of the garbage collector: what is made for each message holds no cycles."""


class Order(msgspec.Struct, frozen=True):
    """What is to be read: all that a consumer delivers, up to and with a sequence."""

    server_url: str
    stream: str
    consumer: str
    until: int


class _Gone(Exception):
    """Nobody takes what is read."""


class Feeder:
    """Reads by ``pulling``, over ``wire``, and hands over what comes in portions."""

    def __init__(self, own: socket.socket, wire: Wire, pulling: Pulling, order: Order, portions: Portions) -> None:
        self._own = own
        self._wire = wire
        self._order = order
        self._pulling = pulling
        self._portions = portions
        self._room = AHEAD
        self._taken = 0
        self._has_all = False
        self._said_at = time.monotonic()
        self._loss: Exception | None = None

    def run(self) -> None:
        """Read to the end, or until something is lost: what came before that goes to the parent first.

        No piece is ever sent behind one that was not. Raises `WireFailed`, `Garbled` and `DeliveryLost`, and OSError and
        MemoryError where a piece cannot be made.
        """
        while self._listens:
            with self._noting_loss():
                self._pulling.pull()
                self._receive(WAIT_S)
            while (portion := self._portions.next()) is not None:
                self._give(*portion)
            self._say_alive()
        for portion in self._portions.rest():
            self._give(*portion)
        if self._loss is not None:
            raise self._loss

    @property
    def _listens(self) -> bool:
        return not self._has_all and self._loss is None

    @contextmanager
    def _noting_loss(self) -> Iterator[None]:
        try:
            yield
        except (WireFailed, Garbled, DeliveryLost) as loss:
            self._loss = loss

    def _receive(self, timeout_s: float) -> None:
        columns = self._pulling.receive(timeout_s)
        self._portions.add(columns.up_to(self._order.until))
        self._has_all = self._pulling.at_end or (len(columns) > 0 and columns.last >= self._order.until)

    def _give(self, columns: Columns, ends_batch: bool) -> None:
        """Hand a piece over, once it may; the server goes on sending what it was asked for, and is listened to."""
        behind, self._taken = self._taken, columns.last
        piece, memory = write(INCOMING[self._order.stream].of(columns), behind=behind, ends_batch=ends_batch)
        try:
            while not self._room:
                self._wait_for_room()
            socket.send_fds(self._own, [msgspec.msgpack.encode(piece)], [memory])
        finally:
            os.close(memory)
        self._room -= 1
        self._said_at = time.monotonic()

    def _say_alive(self) -> None:
        """Where nothing was said for a while. A parent that does not listen needs no sign of life, and is not waited for."""
        if (now := time.monotonic()) - self._said_at >= ALIVE_S:
            _say_alive(self._own)
            self._said_at = now

    def _wait_for_room(self) -> None:
        awaited = [self._own.fileno(), self._wire.fileno()] if self._listens else [self._own.fileno()]
        ready, _, _ = select.select(awaited, [], [])
        if self._own.fileno() in ready:
            self._room += len(_heard(self._own))
        else:
            with self._noting_loss():
                self._receive(0)


def _say_alive(own: socket.socket) -> None:
    with suppress(BlockingIOError):
        own.send(msgspec.msgpack.encode(Alive()), socket.MSG_DONTWAIT)


@contextmanager
def _saying_alive(own: socket.socket) -> Iterator[None]:
    """Say that one is alive while something waits that cannot say so itself, but not for ever."""
    done, ends_s = threading.Event(), time.monotonic() + CONNECTING_S

    def say() -> None:
        with suppress(BrokenPipeError, ConnectionResetError):
            while time.monotonic() < ends_s:
                _say_alive(own)
                if done.wait(ALIVE_S):
                    return

    saying = threading.Thread(target=say, name="alive", daemon=True)
    saying.start()
    try:
        yield
    finally:
        done.set()
        saying.join()


def _heard(own: socket.socket) -> bytes:
    """Return what the parent said. Raises `_Gone`."""
    said = own.recv(ORDER_BYTES)
    if not said:
        raise _Gone
    return said


def feed(own: socket.socket) -> None:
    """Do what is ordered, and say how it ended."""
    fault = None
    try:
        order = msgspec.json.decode(_heard(own), type=Order)
        with _saying_alive(own):
            wire = Wire.open(order.server_url, "cutor bulk reader", CONNECT_S)
        try:
            Feeder(own, wire, Pulling(wire, order.stream, order.consumer), order, Portions(until=order.until)).run()
        finally:
            wire.close()
    except _Gone:
        raise
    except Exception as error:
        fault = f"{type(error).__name__}: {error}"[:FAULT_CHARACTERS]
    own.send(msgspec.msgpack.encode(Ended(fault)))
    while True:
        _heard(own)  # until the parent has taken all


def main() -> None:
    """Feed the parent, and end with it."""
    end_with_parent(int(sys.argv[1]), signal.SIGKILL)
    os.umask(0o077)
    gc.freeze()
    gc.set_threshold(*GARBAGE)
    with socket.socket(fileno=os.dup(sys.stdin.fileno())) as own:
        try:
            feed(own)
        except (_Gone, BrokenPipeError, ConnectionResetError):
            return


if __name__ == "__main__":
    main()

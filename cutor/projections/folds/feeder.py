"""The process that reads a stream for a fold: ``python -m cutor.projections.folds.feeder PARENT``, started by `feeding`.

Apart from the one that folds, so that each has a CPU and neither waits for the other's lock. Standard input is a socket: a
packet brings what is to be read (`Order`), pieces of batches go back, each with its memory, and every byte that comes allows
one more. It has one connection to the server, tells nobody but its parent what went wrong, and ends with it.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
from typing import Final

import msgspec

from cutor.bus.bulk.columns import Columns
from cutor.bus.bulk.frames import Garbled
from cutor.bus.bulk.pulling import DeliveryLost, Pulling
from cutor.bus.bulk.wire import CONNECT_S, Wire, WireFailed
from cutor.projections.folds.row_groups import Portions
from cutor.projections.folds.sharing import Ended, write
from cutor.projections.folds.streams import INCOMING
from cutor.stack.process import end_with_parent

ORDER_BYTES: Final = 64 << 10
AHEAD: Final = 2
"""Pieces that nobody has taken; then it waits."""
WAIT_S: Final = 0.25
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


class _Feeder:
    def __init__(self, own: socket.socket, wire: Wire, order: Order) -> None:
        self._own = own
        self._wire = wire
        self._order = order
        self._pulling = Pulling(wire, order.stream, order.consumer)
        self._portions = Portions()
        self._room = AHEAD
        self._has_all = False

    def run(self) -> None:
        """Read to the end, or until something is lost: what has come goes to the parent first."""
        try:
            while not self._has_all:
                self._pulling.pull()
                self._receive(WAIT_S)
                while (portion := self._portions.next()) is not None:
                    self._give(*portion)
        finally:
            for portion in self._portions.rest():
                self._give(*portion)

    def _receive(self, timeout_s: float) -> None:
        columns = self._pulling.receive(timeout_s)
        self._portions.add(columns.up_to(self._order.until))
        self._has_all = self._pulling.at_end or (len(columns) > 0 and columns.last >= self._order.until)

    def _give(self, columns: Columns, ends_batch: bool) -> None:
        """Hand a piece over, once it may; the server goes on sending what it was asked for, and is listened to."""
        piece, memory = write(INCOMING[self._order.stream].of(columns), ends_batch=ends_batch)
        try:
            while not self._room:
                ready, _, _ = select.select([self._own.fileno(), self._wire.fileno()], [], [])
                if self._own.fileno() in ready:
                    self._room += len(_heard(self._own))
                elif not self._has_all:
                    self._receive(0)
            socket.send_fds(self._own, [msgspec.msgpack.encode(piece)], [memory])
        finally:
            os.close(memory)
        self._room -= 1


def _heard(own: socket.socket) -> bytes:
    """Return what the parent said. Raises `_Gone`."""
    said = own.recv(ORDER_BYTES)
    if not said:
        raise _Gone
    return said


def feed(own: socket.socket) -> None:
    """Do what is ordered, and say how it ended."""
    order = msgspec.json.decode(_heard(own), type=Order)
    fault = None
    try:
        wire = Wire.open(order.server_url, "cutor bulk reader", CONNECT_S)
        try:
            _Feeder(own, wire, order).run()
        finally:
            wire.close()
    except (WireFailed, Garbled, DeliveryLost, OSError, MemoryError) as error:
        fault = f"{type(error).__name__}: {error}"
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

"""The thread of a bulk read: pulls, receives and parses, and hands columns over.

It always takes what the server sends, which is never more than it has asked for; it asks for no more while who reads holds
enough. So memory is bounded, and the server has nobody to wait for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from cutor.bus.bulk.columns import Columns
from cutor.bus.bulk.frames import Garbled, Parser, Told
from cutor.bus.bulk.wire import Wire, WireFailed
from cutor.bus.pull import EXPIRES_S, Heartbeat, PullEnd, PullWindow, pull_request, read_pull_answer

PULL: Final = 10_000
PULL_BYTES: Final = 12 << 20
"""Most bytes of one pull; more than the largest message."""
PULLS: Final = 2
"""Pulls that are under way at one time: the server never waits for the next one."""
HELD_BYTES: Final = 24 << 20
"""So much may wait to be taken before no more is pulled."""
MESSAGE_BYTES: Final = 500
"""What a message takes beside its body."""
WAIT_S: Final = 0.25


class DeliveryLost(Exception):
    """A delivery did not come, or the consumer is gone: a new one goes on behind the last message that came."""


class Puller:
    """Reads one consumer over one wire, from a thread. ``news`` is called in it whenever there is something to take."""

    def __init__(self, wire: Wire, stream: str, consumer: str, news: Callable[[], object]) -> None:
        self._wire = wire
        self._stream = stream
        self._consumer = consumer
        self._news = news
        self._parser = Parser(stream, consumer)
        self._window = PullWindow()
        self._pulls = 0
        self._expected = 1
        self._room = threading.Condition()
        self._waiting: list[Columns] = []
        self._held_bytes = 0
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=f"bulk read of {stream}", daemon=True)
        self.failure: Exception | None = None
        self.at_end = False
        """The server has nothing more to deliver."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and close the wire."""
        with self._room:
            self._stopped = True
            self._room.notify()
        self._wire.interrupt()
        self._thread.join()
        self._wire.close()

    def take(self, count: int, size_bytes: int) -> Columns:
        """Return what has come: about so many messages and bytes at most, and nothing where there is nothing."""
        with self._room:
            taken = Columns.empty()
            while self._waiting and len(taken) < count and size_bytes > 0:
                chunk = self._waiting.pop(0)
                chunk_bytes = _size_bytes(chunk)
                taken.add(chunk)
                size_bytes -= chunk_bytes
                self._held_bytes -= chunk_bytes
            self._room.notify()
            return taken

    def has(self, count: int, size_bytes: int, last: int) -> bool:
        """Return whether so many messages or bytes wait to be taken, or a sequence, or one behind it, is among them."""
        with self._room:
            if not self._waiting:
                return False
            many = self._held_bytes >= size_bytes or sum(map(len, self._waiting)) >= count
            return many or self._waiting[-1].sequences[-1] >= last

    # -- in the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._read()
        except (WireFailed, Garbled, DeliveryLost) as error:
            self.failure = error
        except Exception as error:
            self.failure = error
        self._news()

    def _read(self) -> None:
        data, wanted = b"", 0
        while self._pull_or_wait():
            chunks = [data]
            size = len(data)
            while not size or size < wanted:
                chunk = self._wire.receive(WAIT_S)
                if not chunk:
                    break
                chunks.append(chunk)
                size += len(chunk)
            if self._window.stale(time.monotonic()):
                raise DeliveryLost("the server is silent")
            data = b"".join(chunks)
            if size and size >= wanted:
                parsed = self._parser.parse(data)
                self._arrived(parsed.columns, parsed.last_number)
                self._answer(parsed.lines, parsed.told)
                data, wanted = data[parsed.used :], parsed.wanted

    def _pull_or_wait(self) -> bool:
        """Pull while there is room; wait for room where nothing is owed. Return whether to go on."""
        while self._has_room_for_a_pull():
            self._pull()
        return not self._stopped

    def _has_room_for_a_pull(self) -> bool:
        """Return whether to pull, once it is known: not where it is to be received, or to be stopped."""
        with self._room:
            while not self._stopped:
                if self._held_bytes < HELD_BYTES:
                    return self._window.owed <= PULL * (PULLS - 1)
                if self._window.owed:
                    return False
                self._room.wait(WAIT_S)
            return False

    def _pull(self) -> None:
        """Ask for more: without the lock, for who takes from here must not wait for a server that takes nothing."""
        self._pulls += 1
        self._window.sent(self._pulls, PULL, EXPIRES_S, time.monotonic())
        body = pull_request(PULL, expires_s=EXPIRES_S, max_bytes=PULL_BYTES)
        self._wire.pull(self._stream, self._consumer, self._pulls, body)

    def _arrived(self, columns: Columns, last_number: int) -> None:
        if not columns:
            return
        if last_number - self._expected + 1 != len(columns):
            raise DeliveryLost("a delivery was lost")
        self._expected = last_number + 1
        self._window.delivered(time.monotonic(), len(columns))
        with self._room:
            self._waiting.append(columns)
            self._held_bytes += _size_bytes(columns)
        self._news()

    def _answer(self, lines: list[bytes], told: list[Told]) -> None:
        for line in lines:
            if line == b"PING":
                self._wire.send(b"PONG\r\n")
            elif line.startswith(b"-ERR"):
                raise WireFailed(line.decode(errors="replace"))
        for one in told:
            self._heard(read_pull_answer(one.subject, "", one.headers, b""))

    def _heard(self, answer: object) -> None:
        now = time.monotonic()
        if isinstance(answer, Heartbeat):
            self._window.alive(now)
            if answer.last_consumer_sequence >= self._expected:
                raise DeliveryLost("a delivery was lost")
            if self._window.knows(answer.number):
                self.at_end = True
                self._news()
        elif isinstance(answer, PullEnd):
            self._window.ended(answer.number, answer.undelivered, now)
            if answer.consumer_gone:
                raise DeliveryLost(answer.description or "nobody answers for the consumer")


def _size_bytes(columns: Columns) -> int:
    return sum(map(len, columns.bodies)) + MESSAGE_BYTES * len(columns)

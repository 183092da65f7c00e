"""The work of one bulk read: pulls, receives and parses, in whatever thread or process; blocking.

It takes what the server sends, which is never more than it has asked for: who asks for no more is sent no more.
"""

from __future__ import annotations

import time
from typing import Final

from cutor.bus.bulk.columns import Columns
from cutor.bus.bulk.frames import Parser, Told
from cutor.bus.bulk.wire import Wire, WireFailed
from cutor.bus.pull import EXPIRES_S, Heartbeat, PullEnd, PullWindow, pull_request, read_pull_answer

PULL: Final = 10_000
"""Messages that one pull asks for; `PULL_BYTES` ends one of large messages earlier."""
PULL_BYTES: Final = 12 << 20
"""Most bytes of one pull; more than the largest message."""
RECEIVE_S: Final = 1.0
"""About the longest that one receive takes where a message comes little by little: its caller has other things to do."""
PULLS: Final = 2
"""Pulls that are under way at one time: the server never waits for the next one."""


class DeliveryLost(Exception):
    """A delivery did not come, or the consumer is gone: a new one goes on behind the last message that came."""


class LostLater(DeliveryLost):
    """The rest does not come, but there were heartbeats: the way to the server is good."""


class Pulling:
    """Reads one consumer over one wire."""

    def __init__(self, wire: Wire, stream: str, consumer: str) -> None:
        self._wire = wire
        self._stream = stream
        self._consumer = consumer
        self._parser = Parser(stream, consumer)
        self._window = PullWindow()
        self._expected = 1
        self._data = b""
        self._wanted = 0
        self.pulls = 0
        """How many there were."""
        self.at_end = False
        """The server has nothing more to deliver."""
        self.served = False
        """The server has said that it serves a pull, and that nothing is lost."""

    @property
    def owed(self) -> int:
        """How many messages were asked for and have not come."""
        return self._window.owed

    def pull(self) -> None:
        """Ask for more where less than that is asked for already. Raises `WireFailed`."""
        while self._window.owed <= PULL * (PULLS - 1):
            self.pulls += 1
            self._window.sent(self.pulls, PULL, EXPIRES_S, time.monotonic())
            body = pull_request(PULL, expires_s=EXPIRES_S, max_bytes=PULL_BYTES)
            self._wire.pull(self._stream, self._consumer, self.pulls, body)

    def receive(self, timeout_s: float) -> Columns:
        """Return messages that have come; none where nothing whole comes in so many seconds.

        Raises `WireFailed`, `Garbled` and `DeliveryLost`.
        """
        data = self._receive(timeout_s)
        self._listen(more=len(data) > len(self._data))
        if not data or len(data) < self._wanted:
            self._data = data
            return Columns.empty()
        parsed = self._parser.parse(data)
        self._data, self._wanted = data[parsed.used :], parsed.wanted
        self._arrived(len(parsed.columns), parsed.last_number)
        self._answer(parsed.lines, parsed.told)
        return parsed.columns

    def _listen(self, more: bool) -> None:
        """Judge the server's silence where nothing came: nobody may have listened for long, and what came may be read last."""
        if more:
            self._window.alive(time.monotonic())
        elif self._window.stale(time.monotonic()):
            raise DeliveryLost("the server is silent")

    def _receive(self, timeout_s: float) -> bytes:
        """Return what there was and what comes, until it is long enough for something to be in it, or that takes too long."""
        chunks, size = [self._data], len(self._data)
        ends_s = time.monotonic() + RECEIVE_S
        while not size or size < self._wanted:
            chunk = self._wire.receive(timeout_s)
            chunks.append(chunk)
            size += len(chunk)
            if not chunk or time.monotonic() >= ends_s:
                break
        return b"".join(chunks)

    def _arrived(self, count: int, last_number: int) -> None:
        if not count:
            return
        if last_number - self._expected + 1 != count:
            raise DeliveryLost("a delivery was lost")
        self._expected = last_number + 1
        self._window.delivered(time.monotonic(), count)

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
            self.served = True
            self.at_end = self.at_end or self._window.knows(answer.number)
        elif isinstance(answer, PullEnd):
            self._window.ended(answer.number, answer.undelivered, now)
            if answer.consumer_gone:
                raise DeliveryLost(answer.description or "nobody answers for the consumer")

"""Reading a stream in order, in bulk, from any sequence on, through restarts of the server.

A reader uses an ephemeral pull consumer without acknowledgements. Its deliveries are numbered without gaps, so a lost one
is noticed at the next message or heartbeat; then, and when the server has forgotten the consumer, the reader makes a new
one behind the last message it has seen. Nothing is skipped and nothing comes twice.

The end of a stream is told by the number of messages that still wait, which comes with each. That number can be too high: under
a filter with ``*``, the server counts messages whose subjects have ``>`` for a token (anybody may publish to such), and never
delivers them. So a reader that does not follow ends, too, when the server says that it has nothing to deliver: a second later.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from cutor.bus.api import Api, Json
from cutor.bus.buffer import Buffer
from cutor.bus.errors import ApiRefused, BusClosed, BusError, BusUnreachable, StreamRewound
from cutor.bus.inbox import PullInbox
from cutor.bus.link import Link
from cutor.bus.message import Stored
from cutor.bus.pull import EXPIRES_S, NS_PER_S, Arrival, Heartbeat, PullEnd, PullWindow, pull_request

log = logging.getLogger("cutor.bus")

DEFAULT_BATCH: Final = 1000
"""Most messages that are delivered at one time, unless the caller says another number."""
PULL_BYTES: Final = 16 << 20
"""Most bytes of one pull; more than the largest message."""
BATCH_BYTES: Final = 16 << 20
"""Most bytes of one batch. A reader pulls no more while it holds as many: it holds no more than these and two pulls."""
FORGOTTEN_AFTER_S: Final = 30
"""The server drops the consumer of a reader that has not pulled for so long; the reader makes a new one when it goes on."""
TICK_S: Final = 0.5
"""Without a message for so long it is looked whether a pull is due. A choice: shorter than a pull lasts."""


@dataclass(frozen=True, slots=True)
class Range:
    """What to read: `filters` (subjects, none = all), from a sequence on, up to and with another, or on and on.

    `patience_s` is how long a lost connection is waited for while following; None: without end. `headers_only` leaves the
    bodies with the server: they arrive empty.
    """

    stream: str
    filters: Sequence[str]
    from_sequence: int
    until_sequence: int | None
    follow: bool
    patience_s: float | None = None
    headers_only: bool = False


class Reader:
    """One pass over a stream; iterate `batches` once."""

    def __init__(self, link: Link, api: Api, wanted: Range, batch: int) -> None:
        if wanted.from_sequence < 1:
            raise BusError(f"sequences start at 1, not at {wanted.from_sequence}")
        if wanted.follow and wanted.until_sequence is not None:
            raise BusError("a reader that follows has no last sequence: give until_sequence or follow, not both")
        if batch < 1:
            raise BusError(f"a batch has 1 message or more, not {batch}")
        self._link = link
        self._api = api
        self._wanted = wanted
        self._batch = batch
        self._inbox = PullInbox(link, wanted.stream, self._heard)
        self._window = PullWindow()
        self._buffer = Buffer()
        self._changed = asyncio.Event()
        self._consumer: str | None = None
        self._expected = 1
        self._position = wanted.from_sequence - 1
        self._created: str | None = None
        self._last: int | None = wanted.until_sequence
        self._ended = False
        self._lost_at: float | None = None

    async def batches(self) -> AsyncGenerator[list[Stored], None]:
        """Lists of what has arrived, in stream order, of one message to the batch size; several have `BATCH_BYTES` at most.

        Ends at the last sequence wanted, or at the end that the stream had when the reading began; never if it follows.
        Errors: StreamMissing, StreamRewound, BusUnreachable, BusClosed.
        """
        end_watch = self._link.watch(lost=self._connection_lost, back=self._connection_back)
        try:
            await self._inbox.open()
            while True:
                if self._buffer:
                    yield self._buffer.take(self._batch, BATCH_BYTES)
                    continue
                if self._ended:
                    return
                await self._advance()
        finally:
            end_watch()
            await self._clean_up()

    async def _advance(self) -> None:
        """One step towards more messages: a consumer, a pull, or waiting for something to happen."""
        now = asyncio.get_running_loop().time()
        if self._link.closed:
            raise BusClosed(f"the connection to {self._link.address} is closed")
        self._check_patience(now)
        if self._window.stale(now):
            self._window.lost()
        if self._consumer is None:
            await self._make_or_wait()
            return
        self._changed.clear()
        if self._wants_more():
            number = self._inbox.next_number()
            self._window.sent(number, self._batch, EXPIRES_S, now)
            await self._inbox.pull(self._consumer, number, pull_request(self._batch, expires_s=EXPIRES_S, max_bytes=PULL_BYTES))
            return
        try:
            async with asyncio.timeout(TICK_S):
                await self._changed.wait()
        except TimeoutError:
            return

    def _wants_more(self) -> bool:
        has_room = self._window.owed + len(self._buffer) <= self._batch and self._buffer.size_bytes < BATCH_BYTES
        return self._link.connected and has_room

    def _check_patience(self, now: float) -> None:
        patience_s = self._wanted.patience_s
        if patience_s is not None and self._lost_at is not None and now - self._lost_at > patience_s:
            raise self._link.unreachable(f"the connection was lost {patience_s:g} s ago and does not come back")

    # -- the consumer ----------------------------------------------------------------------------------------------

    async def _make_or_wait(self) -> None:
        """A follower that has begun waits for a server without end; everyone else is told that there is none."""
        try:
            await self._make_consumer()
        except BusUnreachable:
            if not self._wanted.follow or self._created is None:
                raise
            log.warning("stream %s cannot be read at the moment; trying again until it can", self._wanted.stream)

    async def _make_consumer(self) -> None:
        """A new consumer behind the last message seen; the stream must still be the one that was read so far."""
        info = await self._api.stream_info(self._wanted.stream)
        self._check_same_stream(info)
        if self._last is None and not self._wanted.follow:
            self._last = int(info["state"]["last_seq"])
        name = f"reader-{secrets.token_hex(8)}"
        try:
            made = await self._api.call(
                f"reader of stream {self._wanted.stream}",
                f"CONSUMER.CREATE.{self._wanted.stream}.{name}",
                {
                    "stream_name": self._wanted.stream,
                    "config": consumer_config(name, self._position + 1, self._wanted.filters, self._wanted.headers_only),
                    "action": "create",
                },
            )
        except ApiRefused as error:
            raise BusError(f"cannot read stream {self._wanted.stream}: {error}") from error
        self._consumer = name
        self._expected = 1
        self._window.lost()
        if not self._wanted.follow and int(made.get("num_pending", 0)) == 0:
            self._ended = True

    def _check_same_stream(self, info: Json) -> None:
        last_sequence = int(info["state"]["last_seq"])
        if self._position > last_sequence or (self._created is not None and info["created"] != self._created):
            raise StreamRewound(self._wanted.stream, self._position, last_sequence)
        self._created = info["created"]

    async def _clean_up(self) -> None:
        """Leave nothing behind; what cannot be said now, the server forgets by itself."""
        await self._inbox.close()
        if self._consumer is not None and self._link.connected:
            with suppress(BusError):
                await self._api.call(
                    "end of a reader", f"CONSUMER.DELETE.{self._wanted.stream}.{self._consumer}", timeout_s=1.0
                )

    # -- what arrives ----------------------------------------------------------------------------------------------

    def _connection_lost(self) -> None:
        if self._lost_at is None:
            self._lost_at = asyncio.get_running_loop().time()
        self._window.lost()
        self._changed.set()

    def _connection_back(self) -> None:
        self._lost_at = None
        self._window.lost()
        self._changed.set()

    def _heard(self, answer: Arrival | Heartbeat | PullEnd) -> None:
        now = asyncio.get_running_loop().time()
        match answer:
            case Arrival():
                self._arrived(answer, now)
            case Heartbeat():
                self._window.alive(now)
                if answer.last_consumer_sequence >= self._expected:
                    self._start_over("a delivery was lost")
                elif not self._wanted.follow and self._window.knows(answer.number):
                    self._ended = True  # the server has nothing more, whatever it counted: see the module
            case PullEnd():
                self._window.ended(answer.number, answer.undelivered, now)
                if answer.consumer_gone:
                    self._start_over(answer.description or "nobody answers for it")
        self._changed.set()

    def _arrived(self, arrival: Arrival, now: float) -> None:
        place = arrival.place
        if place.consumer != self._consumer or self._ended:
            return
        self._window.delivered(now)
        if place.consumer_sequence != self._expected:
            self._start_over("a delivery was lost")
            return
        self._expected += 1
        self._position = place.stream_sequence
        if self._last is None or place.stream_sequence <= self._last:
            self._buffer.add(arrival.stored)
        if not self._wanted.follow and (place.pending == 0 or (self._last is not None and place.stream_sequence >= self._last)):
            self._ended = True

    def _start_over(self, reason: str) -> None:
        log.debug("reader of %s at %d makes a new consumer: %s", self._wanted.stream, self._position, reason)
        self._consumer = None
        self._window.lost()


def consumer_config(name: str, start: int, filters: Sequence[str] = (), headers_only: bool = False) -> Json:
    """The consumer of a reader: forgotten by itself, in memory, without acknowledgements."""
    config: Json = {
        "name": name,
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": start,
        "ack_policy": "none",
        "replay_policy": "instant",
        "mem_storage": True,
        "num_replicas": 1,
        "inactive_threshold": FORGOTTEN_AFTER_S * NS_PER_S,
    }
    if filters:
        config["filter_subjects"] = list(filters)
    if headers_only:
        config["headers_only"] = True
    return config

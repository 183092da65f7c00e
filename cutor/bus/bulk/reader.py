"""One pass over a stream in bulk, from a sequence to another, or on and on: whole, in order, each message once.

A consumer is made over the bus's own connection, and read over a wire of its own. Where a delivery, the consumer or the
wire is lost, another one goes on behind the last message that came. Where that fails again and again, the ordinary reader
goes on, which knows how to wait and what to say; one that follows tries a wire once more after a while.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from cutor.bus.api import Api
from cutor.bus.bulk.columns import Columns
from cutor.bus.bulk.frames import Garbled
from cutor.bus.bulk.puller import Puller
from cutor.bus.bulk.pulling import DeliveryLost, LostLater
from cutor.bus.bulk.wire import CONNECT_S, Wire, WireFailed
from cutor.bus.errors import ApiRefused, BusError, BusUnreachable, StreamRewound
from cutor.bus.link import Link
from cutor.bus.message import Stored
from cutor.bus.reader import Range, Reader, consumer_config

log = logging.getLogger("cutor.bus")

BATCH: Final = 20_000
"""Most messages in one batch of columns, unless the caller says another number."""
BATCH_BYTES: Final = 16 << 20
"""Two messages of the largest size that streams.yaml lets in: what a reader holds stays small, whatever messages weigh."""
ATTEMPTS: Final = 3
"""So often in a row a wire may be of no use, with neither a message nor a heartbeat, before the ordinary reader goes on."""
ORDINARY_S: Final = 60.0
"""So long it follows before a wire is tried again."""
LOOK_S: Final = 1.0
"""Where nothing comes for so long, the connection is looked at and a pull made anew, if it is due. A choice."""
LOST: Final = (WireFailed, Garbled, DeliveryLost)


class Part(Protocol):
    """Messages of a stream, in its order, one at least."""

    @property
    def last(self) -> int:
        """The sequence of the last one."""


P = TypeVar("P", bound=Part)


class Pace(Protocol):
    """How soon who follows a stream wants more of it."""

    async def rest(self, taken: Columns) -> None:
        """Return when more is wanted: all of these has been taken. It is not called while who follows is busy."""

    def quiet(self) -> None:
        """Hear that all that came has been taken, or that no more of it comes."""


class Wanted(NamedTuple):
    """What is to be read: all that a consumer delivers, up to and with a sequence; none behind it. 0: all that comes.

    Where it is followed, at a ``pace``; None: as it comes.
    """

    server_url: str
    stream: str
    consumer: str
    until: int
    pace: Pace | None = None


Way = Callable[[Wanted], AsyncGenerator[P, None]]
"""Reads a consumer, and ends where all that is wanted has come, or there is no more.

Raises `WireFailed`, `Garbled` or `DeliveryLost` where the rest does not come: it is asked for anew, of another consumer.
"""


class BulkReader(Generic[P]):
    """Reads once, in some way; iterate `parts`. ``until_sequence`` None follows the stream.

    ``anew`` is called whenever a consumer was made, before anything comes of it and after all that came before was taken.
    """

    def __init__(
        self,
        link: Link,
        api: Api,
        stream: str,
        from_sequence: int,
        until_sequence: int | None,
        way: Way[P],
        anew: Callable[[], None] | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._link = link
        self._api = api
        self._stream = stream
        self._position = from_sequence - 1
        self._until = until_sequence
        self._way = way
        self._anew = anew
        self._pace = pace
        self._created: str | None = None
        self._ended = until_sequence is not None and from_sequence > until_sequence

    async def parts(self) -> AsyncGenerator[P | Columns, None]:
        """Yield what the way of reading makes of the messages, and the columns of those that it could not read.

        Ends behind `until_sequence`, or at the stream's end before it. Errors: StreamMissing, StreamRewound, BusUnreachable; a
        follower that has begun waits for a server without end.
        """
        failures = 0
        while not self._ended:
            before = self._position
            try:
                async with aclosing(self._over_a_wire() if failures < ATTEMPTS else self._ordinarily()) as parts:
                    async for part in parts:
                        yield part
                failures = ATTEMPTS - 1  # a follower who did without wires for long enough tries one
            except LOST as error:
                was_of_use = self._position > before or isinstance(error, LostLater)
                failures = 1 if was_of_use else failures + 1
                log.debug("bulk read of %s at %d: %s", self._stream, self._position, error)
            except BusUnreachable:
                if self._until is not None or self._created is None:
                    raise
                log.warning("stream %s cannot be read at the moment; trying again until it can", self._stream)

    async def _over_a_wire(self) -> AsyncGenerator[P, None]:
        async with self._consumer() as consumer:
            if self._ended:
                return
            if self._anew is not None:
                self._anew()
            wanted = Wanted(self._link.server_url, self._stream, consumer, self._until or 0, self._pace)
            async with aclosing(self._way(wanted)) as parts:
                async for part in parts:
                    self._position = part.last
                    yield part
            self._ended = True

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[str]:
        """Make a consumer behind the last message that came; the stream must still be the one that was read so far."""
        info = await self._api.stream_info(self._stream)
        last = int(info["state"]["last_seq"])
        if self._position > last or (self._created is not None and info["created"] != self._created):
            raise StreamRewound(self._stream, self._position, last)
        self._created = info["created"]
        name = f"bulk-{secrets.token_hex(8)}"
        request = {"stream_name": self._stream, "config": consumer_config(name, self._position + 1), "action": "create"}
        try:
            made = await self._api.call(f"reader of stream {self._stream}", f"CONSUMER.CREATE.{self._stream}.{name}", request)
        except ApiRefused as error:
            raise BusError(f"cannot read stream {self._stream}: {error}") from error
        self._ended = self._until is not None and int(made.get("num_pending", 0)) == 0
        try:
            yield name
        finally:
            if self._link.connected:
                with suppress(BusError):
                    await self._api.call("end of a reader", f"CONSUMER.DELETE.{self._stream}.{name}", timeout_s=1.0)

    async def _ordinarily(self) -> AsyncGenerator[Columns, None]:
        """Read to the end, or follow for `ORDINARY_S`."""
        log.warning("stream %s is read in the ordinary way, from %d on", self._stream, self._position + 1)
        follow = self._until is None
        wanted = Range(self._stream, (), self._position + 1, self._until, follow)
        loop = asyncio.get_running_loop()
        end = loop.time() + ORDINARY_S if follow else None
        async with aclosing(Reader(self._link, self._api, wanted, BATCH).batches()) as batches:
            while end is None or loop.time() < end:
                if not (messages := await _next_until(end, batches)):
                    self._ended = not follow
                    return
                self._position = messages[-1].sequence
                yield Columns.of(messages)


async def _next_until(end: float | None, batches: AsyncGenerator[list[Stored], None]) -> list[Stored]:
    """Return the next batch; none where there is none, or none comes until the loop's time is ``end``."""
    try:
        async with asyncio.timeout_at(end):
            return await anext(batches, [])
    except TimeoutError:
        return []


def in_a_thread(batch: int = BATCH) -> Way[Columns]:
    """Read in a thread, which reads on while nobody asks for the next: columns hardly longer than a batch, or larger than
    `BATCH_BYTES`, in whole batches but for the last one, and what is left where something gets lost.
    """

    async def read(wanted: Wanted) -> AsyncGenerator[Columns, None]:
        news = asyncio.Event()
        async with _puller(wanted, news) as puller:
            while True:
                news.clear()
                failure, at_end = puller.failure, puller.at_end  # what came before either is there already
                if not (failure or at_end or puller.has(batch, BATCH_BYTES, wanted.until)):
                    await _wait(news)
                elif columns := puller.take(batch, BATCH_BYTES):
                    if found := columns.up_to(wanted.until):
                        yield found
                    if columns.last >= wanted.until:
                        return
                elif failure is not None:
                    raise failure
                else:
                    return

    return read


@asynccontextmanager
async def _puller(wanted: Wanted, news: asyncio.Event) -> AsyncIterator[Puller]:
    loop = asyncio.get_running_loop()
    wire = await asyncio.to_thread(Wire.open, wanted.server_url, "cutor bulk reader", CONNECT_S)
    puller = Puller(wire, wanted.stream, wanted.consumer, lambda: loop.call_soon_threadsafe(news.set))
    puller.start()
    try:
        yield puller
    finally:
        await asyncio.to_thread(puller.stop)


async def _wait(news: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(LOOK_S):
            await news.wait()

"""One pass over a stream in bulk, from a sequence to another: whole, in order, each message once.

A consumer is made over the bus's own connection, and read over a wire of its own. Where a delivery, the consumer or the
wire is lost, another one goes on behind the last message that came. Where that fails again and again, the ordinary reader
goes on, which knows how to wait and what to say.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Final

from cutor.bus.api import Api
from cutor.bus.bulk.columns import Columns
from cutor.bus.bulk.frames import Garbled
from cutor.bus.bulk.puller import DeliveryLost, Puller
from cutor.bus.bulk.wire import Wire, WireFailed
from cutor.bus.errors import ApiRefused, BusError, StreamRewound
from cutor.bus.link import Link
from cutor.bus.reader import Range, Reader, consumer_config

log = logging.getLogger("cutor.bus")

BATCH: Final = 20_000
BATCH_BYTES: Final = 16 << 20
ATTEMPTS: Final = 3
"""So often in a row a wire may bring nothing before the ordinary reader goes on."""
CONNECT_S: Final = 8.0
LOOK_S: Final = 1.0
_LOST: Final = (WireFailed, Garbled, DeliveryLost)


class BulkReader:
    """Reads once; iterate `batches`."""

    def __init__(self, link: Link, api: Api, stream: str, from_sequence: int, until_sequence: int, batch: int = BATCH) -> None:
        self._link = link
        self._api = api
        self._stream = stream
        self._position = from_sequence - 1
        self._until = until_sequence
        self._batch = batch
        self._created: str | None = None
        self._ended = from_sequence > until_sequence

    async def batches(self) -> AsyncGenerator[Columns, None]:
        """Columns in whole batches, but for the last one, and what is left where something gets lost. None is empty.

        One is hardly longer than a batch, or larger than `BATCH_BYTES`. A thread reads on while nobody asks for the next one.

        Ends behind `until_sequence`, or at the stream's end before it. Errors: StreamMissing, StreamRewound, BusUnreachable.
        """
        failures = 0
        while not self._ended and failures < ATTEMPTS:
            before = self._position
            try:
                async with aclosing(self._over_a_wire()) as batches:
                    async for columns in batches:
                        yield columns
            except _LOST as error:
                failures = failures + 1 if self._position == before else 1
                log.debug("bulk read of %s at %d: %s", self._stream, self._position, error)
        if not self._ended:
            async with aclosing(self._ordinarily()) as batches:
                async for columns in batches:
                    yield columns

    async def _over_a_wire(self) -> AsyncGenerator[Columns, None]:
        news = asyncio.Event()
        async with self._consumer() as consumer, self._puller(consumer, news) as puller:
            while not self._ended:
                news.clear()
                failure, at_end = puller.failure, puller.at_end  # what came before either is there already
                if not (failure or at_end or puller.has(self._batch, BATCH_BYTES, self._until)):
                    await _wait(news)
                elif columns := self._wanted(puller.take(self._batch, BATCH_BYTES)):
                    yield columns
                elif failure is not None:
                    raise failure
                else:
                    self._ended = True

    def _wanted(self, columns: Columns) -> Columns | None:
        """Return those up to the last one wanted, and note how far that is."""
        if not columns:
            return None
        if columns.sequences[-1] >= self._until:
            self._ended = True
            end = next(place for place, sequence in enumerate(columns.sequences, 1) if sequence >= self._until)
            columns = columns.part(0, end if columns.sequences[end - 1] == self._until else end - 1)
        if columns:
            self._position = columns.sequences[-1]
        return columns or None

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
        self._ended = int(made.get("num_pending", 0)) == 0
        try:
            yield name
        finally:
            if self._link.connected:
                with suppress(BusError):
                    await self._api.call("end of a reader", f"CONSUMER.DELETE.{self._stream}.{name}", timeout_s=1.0)

    @asynccontextmanager
    async def _puller(self, consumer: str, news: asyncio.Event) -> AsyncIterator[Puller]:
        loop = asyncio.get_running_loop()
        wire = await asyncio.to_thread(Wire.open, self._link.server_url, "cutor bulk reader", CONNECT_S)
        puller = Puller(wire, self._stream, consumer, lambda: loop.call_soon_threadsafe(news.set))
        puller.start()
        try:
            yield puller
        finally:
            await asyncio.to_thread(puller.stop)

    async def _ordinarily(self) -> AsyncGenerator[Columns, None]:
        log.warning("stream %s is read in the ordinary way, from %d on", self._stream, self._position + 1)
        wanted = Range(self._stream, (), self._position + 1, self._until, follow=False)
        async with aclosing(Reader(self._link, self._api, wanted, self._batch).batches()) as batches:
            async for messages in batches:
                self._position = messages[-1].sequence
                yield Columns.of(messages)


async def _wait(news: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(LOOK_S):
            await news.wait()

"""A delivery: the right to handle one message for a while, and its renewal, end or return."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from cutor.bus.api import until_answered
from cutor.bus.errors import BusClosed, BusError
from cutor.bus.link import Link
from cutor.bus.message import Stored
from cutor.bus.pull import Arrival

log = logging.getLogger("cutor.bus")

CONFIRM_TIMEOUT_S: Final = 5.0


class Delivery:
    """One delivery of one message: the right to handle it for `ack_wait`, renewed by `in_progress`.

    The clock belongs to the message, not to this delivery: after a redelivery, an acknowledgement or heartbeat of the
    earlier holder still counts. That is why every append of a role is fenced.
    """

    __slots__ = ("_arrival", "_link")

    def __init__(self, link: Link, arrival: Arrival) -> None:
        self._link = link
        self._arrival = arrival

    @property
    def stored(self) -> Stored:
        """The message."""
        return self._arrival.stored

    @property
    def consumer(self) -> str:
        """The consumer that delivered it."""
        return self._arrival.place.consumer

    @property
    def delivered_count(self) -> int:
        """1 at the first delivery. May repeat after a crash of the server: do not number leases with it."""
        return self._arrival.place.delivered_count

    @property
    def pending(self) -> int:
        """Messages that still wait behind this one."""
        return self._arrival.place.pending

    async def ack(self, *, confirm: bool = False) -> None:
        """It is done. With `confirm`, wait until the server has noted it (BusUnreachable if it does not answer)."""
        if not confirm:
            await self._link.send(self._arrival.reply, b"+ACK")
            return

        async def attempt(until: float) -> None:
            await self._link.ask(self._arrival.reply, b"+ACK", until=until)

        await until_answered(self._link, attempt, timeout_s=CONFIRM_TIMEOUT_S)

    async def nak(self, delay_s: float = 0.0) -> None:
        """Hand it back, to be delivered again after `delay_s`."""
        body = b'-NAK {"delay": %d}' % int(delay_s * 1_000_000_000) if delay_s > 0 else b"-NAK"
        await self._link.send(self._arrival.reply, body)

    async def term(self, reason: str) -> None:
        """Never deliver it again; the server publishes an advisory with the reason (one line)."""
        await self._link.send(self._arrival.reply, b"+TERM " + " ".join(reason.split()).encode())

    async def in_progress(self) -> None:
        """Start its `ack_wait` anew. Not sent while the connection is lost (it would come too late)."""
        if self._link.connected:
            await self._link.send(self._arrival.reply, b"+WPI")

    @asynccontextmanager
    async def kept_alive(self, every_s: float = 10.0) -> AsyncIterator[None]:
        """Send `in_progress` at once, every `every_s` (a third of `ack_wait`) and after each reconnect, until left."""
        again = asyncio.Event()
        end_watch = self._link.watch(back=again.set)
        task = asyncio.create_task(self._beat(every_s, again), name="kept-alive")
        try:
            yield
        finally:
            end_watch()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _beat(self, every_s: float, again: asyncio.Event) -> None:
        while True:
            again.clear()
            try:
                await self.in_progress()
            except BusClosed:
                return
            except BusError as error:
                log.warning("heartbeat for sequence %d not sent: %s", self.stored.sequence, error)
            try:
                async with asyncio.timeout(every_s):
                    await again.wait()
            except TimeoutError:
                continue

"""A delivery: the right to handle one message for a while, and its renewal, end or return."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from cutor.bus.api import until_answered
from cutor.bus.errors import BusClosed, BusError
from cutor.bus.link import Link
from cutor.bus.message import Stored
from cutor.bus.pull import Arrival
from cutor.bus.waiting import NoAnswer, NoResponders

log = logging.getLogger("cutor.bus")

CONFIRM_TIMEOUT_S: Final = 5.0
"""How long the server is asked to confirm an answer to a delivery. A choice: what is not confirmed is delivered again."""
BEAT_TIMEOUT_S: Final = 4.0
"""How long a heartbeat waits for its confirmation (0.3 ms) before the next one is sent."""
BEAT_PAUSE_S: Final = 0.5
"""Between two heartbeats where the first could not be confirmed."""
AWAY_S: Final = 1.0
"""A heartbeat that ends so much later than it should says nothing of the server: this process stood still."""
HAND_BACK_S: Final = 0.001
"""The delay of what is handed back at once. One without a delay is in the server's memory alone: after a restart the message
comes again only when its `ack_wait` has run out. One with a delay is a timestamp in the consumer's state on disk, which is
written within 0.1 s; it comes after 10 ms instead of 0.6 (nats-server 2.15.1, stopped, and killed with SIGKILL)."""


def hand_back_body(delay_s: float) -> bytes:
    """The body of a hand-back; 0: kept in the server's memory alone."""
    return b'-NAK {"delay": %d}' % int(delay_s * 1_000_000_000) if delay_s > 0 else b"-NAK"


async def hand_back(link: Link, ack_subject: str) -> None:
    """Hand a delivery back of which only the subject is known, as of a process that died; the server confirms it.

    Nothing happens where the server does not hold it any more. BusUnreachable where it does not answer.
    """

    async def attempt(until: float) -> None:
        await link.ask(ack_subject, hand_back_body(HAND_BACK_S), until=until)

    await until_answered(link, attempt, timeout_s=CONFIRM_TIMEOUT_S)


def _nothing() -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """How a delivery is kept alive: a heartbeat every `every_s`; who is told when they are not confirmed.

    `confirmed` is called for every heartbeat with a confirmation, `doubtful` for every one without. `cut_off` is called once,
    when there was none for `lasts_s` (the `ack_wait`), or when the connection is closed for good and there will be none: the
    server has given the delivery to somebody else by now, or is about to, if it is there at all.
    """

    every_s: float = 10.0
    lasts_s: float = float("inf")
    confirmed: Callable[[], None] = _nothing
    doubtful: Callable[[], None] = _nothing
    cut_off: Callable[[], None] = _nothing


class Delivery:
    """One delivery of one message: the right to handle it for `ack_wait`, renewed by each heartbeat (`kept_alive`).

    The clock belongs to the message, not to this delivery: after a redelivery, an acknowledgement or heartbeat of the
    earlier holder still counts. That is why every append of a role is fenced.
    """

    __slots__ = ("_answered", "_arrival", "_link")

    def __init__(self, link: Link, arrival: Arrival) -> None:
        self._link = link
        self._arrival = arrival
        self._answered = False  # a heartbeat behind a hand-back would take it back

    @property
    def stored(self) -> Stored:
        """The message."""
        return self._arrival.stored

    @property
    def consumer(self) -> str:
        """The consumer that delivered it."""
        return self._arrival.place.consumer

    @property
    def ack_subject(self) -> str:
        """Where it is answered, by whoever knows this."""
        return self._arrival.reply

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
        self._answered = True
        if not confirm:
            await self._link.send(self._arrival.reply, b"+ACK")
            return

        async def attempt(until: float) -> None:
            await self._link.ask(self._arrival.reply, b"+ACK", until=until)

        await until_answered(self._link, attempt, timeout_s=CONFIRM_TIMEOUT_S)

    async def nak(self, delay_s: float = HAND_BACK_S) -> None:
        """Hand it back, to be delivered again after `delay_s`; with 0 that is forgotten when the server restarts."""
        self._answered = True
        await self._link.send(self._arrival.reply, hand_back_body(delay_s))

    async def hand_back(self) -> None:
        """Hand it back at once, and wait until the server has noted it (BusUnreachable if it does not answer)."""
        self._answered = True
        await hand_back(self._link, self._arrival.reply)

    async def term(self, reason: str) -> None:
        """Never deliver it again; the server publishes an advisory with the reason (one line)."""
        self._answered = True
        await self._link.send(self._arrival.reply, b"+TERM " + " ".join(reason.split()).encode())

    @asynccontextmanager
    async def kept_alive(self, pulse: Pulse) -> AsyncIterator[None]:
        """Send a heartbeat in the pulse's rhythm and after each reconnect, until left or answered.

        The first comes after one beat: the server's clock has just begun, and most deliveries are answered before.
        The server confirms each. It confirms those of a delivery that it has given to somebody else, too: whether a step is
        still one's own, the log alone says.
        """
        again = asyncio.Event()

        def closed() -> None:
            if self._link.closed:
                again.set()

        end_watch = self._link.watch(lost=closed, back=again.set)
        task = asyncio.create_task(self._beat(pulse, again), name="kept-alive")
        try:
            yield
        finally:
            end_watch()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _beat(self, pulse: Pulse, again: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        confirmed_at = loop.time()  # the server's clock began earlier, by the way of the delivery here
        await _wait(again, pulse.every_s)
        while not self._answered:
            again.clear()
            sent_at = loop.time()
            ends_at = confirmed_at + pulse.lasts_s
            until = min(sent_at + BEAT_TIMEOUT_S, max(ends_at, sent_at + BEAT_PAUSE_S))
            try:
                confirmed = await self._confirmed(until)
            except BusClosed:
                pulse.cut_off()
                return
            if confirmed:
                confirmed_at = sent_at  # the server's clock began later
                pulse.confirmed()
                await _wait(again, pulse.every_s)
                continue
            pulse.doubtful()
            if ends_at <= loop.time() < until + AWAY_S:
                log.warning("no heartbeat for sequence %d was confirmed for %g s", self.stored.sequence, pulse.lasts_s)
                pulse.cut_off()
                return
            await _wait(again, BEAT_PAUSE_S)

    async def _confirmed(self, until: float) -> bool:
        """Send one heartbeat; whether the server confirmed it."""
        try:
            await self._link.ask(self._arrival.reply, b"+WPI", until=until)
        except (NoAnswer, NoResponders):
            return False
        except BusClosed:
            raise
        except BusError as error:
            log.warning("heartbeat for sequence %d not sent: %s", self.stored.sequence, error)
            return False
        return True


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return

"""Work from durable consumers: deliveries for whoever has a free slot, heartbeats while the work is done, fair turns
between tenants.

A call of `next` is a free slot: no more messages are pulled than there are callers, because a message that waits in a local
buffer is kept from a worker that is free. One that arrives when no caller waits (any more) is handed back after `SHELF_S`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from cutor.bus.delivery import HAND_BACK_S, Delivery
from cutor.bus.errors import BusClosed, BusError
from cutor.bus.inbox import PullInbox
from cutor.bus.pull import EXPIRES_S, Arrival, Heartbeat, PullEnd, PullWindow, pull_request
from cutor.bus.turns import Turns
from cutor.bus.waiting import NoAnswer

if TYPE_CHECKING:
    from cutor.bus.connection import Bus

log = logging.getLogger("cutor.bus")

TICK_S: Final = 0.5
"""How often a queue looks for pulls that went silent."""
ASK_S: Final = 1.0
"""How long a pull for what is there now may take. It gets no answer while `max_ack_pending` is reached."""
RETRY_S: Final = 0.25
"""First pause after a consumer could not be reached; doubles up to `RETRY_MAX_S`."""
RETRY_MAX_S: Final = 2.0
"""A choice: so late at the most a consumer is seen that is back, and one that is away is asked for every two seconds."""
SHELF_S: Final = 0.02
"""How long a message without a caller is kept for the next one: the gap between two calls of one task."""
COMPLAIN_EVERY_S: Final = 30.0
"""How often at the most the log tells of a consumer that does not answer: it is tried again without end."""


@dataclass(slots=True)
class _Lane:
    """One consumer, its inbox and pulls. `asking`: a pull for what is there now is out; `waiting`: one that waits is."""

    consumer: str
    inbox: PullInbox
    window: PullWindow = field(default_factory=PullWindow)
    asking_until: float | None = None
    empty: bool = False
    retry_at: float = 0.0
    failures: int = 0
    complained_at: float = float("-inf")

    def lost(self) -> None:
        self.window.lost()
        self.asking_until = None
        self.empty = False


class WeightedQueues:
    """Deliveries of several consumers in weighted turns, so that one tenant's flood cannot starve another.

    A free slot asks one lane at a time, the one whose turn it is, for a message that is there now. A lane that has none
    gets a waiting pull for one message and is out of the turns until that pull ends. With more empty lanes than free slots,
    two waiting pulls may be answered at once: the one too many is handed back and delivered again at once, to whoever has a
    slot.
    """

    def __init__(
        self, bus: Bus, stream: str, weights: Sequence[tuple[str, int]], wanted: Callable[[str], bool] = lambda _consumer: True
    ) -> None:
        """``wanted`` says of a consumer whether what it has can be used at this moment: else it is not asked (`look_again`)."""
        consumers = [consumer for consumer, _ in weights]
        if len(set(consumers)) != len(consumers):
            raise BusError("a consumer is listed twice")
        self._link = bus.link
        self._stream = stream
        self._turns = Turns.start(dict(weights))
        self._wanted = wanted
        self._callers: deque[asyncio.Future[Delivery]] = deque()
        self._lanes = {consumer: self._lane(consumer) for consumer in consumers}
        self._shelf: deque[Delivery] = deque()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._returns: set[asyncio.Task[None]] = set()
        self._end_watch: Callable[[], None] | None = None
        self._closed = False

    def _lane(self, consumer: str) -> _Lane:
        return _Lane(consumer, PullInbox(self._link, self._stream, lambda answer: self._heard(self._lanes[consumer], answer)))

    # -- for the roles ---------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def next(self, expires_s: float | None = None) -> Delivery | None:
        """The next delivery for one free slot; None after `expires_s` without one. BusClosed after `aclose`.

        May be called by many tasks at once: each call is one free slot. Cancelling a call loses nothing.
        """
        await self._start()
        if self._shelf:
            return self._given(self._shelf.popleft())
        caller: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()
        self._callers.append(caller)
        self._changed.set()
        try:
            await asyncio.wait({caller}, timeout=expires_s)
        except asyncio.CancelledError:
            self._leave(caller)
            raise
        if not caller.done():
            self._leave(caller)
            return None
        return caller.result()

    def look_again(self) -> None:
        """Ask once more which consumers are wanted: one may be that was not."""
        self._changed.set()

    async def aclose(self) -> None:
        """Stop pulling; what the server still sends is handed back at once. Callers of `next` get BusClosed."""
        if self._closed:
            return
        self._closed = True
        if self._end_watch:
            self._end_watch()
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for lane in self._lanes.values():
            await lane.inbox.drain()
        while self._shelf:
            self._hand_back(self._shelf.popleft())
        if self._returns:
            await asyncio.gather(*self._returns, return_exceptions=True)
        self._dismiss(self._closed_error())

    def _closed_error(self) -> BusClosed:
        return BusClosed(f"the queue of stream {self._stream} is closed")

    # -- callers ---------------------------------------------------------------------------------------------------

    def _leave(self, caller: asyncio.Future[Delivery]) -> None:
        if caller.done() and not caller.cancelled() and caller.exception() is None:
            self._hand_out(caller.result())
        caller.cancel()

    def _dismiss(self, error: BusError) -> None:
        while self._callers:
            caller = self._callers.popleft()
            if not caller.done():
                caller.set_exception(error)

    @property
    def _free(self) -> int:
        return sum(1 for caller in self._callers if not caller.done())

    def _hand_out(self, delivery: Delivery) -> None:
        while self._callers and not self._closed:
            caller = self._callers.popleft()
            if not caller.done():
                caller.set_result(self._given(delivery))
                return
        if self._closed:
            self._hand_back(delivery)
            return
        self._shelf.append(delivery)
        asyncio.get_running_loop().call_later(SHELF_S, self._clear_from_shelf, delivery)

    def _given(self, delivery: Delivery) -> Delivery:
        """Count a delivery as its lane's turn: one that nobody takes is none."""
        ready = self._ready(asyncio.get_running_loop().time())
        self._turns = self._turns.served(delivery.consumer, ready)
        return delivery

    def _clear_from_shelf(self, delivery: Delivery) -> None:
        if delivery in self._shelf:
            self._shelf.remove(delivery)
            self._hand_back(delivery)

    def _hand_back(self, delivery: Delivery) -> None:
        self._lanes[delivery.consumer].empty = False
        # who closes may be part of a stack that stops: the server must know it in its next life. Else every ms counts
        delay_s = HAND_BACK_S if self._closed else 0.0
        task = asyncio.get_running_loop().create_task(delivery.nak(delay_s), name="hand-back")
        self._returns.add(task)
        task.add_done_callback(self._handed_back)

    def _handed_back(self, task: asyncio.Task[None]) -> None:
        self._returns.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("a delivery was not handed back, it comes again after its ack_wait: %s", error)

    # -- pulling ---------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        if self._closed or self._link.closed or (self._task and self._task.done()):
            raise self._closed_error()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"queue {self._stream}")
            self._end_watch = self._link.watch(lost=self._connection_changed, back=self._connection_changed)

    def _connection_changed(self) -> None:
        for lane in self._lanes.values():
            lane.lost()
        self._changed.set()

    async def _run(self) -> None:
        try:
            for lane in self._lanes.values():
                await lane.inbox.open()
            while not self._link.closed:
                await self._step(asyncio.get_running_loop().time())
        except BusError as error:
            self._dismiss(error)
        except Exception:
            log.exception("the queue of stream %s failed", self._stream)
            raise
        finally:
            self._dismiss(self._closed_error())

    async def _step(self, now: float) -> None:
        """Pull what is wanted now, then wait for a change or the next tick."""
        self._changed.clear()
        while self._callers and self._callers[0].done():
            self._callers.popleft()
        for lane in self._lanes.values():
            if lane.window.stale(now):
                log.debug("pulls from %s went silent, pulling again", lane.consumer)
                lane.lost()
        if self._link.connected:
            try:
                await self._plan(now)
            except NoAnswer:
                log.debug("connection lost while pulling from stream %s", self._stream)
        try:
            async with asyncio.timeout(TICK_S):
                await self._changed.wait()
        except TimeoutError:
            return

    def _ready(self, now: float) -> list[str]:
        return [name for name, lane in self._lanes.items() if not lane.empty and self._may_ask(lane, now)]

    def _may_ask(self, lane: _Lane, now: float) -> bool:
        return not lane.window.owed and now >= lane.retry_at and self._wanted(lane.consumer)

    async def _plan(self, now: float) -> None:
        if not self._free:
            return
        for lane in self._lanes.values():
            if lane.asking_until is not None and now >= lane.asking_until:
                lane.lost()
                lane.empty = True
            if lane.empty and self._may_ask(lane, now):
                await self._pull(lane, 1, EXPIRES_S, now)
        if any(lane.asking_until is not None for lane in self._lanes.values()):
            return
        chosen = self._turns.choose(self._ready(now))
        if chosen is not None:
            lane = self._lanes[chosen]
            lane.asking_until = now + ASK_S
            await self._pull(lane, 1, None, now)

    async def _pull(self, lane: _Lane, batch: int, expires_s: float | None, now: float) -> None:
        number = lane.inbox.next_number()
        lane.window.sent(number, batch, ASK_S if expires_s is None else expires_s, now)
        await lane.inbox.pull(lane.consumer, number, pull_request(batch, expires_s=expires_s))

    def _heard(self, lane: _Lane, answer: Arrival | Heartbeat | PullEnd) -> None:
        now = asyncio.get_running_loop().time()
        match answer:
            case Arrival():
                lane.failures = 0
                lane.window.delivered(now)
                self._arrived(lane, answer)
                self._hand_out(Delivery(self._link, answer))
            case Heartbeat():
                lane.window.alive(now)
                return
            case PullEnd():
                self._ended(lane, answer, now)
        self._changed.set()

    def _arrived(self, lane: _Lane, arrival: Arrival) -> None:
        """Note what a delivery says about its lane."""
        lane.asking_until = None
        lane.empty = arrival.place.pending == 0

    def _ended(self, lane: _Lane, end: PullEnd, now: float) -> None:
        lane.window.ended(end.number, end.undelivered, now)
        lane.asking_until = None
        lane.empty = end.status == 404
        if not end.consumer_gone:
            lane.failures = 0
            return
        lane.lost()
        lane.retry_at = now + min(RETRY_S * 2**lane.failures, RETRY_MAX_S)
        lane.failures = min(lane.failures + 1, 10)
        if lane.failures > 3 and now - lane.complained_at > COMPLAIN_EVERY_S:
            lane.complained_at = now
            log.error(
                "consumer %s of stream %s does not answer (%s): run `cutor streams plan`; trying again until it does",
                lane.consumer, self._stream, end.description or f"status {end.status}",
            )  # fmt: skip

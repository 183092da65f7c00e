"""Things that take long to make, made ahead: each is lent to one user, and stays with it unless that has made it new.

A pool has between ``minimum`` and ``maximum`` of them. It begins with the minimum; who comes and finds none makes it one
larger, and has the next one that is being made, if nobody else waits for that. What stood unused for a whole `QUIET_S` makes
the pool smaller again. What fails while it waits is thrown away and replaced; where none can be made, that is tried again with
growing pauses, and said once.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from cutor.containers.errors import ContainerError
from cutor.undisturbed import to_the_end

QUIET_S: Final = 60.0
"""How long what is never needed stays: a pause between two bursts is shorter than that, a night is longer."""
RESTS_S: Final = 0.1
"""How long what is lent is left alone by the making of its replacement, while another one stands ready."""
PAUSES_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Pauses after failures in a row; the last one stays."""

log = logging.getLogger(__name__)


class Member(Protocol):
    """What a pool holds."""

    async def failed(self) -> str:
        """Return once this can be of no use any more, with the reason. Cancelled where it is lent before: then it is whole."""
        ...

    async def close(self) -> None:
        """Remove it, however long that takes."""
        ...


M = TypeVar("M", bound=Member)


class Bounds(NamedTuple):
    """How many members a pool has at the least and at the most, and how many are made at one time."""

    minimum: int
    maximum: int
    making: int = 2


class Census(NamedTuple):
    """A pool now: members that wait, members that are being made, how many it wants; and how many found one, or none."""

    ready: int
    making: int
    wanted: int
    found: int
    missed: int


class _Waiting(NamedTuple, Generic[M]):
    """A member that waits, and the task that notices its failure."""

    member: M
    watch: asyncio.Task[str]


class Pool(Generic[M]):
    """Members made by ``make``, while `keeping` lasts. ``make`` raises `ContainerError` where it fails, and leaves nothing."""

    def __init__(
        self, make: Callable[[], Awaitable[M]], bounds: Bounds, *, quiet_s: float = QUIET_S, returning: bool = False
    ) -> None:
        """``returning`` says that what is lent mostly comes back (`admit`, else `gone`): until then it has its place here."""
        self._make = make
        self._bounds = bounds
        self._quiet_s = quiet_s
        self._wanted = bounds.minimum
        self._ready: deque[_Waiting[M]] = deque()
        self._making: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._takers: deque[asyncio.Future[M | None]] = deque()
        self._changed = asyncio.Event()
        self._works = asyncio.Event()
        self._returning = returning
        self._lent: set[M] = set()
        self._open = False
        self._failures = 0
        self._least_ready = 0
        self._rests_until_s = 0.0
        self._found = self._missed = 0

    def census(self) -> Census:
        """Return what the pool is now."""
        return Census(len(self._ready), len(self._making), self._wanted, self._found, self._missed)

    @asynccontextmanager
    async def keeping(self) -> AsyncIterator[None]:
        """Keep the pool filled while the block lasts. When it is left, nothing of the pool's is there any more."""
        self._open = True
        keepers = [asyncio.create_task(work, name="pool") for work in (self._fill(), self._shrink())]
        try:
            yield
        finally:
            self._open = False
            await to_the_end(self._end(keepers))

    async def take(self) -> M | None:
        """Return the member that waited longest, whole as far as is known, or else one that is being made: the pool grows then.

        None where there are more takers than are being made: who makes one for himself has it as early.
        """
        if not self._open:
            return None
        while self._ready:
            waiting = self._ready.popleft()
            self._lend(waiting.member)
            self._least_ready = min(self._least_ready, len(self._ready))
            self._rests_until_s = asyncio.get_running_loop().time() + RESTS_S
            self._changed.set()
            if await self._released(waiting):
                self._found += 1
                return waiting.member
        self._missed += 1
        self._least_ready = 0
        self._wanted = min(self._wanted + 1, self._bounds.maximum)
        self._changed.set()
        return await self._next_made() if len(self._takers) < len(self._making) else None

    async def _next_made(self) -> M | None:
        """Return the next member that is made and nobody waits for by now; None where it fails. A cancellation loses none."""
        taker: asyncio.Future[M | None] = asyncio.get_running_loop().create_future()
        self._takers.append(taker)
        try:
            return await taker
        except asyncio.CancelledError:
            if taker.done() and not taker.cancelled() and (member := taker.result()) is not None:
                self._lent.discard(member)
                self._admit(member)
            raise
        finally:
            with suppress(ValueError):
                self._takers.remove(taker)

    def admit(self, member: M) -> bool:
        """Have a member that is as new, whoever made it; false where there is no place for it."""
        self._lent.discard(member)
        if not self._open or self._there + len(self._closing) >= self._bounds.maximum:
            return False
        self._admit(member)
        return True

    def _lend(self, member: M) -> None:
        if self._returning:
            self._lent.add(member)

    def gone(self, member: M) -> None:
        """Hear that a member will not come back: its place is free."""
        self._lent.discard(member)
        self._changed.set()

    @property
    def _there(self) -> int:
        """How many members there are, or will be soon, that can be used sometime."""
        return len(self._ready) + len(self._making) + len(self._lent)

    def encourage(self) -> None:
        """Hear that somebody else made one: where it failed here, it is tried again without a pause."""
        if self._failures:
            self._works.set()

    async def _released(self, waiting: _Waiting[M]) -> bool:
        """End the watch over a member; return whether it is whole. It is closed where it is not, or nobody waits for it now."""
        waiting.watch.cancel()
        try:
            await asyncio.wait([waiting.watch])
        except asyncio.CancelledError:
            self._close(waiting.member)
            raise
        if waiting.watch.cancelled():
            return True
        self._close(waiting.member)
        return False

    async def _fill(self) -> None:
        while True:
            self._changed.clear()
            rests_s = self._rests_s()
            while rests_s is None and self._lacks():
                self._making.add(task := asyncio.create_task(self._add(), name="pool makes one"))
                task.add_done_callback(partial(self._ended, self._making))
            with suppress(TimeoutError):
                async with asyncio.timeout(rests_s):
                    await self._changed.wait()
            if self._failures:
                with suppress(TimeoutError):
                    async with asyncio.timeout(PAUSES_S[min(self._failures, len(PAUSES_S)) - 1]):
                        await self._works.wait()
                self._works.clear()

    def _rests_s(self) -> float | None:
        """Return how long nothing is made, for the sake of who was lent the last one; None where that is over."""
        left_s = self._rests_until_s - asyncio.get_running_loop().time()
        return left_s if self._ready and left_s > 0 else None

    def _lacks(self) -> bool:
        """Whether another one is to be made. What is being removed still has its place among the most that there may be."""
        there = self._there
        at_once = 1 if self._failures else self._bounds.making
        return there < self._wanted and there + len(self._closing) < self._bounds.maximum and len(self._making) < at_once

    def _ended(self, tasks: set[asyncio.Task[None]], task: asyncio.Task[None]) -> None:
        tasks.discard(task)
        self._changed.set()

    async def _add(self) -> None:
        try:
            member = await self._make()
        except ContainerError as error:
            if not self._failures:
                log.warning("no container can be made ready ahead, which is tried until one can: %s", error)
            self._failed_to_make()
            return
        except Exception:
            log.exception("a bug in making a container ready ahead")
            self._failed_to_make()
            return
        if self._failures:
            log.info("containers are made ready ahead again")
        self._failures = 0
        self._admit(member)

    def _admit(self, member: M) -> None:
        """Give a member to who has waited longest for one, or let it wait itself."""
        while self._takers:
            taker = self._takers.popleft()
            if not taker.done():
                self._lend(member)
                taker.set_result(member)
                return
        waiting = _Waiting(member, asyncio.create_task(member.failed(), name="pool watches one"))
        self._ready.append(waiting)
        waiting.watch.add_done_callback(lambda _: self._failed(waiting))

    def _failed_to_make(self) -> None:
        """Count it, and let who waited for it go on."""
        self._failures += 1
        while len(self._takers) >= len(self._making):
            taker = self._takers.pop()
            if not taker.done():
                taker.set_result(None)

    def _failed(self, waiting: _Waiting[M]) -> None:
        """Throw away a member that failed while it waited; one that is being lent has been taken out before."""
        if waiting not in self._ready:
            return
        self._ready.remove(waiting)
        why = "its watch ended" if waiting.watch.cancelled() else waiting.watch.exception() or waiting.watch.result()
        log.warning("a container that was ready ahead is replaced: %s", why)
        self._close(waiting.member)
        self._changed.set()

    async def _shrink(self) -> None:
        """Give up, once in a while, as many as were never needed since the last time."""
        while True:
            self._least_ready = len(self._ready)
            await asyncio.sleep(self._quiet_s)
            surplus = max(self._wanted, self._there) - self._bounds.minimum
            unused = min(self._least_ready, len(self._ready), max(surplus, 0))
            self._wanted = max(self._wanted - unused, self._bounds.minimum)
            for _ in range(unused):
                if self._ready and await self._released(waiting := self._ready.popleft()):
                    self._close(waiting.member)

    def _close(self, member: M) -> None:
        self._lent.discard(member)
        self._closing.add(task := asyncio.create_task(member.close(), name="pool removes one"))
        task.add_done_callback(partial(self._ended, self._closing))

    async def _end(self, keepers: list[asyncio.Task[None]]) -> None:
        for task in itertools.chain(keepers, self._making):
            task.cancel()
        await asyncio.gather(*keepers, *self._making, return_exceptions=True)
        for taker in self._takers:
            taker.cancel()
        while self._ready:
            waiting = self._ready.popleft()
            if await self._released(waiting):
                self._close(waiting.member)
        await asyncio.gather(*self._closing, return_exceptions=True)

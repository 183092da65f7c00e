"""Turns of questions: so many run at one time, and those that run for long do not keep all others from theirs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class TurnOver(Exception):
    """A turn was ended: it was long, all others were, too, and somebody waited."""


class Turns:
    """So many turns at one time, in the order in which they were asked for.

    Where all of them have lasted for ``long_s`` and somebody waits, the one that was begun last is ended: the others go on. A
    turn lasts from when its holder says that it begins: what it waits for before, as others do, is not its own.
    """

    def __init__(self, at_once: int, long_s: float) -> None:
        self._at_once = at_once
        self._long_s = long_s
        self._places = asyncio.Semaphore(at_once)
        self._waiting = 0
        self._begun: dict[asyncio.Timeout, float] = {}
        self._look: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Callable[[], None]]:
        """Wait for a turn, and have it for the block, which says by what it is given that it begins.

        Raises `TurnOver` in the block where it is ended.
        """
        self._waiting += 1
        self._look_when_due()
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        try:
            async with self._held() as begin:
                yield begin
        finally:
            self._places.release()

    @asynccontextmanager
    async def _held(self) -> AsyncIterator[Callable[[], None]]:
        end = asyncio.timeout(None)

        def begin() -> None:
            self._begun[end] = asyncio.get_running_loop().time()
            self._look_when_due()

        try:
            async with end:
                try:
                    yield begin
                finally:
                    self._begun.pop(end, None)
        except TimeoutError as error:
            if end.expired():
                raise TurnOver from error
            raise

    def _look_when_due(self) -> None:
        """Look again once all turns have been long, if all are taken and somebody waits."""
        if self._look is not None:
            self._look.cancel()
            self._look = None
        if self._waiting and len(self._begun) == self._at_once:
            due_s = max(self._begun.values()) + self._long_s
            self._look = asyncio.get_running_loop().call_at(due_s, self._end_the_newest)

    def _end_the_newest(self) -> None:
        self._look = None
        if self._waiting and len(self._begun) == self._at_once:
            newest = max(self._begun, key=self._begun.__getitem__)
            if not newest.expired():
                newest.reschedule(asyncio.get_running_loop().time())

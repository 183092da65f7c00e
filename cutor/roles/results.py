"""Test results on their way into the log."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

from cutor.model.events import Ran, Stage
from cutor.roles.step import LeasedStep

PAUSE_S: Final = 0.25
"""Between two appends of results (decision 0007): often enough to watch, few enough for a submission of 1,000 test cases."""


class Results:
    """Appends ``ran`` events: the first result at once; those that come within `PAUSE_S` of an append go together in the next.

    ``async with Results(leased) as results``: when the block ends well, every result is in the log, without a pause; when it
    ends in an error, what was not yet appended is noted with the step: after a cancel, that goes into ``cleaned``. An append
    that fails cancels what the block awaits, as the time-out of `asyncio.timeout` does, and the block raises its error.
    """

    def __init__(self, leased: LeasedStep) -> None:
        self._leased = leased
        self._index = 0  # of the first result that the log does not hold, as far as was told
        self._flying: tuple[Stage, ...] = ()
        self._waiting: list[Stage] = []
        self._ending = asyncio.Event()
        self._flight: asyncio.Task[None] | None = None
        self._failed: BaseException | None = None
        self._block: asyncio.Task[Any] | None = None
        self._cancels_before = 0

    async def add(self, stage: Stage) -> None:
        """Take the next test case's result; raises what an append raised (`LeaseLost`)."""
        self._waiting.append(stage)
        if self._flight is None or self._flight.done():
            await self._landed()
            self._flight = asyncio.create_task(self._fly())
            self._flight.add_done_callback(self._ended)

    def _ended(self, flight: asyncio.Task[None]) -> None:
        """Stop the block's test case where its results cannot be appended: nobody will ever want it."""
        if flight.cancelled() or (error := flight.exception()) is None or self._block is None:
            return
        self._failed = error
        self._block.cancel()

    def interrupt(self, stage: Stage) -> None:
        """Take what there is to tell of a test case that was stopped; nothing comes after it."""
        self._waiting.append(stage)

    async def __aenter__(self) -> Self:
        self._block = asyncio.current_task()
        self._cancels_before = self._block.cancelling() if self._block else 0
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        block, self._block = self._block, None
        try:
            if self._failed is not None and block is not None and block.uncancel() <= self._cancels_before:
                if not isinstance(error, asyncio.CancelledError):  # the block ended before its cancellation reached it
                    with suppress(asyncio.CancelledError):
                        await asyncio.sleep(0)
                raise self._failed
            if error is None:
                self._ending.set()
                await self._landed()
            else:
                await self._abandon()
        finally:
            if rest := (*self._flying, *self._waiting):
                self._leased.at("run", *rest, index=self._index)

    async def _abandon(self) -> None:
        """Stop an append in flight: the work ended without its results. They may be in the log all the same."""
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.wait([self._flight])

    async def _landed(self) -> None:
        flight, self._flight = self._flight, None
        if flight is not None:
            await flight

    async def _fly(self) -> None:
        """Append what waits, again after each pause, until nothing does."""
        while self._waiting:
            await self._append()
            try:
                async with asyncio.timeout(PAUSE_S):
                    await self._ending.wait()
            except TimeoutError:
                continue

    async def _append(self) -> None:
        self._flying, self._waiting = tuple(self._waiting), []
        stages = await self._leased.journal.contents.spill_stages(self._flying)
        await self._leased.report(Ran(lease=self._leased.lease, index=self._index, stages=stages), index=self._index)
        self._index, self._flying = self._index + len(stages), ()

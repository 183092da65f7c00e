"""What a role process attends to at this moment, and how an end from outside reaches it.

A submission that is cancelled while a worker is busy with it must be stopped within a second. The notice is a plain message: it
may be a stranger's, may come before the stream has stored what it tells of, may be missed while the connection is lost. So it
only makes this process look into the stream, which alone decides.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from cutor.bus.errors import BusError
from cutor.journal import Journal
from cutor.model.subjects import Address, parse_event_subject

log = logging.getLogger(__name__)

CANCEL_SUBJECT: Final = "cutor.ev.*.*.cancelled"
LOOKS_AFTER_S: Final = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Pauses between two looks into the stream after a notice: a slow disk stores the event after its notice has passed."""


class EndedMeanwhile(Exception):
    """The stream says that the submission ended while this process worked on it; the work has been stopped."""


class Running:
    """One submission that this process attends to, for the event at ``sequence``.

    It is known here before its lease is taken: so no notice is missed.
    """

    def __init__(self, address: Address, sequence: int) -> None:
        self.address = address
        self.sequence = sequence
        self.noticed = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._ended = False

    def end(self) -> None:
        """The submission ended: cancel the work, once; it cleans up undisturbed."""
        if not self._ended:
            self._ended = True
            if self._work is not None:
                self._work.cancel()

    async def do(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work. Raises what it raises, and `EndedMeanwhile` once it was cancelled by `end`, or need not begin."""
        if self._ended:
            work.close()
            raise EndedMeanwhile(f"{self.address} ended before the work began")
        self._work = asyncio.create_task(work, name=f"work on {self.address}")
        try:
            await self._work
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and not task.cancelling():  # the work was cancelled, not who waits for it
                raise EndedMeanwhile(f"{self.address} ended while it was worked on") from None
            raise


class Attention:
    """Every submission that one role process attends to, by address."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._running: dict[Address, Running] = {}
        self._looks: dict[Address, asyncio.Task[None]] = {}

    def on_hand(self, address: Address) -> Running | None:
        """Return what this process does for a submission already, or None."""
        return self._running.get(address)

    @contextmanager
    def on(self, address: Address, sequence: int) -> Iterator[Running]:
        """Attend to a submission while the block lasts; not to be entered twice at once for the same one."""
        assert address not in self._running, "see on_hand()"
        running = self._running[address] = Running(address, sequence)
        try:
            yield running
        finally:
            del self._running[address]
            if look := self._looks.pop(address, None):
                look.cancel()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Hear of cancelled submissions while the block lasts; after a lost connection look at every running one."""
        async with self._journal.bus.subscribe(CANCEL_SUBJECT, on_gap=self._look_at_all) as notices:

            async def listen() -> None:
                async for notice in notices:
                    if (parsed := parse_event_subject(notice.subject)) is not None:
                        self._look_at(parsed.address)

            listener = asyncio.create_task(listen(), name="cancellations")
            listener.add_done_callback(_complain)
            try:
                yield
            finally:
                listener.cancel()
                await asyncio.wait([listener])

    def _look_at_all(self) -> None:
        for address in self._running:
            self._look_at(address)

    def _look_at(self, address: Address) -> None:
        """Begin to look whether a submission ended; one that is being looked at is looked at as long again."""
        running = self._running.get(address)
        if running is None:
            return
        running.noticed.set()
        look = self._looks.get(address)
        if look is None or look.done():
            look = self._looks[address] = asyncio.create_task(self._look(running), name=f"look at {address}")
            look.add_done_callback(_complain)

    async def _look(self, running: Running) -> None:
        while running.noticed.is_set():
            running.noticed.clear()
            for pause_s in LOOKS_AFTER_S:
                await asyncio.sleep(pause_s)
                if await self._has_ended(running.address):
                    running.end()
                    return
                if running.noticed.is_set():
                    break  # another notice: look as long again

    async def _has_ended(self, address: Address) -> bool:
        try:
            state = await self._journal.state(address)
        except BusError as error:
            log.warning("%s: whether it was cancelled cannot be read now: %s", address, error)
            return False
        return state is not None and state.ended


def _complain(task: asyncio.Task[None]) -> None:
    """Say what ended a task that should not end; a closed connection ends the role elsewhere."""
    if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, BusError):
        log.error("%s ended", task.get_name(), exc_info=error)

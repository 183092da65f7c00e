"""What a role process attends to at this moment, and how an end from outside reaches it.

Work must stop within a second of a cancel, and of a lease that another worker has taken. Both are plain messages as they pass
by: a notice may be a stranger's, may come before the stream has stored what it tells of, may be missed while the connection is
lost. So it only makes this process look into the stream, which alone decides (`decide_look`). It looks, too, where it may have
missed one: after a reconnect, when a heartbeat was not confirmed, when this process stood still (SIGSTOP, a blocked loop).

A worker that has been cut off from the server for as long as its lease lasts cannot look, and stops all the same
(docs/explanation/leases.md).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

from cutor.bus.errors import BusError
from cutor.bus.following import LOOKS_AFTER_S
from cutor.bus.subscription import Notice, overhearing
from cutor.bus.topology_promises import HEARTBEAT_S
from cutor.journal import Journal, SubmissionUnknown
from cutor.model.decide import Look, decide_look
from cutor.model.events import Lease, Leased
from cutor.model.messages import read_message
from cutor.model.state import Submission
from cutor.model.subjects import Address, event_subject, parse_event_subject
from cutor.roles.job import Job, LeaseLost

log = logging.getLogger(__name__)

CANCEL_SUBJECT: Final = "cutor.ev.*.*.cancelled"
CLOCK_S: Final = 1.0
"""How often this process looks at its clock, whether it stood still meanwhile."""


class EndedMeanwhile(Exception):
    """The stream says that the submission ended while this process worked on it; the work has been stopped."""


class Running:
    """One submission that this process attends to, for the event at ``sequence``.

    It is known here before its lease is taken: so no notice is missed. ``taking`` is the lease that this process appends or
    has appended; ``lease`` is that lease once it is known to be in the log, and ``job`` what is done under it. ``seen`` is the
    token of the newest lease before, empty for none. ``known`` is the state that was read last, so that the next look reads
    only what is behind it; where it is ``doubted``, because the server was away, all is read anew.
    """

    def __init__(self, address: Address, sequence: int) -> None:
        self.address = address
        self.sequence = sequence
        self.taking: Lease | None = None
        self.lease: Lease | None = None
        self.job: Job | None = None
        self.seen = ""
        self.known: Submission | None = None
        self.doubted = False
        self.noticed = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._stopped: EndedMeanwhile | LeaseLost | None = None

    def stop(self, reason: EndedMeanwhile | LeaseLost) -> None:
        """Cancel the work, once; it cleans up undisturbed."""
        if self._stopped is None:
            self._stopped = reason
            if self._work is not None:
                self._work.cancel()

    async def do(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work. Raises what it raises, and what `stop` was given once it was cancelled by that, or need not begin."""
        if self._stopped is not None:
            work.close()
            raise self._stopped
        self._work = asyncio.create_task(work, name=f"work on {self.address}")
        try:
            await self._work
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise  # who waits for the work was cancelled
            raise self._stopped or RuntimeError("the work was cancelled by nobody") from None


class Attention:
    """Every submission that one role process attends to, by address."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._running: dict[Address, Running] = {}
        self._looks: dict[Address, asyncio.Task[None]] = {}

    def on_hand(self, address: Address) -> Running | None:
        """Return what this process does for a submission already, or None."""
        return self._running.get(address)

    @asynccontextmanager
    async def on(self, running: Running) -> AsyncIterator[None]:
        """Attend to a submission while the block lasts; not to be entered twice at once for the same one.

        Leases of it are heard of from then on: the subscription goes out before any lease of this process, on one connection.
        """
        address = running.address
        assert address not in self._running, "see on_hand()"
        self._running[address] = running
        try:
            subject = event_subject(address, "leased")
            async with overhearing(self._journal.bus.link, subject, lambda notice: self._leased(running, notice)):
                yield
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
                    parsed = parse_event_subject(notice.subject)
                    if parsed is not None and (running := self._running.get(parsed.address)) is not None:
                        self.look_at(running)

            tasks = [
                asyncio.create_task(listen(), name="cancellations"),
                asyncio.create_task(self._watch_the_clock(), name="clock"),
            ]
            for task in tasks:
                task.add_done_callback(_complain)
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)

    async def _watch_the_clock(self) -> None:
        """Look at everything after this process stood still for longer than a heartbeat may be late."""
        while True:
            began = time.clock_gettime(time.CLOCK_BOOTTIME)  # runs on while the host is asleep
            await asyncio.sleep(CLOCK_S)
            late_s = time.clock_gettime(time.CLOCK_BOOTTIME) - began - CLOCK_S
            if late_s > HEARTBEAT_S:
                log.warning("this process stood still for %.0f s: are its leases still its own?", late_s)
                self._look_at_all()

    def _leased(self, running: Running, notice: Notice) -> None:
        """Hear of a lease, which may be this process's own."""
        message = read_message(notice.subject, notice.body)
        if isinstance(message, Leased) and message.lease != running.taking:
            self.look_at(running)

    def _look_at_all(self) -> None:
        for running in self._running.values():
            running.doubted = True
            self.look_at(running)

    def look_at(self, running: Running) -> None:
        """Begin to look whether work is to stop; what is being looked at is looked at as long again."""
        if self._running.get(running.address) is not running:
            return
        running.noticed.set()
        look = self._looks.get(running.address)
        if look is None or look.done():
            look = self._looks[running.address] = asyncio.create_task(self._look(running), name=f"look at {running.address}")
            look.add_done_callback(_complain)

    def cut_off(self, running: Running, lasts_s: float) -> None:
        """Stop work whose lease nobody could confirm for as long as it lasts, or ever will: another may have the next one."""
        if self._journal.bus.link.closed:
            running.stop(LeaseLost(f"{running.address}: cut off from the server for good"))
        else:
            running.stop(LeaseLost(f"{running.address}: cut off from the server for {lasts_s:g} s, as long as a lease lasts"))

    async def _look(self, running: Running) -> None:
        pauses = LOOKS_AFTER_S
        while running.noticed.is_set():
            running.noticed.clear()
            for pause_s in pauses:
                await asyncio.sleep(pause_s)
                if self._stop_by(await self._seen(running), running):
                    return
                if running.noticed.is_set():
                    break  # another notice: look as long again
            pauses = LOOKS_AFTER_S[1:]  # whoever floods us with notices does not make us read without a pause

    def _stop_by(self, seen: Look, running: Running) -> bool:
        match seen:
            case "go on":
                return False
            case "ended":
                running.stop(EndedMeanwhile(f"{running.address} ended while it was worked on"))
            case "lost":
                running.stop(LeaseLost(f"{running.address}: another worker has its lease, or has done its step"))
        return True

    async def _seen(self, running: Running) -> Look:
        lease = running.lease  # as it was before the read: one that is taken meanwhile may not be in what is read
        try:
            running.known = await self._state(running)
        except BusError as error:
            log.warning("%s: whether it may go on cannot be read now: %s", running.address, error)
            return "go on"
        return "go on" if running.known is None else decide_look(running.known, lease)

    async def _state(self, running: Running) -> Submission | None:
        if running.known is None or running.doubted:
            running.doubted = False
            return await self._journal.state(running.address)
        try:
            return await self._journal.newer(running.known)
        except SubmissionUnknown:
            return None


def _complain(task: asyncio.Task[None]) -> None:
    """Say what ended a task that should not end; a closed connection ends the role elsewhere."""
    if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, BusError):
        log.error("%s ended", task.get_name(), exc_info=error)

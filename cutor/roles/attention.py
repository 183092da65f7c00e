"""What a role process attends to at this moment, and how an end from outside reaches it.

Work must stop within a second of a cancel, and of a lease that another worker has taken. Both are plain messages as they pass
by: a notice may be a stranger's, may come before the stream has stored what it tells of, may be missed while the connection is
lost. So it only makes this process look into the stream, which alone decides (`decide_look`). It looks, too, where it may have
missed one: after a reconnect, when a heartbeat was not confirmed, when this process stood still (SIGSTOP, a blocked loop).

What was put off before a lease of its step, and is cancelled, is said to be clean here: its delivery may come minutes later.

A worker that has been cut off from the server for as long as its lease lasts cannot look, and stops all the same
(docs/explanation/leases.md).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from cutor.bus.errors import BusError
from cutor.bus.following import LOOKS_AFTER_S
from cutor.bus.subscription import Notice, overhearing
from cutor.bus.topology_promises import HEARTBEAT_S
from cutor.journal.errors import SubmissionUnknown
from cutor.journal.journal import Journal
from cutor.journal.versions import EventNewer
from cutor.logs import concern
from cutor.model.decide import Look, decide_cleaned, decide_look, decide_overtaken
from cutor.model.events import Event, Leased, Role
from cutor.model.messages import read_message
from cutor.model.state import Submission, outline
from cutor.model.subjects import Address, event_subject, parse_event_subject
from cutor.model.versions import newer_version
from cutor.roles.running import EndedMeanwhile, Running, clock_s
from cutor.roles.step import LeaseLost

log = logging.getLogger(__name__)

CANCEL_SUBJECT: Final = "cutor.ev.*.*.cancelled"
CLOCK_S: Final = 1.0
"""How often this process looks at its clock, whether it stood still meanwhile."""

LEFT_AT_MOST: Final = 10_000
"""Submissions without a lease that this process attended to last, of which it follows whether they are cancelled: 1 KB each."""
CLEANING_AT_MOST: Final = 8
"""Of those that are looked at, so many at one time."""


class Attention:
    """Every submission that one role process attends to, by address."""

    def __init__(self, journal: Journal, role: Role, worker: str) -> None:
        self._journal = journal
        self._role: Role = role
        self._worker = worker
        self._left: dict[Address, Submission] = {}
        self._cleaning: set[asyncio.Task[None]] = set()
        self._cleaning_room = asyncio.Semaphore(CLEANING_AT_MOST)
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
        self._left.pop(address, None)
        try:
            subject = event_subject(address, "leased")
            async with overhearing(self._journal.bus.link, subject, lambda notice: self._leased(running, notice)):
                yield
        finally:
            del self._running[address]
            if running.taking is None:
                self._leave(running)
                if running.told_of_end and address in self._left:  # just as it was put off, perhaps: nobody has seen to it
                    self._begin_to_clean(address)
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
                        running.told_of_end = True
                        self.look_at(running)
                    elif parsed is not None and parsed.address in self._left:
                        self._begin_to_clean(parsed.address)

            tasks = [
                asyncio.create_task(listen(), name="cancellations"),
                asyncio.create_task(self._watch_the_clock(), name="clock"),
            ]
            for task in tasks:
                task.add_done_callback(_complain)
            try:
                yield
            finally:
                ending = {*tasks, *self._cleaning}
                for task in ending:
                    task.cancel()
                await asyncio.wait(ending)

    def _leave(self, running: Running) -> None:
        """Keep what is known of a submission, without its contents: from there on it is read should it be cancelled."""
        known = running.known
        if known is None or known.cleaned_ns is not None:
            return
        if len(self._left) >= LEFT_AT_MOST:
            del self._left[next(iter(self._left))]
        self._left[running.address] = outline(known)

    def _begin_to_clean(self, address: Address) -> None:
        """Look once whether what was left without a lease has been cancelled, however many notices say so."""
        task = asyncio.create_task(self._clean(self._left.pop(address)), name=f"clean {address}")
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)
        task.add_done_callback(_complain)

    async def _clean(self, known: Submission) -> None:
        """Append ``cleaned`` where a submission has ended whose step nobody has a lease of: so nothing of it runs anywhere.

        As whoever receives its delivery does. A crash leaves that to its delivery, as everything that fails here.
        """
        concern(known.address)
        seen = known.lease
        if seen is not None and seen.role == self._role:
            return  # who had it may be at work still

        def wanted(state: Submission) -> Event | None:
            return decide_cleaned(state, self._worker, None) if state.lease == seen else None

        for pause_s in LOOKS_AFTER_S:
            await asyncio.sleep(pause_s)
            async with self._cleaning_room:
                try:
                    known = await self._journal.newer(known)
                except (SubmissionUnknown, EventNewer):
                    return
                if known.ended:
                    await self._journal.settle(known, wanted)
                    return

    async def _watch_the_clock(self) -> None:
        """Look at everything after this process stood still for longer than a heartbeat may be late."""
        while True:
            began = clock_s()
            await asyncio.sleep(CLOCK_S)
            late_s = clock_s() - began - CLOCK_S
            if late_s > HEARTBEAT_S:
                log.warning("this process stood still for %.0f s: are its leases still its own?", late_s)
                self._look_at_all()

    def _leased(self, running: Running, notice: Notice) -> None:
        """Hear of a lease, which may be this process's own."""
        message = read_message(notice.subject, notice.body)
        if isinstance(message, Leased):
            if message.lease != running.taking:
                self.look_at(running)
        elif newer_version(notice.subject, notice.body) is not None:
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
        concern(running.address)
        pauses = LOOKS_AFTER_S
        while running.noticed.is_set():
            running.noticed.clear()
            for pause_s in pauses:
                await asyncio.sleep(pause_s)
                try:
                    seen = await self._seen(running)
                except EventNewer as error:
                    running.stop(error)
                    return
                if self._stop_by(seen, running):
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
        if running.known is None:
            return "go on"
        seen = decide_look(running.known, lease)
        if seen == "go on" and lease is None:
            overtaken = decide_overtaken(running.known, self._role, token=running.token, seen=running.former)
            return "go on" if overtaken is None else "lost"
        return seen

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

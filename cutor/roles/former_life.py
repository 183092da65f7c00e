"""What a role does about its former life, once, before it serves: see docs/explanation/start-up.md.

The former life is dead: this process holds the lock that it held, and has removed its containers. So of submissions that ended
under a lease of its own nothing is left, which is said (``cleaned``, by sweep); where Docker does not let go a container, once
that is gone. And what it had in hand is handed back: it goes on at once instead of after ``ack_wait``. All of it is a help,
never a condition: what fails is logged, and left to the clocks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from cutor.bus.delivery import BEAT_TIMEOUT_S, hand_back
from cutor.bus.errors import BusError
from cutor.bus.message import parse_delivery
from cutor.bus.topology_promises import LEASE_S
from cutor.errors import CutorError
from cutor.journal.journal import Journal
from cutor.logs import concern
from cutor.model.decide import decide_in_hand, decide_swept
from cutor.model.events import Role
from cutor.model.state import Submission
from cutor.model.subjects import EVENTS, Address
from cutor.roles.in_hand import InHand, Note
from cutor.roles.sweep import Swept

log = logging.getLogger(__name__)

AT_ONCE: Final = 16
"""Submissions that are looked at at one time."""
PATIENCE_S: Final = 20.0
"""How long a role's start may take with all of this. What is not done by then is tried again at the next start."""


class FormerLife:
    """Settles what the former life of one role process left in the log; ``lease_s``: how long a lease lasts, by consumer."""

    def __init__(self, journal: Journal, in_hand: InHand, role: Role, worker: str, lease_s: Mapping[str, float]) -> None:
        self._journal = journal
        self._in_hand = in_hand
        self._role: Role = role
        self._worker = worker
        self._lease_s = lease_s
        self._room = asyncio.Semaphore(AT_ONCE)
        self._unanswered: dict[Address, Sequence[Note]] = {}

    async def settle(self, swept: Swept) -> None:
        """Say of ended submissions that they are clean, hand back the rest."""
        notes = self._in_hand.left()
        addresses = sorted({*swept.gone, *(note.address for note in notes)})
        if not addresses:
            return
        log.info("%d submissions of a life before this one are looked at", len(addresses))
        try:
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.gather(*(self._one(one, [n for n in notes if n.address == one], swept) for one in addresses))
        except TimeoutError:
            log.warning("the server takes too long: the rest of what was in hand comes again after its ack_wait")

    async def _one(self, address: Address, notes: Sequence[Note], swept: Swept) -> None:
        concern(address)
        async with self._room:
            try:
                state = await self._journal.state(address)
                if state is not None and swept.holds(address):
                    if state.ended:
                        self._unanswered[address] = notes
                        return
                elif state is not None:
                    state = await self._clean(state)
                for note in notes:
                    await self._answer(state, note)
            except (BusError, CutorError) as error:
                log.warning("%s: what a life before this one left of it: %s", address, error)
            except Exception:  # of this one alone: the role starts all the same, and its delivery comes again
                log.exception("%s: a bug beside what a life before this one left of it", address)

    @asynccontextmanager
    async def seeing_off(self, swept: Swept) -> AsyncIterator[None]:
        """While the block lasts, do for each submission that had a stuck container what `settle` left, once that is gone."""
        tasks = [asyncio.create_task(self._see_off(one, swept), name=f"see off {one}") for one in swept.may_hold()]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _see_off(self, address: Address, swept: Swept) -> None:
        await asyncio.wait([one.removal for one in swept.holding(address)])
        if not swept.holds(address):
            await self._one(address, self._unanswered.pop(address, ()), swept)

    async def _clean(self, state: Submission) -> Submission:
        return (await self._journal.settle(state, lambda state: decide_swept(state, self._role, self._worker))).state

    async def _answer(self, state: Submission | None, note: Note) -> None:
        worker, token, seen = self._worker, note.token, note.seen
        if state is not None and decide_in_hand(state, self._role, note.sequence, worker=worker, token=token, seen=seen):
            if await self._nobody_elses(note):
                await hand_back(self._journal.bus.link, note.ack_subject)
                log.info("%s: handed back, it goes on at once", note.address)
            else:
                log.info("%s: another may have it by now, who has no lease yet; left to its ack_wait", note.address)
        self._in_hand.forget(note.sequence)

    async def _nobody_elses(self, note: Note) -> bool:
        """Return whether the server can have given a delivery to nobody else since: a worker without a lease is in no log."""
        consumer = f"{self._role}-{note.tenant}"
        lasts_s = self._lease_s.get(consumer, LEASE_S) - BEAT_TIMEOUT_S  # the server's clock began before its confirmation came
        if self._in_hand.age_s(note.sequence) < lasts_s:
            return True
        first = parse_delivery(note.ack_subject).delivered_count == 1
        return first and await self._journal.bus.api.redelivered(EVENTS, consumer) == 0

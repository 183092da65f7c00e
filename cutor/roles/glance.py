"""Which deliveries ask for anything at all: found out without reading a submission's history again for each.

Who may publish a submission's first event may publish it again, as often as the stream takes it, and all of that is delivered.
Of a submission's events only one is due: the one at its ``step_sequence``. So what this process has folded once is kept as an
`outline`, without contents, of each submission that it was handed lately:

    an event before the outline's end that never was due  old: nothing is read
    an event that was due once                            what is behind the outline is read, which proves it
    a message that is no event, of another kind           never due: nothing is read
    an event behind the outline's end                     what is behind is read, and the outline goes on from there
    a ``submitted`` that does not open its history        a stray: of an unknown history no more than the opening is read
    the event that is due                                 the whole history is read, as it is now; once where it has many strays

Who waits is handed back many times, and each time the event is due. A history of that kind is somebody's doing, so of the last
few of those the state itself is kept, with what a step needs of its contents, and only what is behind it is read.

An outline is believed where the stream proves it: by the time of the event in question, which a stream that has lost its tail
can't have given to another one (`is_old`), or by the message that the outline ends with, at its sequence and time. An event
that was due once needs the latter: it is due again where the stream lost the one that took its place. A flood can't repeat such
an event, so the work that it makes grows as it does: docs/explanation/leases.md.
"""

from __future__ import annotations

import logging
from contextlib import aclosing
from typing import Final

import msgspec

from cutor.bus.message import Stored
from cutor.journal.errors import PrefixLost
from cutor.journal.journal import Journal
from cutor.model.decide import is_old
from cutor.model.messages import SUBMITTED, Unreadable, read_message
from cutor.model.state import Submission, evolve, outline
from cutor.model.subjects import Address, EventSubject
from cutor.model.versions import newer_version

log = logging.getLogger(__name__)

REMEMBERED: Final = 10_000
"""Submissions whose outlines are kept, about 1 KB each."""
STRAYS: Final = 100
"""A history with so many strays is long; cutor's own events are a handful."""
LONG_AT_MOST: Final = 64
"""States of long histories that are kept."""
LONG_BYTES: Final = 1 << 20
"""What is kept of one at the most, as JSON: a request of cutor's own has its large contents elsewhere."""
MESSAGES_AT_ONCE: Final = 1000
"""Most messages behind an outline that are read for one more ``submitted``; see `BYTES_AT_ONCE`."""
BYTES_AT_ONCE: Final = 8 << 20
"""How much of what is behind an outline is read for one more ``submitted``, which is a stray whatever stands there: a bound for
those who make a process forget outlines by flooding more submissions than it remembers."""


class Glances:
    """The outlines of one role process."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._known: dict[Address, Submission] = {}
        self._long: dict[Address, Submission] = {}

    def old(self, stored: Stored, subject: EventSubject) -> bool:
        """Return whether a delivered event asks for nothing, as far as that is known without a read."""
        known = self._known.get(subject.address)
        if known is not None and is_old(known, stored.sequence, stored.time_ns):
            return True
        if subject.kind == SUBMITTED or not isinstance(read_message(stored.subject, stored.body), Unreadable):
            return False
        return newer_version(stored.subject, stored.body) is None  # one that there is, is for a newer role: `journal.versions`

    async def due(self, stored: Stored, subject: EventSubject, *, first: bool = False) -> Submission | None:
        """Return the state of a submission whose delivered event is the one that is due; None where it asks for nothing.

        ``first``: it was never delivered before, so nothing may have happened since; where the fences tell its history
        (`Journal.proven`), that is the state up to it, and whatever stands behind it, the next append meets.
        """
        address, sequence = subject.address, stored.sequence
        known = self._known.get(address)
        if known is not None and sequence != known.step_sequence:
            known = await self._caught_up(known, stored, subject.kind)
            if known is not None and sequence != known.step_sequence and _told(known, sequence, subject.kind):
                return None
        opening = sequence if subject.kind == SUBMITTED else 0
        state = await self._of_long(address, sequence)
        if state is None and first:
            state = await self._journal.proven(address, stored)
        if state is None:
            state = await self._journal.state(address, at_least=sequence, opening=opening)
        if state is None:
            log.error("%s: of no submission that the stream knows; dropped", stored.subject)
            return None
        self.keep(state)
        if sequence != state.step_sequence:
            return None
        if state.strays >= STRAYS and len(msgspec.json.encode(state)) <= LONG_BYTES:
            self._long[address] = state
            if len(self._long) > LONG_AT_MOST:
                del self._long[next(iter(self._long))]
        return state

    async def _of_long(self, address: Address, sequence: int) -> Submission | None:
        """Return the state of a submission whose long history was read, as it is now; None for any other, and where the stream
        disproves it.
        """
        state = self._long.pop(address, None)
        if state is None:
            return None
        at_least = max(sequence, state.last_sequence)
        try:
            async with aclosing(self._journal.behind(state, at_least=at_least, last_ns=state.last_ns)) as entries:
                async for entry in entries:
                    state = evolve(state, entry.message, entry.stamp)
        except PrefixLost:
            return None
        return state

    async def _caught_up(self, known: Submission, stored: Stored, kind: str) -> Submission | None:
        """Return an outline with what is behind it, up to a delivered event and further; None where the stream disproves it."""
        at_least, messages, size_bytes = max(stored.sequence, known.last_sequence), 0, 0
        try:
            async with aclosing(self._journal.behind(known, at_least=at_least, last_ns=known.last_ns)) as entries:
                async for entry in entries:
                    known = evolve(known, entry.message, entry.stamp)
                    messages, size_bytes = messages + 1, size_bytes + len(entry.stored.body)
                    if kind == SUBMITTED and (messages >= MESSAGES_AT_ONCE or size_bytes >= BYTES_AT_ONCE):
                        break
        except PrefixLost:
            log.warning("%s: the stream is not the one that was read before; all of it is read anew", known.address)
            self._known.pop(known.address, None)
            return None
        self.keep(known)
        return known

    def keep(self, state: Submission) -> None:
        """Keep an outline, unless one is there that goes further; that of the submission that was met longest ago goes."""
        known = self._known.pop(state.address, None)
        further = known is not None and known.last_sequence > state.last_sequence
        self._known[state.address] = known if known is not None and further else outline(state)
        if len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]


def _told(known: Submission, sequence: int, kind: str) -> bool:
    """Return whether an outline that was just proved tells of an event, which is not the one that was due at its end."""
    return sequence <= known.last_sequence or kind == SUBMITTED

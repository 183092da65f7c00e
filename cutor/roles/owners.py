"""The submissions that have claims, as those who wait in one role process know them: the history of each is read once.

It may be as long as somebody cares to make it, many may wait for the same one, and each of them looks again and again: read
anew each time, what a producer appended once would be read thousands of times.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

from cutor.journal.errors import SubmissionUnknown
from cutor.journal.journal import Journal
from cutor.model.state import Submission, outline
from cutor.model.subjects import Address

REMEMBERED: Final = 1000
"""Owners whose outlines are kept, about 1 KB each; of more, those that were asked for longest ago are read again."""


@dataclass
class _Owner:
    """The outline of a submission; ``turn``: one reads at a time, and who comes meanwhile reads what is new since."""

    known: Submission | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Owners:
    """The owners of claims that one role process has met."""

    def __init__(self) -> None:
        self._owners: dict[Address, _Owner] = {}

    async def state(self, journal: Journal, address: Address) -> Submission | None:
        """Return an owner's state as the stream's leader has it, without contents; null where the stream does not know it."""
        owner = self._owners[address] = self._owners.pop(address, _Owner())
        if len(self._owners) > REMEMBERED:
            del self._owners[next(iter(self._owners))]
        async with owner.turn:
            owner.known = await _newest(journal, address, owner.known)
            return owner.known


async def _newest(journal: Journal, address: Address, known: Submission | None) -> Submission | None:
    """Return the state of a submission; of one that is known only what is new is read."""
    if known is None:
        state = await journal.state(address)
        return None if state is None else outline(state)
    try:
        return outline(await journal.newer(known))
    except SubmissionUnknown:
        return None

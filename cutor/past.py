"""Submissions of which the stream has let go of the beginning: read from archive and stream."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from cutor.model.state import Folding, Submission
from cutor.model.subjects import Address, fence

if TYPE_CHECKING:
    from cutor.journal import Journal
    from cutor.projections.archive.lives import Lives


class Past:
    """Submissions by archive and stream: those of which the stream has not the beginning any more."""

    def __init__(self, journal: Journal, lives: Lives) -> None:
        self._journal = journal
        self._lives = lives

    async def states(self, addresses: Sequence[Address]) -> dict[Address, Submission]:
        """Return the states of those of which the archive has the beginning, with what came behind its end.

        All of their sealed events are in memory meanwhile.
        """
        found: dict[Address, Submission] = {}
        for address, messages in (await self._lives.messages(addresses)).items():
            folding = Folding(address)
            for stored in messages:
                await self._journal.fold_in(folding, stored)
            batches = self._journal.bus.since_batches(fence(address), self._lives.sealed)
            async with aclosing(batches):
                async for batch in batches:
                    for stored in batch:
                        await self._journal.fold_in(folding, stored)
            if folding.state is not None:
                found[address] = folding.state
        return found

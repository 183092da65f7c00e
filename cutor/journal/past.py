"""Submissions of which the stream has let go of the beginning: read from archive and stream.

What an archive has to give for that is `Sealed`; whoever makes a journal hands one in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Final, Protocol

from cutor.bus.bodies import Elsewhere
from cutor.bus.connection import Bus
from cutor.bus.message import Stored
from cutor.model.state import Folding, Submission
from cutor.model.subjects import EVENTS, Address, fence

NO_ARCHIVE: Final = "and no archive is configured: set [archive] directory to where it was sealed"


class Lives(Protocol):
    """The sealed events of some submissions."""

    @property
    def sealed(self) -> int:
        """The last sequence of EVENTS that is sealed."""
        ...

    async def messages(self, addresses: Sequence[Address]) -> Mapping[Address, Sequence[Stored]]:
        """Return the messages of some of them, each life in its order; none for who has none."""
        ...


class Sealed(Elsewhere, Protocol):
    """What an archive has of events, and of contents that the stream has let go of."""

    async def lives_of(self, bus: Bus, addresses: Sequence[Address]) -> Lives | None:
        """Return what is sealed of these submissions, None where EVENTS has let go of nothing, or there is no archive."""
        ...

    async def lacks_of(self, bus: Bus) -> str:
        """Return why a submission is not known, as the end of a sentence; empty where EVENTS has let go of nothing."""
        ...


class NothingSealed:
    """Where no archive is configured."""

    async def chunks(self, _subjects: Sequence[str]) -> Mapping[str, Sequence[bytes]]:
        """Return nothing."""
        return {}

    def lacks(self) -> str:
        """Return `NO_ARCHIVE`."""
        return NO_ARCHIVE

    async def lives_of(self, _bus: Bus, _addresses: Sequence[Address]) -> Lives | None:
        """Return None."""
        return None

    async def lacks_of(self, bus: Bus) -> str:
        """Return why a submission is not known, as the end of a sentence; empty where EVENTS has let go of nothing."""
        first = await first_kept(bus)
        return "" if first <= 1 else f": EVENTS begins at {first}, {NO_ARCHIVE}"


async def first_kept(bus: Bus) -> int:
    """Return the first sequence that EVENTS still has."""
    return int((await bus.stream_info(EVENTS))["state"]["first_seq"])


class PastSubmissions:
    """Submissions by archive and stream: those of which the stream has not the beginning any more."""

    def __init__(self, bus: Bus, lives: Lives, fold_in: Callable[[Folding, Stored], Awaitable[None]]) -> None:
        """``fold_in`` takes a message into a fold: `Histories.fold_in`."""
        self._bus = bus
        self._lives = lives
        self._fold_in = fold_in

    async def states(self, addresses: Sequence[Address]) -> dict[Address, Submission]:
        """Return the states of those of which the archive has the beginning, with what came behind its end.

        All of their sealed events are in memory meanwhile.
        """
        found: dict[Address, Submission] = {}
        for address, messages in (await self._lives.messages(addresses)).items():
            folding = Folding(address)
            for stored in messages:
                await self._fold_in(folding, stored)
            batches = self._bus.since_batches(fence(address), self._lives.sealed)
            async with aclosing(batches):
                async for batch in batches:
                    for stored in batch:
                        await self._fold_in(folding, stored)
            if folding.state is not None:
                found[address] = folding.state
        return found

"""Histories: the events of submissions, read from the stream and folded. Nothing here appends.

Whoever asks what became of a submission, be it a client, a role or a command, asks here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Final, NamedTuple

from cutor.bus.connection import Bus
from cutor.bus.message import Stored
from cutor.journal.errors import PrefixLost, SubmissionUnknown, unknown
from cutor.journal.past import NothingSealed, PastSubmissions, Sealed
from cutor.journal.versions import Versions
from cutor.model.events import PASSING_KINDS
from cutor.model.messages import SUBMITTED, Message, Unreadable, is_malformed, read_message
from cutor.model.state import Folding, Stamp, Submission, evolve
from cutor.model.subjects import EVENTS, Address, event_subject, fence

WATCH_PATIENCE_S: Final = 30.0
"""How long who watches a submission waits for a server that went away: a restart takes less, a stack that is down stays so."""


class Entry(NamedTuple):
    """One message of a submission, as it is stored and as it is read."""

    stored: Stored
    message: Message

    @property
    def stamp(self) -> Stamp:
        """Where it stands in the stream."""
        return Stamp(self.stored.sequence, self.stored.time_ns)

    @property
    def is_read(self) -> bool:
        """Whether its body is an event; for a first message that is none, another one stands."""
        return not (isinstance(self.message, Unreadable) or is_malformed(self.message))


class Histories:
    """Events of submissions, read over one bus."""

    def __init__(self, bus: Bus, sealed: Sealed | None = None) -> None:
        """What streams have let go of is read from ``sealed``."""
        self.bus = bus
        self.versions = Versions(bus)
        self.sealed: Sealed = sealed or NothingSealed()

    async def read(self, address: Address, *, at_least: int = 0) -> AsyncGenerator[Entry, None]:
        """Yield every message of a submission in stream order; none where the id is unknown.

        Without ``at_least`` the answer holds all that was acknowledged before the question: the stream's leader is asked.
        With it, any replica may answer that reaches this sequence: one that a delivery, an append or a conflict has told of.
        Messages come in bounded batches, and who keeps none needs memory for one: a history may be as large as the stream.
        """
        first = event_subject(address, SUBMITTED)
        batches = self.bus.history_batches(fence(address), first, at_least=at_least, consistent=not at_least)
        async with aclosing(batches):
            async for batch in batches:
                for stored in batch:
                    yield await self.entry(stored)

    async def entries(self, address: Address, *, at_least: int = 0) -> list[Entry]:
        """Return what `read` yields, all at once: for a history that is known to be small."""
        async with aclosing(self.read(address, at_least=at_least)) as entries:
            return [entry async for entry in entries]

    async def state(self, address: Address, *, at_least: int = 0, opening: int = 0) -> Submission | None:
        """Return the folded state of a submission, or None where the id is unknown. ``at_least`` as in `read`.

        ``opening``: where it begins with a message at another sequence, no more is read, and the state is that after this one.
        """
        folding = Folding(address)
        async with aclosing(self.read(address, at_least=at_least)) as entries:
            async for entry in entries:
                folding.take(entry.message, entry.stamp)
                if opening and entry.stored.sequence != opening:
                    break
                opening = 0
        return folding.state

    async def proven(self, address: Address, stored: Stored) -> Submission | None:
        """Return the state of a submission up to one of its messages, where the fences tell what its whole history is.

        Before it stored a message under a fence, the server compared what was the newest one. So a ``submitted`` before which
        nothing was opens its history, without a read. A later message behind one that is behind such an opening has these two
        before it and nothing else: one round trip. Null for any other history, which is to be read. What stands behind the
        message is not looked at: an append on the state is refused where there is anything.
        """
        own, compared = fence(address), stored.compared
        if compared is None or compared.fence != own:
            return None
        history = [stored]
        if compared.sequence > 0:
            between, opening = await asyncio.gather(
                self.bus.get(EVENTS, compared.sequence), self.bus.oldest(EVENTS, event_subject(address, SUBMITTED))
            )
            if between is None or opening is None or between.compared != (own, opening.sequence):
                return None
            history = [opening, between, stored]
        if history[0].compared != (own, 0):
            return None
        folding = Folding(address)
        for one in history:
            await self.fold_in(folding, one)
        return folding.state

    async def newer(self, state: Submission) -> Submission:
        """Return the state as the stream's leader has it now, from one that was read before: only what is behind is read.

        Raises `SubmissionUnknown`.
        """
        newest = await self.bus.last(EVENTS, fence(state.address), consistent=True)
        if newest is not None and newest.sequence == state.last_sequence:
            return state
        return await self.caught_up(state, newest.sequence if newest is not None else 0, lambda _entry: None)

    async def behind(self, state: Submission, *, at_least: int, last_ns: int | None = None) -> AsyncGenerator[Entry, None]:
        """Yield what stands behind a state up to ``at_least`` and further.

        The message that the state ends with is read, too, first. Raises `PrefixLost` where it is not there, or has another time
        than ``last_ns``: the stream has lost its tail since, or is another one.
        """
        anchored = False
        batches = self.bus.since_batches(fence(state.address), state.last_sequence - 1, at_least=at_least)
        async with aclosing(batches):
            async for batch in batches:
                for stored in batch:
                    if anchored:
                        yield await self.entry(stored)
                    elif stored.sequence != state.last_sequence or last_ns not in (None, stored.time_ns):
                        raise PrefixLost(state.address)
                    anchored = True
        if not anchored:
            raise PrefixLost(state.address)

    async def entry(self, stored: Stored) -> Entry:
        """Return a message as it is read. Raises `EventNewer`."""
        entry = Entry(stored, read_message(stored.subject, stored.body))
        if not entry.is_read:
            await self.versions.check(stored)
        return entry

    async def fold_in(self, folding: Folding, stored: Stored) -> None:
        """Take one more message into a fold. Raises `EventNewer`."""
        entry = await self.entry(stored)
        folding.take(entry.message, entry.stamp)

    async def caught_up(self, state: Submission, at_least: int, seen: Callable[[Entry], None]) -> Submission:
        """Return a state with what stands behind it, as in `behind`; ``seen`` gets each entry. Where it is lost, read anew."""
        try:
            async with aclosing(self.behind(state, at_least=at_least)) as entries:
                async for entry in entries:
                    seen(entry)
                    state = evolve(state, entry.message, entry.stamp)
        except PrefixLost:
            return await self._anew(state.address, at_least, seen)
        return state

    async def _anew(self, address: Address, at_least: int, seen: Callable[[Entry], None]) -> Submission:
        folding = Folding(address)
        async with aclosing(self.read(address, at_least=at_least)) as entries:
            async for entry in entries:
                seen(entry)
                folding.take(entry.message, entry.stamp)
        if folding.state is None:
            raise SubmissionUnknown(f"{address} vanished from the stream")
        return folding.state

    async def past(self, addresses: Sequence[Address]) -> PastSubmissions | None:
        """Return what the archive has of these submissions, None where there is none, or EVENTS has let go of nothing.

        Raises the errors of the archive.
        """
        lives = await self.sealed.lives_of(self.bus, addresses)
        return None if lives is None else PastSubmissions(self.bus, lives, self.fold_in)

    async def ever_known(self, address: Address) -> Submission:
        """Return the state of a submission, also of one whose events are in the archive alone.

        Raises `SubmissionUnknown`, and the errors of the archive.
        """
        state = await self.state(address)
        if state is None and (past := await self.past([address])) is not None:
            state = (await past.states([address])).get(address)
        if state is None:
            raise SubmissionUnknown(f"{unknown(address)}{await self.sealed.lacks_of(self.bus)}")
        return state

    async def known(self, address: Address) -> Submission:
        """Return the folded state of a submission. Raises `SubmissionUnknown`."""
        state = await self.state(address)
        if state is None:
            raise unknown(address)
        return state

    async def end_of(self, address: Address, seen: Callable[[Submission], None] = lambda _state: None) -> Submission:
        """Return the state of a submission after its terminal event; ``seen`` is given every state that is read before.

        What happens on the way is read with the end. Raises as `watch` does.
        """
        async with aclosing(self.watch(address, wakes=_may_end)) as watching:
            async for _, state in watching:
                if state.ended:
                    return state
                seen(state)
        raise AssertionError("watching ends with a terminal event")

    async def watch(
        self, address: Address, *, wakes: Callable[[str], bool] = lambda _subject: True
    ) -> AsyncGenerator[tuple[Entry, Submission], None]:
        """Yield every message of a submission with the state after it, from the first on, until its terminal event.

        Needs no consumer: see `Bus.follow`, also for ``wakes``.
        Raises `SubmissionUnknown`; `BusUnreachable` where the server stays away for
        `WATCH_PATIENCE_S`; `StreamRewound`.
        """
        folding = Folding(address)
        first = event_subject(address, SUBMITTED)
        messages = self.bus.follow(fence(address), first, patience_s=WATCH_PATIENCE_S, wakes=wakes)
        async with aclosing(messages):
            async for stored in messages:
                entry = await self.entry(stored)
                state = folding.take(entry.message, entry.stamp)
                if state is None:
                    continue
                yield entry, state
                if state.ended:
                    return
        raise unknown(address)


def _may_end(subject: str) -> bool:
    """Return whether a submission may end with a message on a subject: of all kinds but those that are known not to."""
    return subject.rpartition(".")[2] not in PASSING_KINDS

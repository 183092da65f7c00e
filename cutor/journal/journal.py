"""The journal: events of submissions, appended to the stream behind what their histories hold.

The seam between the pure core (``cutor.model``) and the bus: whoever appends an event of a submission, a client, a role or a
command, does it here. Every append carries the fence of its submission. `Histories` reads what is there.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from cutor.bus.bodies import Bodies
from cutor.bus.connection import Bus
from cutor.bus.errors import AppendUnconfirmed, BusUnreachable, FenceConflict
from cutor.bus.publish_ack import Appended as BusAppended
from cutor.journal.contents import Contents
from cutor.journal.errors import (
    JournalBusy,
    SubmissionConflict,
    SubmissionUnconfirmed,
)
from cutor.journal.history import Entry, Histories
from cutor.journal.past import Sealed
from cutor.model.codec import encode
from cutor.model.content import INLINE_BYTES
from cutor.model.decide import decide_submit, event_message_id
from cutor.model.events import Event, StoredRequest, Submitted, kind_of
from cutor.model.messages import Unreadable
from cutor.model.request import ValidRequest, digest, size_bytes
from cutor.model.state import Stamp, Submission, evolve, initial
from cutor.model.subjects import EVENTS, Address, event_subject, fence

CONFLICTS_AT_MOST: Final = 100
"""Times an append is decided anew before `JournalBusy`, about 9 s: more than any healthy submission has events in that time."""
CONFLICT_PAUSE_S: Final = 0.005
"""For each conflict so far. A choice: a read and an append take a few milliseconds."""
CONFLICT_PAUSE_MAX_S: Final = 0.1
"""The pause grows no further: with it the conflicts that an append may meet take the 9 s above."""


Seen = Callable[[Submission, Event, Submission], None]
"""Is told of an event that was appended, between two states."""


class Appended(NamedTuple):
    """The state after an attempt to append, and whether the event is in the stream."""

    state: Submission
    done: bool


class Journal(Histories):
    """Events of submissions, read and appended over one bus."""

    def __init__(self, bus: Bus, appended: Seen = lambda _before, _event, _after: None, sealed: Sealed | None = None) -> None:
        """``appended`` is told of each event that `settle` has appended, with the state before and behind it.

        What streams have let go of is read from ``sealed``.
        """
        super().__init__(bus, sealed)
        self._appended = appended
        self.contents = Contents(Bodies(bus, sealed))

    async def submit(self, request: ValidRequest, caused_by: str | None = None) -> Submission:
        """Append ``submitted`` and return the state; the same id and body twice is one submission.

        The time in the state is this process's where the append was its own: the stream's own stands in what is read. Of two
        bodies under one id at once the first event stored wins; large contents of the other stay in BODIES, under their hash,
        as do those of a producer that died before its event: no event names them, and they are stored once whoever comes next.
        Raises `StackOlder`; `SubmissionConflict` where the id is taken by another body; `BusUnreachable` where no server was
        there to store it, `SubmissionUnconfirmed` where one went away before it said whether it has.
        """
        await self.versions.check_written("submitted")
        address, wanted = request.address, digest(request)
        if size_bytes(request) > INLINE_BYTES and (state := await self.state(address)) is not None:
            return await self._completed(_same(state, wanted), request)  # nobody would ever refer to what is stored for another
        event = Submitted(request=await self._stored(request), digest=wanted, caused_by=caused_by)
        return await self._submit(address, event)

    async def resubmit(self, address: Address, request: StoredRequest, wanted_digest: str, caused_by: str) -> Submission:
        """Append ``submitted`` of a request that another submission's event holds, after `Contents.renewed`: it is in BODIES.

        Returns and raises as `submit` does; who submitted what stands there, ``caused_by`` in the state says.
        """
        await self.versions.check_written("submitted")
        return await self._submit(address, Submitted(request=request, digest=wanted_digest, caused_by=caused_by))

    async def _submit(self, address: Address, event: Submitted) -> Submission:
        message_id = event_message_id(address, event)
        state = await self._submit_under(message_id, address, event)
        if state is None:  # the server may have taken it for a repetition of a message that somebody sent under this id
            state = await self._submit_under(f"{message_id}/{secrets.token_hex(8)}", address, event)
        if state is None:
            raise await self._taken(address)
        return _same(state, event.digest)

    async def _taken(self, address: Address) -> SubmissionConflict:
        """Return the error for an id under which there are messages, and no ``submitted``: retention may have taken that."""
        newest = await self.bus.last(EVENTS, fence(address), consistent=True)
        is_rest = newest is not None and not isinstance((await self.entry(newest)).message, Unreadable)
        if is_rest and int((await self.bus.stream_info(EVENTS))["state"]["first_seq"]) > 1:
            return SubmissionConflict(
                f"the id {address.id!r} was taken by a submission that the stream has let go of, but for its last events: send "
                "this one under another id (`cutor query` has what became of the first)"
            )
        return SubmissionConflict(f"the id {address.id!r} is taken by messages that are none of cutor's; take another one")

    async def _submit_under(self, message_id: str, address: Address, event: Submitted) -> Submission | None:
        """Return what stands under an address after an attempt to append ``submitted`` there; None for no submission."""
        try:
            appended = await self._append(address, event, message_id, expected_sequence=0)
        except FenceConflict as conflict:
            newest = conflict.last_sequence
        except AppendUnconfirmed as error:
            raise self._unconfirmed(address) from error
        else:
            if not appended.duplicate:
                return initial(address, event, Stamp(appended.sequence, time.time_ns()))
            newest = appended.sequence
        try:
            return await self.state(address, at_least=newest)
        except BusUnreachable as error:
            raise self._unconfirmed(address) from error

    async def _completed(self, state: Submission, request: ValidRequest) -> Submission:
        """Return a state. What BODIES has lost of its request, in a power failure, is stored again while it may be wanted."""
        if not state.ended:
            try:
                await self.contents.complete_request(request, state.request)
            except (AppendUnconfirmed, BusUnreachable) as error:
                raise self._unconfirmed(state.address) from error
        return state

    async def _stored(self, request: ValidRequest) -> StoredRequest:
        """Return a request whose large contents are stored. Raises `BusUnreachable` where they may not be: then nothing is."""
        try:
            return await self.contents.store_request(request)
        except AppendUnconfirmed as error:
            raise self.bus.link.unreachable("the request's contents were not confirmed; it was not submitted") from error

    def _unconfirmed(self, address: Address) -> SubmissionUnconfirmed:
        return SubmissionUnconfirmed(
            f"{address.id} may or may not be stored: NATS at {self.bus.address} {self.silence()}; submit the same"
            f" request under this id again (`cutor submit … --id {address.id}`): that finds out and never makes a second one",
            details={"id": address.id, "tenant": address.tenant},
        )

    def silence(self) -> str:
        """Return in words why the server did not confirm an append: it is away, or there and stores nothing."""
        if self.bus.connected:
            return "is there and did not say so, as where its disk is full (`cutor doctor`)"
        return "went away before it said so"

    async def settle(
        self,
        state: Submission,
        decide: Callable[[Submission], Event | None],
        *,
        index: int = 0,
        conflicts_at_most: int = CONFLICTS_AT_MOST,
    ) -> Appended:
        """Append the event that ``decide`` makes of the state; where the fence refuses it, read what is new and decide again.

        Returns the state after the append; ``done`` is false where ``decide`` had nothing to append any more. An append
        that the server had stored although its answer was lost is found by its message id and its event, and counts as done.
        Where something else carries that id, whoever sent it, the event is appended under a longer one. Raises `JournalBusy`
        after ``conflicts_at_most``.
        """
        attempt = _Attempt(secrets.token_hex(8))
        for conflicts in range(1, conflicts_at_most + 1):
            event = decide(state)
            if event is None:
                return Appended(state, done=False)
            attempt.begin(state.address, event, index)
            try:
                appended = await self._append(state.address, event, attempt.message_id, state.last_sequence)
            except FenceConflict as conflict:
                # between a read and its append nothing waits: whoever appends meanwhile makes this one conflict again
                await asyncio.sleep(min(conflicts * CONFLICT_PAUSE_S, CONFLICT_PAUSE_MAX_S))
                state = await self.caught_up(state, conflict.last_sequence, attempt.see)
            else:
                if not appended.duplicate:
                    after = evolve(state, event, Stamp(appended.sequence, time.time_ns()))
                    self._appended(state, event, after)
                    return Appended(after, done=True)
                attempt.taken = True
                if (stored := await self.bus.get(EVENTS, appended.sequence, consistent=True)) is not None:
                    attempt.see(await self.entry(stored))
                state = await self.caught_up(state, appended.sequence, attempt.see)
            if attempt.seen:
                return Appended(state, done=True)
        raise JournalBusy(f"{state.address}: an event could not be appended; something else writes under this id")

    async def _append(self, address: Address, event: Event, message_id: str, expected_sequence: int) -> BusAppended:
        return await self.bus.append(
            event_subject(address, kind_of(event)),
            encode(event),
            message_id=message_id,
            fence=fence(address),
            expected_sequence=expected_sequence,
        )


class _Attempt:
    """One event on its way into the stream: under which message id, and whether it has been seen there."""

    def __init__(self, token: str) -> None:
        self._token = token
        self.taken = False
        self.seen = False

    def begin(self, address: Address, event: Event, index: int) -> None:
        """Make the message id: a longer one where the usual one is ``taken`` by something else."""
        message_id = event_message_id(address, event, index=index, token=self._token)
        self._event = event
        self.message_id = f"{message_id}/{self._token}" if self.taken else message_id

    def see(self, entry: Entry) -> None:
        """Look whether an entry is this event: its own append, whose answer was lost."""
        self.seen = self.seen or (entry.stored.message_id == self.message_id and entry.message == self._event)


def _same(state: Submission, wanted_digest: str) -> Submission:
    """Return what stands under an id, where it is the wanted submission. Raises `SubmissionConflict`."""
    if decide_submit(state, wanted_digest) == "conflict":
        raise SubmissionConflict(
            f"the id {state.address.id!r} is taken by a submission with another body; send this one under another id"
        )
    return state

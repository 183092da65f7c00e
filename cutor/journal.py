"""The journal: a submission's events in the stream, read, folded and appended.

The seam between the pure core (``cutor.model``) and the bus: everything that reads or appends events of submissions, whether a
client, a role or a command, does it here. Every append carries the fence of its submission.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Final, NamedTuple

from cutor.bus.backup import check_whole
from cutor.bus.bodies import Bodies
from cutor.bus.connection import Bus
from cutor.bus.errors import AppendUnconfirmed, BusUnreachable, FenceConflict, StreamMissing
from cutor.bus.message import Stored
from cutor.bus.verdict import Appended as BusAppended
from cutor.contents import Contents
from cutor.journal_errors import (
    JournalBusy,
    PolicyMissing,
    PrefixLost,
    SubmissionConflict,
    SubmissionUnconfirmed,
    SubmissionUnknown,
    unknown,
)
from cutor.model.codec import EventError, decode_policy, encode
from cutor.model.content import INLINE_BYTES
from cutor.model.decide import decide_submit, event_message_id
from cutor.model.events import PASSING_KINDS, Event, StoredRequest, Submitted, kind_of
from cutor.model.limits import Policy
from cutor.model.messages import SUBMITTED, Message, Unreadable, is_malformed, read_message
from cutor.model.request import ValidRequest, digest, size_bytes
from cutor.model.state import Folding, Stamp, Submission, evolve, initial
from cutor.model.subjects import EVENTS, POLICY_SUBJECT, STACK, Address, event_subject, fence
from cutor.model.versions import announcing
from cutor.past import NothingSealed, Past, Sealed
from cutor.versions import Versions

CONFLICTS_AT_MOST: Final = 100
"""Times an append is decided anew before `JournalBusy`, about 9 s: more than any healthy submission has events in that time."""
WATCH_PATIENCE_S: Final = 30.0
"""How long who watches a submission waits for a server that went away: a restart takes less, a stack that is down stays so."""
CONFLICT_PAUSE_S: Final = 0.005
CONFLICT_PAUSE_MAX_S: Final = 0.1


Seen = Callable[[Submission, Event, Submission], None]
"""Is told of an event that was appended, between two states."""


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


class Appended(NamedTuple):
    """The state after an attempt to append, and whether the event is in the stream."""

    state: Submission
    done: bool


class Journal:
    """Events of submissions, over one bus."""

    def __init__(
        self,
        bus: Bus,
        appended: Seen = lambda _before, _event, _after: None,
        sealed: Sealed | None = None,
    ) -> None:
        """``appended`` is told of each event that `settle` has appended, with the state before and behind it.

        What streams have let go of is read from ``sealed``.
        """
        self.bus = bus
        self._appended = appended
        self.versions = Versions(bus)
        self.sealed: Sealed = sealed or NothingSealed()
        self.contents = Contents(Bodies(bus, sealed))

    async def policy(self) -> Policy:
        """Return the policy that the stack publishes. Raises `PolicyMissing`, also for one that cannot be read.

        A restore puts it back last. So where there is none, it may be that one did not end: `RestoreUnfinished`.
        """
        try:
            stored = await self.bus.last(STACK, POLICY_SUBJECT)
        except StreamMissing:
            await check_whole(self.bus)
            raise
        if stored is None:
            await check_whole(self.bus)
            raise PolicyMissing("the stack publishes no limits yet: run `cutor streams apply` (or `cutor up`)")
        try:
            return decode_policy(stored.body)
        except EventError as error:
            raise PolicyMissing(f"{error}: run `cutor streams apply`") from error

    async def publish_policy(self, policy: Policy) -> None:
        """Publish a policy to clients and roles, with the versions of events that there are."""
        stored = await self.bus.last(STACK, POLICY_SUBJECT)
        try:
            published = None if stored is None else decode_policy(stored.body)
        except EventError:
            published = None
        await self.bus.publish(POLICY_SUBJECT, encode(announcing(policy, published)))

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
                    yield await self._entry(stored)

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
        return await self._caught_up(state, newest.sequence if newest is not None else 0, lambda _entry: None)

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
                        yield await self._entry(stored)
                    elif stored.sequence != state.last_sequence or last_ns not in (None, stored.time_ns):
                        raise PrefixLost(state.address)
                    anchored = True
        if not anchored:
            raise PrefixLost(state.address)

    async def _entry(self, stored: Stored) -> Entry:
        """Return a message as it is read. Raises `EventNewer`."""
        entry = Entry(stored, read_message(stored.subject, stored.body))
        if not entry.is_read:
            await self.versions.check(stored)
        return entry

    async def fold_in(self, folding: Folding, stored: Stored) -> None:
        """Take one more message into a fold. Raises `EventNewer`."""
        entry = await self._entry(stored)
        folding.take(entry.message, entry.stamp)

    async def _caught_up(self, state: Submission, at_least: int, seen: Callable[[Entry], None]) -> Submission:
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

    async def past(self, addresses: Sequence[Address]) -> Past | None:
        """Return what the archive has of these submissions, None where there is none, or EVENTS has let go of nothing.

        Raises the errors of the archive.
        """
        lives = await self.sealed.lives_of(self.bus, addresses)
        return None if lives is None else Past(self.bus, lives, self.fold_in)

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
        is_rest = newest is not None and not isinstance((await self._entry(newest)).message, Unreadable)
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
                state = await self._caught_up(state, conflict.last_sequence, attempt.see)
            else:
                if not appended.duplicate:
                    after = evolve(state, event, Stamp(appended.sequence, time.time_ns()))
                    self._appended(state, event, after)
                    return Appended(after, done=True)
                attempt.taken = True
                if (stored := await self.bus.get(EVENTS, appended.sequence, consistent=True)) is not None:
                    attempt.see(await self._entry(stored))
                state = await self._caught_up(state, appended.sequence, attempt.see)
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
                entry = await self._entry(stored)
                state = folding.take(entry.message, entry.stamp)
                if state is None:
                    continue
                yield entry, state
                if state.ended:
                    return
        raise unknown(address)


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


def _may_end(subject: str) -> bool:
    """Return whether a submission may end with a message on a subject: of all kinds but those that are known not to."""
    return subject.rpartition(".")[2] not in PASSING_KINDS


def _same(state: Submission, wanted_digest: str) -> Submission:
    """Return what stands under an id, where it is the wanted submission. Raises `SubmissionConflict`."""
    if decide_submit(state, wanted_digest) == "conflict":
        raise SubmissionConflict(
            f"the id {state.address.id!r} is taken by a submission with another body; send this one under another id"
        )
    return state

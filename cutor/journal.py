"""The journal: a submission's events in the stream, read, folded and appended.

The seam between the pure core (``cutor.model``) and the bus: everything that reads or appends events of submissions, whether a
client, a role or a command, does it here. Every append carries the fence of its submission.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final, NamedTuple

import msgspec

from cutor.bus.bodies import Bodies
from cutor.bus.connection import Bus
from cutor.bus.errors import FenceConflict
from cutor.bus.message import Stored
from cutor.bus.verdict import Appended as BusAppended
from cutor.contents import Contents
from cutor.errors import CutorError
from cutor.model.codec import EventError, decode, decode_policy, encode
from cutor.model.decide import decide_submit, event_message_id
from cutor.model.events import Event, Submitted, kind_of
from cutor.model.limits import Policy
from cutor.model.request import ValidRequest, digest
from cutor.model.state import Stamp, Submission, evolve, initial
from cutor.model.subjects import EVENTS, POLICY_SUBJECT, STACK, Address, event_subject, fence

CONFLICTS_AT_MOST: Final = 50
"""Times an append is decided anew before `JournalBusy`: more than any healthy submission has events in a second."""


class SubmissionConflict(CutorError):
    """The id is taken by a submission with another body."""

    exit_code = 2


class SubmissionUnknown(CutorError):
    """No submission of this tenant has the id."""

    exit_code = 2


class PolicyMissing(CutorError):
    """The stack has published no policy: it was not set up by ``cutor up`` or ``cutor streams apply``."""

    exit_code = 3


class JournalBusy(CutorError):
    """Others append to one submission faster than this process can read: nothing of cutor's does that."""

    exit_code = 3


class Entry(NamedTuple):
    """One message of a submission: the event in it, or why it cannot be read."""

    stored: Stored
    event: Event | EventError


class Appended(NamedTuple):
    """The state after an attempt to append, and whether the event is in the stream."""

    state: Submission
    done: bool


class Journal:
    """Events of submissions, over one bus."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.contents = Contents(Bodies(bus))

    async def policy(self) -> Policy:
        """Return the policy that the stack publishes. Raises `PolicyMissing`."""
        stored = await self.bus.last(STACK, POLICY_SUBJECT)
        if stored is None:
            raise PolicyMissing("the stack publishes no limits yet: run `cutor streams apply` (or `cutor up`)")
        return decode_policy(stored.body)

    async def publish_policy(self, policy: Policy) -> None:
        """Publish a policy to clients and roles."""
        await self.bus.publish(POLICY_SUBJECT, encode(policy))

    async def entries(self, address: Address, *, at_least: int = 0) -> list[Entry]:
        """Return every message of a submission in stream order; none where the id is unknown.

        ``at_least`` is a sequence that the answer must reach: one that an append or a conflict has told of.
        """
        first = event_subject(address, "submitted")
        return [_entry(stored) for stored in await self.bus.history(fence(address), first, at_least=at_least)]

    async def state(self, address: Address, *, at_least: int = 0) -> Submission | None:
        """Return the folded state of a submission, or None where the id is unknown. ``at_least`` as in `entries`."""
        state: Submission | None = None
        for entry in await self.entries(address, at_least=at_least):
            state = advance(address, state, entry)
        return state

    async def known(self, address: Address) -> Submission:
        """Return the folded state of a submission. Raises `SubmissionUnknown`."""
        state = await self.state(address)
        if state is None:
            raise SubmissionUnknown(f"no submission {address.id!r} of the tenant {address.tenant!r} is known")
        return state

    async def submit(self, request: ValidRequest, caused_by: str | None = None) -> Submission:
        """Append ``submitted`` and return the state; the same id and body twice is one submission.

        The time in the state is this process's where the append was its own: the stream's own stands in what is read.
        Raises `SubmissionConflict` where the id is taken by another body.
        """
        event = Submitted(request=await self.contents.store_request(request), digest=digest(request), caused_by=caused_by)
        address = request.address
        for _ in range(CONFLICTS_AT_MOST):
            try:
                appended = await self._append(address, event, expected_sequence=0)
            except FenceConflict as conflict:
                newest = conflict.last_sequence
            else:
                if not appended.duplicate:
                    return initial(address, event, Stamp(appended.sequence, time.time_ns()))
                newest = appended.sequence
            state = await self.state(address, at_least=newest)
            if state is None:
                continue
            if decide_submit(state, event.digest) == "conflict":
                raise SubmissionConflict(
                    f"the id {address.id!r} is taken by a submission with another body; send this one under another id"
                )
            return state
        raise JournalBusy(f"{address}: `submitted` could not be appended; something else writes under this id")

    async def settle(self, state: Submission, decide: Callable[[Submission], Event | None], *, index: int = 0) -> Appended:
        """Append the event that ``decide`` makes of the state; where the fence refuses it, read, fold and decide again.

        Returns the state after the append; ``done`` is false where ``decide`` had nothing to append any more. An append
        that the server had stored although its answer was lost is found by its message id, and counts as done.
        """
        for _ in range(CONFLICTS_AT_MOST):
            event = decide(state)
            if event is None:
                return Appended(state, done=False)
            try:
                appended = await self._append(state.address, event, state.last_sequence, index)
            except FenceConflict as conflict:
                newest = conflict.last_sequence
            else:
                if not appended.duplicate:
                    stamp = Stamp(appended.sequence, time.time_ns())
                    return Appended(evolve(state, event, stamp), done=True)
                newest = appended.sequence
            message_id = event_message_id(state.address, event, index=index)
            state, found = await self._find(state.address, message_id, at_least=newest)
            if found:
                return Appended(state, done=True)
        raise JournalBusy(f"{state.address}: an event could not be appended; something else writes under this id")

    async def _append(self, address: Address, event: Event, expected_sequence: int, index: int = 0) -> BusAppended:
        return await self.bus.append(
            event_subject(address, kind_of(event)),
            encode(event),
            message_id=event_message_id(address, event, index=index),
            fence=fence(address),
            expected_sequence=expected_sequence,
        )

    async def _find(self, address: Address, message_id: str, *, at_least: int) -> tuple[Submission, bool]:
        state: Submission | None = None
        found = False
        for entry in await self.entries(address, at_least=at_least):
            state = advance(address, state, entry)
            found = found or entry.stored.message_id == message_id
        if state is None:
            raise SubmissionUnknown(f"{address} vanished from the stream")
        return state, found

    async def watch(self, address: Address) -> AsyncGenerator[tuple[Entry, Submission], None]:
        """Yield every message of a submission with the state after it, from the first on, until its terminal event.

        Raises `SubmissionUnknown`.
        """
        first = await self.bus.last(EVENTS, event_subject(address, "submitted"))
        if first is None:
            raise SubmissionUnknown(f"no submission {address.id!r} of the tenant {address.tenant!r} is known")
        state: Submission | None = None
        messages = self.bus.read(EVENTS, filter=fence(address), from_sequence=first.sequence, follow=True)
        async with aclosing(messages):
            async for stored in messages:
                entry = _entry(stored)
                state = advance(address, state, entry)
                if state is None:
                    continue
                yield entry, state
                if state.ended:
                    return


def advance(address: Address, state: Submission | None, entry: Entry) -> Submission | None:
    """Return the state after one more message; one that cannot be read is a stray."""
    stamp = Stamp(entry.stored.sequence, entry.stored.time_ns)
    if isinstance(entry.event, EventError):
        if state is None:
            return None
        return msgspec.structs.replace(state, strays=state.strays + 1, last_sequence=stamp.sequence)
    if state is None:
        return initial(address, entry.event, stamp) if isinstance(entry.event, Submitted) else None
    return evolve(state, entry.event, stamp)


def _entry(stored: Stored) -> Entry:
    try:
        return Entry(stored, decode(stored.body))
    except EventError as error:
        return Entry(stored, error)

"""Parked submissions as documents: what their events and the records about them tell."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from cutor.model.decisions import Action, ParkedResolved
from cutor.model.events import Leased, Parked, Role
from cutor.model.limits import StageKind
from cutor.model.messages import Message, Unreadable
from cutor.model.result import Result, rfc3339
from cutor.model.state import Attempts, Folding, Stamp, Status, Submission
from cutor.model.subjects import Address


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a parked submission: ``submission`` is the id of its retry, ``at`` the stream's time of the record."""

    action: Action
    """what was decided"""
    submission: str | None
    """id of the retry, or null"""
    reason: str | None
    """the operator's words, or null"""
    at: str
    """when, RFC 3339 in UTC"""


class ParkedSubmission(msgspec.Struct, frozen=True, kw_only=True):
    """A parked submission: when, by which role at which stage, why, after how many leases, and what became of it.

    ``unreadable_records`` counts messages under its record's subject that are no records: they decide nothing.
    """

    id: str
    """of the submission"""
    tenant: str
    """whose it is"""
    parked_at: str
    """when, RFC 3339 in UTC"""
    stage: StageKind | None
    """the stage that it did not get past, or null"""
    role: Role
    """whose leases are used up"""
    leases: Attempts
    """that were taken"""
    reason: str
    """why it was parked, in one line"""
    caused_by: str | None
    """id of the submission that it repeats, or null"""
    decision: Decision | None = None
    """what became of it; null where nobody has decided"""
    unreadable_records: int = 0
    """messages about it that are no decisions"""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """A lease that came to nothing: who took it, and when."""

    role: Role
    number: int
    worker: str
    leased_at: str


class Retried(msgspec.Struct, frozen=True, kw_only=True):
    """Where the submission that retries a parked one stands now."""

    id: str
    status: Status
    outcome: str | None


class ParkedDetail(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is known of a parked submission; ``retry`` is null where it was not retried."""

    parked: ParkedSubmission
    attempts: tuple[Attempt, ...]
    result: Result
    retry: Retried | None


class Records(NamedTuple):
    """What stands under the record's subject: the decision that counts, how much is none, the newest sequence (0: nothing).

    An id whose events are gone from EVENTS is free for another submission, and the records stay: what is older than the
    submission (``begun_ns``) was decided about another one. ``decided_ns`` is the time of the newest record that can be read.
    """

    decision: Decision | None = None
    unreadable: int = 0
    last_sequence: int = 0
    begun_ns: int = 0
    decided_ns: int = 0

    def take(self, read: ParkedResolved | Unreadable, stamp: Stamp) -> Records:
        """Return what stands there after one more message: the first record that can be read is the decision."""
        if isinstance(read, Unreadable):
            return self._replace(unreadable=self.unreadable + 1, last_sequence=stamp.sequence)
        decision = self.decision or (decision_of(read, stamp) if stamp.time_ns >= self.begun_ns else None)
        return self._replace(decision=decision, last_sequence=stamp.sequence, decided_ns=stamp.time_ns)


UNDECIDED = Records()


def decision_of(read: ParkedResolved, stamp: Stamp) -> Decision:
    """Return the decision that a record is."""
    return Decision(action=read.action, submission=read.submission, reason=read.reason, at=rfc3339(stamp.time_ns))


class Story(NamedTuple):
    """A submission that is parked: its state, the event that parked it and its sequence, and every lease that counted."""

    state: Submission
    parked: Parked
    sequence: int
    attempts: tuple[Attempt, ...]


class Telling:
    """The story of a submission, from one message after the other in stream order; ``state`` is the folded one.

    Only what changed the state is told: a ``parked`` or ``leased`` from elsewhere is none of the story.
    """

    def __init__(self, address: Address) -> None:
        self._folding = Folding(address)
        self._attempts: list[Attempt] = []
        self._parked: tuple[Parked, int] | None = None

    @property
    def state(self) -> Submission | None:
        """The state so far; None where ``submitted`` was not among the messages."""
        return self._folding.state

    def take(self, message: Message, stamp: Stamp) -> None:
        """Take one more message."""
        before = self._folding.state
        state = self._folding.take(message, stamp)
        if before is None or state is None or state.strays != before.strays:
            return
        if isinstance(message, Leased):
            self._attempts.append(_attempt(message, stamp))
        if isinstance(message, Parked):
            self._parked = message, stamp.sequence

    def story(self) -> Story | None:
        """Return the story so far; None where it is not parked."""
        if self._parked is None or self.state is None:
            return None
        return Story(self.state, *self._parked, tuple(self._attempts))


def _attempt(event: Leased, stamp: Stamp) -> Attempt:
    lease = event.lease
    return Attempt(role=lease.role, number=lease.number, worker=lease.worker, leased_at=rfc3339(stamp.time_ns))


def listed(found: Story, records: Records) -> ParkedSubmission:
    """Return a parked submission as lists show it."""
    state = found.state
    return ParkedSubmission(
        id=state.address.id,
        tenant=state.address.tenant,
        parked_at=rfc3339(state.finished_ns or 0),
        stage=state.parked_stage,
        role=found.parked.role,
        leases=state.attempts,
        reason=found.parked.message,
        caused_by=state.caused_by,
        decision=records.decision,
        unreadable_records=records.unreadable,
    )

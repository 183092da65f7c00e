"""Decisions: what to append next, from the folded state alone.

Every function takes the state and what is wished, and returns values: an event to append, or why nothing is to be appended. The
shells carry the decision out and come back with the state read anew when the fence refused them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from cutor.model.events import Cancelled, Cleaned, CleanedBy, Event, Lease, Leased, Parked, Role, Submitted, kind_of
from cutor.model.limits import StageKind
from cutor.model.state import STEP_OF_ROLE, Submission
from cutor.model.subjects import Address, message_id, submitted_message_id


class NothingToDo(msgspec.Struct, frozen=True):
    """The step is done, or not this role's: acknowledge the delivery, append nothing."""

    reason: str


class TakeLease(msgspec.Struct, frozen=True):
    """Append ``event``, then do the work under it."""

    event: Leased


class Park(msgspec.Struct, frozen=True):
    """Append ``event``: the leases are used up."""

    event: Parked


class Clean(msgspec.Struct, frozen=True):
    """The submission ended, and nobody has said that its leftovers are gone: append ``event``."""

    event: Cleaned


Step = NothingToDo | TakeLease | Park | Clean


def decide_step(state: Submission, role: Role, *, worker: str, token: str, max_leases: int) -> Step:
    """Return what a role does with a delivery: take a lease, park, clean, or nothing.

    A builder that rebuilds a lost environment has as many leases again as there were losses.
    """
    if state.ended:
        return _decide_clean(state, role, worker)
    if state.status not in STEP_OF_ROLE[role]:
        return NothingToDo(f"{state.status} needs no {role}")
    taken = state.attempts.of(role)
    if state.environment_losses > max_leases:
        return Park(_parked(role, f"the environment was lost {state.environment_losses} times between build and run"))
    if taken >= max_leases + state.environment_losses:
        return Park(_parked(role, f"{taken} {role} leases ended without a result"))
    return TakeLease(Leased(lease=Lease(role=role, worker=worker, token=token, number=taken + 1)))


def _decide_clean(state: Submission, role: Role, worker: str) -> Step:
    """Return `Clean` for the role that received the last delivery of an ended submission."""
    responsible: Role = "builder" if state.environment is None else "runner"
    if state.cleaned_ns is not None or role != responsible:
        return NothingToDo(f"{state.status} and nothing left to clean")
    by: CleanedBy = "worker" if state.lease is None else "takeover"
    return Clean(Cleaned(worker=worker, by=by))


def decide_fault(state: Submission, lease: Lease, *, stage: StageKind, reason: str, max_leases: int) -> Park | None:
    """Return whether a fault of cutor's own in a step parks the submission; None where the step is to be retried."""
    if not holds(state, lease) or lease.number < max_leases + state.environment_losses:
        return None
    return Park(_parked(lease.role, f"{lease.number} {lease.role} leases failed; the last: {reason}", stage))


def _parked(role: Role, message: str, stage: StageKind | None = None) -> Parked:
    where: StageKind = stage or ("dependencies" if role == "builder" else "run")
    return Parked(role=role, message=message, stage=where)


def holds(state: Submission, lease: Lease) -> bool:
    """Return whether a lease still gives the right to append: it is the newest, and its step is not done."""
    return state.lease == lease and state.status in STEP_OF_ROLE[lease.role]


def decide_cancel(state: Submission, reason: str | None) -> Cancelled | None:
    """Return the event that cancels a submission, or None where it has ended."""
    return None if state.ended else Cancelled(reason=reason)


def decide_cleaned(state: Submission, worker: str) -> Cleaned | None:
    """Return the event that a worker appends after it removed container and directory; None where that is not due."""
    return Cleaned(worker=worker, by="worker") if state.ended and state.cleaned_ns is None else None


def decide_submit(state: Submission | None, digest: str) -> Literal["new", "same", "conflict"]:
    """Return what a submission of this digest is beside what the stream holds under its id."""
    if state is None:
        return "new"
    return "same" if state.digest == digest else "conflict"


def event_message_id(address: Address, event: Event, *, index: int = 0) -> str:
    """Return an event's message id; ``index`` is a ``ran`` event's first test case: it tells apart those of one lease."""
    kind = kind_of(event)
    match event:
        case Leased(lease=lease):
            return message_id(address, kind, role=lease.role, lease=lease.token)
        case Parked(role=role):
            return message_id(address, kind, role=role, lease=0)
        case Cancelled() | Cleaned():
            return message_id(address, kind, role="any", lease=0)
        case Submitted(digest=digest):
            return submitted_message_id(address, digest)
        case _:
            return message_id(address, kind, role=event.lease.role, lease=event.lease.number, index=index)

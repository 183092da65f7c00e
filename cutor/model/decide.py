"""Decisions: what to append next, from the folded state alone.

Every function takes the state and what is wished, and returns values: an event to append, or why nothing is to be appended. The
shells carry the decision out and come back with the state read anew when the fence refused them.
"""

from __future__ import annotations

from typing import Final, Literal, assert_never

import msgspec

from cutor.model.events import (
    CacheBuilt,
    CacheLost,
    Cancelled,
    Cleaned,
    CleanedBy,
    Compiled,
    Event,
    Finished,
    Interrupted,
    Lease,
    Leased,
    Parked,
    Ran,
    Rejected,
    Role,
    Submitted,
    kind_of,
)
from cutor.model.state import STEP_OF_ROLE, Submission, continues, next_stage
from cutor.model.subjects import Address, message_id, submitted_message_id
from cutor.model.units import counted

REASON_CHARACTERS: Final = 1000
"""Most of what an event says that stands in the message of another one."""


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


StepAction = NothingToDo | TakeLease | Park | Clean


def decide_step(state: Submission, role: Role, sequence: int, *, worker: str, token: str, max_leases: int) -> StepAction:
    """Return what a role does with the delivery of the event at ``sequence``: take a lease, park, clean, or nothing.

    A builder that rebuilds a lost environment has as many leases again as there were losses.
    """
    if state.ended:
        return _decide_clean(state, role, worker)
    if state.status not in STEP_OF_ROLE[role]:
        return NothingToDo(f"{state.status} needs no {role}")
    if sequence != state.step_sequence:
        return NothingToDo(f"the event {sequence} is not the one that called for this step: that is {state.step_sequence}")
    taken = state.attempts.of(role)
    if state.environment_losses > max_leases:
        return Park(_parked(state, role, _losses(state)))
    if taken >= max_leases + state.environment_losses:
        return Park(_parked(state, role, f"{counted(taken, f'{role} lease')} ended without a result"))
    return TakeLease(Leased(lease=Lease(role=role, worker=worker, token=token, number=taken + 1)))


def is_old(state: Submission, sequence: int, time_ns: int) -> bool:
    """Return whether a delivery of the event at a sequence asks for nothing, now and whatever comes: it is not the one that is
    due, never was, and a later one that is due has a later sequence. False where the state, or its `outline`, does not tell.

    It does not tell of what stands behind it; nor of an event that is younger than its last message: then the stream has lost
    what the state was folded from, and that sequence is another message now. Nor of an event that was due once: should the
    stream have lost the one that took its place, it is due again.
    """
    if sequence == state.step_sequence or sequence in state.steps_before:
        return False
    return sequence <= state.last_sequence and time_ns <= state.last_ns


def _decide_clean(state: Submission, role: Role, worker: str) -> StepAction:
    """Return `Clean` for the role that received the last delivery of an ended submission."""
    responsible: Role = "builder" if state.environment is None else "runner"
    cleaned = decide_cleaned(state, worker, None)
    if cleaned is None or role != responsible:
        return NothingToDo(f"{state.status} and nothing left to clean")
    return Clean(cleaned)


def decide_fault(state: Submission, lease: Lease, *, reason: str, max_leases: int) -> Park | None:
    """Return whether a fault of cutor's own in a step parks the submission; None where the step is to be retried."""
    if not holds(state, lease) or lease.number < max_leases + state.environment_losses:
        return None
    return Park(_parked(state, lease.role, f"{counted(lease.number, f'{lease.role} lease')} failed; the last: {reason}"))


def _losses(state: Submission) -> str:
    """Return how often the environment was lost, and what the newest loss says was missing, and why."""
    told = f"the environment was lost {counted(state.environment_losses, 'time')} between build and run"
    missing = state.lost_missing
    if not missing:
        return told
    cut = missing if len(missing) <= REASON_CHARACTERS else f"{missing[: REASON_CHARACTERS - 1]}…"
    return f"{told}; the last: {cut}"


def _parked(state: Submission, role: Role, message: str) -> Parked:
    return Parked(role=role, message=message, stage=next_stage(state))


def decide_poison(state: Submission, role: Role, sequence: int, *, reason: str) -> Park | None:
    """Return whether a delivery that no worker can attend to parks its submission; None where it is not the one that is due."""
    if state.status not in STEP_OF_ROLE[role] or sequence != state.step_sequence:
        return None
    return Park(_parked(state, role, reason))


def holds(state: Submission, lease: Lease) -> bool:
    """Return whether a lease still gives the right to append: it is the newest, and its step is not done."""
    return state.lease == lease and state.status in STEP_OF_ROLE[lease.role]


Look = Literal["go on", "ended", "lost"]
"""What a worker sees that looks into the log: its work is still wanted; the submission has ended; the lease is over."""


def decide_look(state: Submission, lease: Lease | None) -> Look:
    """Return what becomes of the work under a lease (null: none is held yet), which is stopped unless it may go on."""
    if state.ended:
        return "ended"
    return "go on" if lease is None or holds(state, lease) else "lost"


def decide_in_hand(state: Submission, role: Role, sequence: int, *, worker: str, token: str, seen: str) -> bool:
    """Return whether a worker that starts again hands back what its former life had in hand: the event at ``sequence``.

    Not where that is not the step that is due, and not where another worker has taken a lease of it since: the newest is its
    own, by name or by the ``token`` that was being taken, or still the one that was ``seen`` before that (empty: none).
    """
    if sequence != state.step_sequence:
        return False
    lease = state.lease
    return lease is None or lease.role != role or lease.worker == worker or lease.token in (token, seen)


def decide_swept(state: Submission, role: Role, worker: str) -> Cleaned | None:
    """Return the event of a worker that starts again, and has removed what its former life left of a submission; None where
    that has not ended, is clean, or was another's in the end.
    """
    lease = state.lease
    if not state.ended or state.cleaned_ns is not None or lease is None:
        return None
    return Cleaned(worker=worker, by="sweep") if (lease.role, lease.worker) == (role, worker) else None


Answer = Literal["done", "retry", "later", "crowded", "pass on", "leave"]
"""How a delivery is answered: acknowledged; handed back, to come again after a pause, or one that grows, or one that many
others make longer, or at once, to whoever can; not at all."""


def decide_answer(state: Submission, lease: Lease) -> Answer:
    """Return how the holder of a lease answers its delivery once it works no more.

    The clock belongs to the message, not to one delivery of it: an acknowledgement of a worker whose lease is over would stop
    the clock of the one who holds it now, and a hand-back would take it from him. So those deliveries are left alone.
    """
    if holds(state, lease):
        return "retry"
    unclean = state.ended and state.cleaned_ns is None
    return "leave" if unclean or state.status in STEP_OF_ROLE[lease.role] else "done"


def decide_overtaken(state: Submission, role: Role, *, token: str, seen: Lease | None) -> Answer | None:
    """Return how a worker answers its delivery that came too late to take a lease; None where nobody came before it.

    ``seen`` is the newest lease when the worker read the log for this delivery (null: none), ``token`` that of the one it would
    take. One of its role that stands there since is of a worker to whom the event was delivered again meanwhile.
    """
    lease = state.lease
    if lease is None or lease == seen or lease.role != role or lease.token == token:
        return None
    answer = decide_answer(state, lease)
    return "leave" if answer == "retry" else answer


def decide_cancel(state: Submission, reason: str | None) -> Cancelled | None:
    """Return the event that cancels a submission, or None where it has ended."""
    return None if state.ended else Cancelled(reason=reason)


def decide_cleaned(
    state: Submission, worker: str, lease: Lease | None, interrupted: Interrupted | None = None
) -> Cleaned | None:
    """Return the event that says that nothing is left of an ended submission; None where that is not due, or not his to say.

    The holder of the newest ``lease`` says so of what it removed itself. Who has none, and just received the delivery, takes
    over: it claims nothing about what another worker left on its host; where no lease was ever taken, there is nothing to
    claim. The holder of an older lease says nothing. ``interrupted`` is what the holder had when the submission ended; of it
    goes along what a cancelled submission's log does not hold yet.
    """
    if not state.ended or state.cleaned_ns is not None:
        return None
    if state.lease != lease and lease is not None:
        return None
    by: CleanedBy = "worker" if state.lease == lease else "takeover"
    rest = _untold(state, interrupted) if lease is not None and interrupted is not None else None
    return Cleaned(worker=worker, by=by, interrupted=rest or msgspec.UNSET)


def _untold(state: Submission, part: Interrupted) -> Interrupted | None:
    """Return the rest of what a cancel interrupted: an append whose answer the worker did not see may be in the log."""
    if part.stage == "run" and (told := len(state.runs) - part.index) > 0:
        part = msgspec.structs.replace(part, index=len(state.runs), stages=part.stages[told:])
    return part if continues(state, part) else None


def decide_submit(state: Submission, digest: str) -> Literal["same", "conflict"]:
    """Return what a submission of this digest is beside what the stream holds under its id."""
    return "same" if state.digest == digest else "conflict"


def event_message_id(address: Address, event: Event, *, index: int = 0, token: str = "") -> str:
    """Return an event's message id.

    ``index`` is a ``ran`` event's first test case: it tells apart those of one lease. ``token`` is that of who cancels: of
    several at once, only one is to learn that it was him.
    """
    kind = kind_of(event)
    match event:
        case Leased(lease=lease):
            return message_id(address, kind, role=lease.role, lease=lease.token)
        case Parked(role=role):
            return message_id(address, kind, role=role, lease=0)
        case Cancelled():
            return message_id(address, kind, role="any", lease=token or 0)
        case Cleaned():
            return message_id(address, kind, role="any", lease=0)
        case Submitted(digest=digest):
            return submitted_message_id(address, digest)
        case CacheBuilt() | CacheLost() | Compiled() | Ran() | Finished() | Rejected():  # but for ``ran``, one of a lease
            return message_id(address, kind, role=event.lease.role, lease=event.lease.number, index=index)
        case _:
            assert_never(event)

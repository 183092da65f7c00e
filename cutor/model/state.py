"""The state of a submission, folded from its events.

Rules, in the order in which `evolve` applies them:

1. An event that names a lease counts only if that lease is the newest of its role.
2. `TRANSITIONS` says whether an event may happen in a status, and which status follows. What it does not list is a *stray*: an
   event from elsewhere, or from a worker that lost its lease. It is counted in ``strays`` and changes nothing else.
3. ``leased(runner)`` forgets what the attempt before it reported of compile and runs; the events themselves stay in the stream.
4. After a terminal event only ``cleaned`` counts, once. After a cancel it may bring what that interrupted, and this counts
   where it comes next (`continues`); else it is left aside, and the rest of the event counts.
5. ``step_sequence`` is the event that called for the current step: a delivery of any other is an old one.

The state diagram in the docs is drawn from `TRANSITIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Literal, NamedTuple

import msgspec

from cutor.model.events import (
    CacheBuilt,
    CacheLost,
    Cancelled,
    Cleaned,
    Compiled,
    EnvironmentRef,
    Event,
    Finished,
    Interrupted,
    Lease,
    Leased,
    Parked,
    Ran,
    Rejected,
    Role,
    Stage,
    StoredRequest,
    Submitted,
    kind_of,
)
from cutor.model.limits import StageKind
from cutor.model.messages import Message, Unreadable
from cutor.model.outcome import SubmissionOutcome
from cutor.model.request import COMPILE_SCRIPT
from cutor.model.subjects import Address

Status = Literal["SUBMITTED", "DEPENDENCIES_INSTALLED", "COMPILED", "FINISHED", "CANCELLED", "REJECTED", "PARKED"]
TERMINAL: Final[frozenset[Status]] = frozenset({"FINISHED", "CANCELLED", "REJECTED", "PARKED"})

TRANSITIONS: Final[dict[tuple[Status | None, str], Status]] = {
    (None, "submitted"): "SUBMITTED",
    ("SUBMITTED", "leased(builder)"): "SUBMITTED",
    ("SUBMITTED", "cache-built"): "DEPENDENCIES_INSTALLED",
    ("SUBMITTED", "finished"): "FINISHED",
    ("SUBMITTED", "cancelled"): "CANCELLED",
    ("SUBMITTED", "rejected"): "REJECTED",
    ("SUBMITTED", "parked"): "PARKED",
    ("DEPENDENCIES_INSTALLED", "leased(runner)"): "DEPENDENCIES_INSTALLED",
    ("DEPENDENCIES_INSTALLED", "compiled"): "COMPILED",
    ("DEPENDENCIES_INSTALLED", "ran"): "DEPENDENCIES_INSTALLED",
    ("DEPENDENCIES_INSTALLED", "cache-lost"): "SUBMITTED",
    ("DEPENDENCIES_INSTALLED", "finished"): "FINISHED",
    ("DEPENDENCIES_INSTALLED", "cancelled"): "CANCELLED",
    ("DEPENDENCIES_INSTALLED", "parked"): "PARKED",
    ("COMPILED", "leased(runner)"): "DEPENDENCIES_INSTALLED",
    ("COMPILED", "ran"): "COMPILED",
    ("COMPILED", "cache-lost"): "SUBMITTED",
    ("COMPILED", "finished"): "FINISHED",
    ("COMPILED", "cancelled"): "CANCELLED",
    ("COMPILED", "parked"): "PARKED",
    ("FINISHED", "cleaned"): "FINISHED",
    ("CANCELLED", "cleaned"): "CANCELLED",
    ("REJECTED", "cleaned"): "REJECTED",
    ("PARKED", "cleaned"): "PARKED",
}
"""From (status, event) to the next status; ``leased`` stands with its role, because the two are different steps."""


STEP_OF_ROLE: Final[dict[Role, frozenset[Status]]] = {
    "builder": frozenset({"SUBMITTED"}),
    "runner": frozenset({"DEPENDENCIES_INSTALLED", "COMPILED"}),
}
"""In which statuses a role has something to do, and a lease of it counts."""


_NOTHING: Final = StoredRequest(files=(), test_cases=())


class Stamp(NamedTuple):
    """Where an event stands: its sequence in the stream, and the stream's own time in nanoseconds since 1970, UTC."""

    sequence: int
    time_ns: int


class Attempts(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Leases of each role, ever."""

    builder: int = 0
    """leases of builders, from 0 on"""
    runner: int = 0
    """leases of runners, from 0 on"""

    def of(self, role: Role) -> int:
        """Return the leases of a role."""
        return self.builder if role == "builder" else self.runner


class Submission(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A submission as its events tell it.

    ``last_sequence`` is what the next append must expect, ``last_ns`` the time of that message (this process's for an append of
    its own), ``step_sequence`` the event that a role is to act on, ``steps_before`` those that were it once. ``fault`` says why
    the submission's first message could not be read, ``told`` whether ``cleaned`` brought what a cancel interrupted.
    ``lost_sequence`` is the ``env-built`` that the newest of the ``environment_losses`` missed, as in `CacheLost`, and
    ``lost_missing`` what it says is ``missing``.
    """

    address: Address
    status: Status
    request: StoredRequest
    digest: str
    submitted_ns: int
    last_sequence: int
    last_ns: int
    step_sequence: int
    steps_before: tuple[int, ...] = ()
    caused_by: str | None = None
    fault: str | None = None
    attempts: Attempts = Attempts()
    lease: Lease | None = None
    environment: EnvironmentRef | None = None
    dependencies: Stage | None = None
    compile: Stage | None = None
    runs: tuple[Stage, ...] = ()
    outcome: SubmissionOutcome | None = None
    message: str | None = None
    parked_stage: StageKind | None = None
    environment_losses: int = 0
    lost_sequence: int | None = None
    lost_missing: str | None = None
    finished_ns: int | None = None
    cleaned_ns: int | None = None
    told: bool = False
    strays: int = 0

    @property
    def ended(self) -> bool:
        """Whether a terminal event is there."""
        return self.status in TERMINAL

    @property
    def first_sequence(self) -> int:
        """The sequence of ``submitted``, the first event that a role was to act on."""
        return (*self.steps_before, self.step_sequence)[0]

    @property
    def running_stage(self) -> StageKind | None:
        """The stage that the newest lease is at, or was at when the submission ended; None where nothing was leased."""
        if self.lease is None:
            return None
        return next_stage(self) if self.lease.role == _role_of(self) else None


def initial(address: Address, event: Submitted, stamp: Stamp) -> Submission:
    """Return the state after a submission's first event."""
    return Submission(
        address=address,
        status=TRANSITIONS[None, "submitted"],
        request=event.request,
        digest=event.digest,
        caused_by=event.caused_by,
        submitted_ns=stamp.time_ns,
        last_sequence=stamp.sequence,
        last_ns=stamp.time_ns,
        step_sequence=stamp.sequence,
        fault=event.fault if isinstance(event.fault, str) else None,
    )


def outline(state: Submission) -> Submission:
    """Return a state without contents and results: as large for every submission, and enough to fold on which event is due."""
    return msgspec.structs.replace(
        state,
        request=_NOTHING, digest="", caused_by=None, fault=None,
        environment=None, dependencies=None, compile=None, runs=(), message=None, lost_missing=None,
    )  # fmt: skip


def next_stage(state: Submission) -> StageKind:
    """Return the stage that a submission is at: the one that runs, or that comes next."""
    if state.environment is None:
        return "dependencies"
    compiles = any(file.name == COMPILE_SCRIPT for file in state.request.files)
    return "compile" if compiles and state.compile is None else "run"


def continues(state: Submission, part: Interrupted) -> bool:
    """Return whether what a cancel interrupted comes next after what a cancelled submission's events have told."""
    if state.status != "CANCELLED" or part.stage != state.running_stage or not part.stages:
        return False
    if part.stage != "run":
        return (part.index, len(part.stages)) == (0, 1)
    return part.index == len(state.runs) and part.index + len(part.stages) <= len(state.request.test_cases)


def _role_of(state: Submission) -> Role:
    return "builder" if state.environment is None else "runner"


class Folding:
    """A fold that takes one message after the other: for readers that follow a submission.

    Messages before ``submitted`` cannot come from cutor: they are strays, and are counted once there is a state.
    """

    def __init__(self, address: Address) -> None:
        self.state: Submission | None = None
        self._address = address
        self._early = 0

    def take(self, message: Message, stamp: Stamp) -> Submission | None:
        """Return the state after one more message; None before ``submitted``."""
        if self.state is not None:
            self.state = evolve(self.state, message, stamp)
        elif isinstance(message, Submitted):
            self.state = msgspec.structs.replace(initial(self._address, message, stamp), strays=self._early)
        else:
            self._early += 1
        return self.state


def fold(address: Address, messages: Iterable[tuple[Message, Stamp]]) -> Submission | None:
    """Return the state after messages in stream order, or None where ``submitted`` is not among them."""
    folding = Folding(address)
    for message, stamp in messages:
        folding.take(message, stamp)
    return folding.state


def evolve(state: Submission, event: Message, stamp: Stamp) -> Submission:
    """Return the state after one more message."""
    if isinstance(event, Unreadable):
        return _stray(state, stamp)
    status = TRANSITIONS.get((state.status, transition_name(event)))
    counts = status is not None and _lease_counts(state, event) and _is_first(state, event)
    if not counts or status is None:
        return _stray(state, stamp)
    change = CHANGES[type(event)](state, event, stamp)
    if status in TERMINAL and state.status not in TERMINAL:
        change |= {"finished_ns": stamp.time_ns}
    last: Change = {"last_sequence": stamp.sequence, "last_ns": stamp.time_ns}
    return msgspec.structs.replace(state, **{"status": status, **last, **change})


def _stray(state: Submission, stamp: Stamp) -> Submission:
    return msgspec.structs.replace(state, last_sequence=stamp.sequence, last_ns=stamp.time_ns, strays=state.strays + 1)


def transition_name(event: Event) -> str:
    """Return the event's name in `TRANSITIONS`."""
    return f"leased({event.lease.role})" if isinstance(event, Leased) else kind_of(event)


def _lease_counts(state: Submission, event: Event) -> bool:
    if isinstance(event, Leased):
        return event.lease.number == state.attempts.of(event.lease.role) + 1
    if isinstance(event, Submitted | Cancelled | Parked | Cleaned):
        return True
    return event.lease == state.lease and state.status in STEP_OF_ROLE[event.lease.role]


def _is_first(state: Submission, event: Event) -> bool:
    """Whether an event that may happen once, or only in order, happens so."""
    if isinstance(event, Cleaned):
        return state.cleaned_ns is None
    if isinstance(event, Ran):
        return event.index == len(state.runs)
    return True


Change = dict[str, object]


def _leased(state: Submission, event: Leased, _stamp: Stamp) -> Change:
    role = event.lease.role
    attempts = msgspec.structs.replace(state.attempts, **{role: event.lease.number})
    forgotten: Change = {"compile": None, "runs": ()} if role == "runner" else {}
    return {"lease": event.lease, "attempts": attempts, **forgotten}


def _called_for(state: Submission, stamp: Stamp) -> Change:
    return {"steps_before": (*state.steps_before, state.step_sequence), "step_sequence": stamp.sequence}


def _cache_built(state: Submission, event: CacheBuilt, stamp: Stamp) -> Change:
    return {"environment": event.environment, "dependencies": event.stage, **_called_for(state, stamp)}


def _compiled(_state: Submission, event: Compiled, _stamp: Stamp) -> Change:
    return {"compile": event.stage}


def _ran(state: Submission, event: Ran, _stamp: Stamp) -> Change:
    return {"runs": (*state.runs, *event.stages)}


def _cache_lost(state: Submission, event: CacheLost, stamp: Stamp) -> Change:
    forgotten: Change = {"environment": None, "dependencies": None, "compile": None, "runs": ()}
    missed = event.environment_sequence
    lost: Change = {
        "environment_losses": state.environment_losses + 1,
        "lost_sequence": missed if isinstance(missed, int) else None,
        "lost_missing": event.missing,
    }
    return {**forgotten, **lost, **_called_for(state, stamp)}


def _finished(state: Submission, event: Finished, _stamp: Stamp) -> Change:
    dependencies = state.dependencies if event.dependencies is None else event.dependencies
    return {"outcome": event.outcome, "dependencies": dependencies, "message": event.message}


def _cancelled(_state: Submission, event: Cancelled, _stamp: Stamp) -> Change:
    return {"outcome": "CANCELLED", "message": event.reason}


def _rejected(_state: Submission, event: Rejected, _stamp: Stamp) -> Change:
    return {"outcome": "REJECTED", "message": event.message}


def _parked(_state: Submission, event: Parked, _stamp: Stamp) -> Change:
    return {"outcome": "PARKED", "message": event.message, "parked_stage": event.stage}


def _cleaned(state: Submission, event: Cleaned, stamp: Stamp) -> Change:
    return {"cleaned_ns": stamp.time_ns, **_interrupted(state, event)}


def _interrupted(state: Submission, event: Cleaned) -> Change:
    """Return what ``cleaned`` tells of stages: only the worker of the newest lease can know."""
    part, lease = event.interrupted, state.lease
    own = lease is not None and (event.by, event.worker) == ("worker", lease.worker)
    if not isinstance(part, Interrupted) or not own or not continues(state, part):
        return {}
    stages: Change = {"runs": (*state.runs, *part.stages)} if part.stage == "run" else {part.stage: part.stages[0]}
    return {**stages, "told": True}


CHANGES: Final[dict[type, Callable[..., Change]]] = {
    Leased: _leased,
    CacheBuilt: _cache_built,
    Compiled: _compiled,
    Ran: _ran,
    CacheLost: _cache_lost,
    Finished: _finished,
    Cancelled: _cancelled,
    Rejected: _rejected,
    Parked: _parked,
    Cleaned: _cleaned,
}
"""What each event changes beside the status. ``submitted`` is not here: after the first one it is a stray."""

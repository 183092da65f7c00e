"""What the pure fold tells of attempts, latencies and the queue: from how `evolve` changes the state, and from nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from cutor.model.messages import Message
from cutor.model.state import Folding, Stamp, Status, Submission
from cutor.model.subjects import Address

ENDED_AS: Final[dict[Status, str]] = {
    "FINISHED": "done",
    "CANCELLED": "cancelled",
    "REJECTED": "rejected",
    "PARKED": "parked",
}


class Change(NamedTuple):
    """A message that counted: the state before it (None: it is the first) and after it."""

    before: Submission | None
    after: Submission
    stamp: Stamp

    @property
    def leased(self) -> bool:
        return self.before is not None and self.before.attempts != self.after.attempts

    @property
    def built(self) -> bool:
        return self.before is not None and self.before.environment is None and self.after.environment is not None

    @property
    def lost(self) -> bool:
        return self.before is not None and self.before.environment_losses < self.after.environment_losses

    @property
    def compiled(self) -> bool:
        return self.before is not None and self.after.status == "COMPILED" and self.before.status != "COMPILED"

    @property
    def ended(self) -> bool:
        return self.before is not None and self.after.ended and not self.before.ended

    @property
    def cleaned(self) -> bool:
        return self.before is not None and self.before.cleaned_ns is None and self.after.cleaned_ns is not None

    @property
    def ran(self) -> bool:
        """Whether nothing changed but results of test cases."""
        others = (self.leased, self.built, self.lost, self.compiled, self.ended, self.cleaned)
        return self.before is not None and not any(others)


class Attempt(NamedTuple):
    """A row of the view `attempts`."""

    role: str
    attempt: int
    worker: str
    ended_as: str | None
    duration_ms: float | None
    began_sequence: int
    ended_sequence: int | None


class Latencies(NamedTuple):
    """A row of the view `latencies`."""

    builder_wait_ms: float | None = None
    dependencies_ms: float | None = None
    runner_wait_ms: float | None = None
    compile_ms: float | None = None
    run_ms: float | None = None
    end_to_end_ms: float | None = None
    clean_ms: float | None = None


class InProgress(NamedTuple):
    """A row of the view `in_progress`; ``since`` is the sequence of the event that began it."""

    role: str
    leased: bool
    worker: str | None
    attempt: int | None
    since: int


def changes(address: Address, history: Iterable[tuple[Message, Stamp]]) -> list[Change]:
    """Return the messages of a submission that counted."""
    folding, found = Folding(address), []
    for message, stamp in history:
        before = folding.state
        after = folding.take(message, stamp)
        if after is not None and (before is None or after.strays == before.strays):
            found.append(Change(before, after, stamp))
    return found


def attempts(counted: list[Change]) -> list[Attempt]:
    """Return every lease, and what came of it."""
    found: list[Attempt] = []
    began_ns = 0
    for change in counted:
        if found and found[-1].ended_as is None and (end := _end(change)):
            found[-1] = found[-1]._replace(
                ended_as=end, ended_sequence=change.stamp.sequence, duration_ms=(change.stamp.time_ns - began_ns) / 1e6
            )
        if change.leased and (lease := change.after.lease):
            began_ns = change.stamp.time_ns
            found.append(Attempt(lease.role, lease.number, lease.worker, None, None, change.stamp.sequence, None))
    return found


def _end(change: Change) -> str | None:
    if change.ended:
        return ENDED_AS[change.after.status]
    return "done" if change.built else "cache-lost" if change.lost else "superseded" if change.leased else None


def latencies(counted: list[Change]) -> Latencies:
    """Return how long each part took."""
    told, since_ns = Latencies(), 0
    for change in counted:
        state, now_ns = change.after, change.stamp.time_ns
        took_ms = (now_ns - since_ns) / 1e6
        role = state.lease.role if state.lease else None
        if change.leased and role == "builder" and change.before and change.before.lease is None:
            told = told._replace(builder_wait_ms=took_ms)
        elif change.built or (change.ended and state.status == "FINISHED" and role == "builder"):
            told = told._replace(dependencies_ms=took_ms)
        elif change.leased and role == "runner":
            first = change.before and change.before.lease and change.before.lease.role == "builder"
            told = told._replace(compile_ms=None, runner_wait_ms=took_ms if first else told.runner_wait_ms)
        elif change.compiled:
            told = told._replace(compile_ms=took_ms)
        elif change.ended and state.status == "FINISHED":
            told = told._replace(run_ms=took_ms)
        elif change.lost:
            told = told._replace(dependencies_ms=None, runner_wait_ms=None, compile_ms=None)
        elif change.cleaned:
            told = told._replace(clean_ms=took_ms)
        if change.ended:
            told = told._replace(end_to_end_ms=(now_ns - state.submitted_ns) / 1e6)
        since_ns = since_ns if change.ran else now_ns
    return told


def in_progress(counted: list[Change]) -> InProgress | None:
    """Return whose turn a submission is, and since which event; None where it has ended, or never began."""
    since = 0
    for change in counted:
        if change.before is None or change.leased or change.built or change.lost:
            since = change.stamp.sequence
    if not counted or counted[-1].after.ended:
        return None
    state = counted[-1].after
    role = "builder" if state.environment is None else "runner"
    if state.lease is None or state.lease.role != role:
        return InProgress(role, False, None, None, since)
    return InProgress(role, True, state.lease.worker, state.lease.number, since)

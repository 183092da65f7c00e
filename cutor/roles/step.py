"""A step of a submission: what a role does before its lease, and under it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Literal, NamedTuple, Protocol

from cutor.journal.journal import Journal
from cutor.model.decide import holds
from cutor.model.events import Event, Interrupted, Lease, Role, Stage
from cutor.model.limits import Policy, StageKind
from cutor.model.state import Submission
from cutor.roles.places import Place, Places


class LeaseLost(Exception):
    """A newer lease or a terminal event is in the log: stop, append nothing more."""


class StepFault(Exception):
    """A fault of cutor's own, or of its surroundings: the step is retried under another lease, a bounded number of times."""


class WorkerUnable(Exception):
    """This worker can do no step at all now: its engine does not answer. No submission is to blame, and no lease is spent."""


class LeasedStep:
    """One leased step of one submission: the state as this worker knows it, and the way to append under the lease.

    ``interrupted`` is what there is to tell of stages, beside what was appended, should the submission be cancelled now.
    ``place`` has the slot that the step works in.
    """

    def __init__(self, journal: Journal, policy: Policy, state: Submission, lease: Lease, place: Place | None = None) -> None:
        self.journal = journal
        self.policy = policy
        self.state = state
        self.lease = lease
        self.interrupted: Interrupted | None = None
        self.place = place or Places(1).taken()

    def at(self, stage: StageKind, *stages: Stage, index: int = 0) -> None:
        """Note what there is to tell of a stage that has not been appended yet."""
        self.interrupted = Interrupted(stage=stage, stages=stages, index=index)

    async def report(self, event: Event, *, index: int = 0) -> None:
        """Append an event of this step. Raises `LeaseLost` where the lease does not hold any more."""

        def if_held(state: Submission) -> Event | None:
            return event if holds(state, self.lease) else None

        appended = await self.journal.settle(self.state, if_held, index=index)
        self.state = appended.state
        if not appended.done:
            raise LeaseLost(f"{self.state.address}: lease {self.lease.number} of the {self.lease.role} is over")


LeasedWork = Callable[[LeasedStep], Coroutine[Any, Any, None]]
"""What is done under a lease."""
PutOff = Literal["later", "crowded", "pass on"]
"""Why nothing is to be done now: this host is unable; it is for many, or too many wait; another process may have a slot."""


class Arrival(NamedTuple):
    """A submission whose step is due, before its lease, which is taken with ``token``; ``place``: where it may wait.

    ``unread``: the state is that up to the event, and more may stand behind it; who would wait or claim reads that first.
    """

    journal: Journal
    policy: Policy
    state: Submission
    token: str
    place: Place
    unread: bool = False


class Step(Protocol):
    """What a role does, before a lease and under it."""

    role: Role
    looks: bool
    """Whether submissions are taken up without a slot, which `approach` sees to where one is needed."""

    async def check(self) -> None:
        """Make sure that this worker can do its step at all. Raises `WorkerUnable`."""

    async def approach(self, arrival: Arrival, /) -> LeasedWork | PutOff:
        """Return what is to be done once there is a lease; wait before that for whatever has to be waited for.

        It may be cancelled at any point: by a shutdown, or because the submission ended, or another worker has its lease.
        """

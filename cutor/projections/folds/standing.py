"""What a fold in Python keeps of a submission between two events: its state, and which events count for it. Pure.

`evolve` decides what an event changes; `Standing` notes beside it the sequences that the views want, which a state has not. It
is one row of ``folds.moving`` (see ``sql/tables/submissions.sql``), and `take` is to that row what ``sql/fold`` is.
"""

from __future__ import annotations

from typing import Final, NamedTuple, assert_never, get_args

import msgspec

from cutor.model.content import Content
from cutor.model.events import (
    TERMINAL_KINDS,
    CacheBuilt,
    CacheLost,
    Cleaned,
    Compiled,
    Event,
    Finished,
    Interrupted,
    Leased,
    Ran,
    Stage,
    StoredTestCase,
    Submitted,
    kind_of,
)
from cutor.model.outcome import StageOutcome
from cutor.model.state import STEP_OF_ROLE, TRANSITIONS, Stamp, Submission, evolve, initial, transition_name
from cutor.model.subjects import Address
from cutor.projections.folds.inserts import Row
from cutor.projections.schema import NOT_SUBMITTED, statuses

NUMBER_OF_STATUS: Final = {row.name: row.number for row in statuses()}
_BARE: Final = {outcome: Stage(outcome=outcome) for outcome in get_args(StageOutcome)}
_NO_CONTENT: Final = Content()


class Effect(NamedTuple):
    """What one event came to: why it changed nothing, None where it counts; and whether it forgot what ran before it."""

    stray: str | None
    outdates: bool = False


class Standing(msgspec.Struct, kw_only=True, gc=False):
    """A submission as the events so far tell it; ``state`` is None before ``submitted``.

    The sequences are those of the events that count for a part; ``began`` that of the one that forgot earlier compile and runs.
    """

    address: Address
    state: Submission | None = None
    strays: int = 0
    last_sequence: int = 0
    began: int = 0
    compiled: int | None = None
    submitted: int | None = None
    built: int | None = None
    dependencies: int | None = None
    ended: int | None = None

    def take(self, event: Event, stamp: Stamp) -> Effect:
        """Fold one more event in, and return what it came to."""
        before, self.last_sequence = self.state, stamp.sequence
        if before is None:
            return self._begin(event, stamp)
        after = evolve(before, _outline(event), stamp)
        self.state, self.strays = after, after.strays
        if after.strays > before.strays:
            return Effect(_reason(before, event))
        return Effect(None, self._note(event, stamp, before, after))

    def _begin(self, event: Event, stamp: Stamp) -> Effect:
        if not isinstance(event, Submitted):
            self.strays += 1
            return Effect(f"{transition_name(event)} before submitted")
        state = initial(self.address, _outline_of_request(event), stamp)
        self.state, self.submitted = msgspec.structs.replace(state, strays=self.strays), stamp.sequence
        return Effect(None)

    def _note(self, event: Event, stamp: Stamp, before: Submission, after: Submission) -> bool:
        """Note what an event that counts is the newest of; return whether rows of ``stages`` are no longer current."""
        old_dependencies = self.dependencies
        reported = before.compile is not None or bool(before.runs)
        forgets = isinstance(event, CacheLost) or (isinstance(event, Leased) and event.lease.role == "runner")
        if forgets:
            self.began, self.compiled = stamp.sequence, None
        if isinstance(event, CacheLost):
            self.built = self.dependencies = None
        elif isinstance(event, CacheBuilt):
            self.built = self.dependencies = stamp.sequence
        elif isinstance(event, Compiled):
            self.compiled = stamp.sequence
        elif isinstance(event, Finished) and event.dependencies is not None:
            self.dependencies = stamp.sequence
        elif isinstance(event, Cleaned) and after.told and isinstance(event.interrupted, Interrupted):
            self._note_told(event.interrupted, stamp)
            return False
        if kind_of(event) in TERMINAL_KINDS:
            self.ended = stamp.sequence
        return (forgets and reported) or (old_dependencies is not None and self.dependencies != old_dependencies)

    def _note_told(self, part: Interrupted, stamp: Stamp) -> None:
        match part.stage:
            case "compile":
                self.compiled = stamp.sequence
            case "dependencies":
                self.dependencies = stamp.sequence
            case "run":
                pass
            case _:
                assert_never(part.stage)

    def is_current(self, stage: str, sequence: int) -> bool:
        """Return whether what an event reported of a stage still is part of the submission's result."""
        return sequence == self.dependencies if stage == "dependencies" else sequence >= self.began

    def row(self) -> Row:
        """Return the row of ``folds.moving``, as ``sql/small/moving.sql`` reads it."""
        lease = self.state and self.state.lease
        if not lease:
            return (self.last_sequence, None), (*self.address, None, None, None), self._numbers()
        return (self.last_sequence, lease.number), (*self.address, lease.role, lease.worker, lease.token), self._numbers()

    def _numbers(self) -> list[int | None]:
        state = self.state
        if state is None:
            return [NOT_SUBMITTED, 0, 0, 0, 0, 0, 0, *[None] * 6, self.strays]
        return [
            NUMBER_OF_STATUS[state.status],
            state.attempts.builder,
            state.attempts.runner,
            state.environment_losses,
            len(state.runs),
            sum(stage.outcome == "OK" for stage in state.runs),
            self.began,
            self.compiled,
            self.submitted,
            self.built,
            self.dependencies,
            self.ended,
            state.cleaned_ns,
            self.strays,
        ]


def _reason(before: Submission, event: Event) -> str:
    """Return why an event changed nothing, in the words of ``sql/fold/3_events.sql``."""
    name, lease = transition_name(event), getattr(event, "lease", None)
    at_its_step = lease is None or before.status in STEP_OF_ROLE[lease.role]
    if (before.status, name) in TRANSITIONS and at_its_step:
        return f"{name} of a lease that is not the newest, or out of its order"
    return f"{name} where the submission is {before.status}"


def _outline_of_request(event: Submitted) -> Submitted:
    """Return a first event without the contents: names and number are all that the fold goes by."""
    bare = msgspec.structs.replace
    files = tuple(bare(file, content=_NO_CONTENT) for file in event.request.files)
    cases = tuple(StoredTestCase(name=case.name) for case in event.request.test_cases)
    return bare(event, request=bare(event.request, files=files, test_cases=cases, environment_files=(), labels={}, limits={}))


def _outline(event: Event) -> Event:
    """Return an event without what its stages printed; their outcomes are all that the fold goes by."""
    if isinstance(event, Ran):
        return msgspec.structs.replace(event, stages=_outcomes(event.stages))
    if isinstance(event, CacheBuilt | Compiled):
        return msgspec.structs.replace(event, stage=_BARE[event.stage.outcome])
    if isinstance(event, Finished) and event.dependencies is not None:
        return msgspec.structs.replace(event, dependencies=_BARE[event.dependencies.outcome])
    if isinstance(event, Cleaned) and isinstance(event.interrupted, Interrupted):
        part = msgspec.structs.replace(event.interrupted, stages=_outcomes(event.interrupted.stages))
        return msgspec.structs.replace(event, interrupted=part)
    return event


def _outcomes(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    return tuple(_BARE[stage.outcome] for stage in stages)

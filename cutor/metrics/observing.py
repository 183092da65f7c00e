"""What an appended event says in metrics: one place for all of them, since every step is an event that has its facts. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cutor.metrics import table
from cutor.metrics.tally import Observation
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
    kind_of,
)
from cutor.model.limits import StageKind
from cutor.model.outcome import StageOutcome
from cutor.model.state import Submission

STOPPED: Final[frozenset[StageOutcome]] = frozenset({"TLE_CPU", "TLE_WALL", "MLE", "OLE", "FSE", "CANCELLED"})
"""Outcomes of stages that did not end by themselves."""


def observed(before: Submission, event: Event, after: Submission) -> Iterator[Observation]:
    """Yield what an event says that this process appended between two states of its submission."""
    yield Observation(table.EVENTS, labels=(kind_of(event),))
    match event:
        case Leased():
            yield from _leased(before, event, after)
        case CacheBuilt():
            yield from _environment(event)
            yield from _stages("dependencies", (event.stage,))
        case Compiled():
            yield from _stages("compile", (event.stage,))
        case Ran():
            yield from _stages("run", event.stages)
        case CacheLost():
            yield Observation(table.LOST)
        case Finished() if event.dependencies is not None:
            yield Observation(table.BUILDS, labels=("failed",))
            yield from _stages("dependencies", (event.dependencies,))
        case Cleaned():
            yield from _cleaned(event, after)
        case _:
            pass
    if kind_of(event) in TERMINAL_KINDS:
        yield from _ended(after)


def _leased(before: Submission, event: Leased, after: Submission) -> Iterator[Observation]:
    role = event.lease.role
    yield Observation(table.LEASES, labels=(role,))
    if before.last_sequence == before.step_sequence:  # nothing happened since: a first lease, not one after a worker's death
        waited_s = max(0, after.last_ns - before.last_ns) / 1e9
        yield Observation(table.LEASE_WAIT, waited_s, (role, after.address.tenant))


def _environment(event: CacheBuilt) -> Iterator[Observation]:
    yield Observation(table.HITS) if event.environment.hit else Observation(table.BUILDS, labels=("ok",))


def _cleaned(event: Cleaned, after: Submission) -> Iterator[Observation]:
    """Yield the end of a cancelled submission, which a client has ended: this is what a role appends of it."""
    if after.status != "CANCELLED":
        return
    yield Observation(table.FINISHED, labels=(after.address.tenant, "CANCELLED"))
    if isinstance(event.interrupted, Interrupted):
        yield from _stages(event.interrupted.stage, event.interrupted.stages)


def _ended(after: Submission) -> Iterator[Observation]:
    outcome = after.outcome or after.status
    yield Observation(table.FINISHED, labels=(after.address.tenant, outcome))
    yield Observation(table.DURATION, max(0, after.last_ns - after.submitted_ns) / 1e9, (outcome,))


def _stages(kind: StageKind, stages: tuple[Stage, ...]) -> Iterator[Observation]:
    for stage in stages:
        if stage.wall_time_ms is not None:
            yield Observation(table.STAGE_WALL, stage.wall_time_ms / 1000, (kind, stage.outcome))
        if stage.cpu_time_ms is not None:
            yield Observation(table.STAGE_CPU, stage.cpu_time_ms / 1000, (kind,))
        if stage.memory_peak_bytes is not None:
            yield Observation(table.STAGE_MEMORY, float(stage.memory_peak_bytes), (kind,))
        if stage.outcome in STOPPED:
            yield Observation(table.KILLS, labels=(kind, stage.outcome))

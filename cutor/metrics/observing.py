"""What an appended event says in metrics: one place for all of them, since every step is an event that has its facts. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, assert_never

from cutor.metrics import table
from cutor.metrics.tally import Observation
from cutor.model.events import (
    CacheBuilt,
    CacheLost,
    Cancelled,
    Cleaned,
    Compiled,
    Event,
    Finished,
    Leased,
    Parked,
    Ran,
    Rejected,
    Submitted,
    Terminal,
    kind_of,
)
from cutor.model.outcome import StageOutcome
from cutor.model.reported import Reported, reported
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
            yield Observation(table.HITS) if event.environment.hit else Observation(table.BUILDS, labels=("ok",))
        case CacheLost():
            yield Observation(table.LOST)
        case Finished() | Cancelled() | Rejected() | Parked():
            yield from _ended(event, after)
        case Cleaned():
            if after.status == "CANCELLED":  # which a client has ended: this is what a role appends of it
                yield Observation(table.FINISHED, labels=(after.address.tenant, "CANCELLED"))
        case Submitted() | Compiled() | Ran():
            pass
        case _:
            assert_never(event)
    if (stages := reported(event)) is not None:
        yield from _stages(stages)


def _leased(before: Submission, event: Leased, after: Submission) -> Iterator[Observation]:
    role = event.lease.role
    yield Observation(table.LEASES, labels=(role,))
    if before.last_sequence == before.step_sequence:  # nothing happened since: a first lease, not one after a worker's death
        waited_s = max(0, after.last_ns - before.last_ns) / 1e9
        yield Observation(table.LEASE_WAIT, waited_s, (role, after.address.tenant))


def _ended(event: Terminal, after: Submission) -> Iterator[Observation]:
    if isinstance(event, Finished) and event.dependencies is not None:
        yield Observation(table.BUILDS, labels=("failed",))
    outcome = after.outcome or after.status
    yield Observation(table.FINISHED, labels=(after.address.tenant, outcome))
    yield Observation(table.DURATION, max(0, after.last_ns - after.submitted_ns) / 1e9, (outcome,))


def _stages(told: Reported) -> Iterator[Observation]:
    kind = told.stage
    for stage in told.stages:
        if stage.wall_time_ms is not None:
            yield Observation(table.STAGE_WALL, stage.wall_time_ms / 1000, (kind, stage.outcome))
        if stage.cpu_time_ms is not None:
            yield Observation(table.STAGE_CPU, stage.cpu_time_ms / 1000, (kind,))
        if stage.memory_peak_bytes is not None:
            yield Observation(table.STAGE_MEMORY, float(stage.memory_peak_bytes), (kind,))
        if stage.outcome in STOPPED:
            yield Observation(table.KILLS, labels=(kind, stage.outcome))

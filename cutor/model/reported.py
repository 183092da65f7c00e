"""Which stages an event reports: the one table from events to stages, for metrics and the fold in Python.

The fold in SQL has its own in ``cutor/projections/sql/fold/6_stages.sql``; a property test holds the two against each other.
"""

from __future__ import annotations

from typing import NamedTuple, assert_never

from cutor.model.events import (
    CacheBuilt,
    CacheLost,
    Cancelled,
    Cleaned,
    Compiled,
    Event,
    Finished,
    Interrupted,
    Leased,
    Parked,
    Ran,
    Rejected,
    Stage,
    Submitted,
)
from cutor.model.limits import StageKind


class Reported(NamedTuple):
    """Stages of one kind; ``first`` is the number of the first one's test case, from 0, None where the stage is no run."""

    stage: StageKind
    stages: tuple[Stage, ...]
    first: int | None = None


def reported(event: Event) -> Reported | None:
    """Return the stages that an event reports, None for none. Whether the event counts is not asked here."""
    match event:
        case CacheBuilt():
            return Reported("dependencies", (event.stage,))
        case Compiled():
            return Reported("compile", (event.stage,))
        case Ran():
            return Reported("run", event.stages, event.index)
        case Finished():
            return None if event.dependencies is None else Reported("dependencies", (event.dependencies,))
        case Cleaned():
            return _interrupted(event.interrupted) if isinstance(event.interrupted, Interrupted) else None
        case Submitted() | Leased() | CacheLost() | Cancelled() | Rejected() | Parked():
            return None
        case _:
            assert_never(event)


def _interrupted(part: Interrupted) -> Reported:
    return Reported(part.stage, part.stages, part.index if part.stage == "run" else None)

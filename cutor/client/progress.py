"""Where a submission stands and what an event says, each in a few words for people. Pure."""

from __future__ import annotations

from typing import Final, assert_never

from cutor.model.events import (
    CacheBuilt,
    CacheLost,
    Cancelled,
    Cleaned,
    Compiled,
    Finished,
    Interrupted,
    Leased,
    Parked,
    Ran,
    Rejected,
    Stage,
    Submitted,
    Terminal,
)
from cutor.model.messages import Message, Unreadable
from cutor.model.state import Submission, next_stage
from cutor.model.units import counted

WAITING: Final = ("waiting for a builder", "waiting for a runner")
"""For a worker that takes a lease. One may have looked at it already and found no room: that is told to who follows alone."""


def progress(state: Submission) -> str:
    """Return what a submission waits for or does now; its outcome once it has ended."""
    if state.ended:
        return str(state.outcome)
    worker = None if state.lease is None else state.lease.role
    if state.status == "SUBMITTED":
        return "building the environment" if worker == "builder" else WAITING[0]
    if worker != "runner":
        return WAITING[1]
    if next_stage(state) == "compile":
        return "compiling"
    total = len(state.request.test_cases)
    return f"running {min(len(state.runs) + 1, total)}/{total}"


def summarize(event: Message) -> str:
    """Return what a message says, in one line. Strings of users and workers are in it as they came."""
    match event:
        case Unreadable(reason=reason) | Submitted(fault=str() as reason):
            return reason
        case Submitted(request=request, caused_by=cause):
            again = f", caused by {cause}" if cause else ""
            return f"{counted(len(request.files), 'file')}, {counted(len(request.test_cases), 'test case')}{again}"
        case CacheBuilt(environment=environment, stage=stage):
            return f"environment {environment.key[:12]} {'was there' if environment.hit else 'built'}, {_stage(stage)}"
        case Compiled(stage=stage):
            return _stage(stage)
        case Ran(index=index, stages=stages):
            return _runs(index, stages)
        case _:
            return _summarize_rest(event)


def _summarize_rest(event: Leased | Terminal | CacheLost | Cleaned) -> str:
    match event:
        case Leased(lease=lease):
            return f"{lease.role} {lease.worker}, lease {lease.number}"
        case Finished(outcome=text) | Rejected(message=text):
            return text
        case Cancelled(reason=reason):
            return reason or ""
        case Parked(role=role, message=message):
            return f"{role}: {message}"
        case CacheLost(key=key, missing=missing):
            return f"environment {key[:12]} lacks {missing}"
        case Cleaned(worker=worker, by=by, interrupted=part):
            return f"by {by}: {worker}{f', {_interrupted(part)}' if isinstance(part, Interrupted) else ''}"
        case _:
            assert_never(event)


def _interrupted(part: Interrupted) -> str:
    return f"run {_runs(part.index, part.stages)}" if part.stage == "run" else " ".join((part.stage, *map(_stage, part.stages)))


def _runs(index: int, stages: tuple[Stage, ...]) -> str:
    return ", ".join(f"{position}: {_stage(stage)}" for position, stage in enumerate(stages, index + 1))


def _stage(stage: Stage) -> str:
    """Return ``OK in 12 ms``, with the name of a test case in front."""
    name = f"{stage.name} " if stage.name else ""
    took = "" if stage.wall_time_ms is None else f" in {stage.wall_time_ms} ms"
    return f"{name}{stage.outcome}{took}"

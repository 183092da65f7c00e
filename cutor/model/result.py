"""The result document: what ``cutor status --json`` and the Python client return, made from the folded state."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec

from cutor.model.events import EnvironmentRef, Stage
from cutor.model.limits import STAGE_KINDS, StageKind, of_stage
from cutor.model.outcome import SubmissionOutcome
from cutor.model.state import Attempts, Status, Submission

StageOrStages = Stage | tuple[Stage, ...] | None
"""What a result has of a kind of stage: one, or null; or one for each test case."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is known of a submission. ``run`` has one stage a test case once the submission has ended."""

    id: str
    """of the submission"""
    tenant: str
    """whose it is"""
    status: Status
    """how far it is: [states](states.md)"""
    outcome: SubmissionOutcome | None
    """how it ended; null until then"""
    dependencies: Stage | None
    """the build of the environment, or the look-up of one that stands; null before its end"""
    compile: Stage | None
    """the compile script; null before its end, and without one"""
    run: tuple[Stage, ...]
    """a stage for each test case; after the end, those that were not run are `SKIPPED`"""
    environment: EnvironmentRef | None
    """null until it stands"""
    attempts: Attempts
    """leases that were taken"""
    caused_by: str | None
    """id of the submission that this one repeats, or null"""
    labels: dict[str, str]
    """as in the request"""
    submitted_at: str
    """when the stream took the first event, RFC 3339 in UTC, to the microsecond"""
    finished_at: str | None
    """when it took the terminal event; null before"""
    cleaned_at: str | None
    """when it took `cleaned`; null before"""
    message: str | None
    """what there is to say in one line, or null"""


def result(state: Submission) -> Result:
    """Return the result document of a state. Outputs over 64 KiB are still references in it."""
    return Result(
        id=state.address.id,
        tenant=state.address.tenant,
        status=state.status,
        outcome=state.outcome,
        dependencies=_or_stopped(state, "dependencies", state.dependencies),
        compile=_or_stopped(state, "compile", state.compile),
        run=_runs(state),
        environment=state.environment,
        attempts=state.attempts,
        caused_by=state.caused_by,
        labels=state.request.labels,
        submitted_at=rfc3339(state.submitted_ns),
        finished_at=None if state.finished_ns is None else rfc3339(state.finished_ns),
        cleaned_at=None if state.cleaned_ns is None else rfc3339(state.cleaned_ns),
        message=state.message,
    )


def stages_of(document: Result) -> Iterator[tuple[str, Stage]]:
    """Yield the stages of a result, in their order, each with its name: ``run 1`` where a kind may have several."""
    for kind in STAGE_KINDS:
        found: StageOrStages = of_stage(document, kind)
        if isinstance(found, Stage):
            yield kind, found
        else:
            yield from ((f"{kind} {number}", stage) for number, stage in enumerate(found or (), 1))


def _or_stopped(state: Submission, kind: StageKind, known: Stage | None) -> Stage | None:
    """Return a stage, or how it was stopped where it is the one that the submission ended in."""
    return _stopped(state, kind) if known is None else known


def _stopped(state: Submission, kind: StageKind) -> Stage | None:
    """Return the stage that never reported: XX where a parked submission stopped, CANCELLED where a cancelled one was.

    Where the worker of a cancelled one told what was interrupted, the stages are known already, and what follows never began.
    """
    if state.status == "PARKED" and state.parked_stage == kind:
        return Stage(outcome="XX", message=state.message)
    if state.status == "CANCELLED" and state.running_stage == kind and not state.told:
        return Stage(outcome="CANCELLED")
    return None


def _runs(state: Submission) -> tuple[Stage, ...]:
    """Return the stages of the test cases; after the end, those that were not run are SKIPPED, but the one it stopped in."""
    if not state.ended:
        return state.runs
    rest = [Stage(outcome="SKIPPED", name=case.name) for case in state.request.test_cases[len(state.runs) :]]
    stopped = _stopped(state, "run")
    if rest and stopped is not None:
        rest[0] = msgspec.structs.replace(stopped, name=rest[0].name)
    return (*state.runs, *rest)


def rfc3339(time_ns: int) -> str:
    """Return nanoseconds since 1970 as ``2026-01-31T12:00:00.123456Z``."""
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns // 1000:06d}Z"

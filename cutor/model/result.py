"""The result document: what ``cutor status --json`` and the Python client return, made from the folded state."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from cutor.model.events import EnvironmentRef, Stage
from cutor.model.outcome import SubmissionOutcome
from cutor.model.request import COMPILE_SCRIPT
from cutor.model.state import Attempts, Status, Submission


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is known of a submission. ``run`` has one stage a test case once the submission has ended."""

    id: str
    tenant: str
    status: Status
    outcome: SubmissionOutcome | None
    dependencies: Stage | None
    compile: Stage | None
    run: tuple[Stage, ...]
    environment: EnvironmentRef | None
    attempts: Attempts
    caused_by: str | None
    labels: dict[str, str]
    submitted_at: str
    finished_at: str | None
    cleaned_at: str | None
    message: str | None


def result(state: Submission) -> Result:
    """Return the result document of a state. Outputs over 64 KiB are still references in it."""
    return Result(
        id=state.address.id,
        tenant=state.address.tenant,
        status=state.status,
        outcome=state.outcome,
        dependencies=_or_fault(state, "dependencies", state.dependencies),
        compile=_or_fault(state, "compile", state.compile),
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


def _or_fault(state: Submission, stage: str, known: Stage | None) -> Stage | None:
    """Return a stage, or XX where it is the one that a parked submission stopped at."""
    if known is None and state.status == "PARKED" and state.parked_stage == stage:
        return Stage(outcome="XX", message=state.message)
    return known


def _runs(state: Submission) -> tuple[Stage, ...]:
    """Return the stages of the test cases; after the end, those that were not run are SKIPPED.

    The test case at which a parked submission stopped is XX, the one that was running when it was cancelled CANCELLED.
    """
    if not state.ended:
        return state.runs
    done = len(state.runs)
    rest = [Stage(outcome="SKIPPED", name=case.name) for case in state.request.test_cases[done:]]
    if rest and state.status == "PARKED" and state.parked_stage == "run":
        rest[0] = msgspec.structs.replace(rest[0], outcome="XX", message=state.message)
    if rest and state.status == "CANCELLED" and _was_running_tests(state):
        rest[0] = msgspec.structs.replace(rest[0], outcome="CANCELLED")
    return (*state.runs, *rest)


def _was_running_tests(state: Submission) -> bool:
    compiles = any(file.name == COMPILE_SCRIPT for file in state.request.files)
    leased = state.lease is not None and state.lease.role == "runner" and state.environment is not None
    return leased and (state.compile is not None or not compiles)


def rfc3339(time_ns: int) -> str:
    """Return nanoseconds since 1970 as ``2026-01-31T12:00:00.123456Z``."""
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns // 1000:06d}Z"

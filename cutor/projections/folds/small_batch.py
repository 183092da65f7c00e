"""What the events of a small batch add to the tables, row by row. Pure.

The same rows that ``sql/fold`` makes of the same messages, without planning a statement: DuckDB takes longer to plan the fold
of one event than a projector has for it. Takes events only as cutor's own programs write them; `read_plain` tells.
Whoever changes what a row holds counts `cutor.projections.folds.rows.ROWS_VERSION` up: files of before are to be made anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import msgspec

from cutor.bus.bulk.columns import Message
from cutor.model.codec import decode_many
from cutor.model.events import (
    CacheBuilt,
    Cancelled,
    Cleaned,
    Compiled,
    Event,
    Finished,
    Interrupted,
    Lease,
    Parked,
    Ran,
    Rejected,
    Stage,
    Submitted,
    kind_of,
)
from cutor.model.limits import StageKind
from cutor.model.request import COMPILE_SCRIPT
from cutor.model.state import Stamp, Submission
from cutor.model.subjects import Address, parse_event_subject
from cutor.projections.folds.standing import Standing

LARGE_NUMBER: Final = 1 << 63
"""What a column of numbers can no longer hold."""
_LONG_NUMBER: Final = re.compile(rb":-?[0-9]{19}")
"""What every such number is found by; text that a program printed has it, too."""
EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - the columns are moments in UTC without a zone
Columns = tuple[object, ...]


class Plain(NamedTuple):
    """A message that holds an event, written as cutor writes it."""

    message: Message
    address: Address
    event: Event


def read_plain(messages: Sequence[Message]) -> list[Plain] | None:
    """Return messages with their events; None where one holds none, or one that the fold in SQL has to look at more closely."""
    events = decode_many([message.body for message in messages])
    if events is None:
        return None
    plain = []
    for message, event in zip(messages, events, strict=True):
        subject = parse_event_subject(message.subject)
        if subject is None or subject.kind != kind_of(event) or _is_unusual(message, event):
            return None
        plain.append(Plain(message, subject.address, event))
    return plain


def _is_unusual(message: Message, event: Event) -> bool:
    """Return whether an event stands for a message that could not be read, or has a number that no column holds."""
    if isinstance(event, Submitted) and event.fault is not msgspec.UNSET:
        return True
    return _LONG_NUMBER.search(message.body) is not None and _has_large_number(msgspec.to_builtins(event))


def _has_large_number(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_has_large_number, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_large_number, value))
    return isinstance(value, int) and not -LARGE_NUMBER <= value < LARGE_NUMBER


class StageRow(NamedTuple):
    """A row of ``stages``, without what a stage measured where nothing ran."""

    address: Address
    stage: StageKind
    attempt: int
    test_case: int | None
    name: str | None
    outcome: str
    message: str | None
    worker: str | None
    reported_at: datetime
    sequence: int
    is_current: bool
    report: Stage | None = None

    def columns(self) -> Columns:
        """Return the row, column by column."""
        tail = (self.message, self.worker, self.reported_at, self.sequence, self.is_current)
        report = self.report
        head = (*self.address, self.stage, self.attempt, self.test_case, self.name, self.outcome)
        if report is None:
            return (*head, *[None] * 11, *tail)
        return (
            *head,
            report.exit_code,
            report.signal and report.signal.number,
            report.signal and report.signal.name,
            report.cpu_time_ms,
            report.wall_time_ms,
            report.memory_peak_bytes,
            report.stdout.bytes_total,
            report.stdout.truncated,
            report.stderr.bytes_total,
            report.stderr.truncated,
            report.limits and msgspec.structs.asdict(report.limits),
            *tail,
        )


class Correction(NamedTuple):
    """Rows of ``stages`` from batches before this one that no longer hold.

    ``told`` None: those that are no longer current, by `Standing.is_current`. Else those that the end made up for a stage and
    that `cleaned` has told since: of test cases those before ``runs``.
    """

    address: Address
    submitted: int
    dependencies: int | None
    began: int
    ended: int | None
    told: StageKind | None
    runs: int


class SmallBatch:
    """The rows that messages add, gathered; ``standings`` holds every submission of theirs, and is brought up to date."""

    def __init__(self, standings: Mapping[Address, Standing]) -> None:
        self.standings = standings
        self.events: list[Columns] = []
        self.requests: list[Columns] = []
        self.builds: list[Columns] = []
        self.ends: list[Columns] = []
        self.stages: list[StageRow] = []
        self.corrections: list[Correction] = []
        self.strays = 0

    def take(self, plain: Plain) -> None:
        """Fold one message in."""
        message, event = plain.message, plain.event
        standing = self.standings[plain.address]
        step = standing.take(event, Stamp(message.sequence, message.time_ns))
        self.events.append(_event_row(plain, step.stray))
        state = standing.state
        if step.stray is not None or state is None:
            self.strays += 1
            return
        if step.outdates:
            self._outdate(standing)
        self._tell(plain, standing, state)

    def _tell(self, plain: Plain, standing: Standing, state: Submission) -> None:
        event, sequence, time = plain.event, plain.message.sequence, moment(plain.message.time_ns)
        if isinstance(event, Submitted):
            request = event.request
            names = [case.name for case in request.test_cases]
            compiles = any(file.name == COMPILE_SCRIPT for file in request.files)
            labels = {"key": [*request.labels], "value": [*request.labels.values()]}  # DuckDB's own form of a map
            self.requests.append((sequence, time, event.digest, event.caused_by, labels, names, compiles))
        elif isinstance(event, CacheBuilt):
            environment = event.environment
            self.builds.append((sequence, time, environment.key, environment.derivation, environment.hit))
        elif isinstance(event, Finished | Cancelled | Rejected | Parked):
            parked_stage = event.stage if isinstance(event, Parked) else None
            self.ends.append((sequence, time, state.outcome, state.message, parked_stage))
            self.stages += _reported(plain, state)
            self.stages += _not_come_to(plain, standing, state)
            return
        elif isinstance(event, Cleaned) and state.told and isinstance(event.interrupted, Interrupted):
            self._retell(standing, state, event.interrupted.stage)
        self.stages += _reported(plain, state)

    def _outdate(self, standing: Standing) -> None:
        self.stages = [
            row._replace(is_current=standing.is_current(row.stage, row.sequence)) if row.address == standing.address else row
            for row in self.stages
        ]
        self.corrections.append(_correction(standing))

    def _retell(self, standing: Standing, state: Submission, stage: StageKind) -> None:
        def made_up(row: StageRow) -> bool:
            found = (row.address, row.stage, row.sequence) == (standing.address, stage, standing.ended)
            return found and (row.test_case is None or row.test_case < len(state.runs))

        self.stages = [row for row in self.stages if not made_up(row)]
        self.corrections.append(_correction(standing)._replace(told=stage, runs=len(state.runs)))


def _correction(standing: Standing) -> Correction:
    submitted = standing.submitted or 0
    return Correction(standing.address, submitted, standing.dependencies, standing.began, standing.ended, None, 0)


def gather(batch: Iterable[Plain], standings: Mapping[Address, Standing]) -> SmallBatch:
    """Return what messages add to the tables, in their order; the standings are brought up to date."""
    gathered = SmallBatch(standings)
    for plain in batch:
        gathered.take(plain)
    return gathered


def moment(time_ns: int) -> datetime:
    """Return a time of the stream's as the tables hold it, to the microsecond."""
    return EPOCH + timedelta(microseconds=time_ns // 1000)


def _event_row(plain: Plain, stray: str | None) -> Columns:
    message, event = plain.message, plain.event
    lease: Lease | None = getattr(event, "lease", None)
    return (
        message.sequence,
        moment(message.time_ns),
        message.time_ns,
        message.subject,
        *plain.address,
        kind_of(event),
        event.version,
        message.message_id,
        lease.role if lease else getattr(event, "role", None),
        lease and lease.number,
        lease.worker if lease else getattr(event, "worker", None),
        stray is None,
        None,
        stray,
        message.body.decode(),
        None,
    )


def _reported(plain: Plain, state: Submission) -> Iterator[StageRow]:
    """Yield the stages that an event reports."""
    event = plain.event
    if isinstance(event, CacheBuilt):
        yield _row(plain, state, "dependencies", event.stage)
    elif isinstance(event, Finished) and event.dependencies is not None:
        yield _row(plain, state, "dependencies", event.dependencies)
    elif isinstance(event, Compiled):
        yield _row(plain, state, "compile", event.stage)
    elif isinstance(event, Ran):
        for place, stage in enumerate(event.stages):
            yield _row(plain, state, "run", stage, event.index + place)
    elif isinstance(event, Cleaned) and state.told and isinstance(event.interrupted, Interrupted):
        part = event.interrupted
        for place, stage in enumerate(part.stages):
            yield _row(plain, state, part.stage, stage, part.index + place if part.stage == "run" else None)


def _row(plain: Plain, state: Submission, kind: StageKind, stage: Stage, test_case: int | None = None) -> StageRow:
    lease: Lease | None = getattr(plain.event, "lease", state.lease)
    return StageRow(
        address=plain.address,
        stage=kind,
        attempt=lease.number if lease else 0,
        test_case=test_case,
        name=stage.name,
        outcome=stage.outcome,
        message=stage.message,
        worker=lease.worker if lease else None,
        reported_at=moment(plain.message.time_ns),
        sequence=plain.message.sequence,
        is_current=True,
        report=stage,
    )


def _not_come_to(plain: Plain, standing: Standing, state: Submission) -> Iterator[StageRow]:
    """Yield the stages that a submission that ended did not come to, and the one that it stopped in."""
    event = plain.event
    stopped = event.stage if isinstance(event, Parked) else state.running_stage if isinstance(event, Cancelled) else None
    outcome = "XX" if isinstance(event, Parked) else "CANCELLED"
    message = state.message if isinstance(event, Parked) else None
    skipped = StageRow(
        address=plain.address,
        stage="run",
        attempt=state.attempts.runner,
        test_case=None,
        name=None,
        outcome="SKIPPED",
        message=None,
        worker=None,
        reported_at=moment(plain.message.time_ns),
        sequence=plain.message.sequence,
        is_current=True,
    )
    if stopped == "dependencies" and standing.dependencies is None:
        yield skipped._replace(stage=stopped, attempt=state.attempts.builder, outcome=outcome, message=message)
    if stopped == "compile" and standing.compiled is None:
        yield skipped._replace(stage=stopped, outcome=outcome, message=message)
    runs, cases = len(state.runs), state.request.test_cases
    for test_case in range(runs, len(cases)):
        row = skipped._replace(test_case=test_case, name=cases[test_case].name)
        yield row._replace(outcome=outcome, message=message) if stopped == "run" and test_case == runs else row

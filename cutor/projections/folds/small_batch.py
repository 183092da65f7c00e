"""What the events of a small batch add to the tables, row by row. Pure.

The same rows that ``sql/fold`` makes of the same messages, without planning a statement: DuckDB takes longer to plan the fold
of one event than a projector has for it. They are laid out as ``sql/small`` reads them: numbers, texts, and the rest. Takes
events only as cutor's own programs write them; `read_plain` tells.
Whoever changes what a row holds counts `cutor.projections.folds.rows.ROWS_VERSION` up: files of before are to be made anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from cutor.bus.bulk.columns import Message
from cutor.model.codec import decode_many
from cutor.model.events import (
    CacheBuilt,
    Cancelled,
    Cleaned,
    Event,
    Interrupted,
    Lease,
    Parked,
    Stage,
    Submitted,
    Terminal,
    kind_of,
)
from cutor.model.limits import UNITS, StageKind
from cutor.model.reported import reported
from cutor.model.request import COMPILE_SCRIPT
from cutor.model.state import Stamp, Submission
from cutor.model.subjects import Address, parse_event_subject
from cutor.projections.folds.inserts import Row
from cutor.projections.folds.standing import Standing

LARGE_NUMBER: Final = 1 << 63
"""What a column of numbers can no longer hold."""
_LONG_NUMBER: Final = re.compile(rb":-?[0-9]{19}")
"""What every such number is found by; text that a program printed has it, too."""
_NO_LIMITS: Final = (False, *[None] * len(UNITS))


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
    reported_ns: int
    sequence: int
    is_current: bool
    report: Stage | None = None

    def laid_out(self) -> Row:
        """Return the row as ``sql/small/stages.sql`` reads it."""
        report = self.report
        head = (self.sequence, self.reported_ns, self.is_current, self.attempt, self.test_case)
        texts = (*self.address, self.stage, self.name, self.outcome)
        if report is None:
            return (*head, *[None] * 9, *_NO_LIMITS), (*texts, None, self.message, self.worker)
        signal, stdout, stderr = report.signal, report.stdout, report.stderr
        measured = (
            report.exit_code,
            signal and signal.number,
            report.cpu_time_ms,
            report.wall_time_ms,
            report.memory_peak_bytes,
            stdout.bytes_total,
            stdout.truncated,
            stderr.bytes_total,
            stderr.truncated,
        )
        limits = (True, *msgspec.structs.astuple(report.limits)) if report.limits else _NO_LIMITS
        return (*head, *measured, *limits), (*texts, signal and signal.name, self.message, self.worker)


_ANY_ROW: Final = StageRow(Address("", ""), "run", 0, None, None, "SKIPPED", None, None, 0, 0, is_current=False)
STAGE_NUMBERS, STAGE_TEXTS = map(len, _ANY_ROW.laid_out())
"""How many numbers and how many texts a row of ``stages`` is laid out as."""


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
        self.events: list[Row] = []
        self.requests: list[Row] = []
        self.builds: list[Row] = []
        self.ends: list[Row] = []
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
        event, at = plain.event, (plain.message.sequence, plain.message.time_ns)
        if isinstance(event, Submitted):
            request = event.request
            names = [case.name for case in request.test_cases]
            compiles = any(file.name == COMPILE_SCRIPT for file in request.files)
            self.requests.append(((*at, compiles), (event.digest, event.caused_by), request.labels, names))
        elif isinstance(event, CacheBuilt):
            environment = event.environment
            self.builds.append(((*at, environment.hit), (environment.key, environment.derivation)))
        elif isinstance(event, Terminal):
            parked_stage = event.stage if isinstance(event, Parked) else None
            self.ends.append((at, (state.outcome, state.message, parked_stage)))
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


def _event_row(plain: Plain, stray: str | None) -> Row:
    message, event = plain.message, plain.event
    lease: Lease | None = getattr(event, "lease", None)
    role = lease.role if lease else getattr(event, "role", None)
    worker = lease.worker if lease else getattr(event, "worker", None)
    return (
        (message.sequence, message.time_ns, event.version, lease and lease.number, stray is None),
        (message.subject, *plain.address, kind_of(event), message.message_id, role, worker, stray),
        message.body.decode(),
    )


def _reported(plain: Plain, state: Submission) -> Iterator[StageRow]:
    """Yield the stages that an event reports."""
    told = reported(plain.event)
    if told is None or (isinstance(plain.event, Cleaned) and not state.told):
        return
    for place, stage in enumerate(told.stages):
        yield _row(plain, state, told.stage, stage, None if told.first is None else told.first + place)


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
        reported_ns=plain.message.time_ns,
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
        reported_ns=plain.message.time_ns,
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

"""What the fold takes of a batch of EVENTS: five relations, in which nothing is left to be read from JSON. Pure.

| relation | one row | columns beside ``sequence`` |
|---|---|---|
| ``incoming`` | a message, whatever it is | see `_incoming_columns` |
| ``incoming_requests`` | a ``submitted`` | what the views show of the request |
| ``incoming_builds`` | a ``cache-built`` | its environment |
| ``incoming_ends`` | a terminal event | ``outcome``, ``message``, ``parked_stage`` |
| ``incoming_stages`` | a stage that any of them reports | ``place`` in its event, from 0, and what it measured |

Rows are in the order of the stream. A number of more than 64 bits is null.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self

import msgspec

from cutor.bus.bulk.columns import Columns
from cutor.model.limits import UNITS
from cutor.model.request import COMPILE_SCRIPT
from cutor.model.subjects import EVENTS
from cutor.projections.folds.arrow import (
    Booleans,
    Column,
    Lists,
    Maps,
    Numbers,
    Records,
    SmallNumbers,
    Strings,
    Table,
    Texts,
)
from cutor.projections.folds.batch import OfColumns
from cutor.projections.folds.readings import Readings, read, unfoldable
from cutor.projections.folds.relation import Kind, Parts, Relation
from cutor.projections.schema import transitions

Event = Any
"""An event of `cutor.model.events`, or of the same shape."""
Row = tuple[Any, ...]
Rows = dict[str, list[Row]]

INCOMING: Final = "incoming"
REQUESTS: Final = "incoming_requests"
BUILDS: Final = "incoming_builds"
ENDS: Final = "incoming_ends"
STAGES: Final = "incoming_stages"

_STEPS: Final = {(row.name, row.lease_role): row.number for row in transitions()}
_ROLES: Final = ("builder", "runner")


class Incoming(OfColumns):
    """A batch on its way into the fold."""

    stream = EVENTS

    def __init__(self, columns: Columns) -> None:
        super().__init__(columns)
        self.kinds: set[str | None] = set()
        """Those of its events."""
        self.faults = 0
        """How many of its messages cannot be read."""
        self._incoming = Table(_incoming_columns())
        self._tables = {name: Table(make()) for name, make in _TABLES.items()}
        self.tables = {INCOMING: self._incoming, **self._tables}
        """Its relations in the making; the first one has every message."""

    @classmethod
    def of(cls, columns: Columns) -> Self:
        """Read messages."""
        batch = cls(Columns.empty())
        batch.add(columns)
        return batch

    def add(self, columns: Columns) -> None:
        """Read more messages."""
        self.columns.add(columns)
        for readings in read(columns):
            self._add(readings)

    @classmethod
    def unfoldable(cls, columns: Columns, reason: str) -> Self:
        """Return messages that the fold leaves alone, for ``reason``."""
        batch = cls(columns)
        batch._add(unfoldable(columns, reason))
        return batch

    def relations(self) -> dict[str, Relation]:
        """Return its relations, by their names."""
        return {name: table.relation() for name, table in self.tables.items()}

    def parts(self) -> dict[str, Parts]:
        """Return what they consist of."""
        return {name: table.parts() for name, table in self.tables.items()}

    @classmethod
    def shapes(cls) -> dict[str, Kind]:
        """Return the types of their rows."""
        return {name: table.kind for name, table in cls(Columns.empty()).tables.items()}

    def _add(self, readings: Readings) -> None:
        facts: list[Row] = []
        rows: Rows = {name: [] for name in self._tables}
        for sequence, kind, event in zip(readings.columns.sequences, readings.kinds, readings.events, strict=True):
            facts.append(_NO_EVENT if event is None or kind is None else READERS[kind](rows, sequence, event))
        for name, found in rows.items():
            self._tables[name].add(found)
        columns, (*values, interrupted) = readings.columns, zip(*facts, strict=True)
        self._incoming.add_columns(
            (
                columns.sequences, columns.times_ns, columns.subjects, columns.message_ids,
                readings.bodies, readings.raw, readings.faults, readings.tenants, readings.ids, readings.kinds,
                readings.versions, *values, *_interrupted(interrupted),
            )
        )  # fmt: skip
        faults = len(readings.faults) - readings.faults.count(None)
        self.faults += faults
        self.kinds.update(readings.kinds if not faults else _kinds_of_events(readings))


def _kinds_of_events(readings: Readings) -> set[str | None]:
    return {kind for kind, event in zip(readings.kinds, readings.events, strict=True) if event is not None}


# -- a row a message ---------------------------------------------------------------------------------------------------


def _incoming_columns() -> dict[str, Column]:
    """``body`` is null where the bytes are no JSON: then they are in ``raw``. ``fault`` says why a message is no event.

    ``tenant``, ``id`` and ``kind`` are null where the subject is none of an event's. ``step`` is the number of what it is in
    the table of transitions (`cutor.projections.schema`), null for no event. ``index``, ``stages`` and ``passed`` are those
    of a ``ran``, else 0. What a cancel interrupted is told by a ``cleaned`` of the worker itself, else null.
    """
    return {
        "sequence": Numbers(),
        "time_ns": Numbers(),
        "subject": Texts(),
        "message_id": Texts(),
        "body": Strings.json(),
        "raw": Strings.raw(),
        "fault": Texts(),
        "tenant": Texts(),
        "id": Texts(),
        "kind": Texts(),
        "version": SmallNumbers(),
        "step": SmallNumbers(),
        "role": Texts(),
        "worker": Texts(),
        "lease_token": Texts(),
        "lease_number": Numbers(),
        "index": Numbers(),
        "stages": Numbers(),
        "passed": Numbers(),
        "has_dependencies": Booleans(),
        "interrupted_stage": Texts(),
        "interrupted_index": Numbers(),
        "interrupted_stages": Numbers(),
        "interrupted_passed": Numbers(),
    }


def _requests() -> dict[str, Column]:
    return {
        "sequence": Numbers(),
        "digest": Texts(),
        "caused_by": Texts(),
        "labels": Maps(),
        "test_case_names": Lists(),
        "compiles": Booleans(),
    }


def _builds() -> dict[str, Column]:
    return {"sequence": Numbers(), "key": Texts(), "derivation": Texts(), "hit": Booleans()}


def _ends() -> dict[str, Column]:
    return {"sequence": Numbers(), "outcome": Texts(), "message": Texts(), "parked_stage": Texts()}


def _stage_columns() -> dict[str, Column]:
    return {
        "sequence": Numbers(),
        "place": Numbers(),
        "outcome": Texts(),
        "name": Texts(),
        "exit_code": Numbers(),
        "signal": Numbers(),
        "signal_name": Texts(),
        "cpu_time_ms": Numbers(),
        "wall_time_ms": Numbers(),
        "memory_peak_bytes": Numbers(),
        "stdout_bytes": Numbers(),
        "stdout_truncated": Booleans(),
        "stderr_bytes": Numbers(),
        "stderr_truncated": Booleans(),
        "limits": Records([*UNITS]),
        "message": Texts(),
    }


_TABLES: Final = {REQUESTS: _requests, BUILDS: _builds, ENDS: _ends, STAGES: _stage_columns}


def _interrupted(parts: Sequence[Any]) -> list[Sequence[Any]]:
    """Return what ``cleaned`` says that a cancel interrupted, in its columns."""
    if not any(parts):
        return [parts] * 4
    rows = [(part.stage, part.index, *_counted(part.stages)) if part else (None,) * 4 for part in parts]
    return [*zip(*rows, strict=True)]


def _counted(stages: Sequence[Any]) -> tuple[int, int]:
    """Return how many stages there are, and how many of them are OK."""
    return len(stages), sum([stage.outcome == "OK" for stage in stages])


_NO_EVENT: Final = (None, None, None, None, None, 0, 0, 0, False, None)
"""From ``step`` to ``has_dependencies``, and what a ``cleaned`` interrupted: of a message that is no event."""


def _steps(kind: str) -> dict[str, int]:
    return {role: _STEPS[kind, role] for role in _ROLES}


_LEASED: Final = {role: _STEPS[f"leased({role})", role] for role in _ROLES}
_BUILT: Final = _steps("cache-built")
_COMPILED: Final = _steps("compiled")
_RAN: Final = _steps("ran")
_FINISHED: Final = _steps("finished")
_REJECTED: Final = _steps("rejected")
_LOST: Final = _steps("cache-lost")
_SUBMITTED: Final = (_STEPS["submitted", ""], *_NO_EVENT[1:])
_CANCELLED: Final = (_STEPS["cancelled", ""], *_NO_EVENT[1:])
_PARKED: Final = _STEPS["parked", ""]
_CLEANED: Final = _STEPS["cleaned", ""]


def _of_lease(steps: Mapping[str, int], lease: Any) -> Row:
    return steps[lease.role], lease.role, lease.worker, lease.token, lease.number, 0, 0, 0, False, None


# -- what each event says: its row of ``incoming`` is returned, what else it says put to the rows of other tables --------


def _submitted(rows: Rows, sequence: int, event: Event) -> Row:
    request = event.request
    names = [case.name for case in request.test_cases]
    compiles = any(file.name == COMPILE_SCRIPT for file in request.files)
    rows[REQUESTS].append((sequence, event.digest, event.caused_by, request.labels, names, compiles))
    return _SUBMITTED


def _leased(_rows: Rows, _sequence: int, event: Event) -> Row:
    return _of_lease(_LEASED, event.lease)


def _cache_built(rows: Rows, sequence: int, event: Event) -> Row:
    environment = event.environment
    rows[BUILDS].append((sequence, environment.key, environment.derivation, environment.hit))
    rows[STAGES].append(_stage(sequence, 0, event.stage))
    return _of_lease(_BUILT, event.lease)


def _compiled(rows: Rows, sequence: int, event: Event) -> Row:
    rows[STAGES].append(_stage(sequence, 0, event.stage))
    return _of_lease(_COMPILED, event.lease)


def _ran(rows: Rows, sequence: int, event: Event) -> Row:
    lease, found, passed = event.lease, rows[STAGES], 0
    for place, stage in enumerate(event.stages):
        found.append(_stage(sequence, place, stage))
        passed += stage.outcome == "OK"
    return (
        _RAN[lease.role], lease.role, lease.worker, lease.token, lease.number,
        event.index, len(event.stages), passed, False, None,
    )  # fmt: skip


def _finished(rows: Rows, sequence: int, event: Event) -> Row:
    lease, dependencies = event.lease, event.dependencies
    rows[ENDS].append((sequence, event.outcome, event.message, None))
    if dependencies is not None:
        rows[STAGES].append(_stage(sequence, 0, dependencies))
    return (
        _FINISHED[lease.role], lease.role, lease.worker, lease.token, lease.number,
        0, 0, 0, dependencies is not None, None,
    )  # fmt: skip


def _cancelled(rows: Rows, sequence: int, event: Event) -> Row:
    rows[ENDS].append((sequence, "CANCELLED", event.reason, None))
    return _CANCELLED


def _rejected(rows: Rows, sequence: int, event: Event) -> Row:
    rows[ENDS].append((sequence, "REJECTED", event.message, None))
    return _of_lease(_REJECTED, event.lease)


def _parked(rows: Rows, sequence: int, event: Event) -> Row:
    rows[ENDS].append((sequence, "PARKED", event.message, event.stage))
    return _PARKED, event.role, None, None, None, 0, 0, 0, False, None


def _cache_lost(_rows: Rows, _sequence: int, event: Event) -> Row:
    return _of_lease(_LOST, event.lease)


def _cleaned(rows: Rows, sequence: int, event: Event) -> Row:
    interrupted = None if event.interrupted is msgspec.UNSET or event.by != "worker" else event.interrupted
    if interrupted is not None:
        rows[STAGES].extend(_stage(sequence, place, stage) for place, stage in enumerate(interrupted.stages))
    return _CLEANED, None, event.worker, None, None, 0, 0, 0, False, interrupted


def _stage(sequence: int, place: int, stage: Any) -> Row:
    signal, stdout, stderr = stage.signal, stage.stdout, stage.stderr
    return (
        sequence,
        place,
        stage.outcome,
        stage.name,
        stage.exit_code,
        signal and signal.number,
        signal and signal.name,
        stage.cpu_time_ms,
        stage.wall_time_ms,
        stage.memory_peak_bytes,
        stdout.bytes_total,
        stdout.truncated,
        stderr.bytes_total,
        stderr.truncated,
        stage.limits,
        stage.message,
    )


READERS: Final[dict[str, Callable[[Rows, int, Event], Row]]] = {
    "submitted": _submitted,
    "leased": _leased,
    "cache-built": _cache_built,
    "compiled": _compiled,
    "ran": _ran,
    "finished": _finished,
    "cancelled": _cancelled,
    "rejected": _rejected,
    "parked": _parked,
    "cache-lost": _cache_lost,
    "cleaned": _cleaned,
}

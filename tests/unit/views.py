"""A file of views for tests, fed with events by hand, and read back in the shape of the result document."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cutor.model.codec import encode
from cutor.model.events import EnvironmentRef, Event, kind_of
from cutor.model.result import Result
from cutor.model.subjects import EVENTS, Address, event_subject
from cutor.projections.store import Store
from tests.unit.histories import ADDRESS

STAGE_COLUMNS = (
    "outcome, name, exit_code, signal, signal_name, cpu_time_ms, wall_time_ms, memory_peak_bytes, stdout_bytes, "
    "stdout_truncated, stderr_bytes, stderr_truncated, limits, message"
)


class Written:
    """A message as the stream would hand it out."""

    def __init__(self, sequence: int, subject: str, body: bytes, *, time_ns: int | None = None) -> None:
        self.sequence = sequence
        self.subject = subject
        self.body = body
        self.time_ns = sequence * 1_000_000_007 if time_ns is None else time_ns
        self.message_id: str | None = f"message {sequence}"

    def __repr__(self) -> str:
        return f"{self.sequence} {self.subject} {self.body!r}"


def written(sequence: int, address: Address, event: Event) -> Written:
    return Written(sequence, event_subject(address, kind_of(event)), encode(event))


class Views:
    """A store with a stream of its own: messages get the next sequences."""

    def __init__(self, directory: Path) -> None:
        self.store = Store.open(directory / "views.duckdb")
        self.sequence = 0

    def apply(self, messages: Sequence[Written], *, stream: str = EVENTS, batch: int = 1000) -> None:
        for start in range(0, len(messages), batch):
            part = messages[start : start + batch]
            self.store.apply(stream, part)

    def happen(self, *events: Event, address: Address = ADDRESS, batch: int = 1000) -> list[Written]:
        messages = []
        for event in events:
            self.sequence += 1
            messages.append(written(self.sequence, address, event))
        self.apply(messages, batch=batch)
        return messages

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self.store._connection.execute(sql, list(parameters)).fetchall()

    def one(self, sql: str, *parameters: object) -> dict[str, Any]:
        cursor = self.store._connection.execute(sql, list(parameters))
        names = [column[0] for column in cursor.description]
        [row] = cursor.fetchall()
        return dict(zip(names, row, strict=True))


def as_view_shows(stage: Any) -> dict[str, Any]:
    """A stage of a result document in the columns of the view `stages`."""
    return {
        "outcome": stage.outcome,
        "name": stage.name,
        "exit_code": stage.exit_code,
        "signal": stage.signal and stage.signal.number,
        "signal_name": stage.signal and stage.signal.name,
        "cpu_time_ms": stage.cpu_time_ms,
        "wall_time_ms": stage.wall_time_ms,
        "memory_peak_bytes": stage.memory_peak_bytes,
        "stdout_bytes": stage.stdout.bytes_total,
        "stdout_truncated": stage.stdout.truncated,
        "stderr_bytes": stage.stderr.bytes_total,
        "stderr_truncated": stage.stderr.truncated,
        "limits": stage.limits and {name: getattr(stage.limits, name) for name in stage.limits.__struct_fields__},
        "message": stage.message,
    }


def current_stages(views: Views, address: Address, kind: str) -> list[dict[str, Any]]:
    found = views.query(
        "SELECT coalesce(stdout_bytes, 0) AS stdout_bytes, coalesce(stderr_bytes, 0) AS stderr_bytes, "
        "coalesce(stdout_truncated, FALSE) AS stdout_truncated, coalesce(stderr_truncated, FALSE) AS stderr_truncated, "
        "* EXCLUDE (stdout_bytes, stderr_bytes, stdout_truncated, stderr_truncated) FROM stages "
        "WHERE tenant = $1 AND id = $2 AND stage = $3 AND is_current ORDER BY test_case",
        *address,
        kind,
    )
    names = [column[0] for column in views.store._connection.description]
    wanted = STAGE_COLUMNS.split(", ")
    return [{name: row[names.index(name)] for name in wanted} for row in found]


def in_microseconds(time: Any) -> str | None:
    return None if time is None else f"{time:%Y-%m-%dT%H:%M:%S.%f}Z"


def assert_equal(views: Views, result: Result | None, address: Address, *, strays: int, last_sequence: int) -> None:
    """The views say of a submission what its result document says, field by field."""
    found = views.query("SELECT * FROM submissions WHERE tenant = $1 AND id = $2", *address)
    if result is None:
        assert found == []
        return
    row = views.one("SELECT * FROM submissions WHERE tenant = $1 AND id = $2", *address)
    environment = result.environment or EnvironmentRef(key=None, derivation=None, hit=None)  # type: ignore[arg-type]
    expected = {
        "status": result.status,
        "outcome": result.outcome,
        "message": result.message,
        "caused_by": result.caused_by,
        "labels": result.labels,
        "environment_key": environment.key,
        "environment_derivation": environment.derivation,
        "environment_hit": environment.hit,
        "builder_attempts": result.attempts.builder,
        "runner_attempts": result.attempts.runner,
        "submitted_at": result.submitted_at,
        "finished_at": result.finished_at,
        "cleaned_at": result.cleaned_at,
        "strays": strays,
        "last_sequence": last_sequence,
    }
    found_row = {name: in_microseconds(row[name]) if name.endswith("_at") else row[name] for name in expected}
    same(found_row, expected)
    same(current_stages(views, address, "dependencies"), [as_view_shows(s) for s in [result.dependencies] if s])
    same(current_stages(views, address, "compile"), [as_view_shows(s) for s in [result.compile] if s])
    same(current_stages(views, address, "run"), [as_view_shows(s) for s in result.run])


def same(found: object, expected: object) -> None:
    assert found == expected, f"the views say {found}, the fold says {expected}"

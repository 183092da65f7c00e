"""What a report asks the views, and about which submissions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from cutor.projections.queries.questions import Parameters

_SQL: Final = Path(__file__).with_name("sql")
STACK: Final = "stack"
"""The section that every statement has: of which moment the others are."""
STATEMENTS: Final = (
    ("scope", "outcomes", "tenants", "throughput", "busiest", "unended", "letters", "gaps"),
    ("labels", "durations", "parked"),
    ("latencies",),
    ("stages", "usage"),
    ("environments",),
    ("workers",),
    ("notable",),
)
"""The files of ``sql`` that go into one statement: DuckDB frees what a part of a statement needed at its end alone."""
SECTION_NAMES: Final = tuple(name for names in STATEMENTS for name in names)


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """Which submissions a report is about: handed in from ``since_ns`` on and before ``until_ns``, of a tenant, with labels.

    Times are nanoseconds since 1970, UTC; None: no bound.
    """

    since_ns: int | None = None
    until_ns: int | None = None
    tenant: str | None = None
    labels: Mapping[str, str] = {}

    def parameters(self) -> Parameters:
        """Return the values that the statement names."""
        return {
            "since_us": _microseconds(self.since_ns),
            "until_us": _microseconds(self.until_ns),
            "tenant": self.tenant,
            "labels": json.dumps(dict(self.labels)),
        }


@cache
def statements() -> tuple[str, ...]:
    """Return the statements: of each one row, a column a section, which is a JSON array of its rows."""
    return tuple(_statement(STACK, *names) for names in STATEMENTS)


def _statement(*names: str) -> str:
    columns = ",\n".join(_column(name) for name in names)
    return f"{_read('chosen')}\nSELECT\n{columns}"


def _column(name: str) -> str:
    return f"(SELECT coalesce(to_json(list(section)), '[]') FROM (\n{_read(name)}\n) AS section) AS {name}"  # noqa: S608 - ours


def _read(name: str) -> str:
    return (_SQL / f"{name}.sql").read_text()


def _microseconds(moment_ns: int | None) -> int | None:
    return None if moment_ns is None else moment_ns // 1000

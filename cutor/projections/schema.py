"""The SQL files of this package, and the digest of everything that decides what a file of views holds."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from cutor.model.codec import VERSIONS
from cutor.model.state import STEP_OF_ROLE, TRANSITIONS, Status
from cutor.model.subjects import ENVIRONMENTS, EVENTS, SUBMISSION_ID, TENANT
from cutor.projections.folds.rows import ROWS_VERSION

SQL: Final = Path(__file__).with_name("sql")
FOLDS: Final[dict[str, str]] = {EVENTS: "fold", ENVIRONMENTS: "fold_environments"}
"""For every stream, the directory with the statements that fold a batch of it, in the order of their names."""
TABLES: Final = (
    "events", "submissions", "stages", "environments", "dead_letters", "checkpoint", "gaps",
    "attempts", "workers", "test_cases", "latencies", "throughput", "outcomes_by_label", "queue",
    "rejudgements", "rejudged_stages",
)  # fmt: skip
"""The scripts of tables and views, each behind those that it reads."""

SUBJECT_PATTERN: Final = rf"^cutor\.ev\.({TENANT.pattern})\.({SUBMISSION_ID.pattern})\.(.+)$"

NOT_SUBMITTED: Final = 1
"""Number of the status before ``submitted``; the others follow in the order in which the transition table leads to them."""


class StatusRow(NamedTuple):
    """A status as the fold sees it."""

    number: int
    name: Status | None


class TransitionRow(NamedTuple):
    """An event as the fold sees it: for the status numbered n, ``next[n - 1]`` is the status that follows, None for a stray.

    ``number`` is the row's, from 1, ``lease_role`` the role of the lease that it belongs to, empty for none.
    """

    number: int
    name: str
    lease_role: str
    next: list[int | None]


def statuses() -> list[StatusRow]:
    """Return the statuses of the transition table, numbered from 1."""
    names: list[Status | None] = [None, *dict.fromkeys(TRANSITIONS.values())]
    return [StatusRow(number, name) for number, name in enumerate(names, NOT_SUBMITTED)]


def transitions() -> list[TransitionRow]:
    """Return the transition table, one row an event and role; under a lease, only the steps of its role count."""
    numbers = {row.name: row.number for row in statuses()}
    table = {(status, event): numbers[to] for (status, event), to in TRANSITIONS.items()}
    steps: dict[str, Collection[Status | None]] = {"": numbers.keys(), **{role: set(of) for role, of in STEP_OF_ROLE.items()}}
    rows = itertools.product(sorted({event for _, event in TRANSITIONS}), steps)
    return [
        TransitionRow(number, name, role, [table.get((status, name)) if status in steps[role] else None for status in numbers])
        for number, (name, role) in enumerate(rows, 1)
    ]


@cache
def table_scripts() -> tuple[str, ...]:
    """Return the scripts that make an empty file's tables and views."""
    return ("CREATE SCHEMA folds;", *((SQL / "tables" / f"{name}.sql").read_text() for name in TABLES))


@cache
def session_script() -> str:
    """Return the script that every connection of the writer begins with."""
    return (SQL / "session.sql").read_text()


@cache
def settle_statements() -> tuple[str, ...]:
    """Return the statements that work what small batches left in ``folds.moving`` into ``folds.settled``, in order."""
    return tuple(_split((SQL / "settle.sql").read_text()))


@cache
def small_inserts() -> dict[str, str]:
    """Return the statements that insert the rows of a small batch, by the names of the relations that they read."""
    return {path.stem: path.read_text() for path in sorted((SQL / "small").glob("*.sql"))}


class Statement(NamedTuple):
    """One statement of a fold, and what it is for: it can be left out of a batch that has none of it.

    ``wanted`` names kinds of events, or what a statement before it found: one that ``finds`` returns rows of such names.
    """

    sql: str
    wanted: frozenset[str]
    finds: bool


@cache
def fold_statements(stream: str) -> tuple[Statement, ...]:
    """Return the statements that fold one batch of a stream, in order."""
    scripts = (path.read_text() for path in sorted((SQL / FOLDS[stream]).glob("*.sql")))
    return tuple(_statement(text) for script in scripts for text in _split(script))


def _split(script: str) -> list[str]:
    """Return the statements of a script."""
    return [text for text in re.split(r";\s*$", script, flags=re.MULTILINE) if text.strip()]


def _statement(text: str) -> Statement:
    """Return a statement with what its comments ``-- when: …`` (for every batch without it) and ``-- finds: …`` name."""
    when, finds = (re.search(rf"^-- {word}: (.*)$", text, re.MULTILINE) for word in ("when", "finds"))
    return Statement(text, frozenset(when[1].split() if when else ()), finds is not None)


@cache
def rules_digest() -> str:
    """Return the SHA-256, in hex, of the rules of the fold: a file made by others must be made again."""
    rules = {
        "sql": [
            *table_scripts(),
            session_script(),
            *settle_statements(),
            *small_inserts().values(),
            *(text for stream in FOLDS for text, *_ in fold_statements(stream)),
        ],
        "transitions": [statuses(), transitions()],
        "versions": VERSIONS,
        "patterns": [SUBJECT_PATTERN],
        "rows": ROWS_VERSION,
    }
    return hashlib.sha256(msgspec.json.encode(rules)).hexdigest()

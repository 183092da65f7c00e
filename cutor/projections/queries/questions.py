"""What goes over the wire between who asks in SQL and who answers: request and reply on the subject `SUBJECT`.

A question's document: ``sql``, ``parameters`` if the statement names any, and ``timeout_s``, ``rows`` and ``max_age_s`` if they
are to be other than the defaults. The answer's: ``columns``, ``rows`` and ``truncated``; ``as_of``, up to where the views held
each stream; ``behind``, how many messages each stream held beyond that; ``views_bytes``. Or ``error`` with ``kind`` (``query``:
the question is at fault, ``timeout``, ``unavailable``).

Without DuckDB, which takes as long to import as all else that a command needs: who asks has no use for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

SUBJECT: Final = "cutor.query"
DEFAULT_TIMEOUT_S: Final = 10.0
"""About so long a person waits. A choice, and an option of each question."""
LONGEST_TIMEOUT_S: Final = 120.0
"""A choice of what others can bear: questions share a few turns."""
DEFAULT_ROWS: Final = 10_000
"""Rows of an answer, unless the question says another number; more of them are cut off, and the answer says so."""
MOST_ROWS: Final = 1_000_000
"""Most rows that a question can ask for."""
SQL_CHARACTERS: Final = 100_000
"""Longer than statements of people; what a program would inline belongs into parameters. A choice."""
PARAMETERS: Final = 100
"""Most values beside a statement."""

Parameters = Mapping[str, str | int | float | bool | None]
"""Values that a statement names: ``$tenant``. They never become part of its text."""

FailureKind = Literal["query", "timeout", "unavailable"]


class Question(msgspec.Struct, kw_only=True):
    """What is asked. ``rows`` is the most rows wanted: what goes beyond is left out, and the answer says so.

    ``max_age_s``: how old the copy of the views may be that answers; None leaves it to the projector.
    """

    sql: str
    """one statement in DuckDB's SQL, up to 100000 characters"""
    parameters: dict[str, str | int | float | bool | None] = {}
    """values that it names as `$NAME`, 100 at the most"""
    timeout_s: float = DEFAULT_TIMEOUT_S
    """seconds that it may take, 120 at the most"""
    rows: int = DEFAULT_ROWS
    """most rows that are wanted, 1000000 at the most; what goes beyond is left out"""
    max_age_s: float | None = None
    """seconds that the copy of the views may be old; null leaves it to the projector"""


class AsOf(msgspec.Struct, kw_only=True):
    """The last message of a stream that is in the views, 0 for none, and its time, UTC; what they wait for to go on."""

    sequence: int
    """of the last message in the views, 0 for none"""
    time: str | None
    """of that message, UTC, or null"""
    waits_for: str | None = None
    """what the views wait for to go on, or null"""


class Standing(msgspec.Struct, kw_only=True):
    """Of what an answer is, a stream each; ``behind`` is null where the server could not be asked.

    ``views_bytes`` is the size of the views on the projector's disk, with their log.
    """

    as_of: dict[str, AsOf]
    """up to where the views hold each stream"""
    behind: dict[str, int] | None
    """messages that each stream has beyond that; null where the server could not be asked"""
    views_bytes: int
    """size of the views on the projector's disk, with their log"""


class Failure(msgspec.Struct, kw_only=True):
    """Why there is no answer; ``error`` is one line."""

    error: str
    """why there is no answer, in one line"""
    kind: FailureKind = "query"
    """`query`: the question is at fault; else the projector is"""

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
LONGEST_TIMEOUT_S: Final = 120.0
DEFAULT_ROWS: Final = 10_000
MOST_ROWS: Final = 1_000_000
SQL_CHARACTERS: Final = 100_000
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
    parameters: dict[str, str | int | float | bool | None] = {}
    timeout_s: float = DEFAULT_TIMEOUT_S
    rows: int = DEFAULT_ROWS
    max_age_s: float | None = None


class AsOf(msgspec.Struct, kw_only=True):
    """The last message of a stream that is in the views, 0 for none, and its time, UTC; what they wait for to go on."""

    sequence: int
    time: str | None
    waits_for: str | None = None


class Standing(msgspec.Struct, kw_only=True):
    """Of what an answer is, a stream each; ``behind`` is null where the server could not be asked.

    ``views_bytes`` is the size of the views on the projector's disk, with their log.
    """

    as_of: dict[str, AsOf]
    behind: dict[str, int] | None
    views_bytes: int


class Failure(msgspec.Struct, kw_only=True):
    """Why there is no answer; ``error`` is one line."""

    error: str
    kind: FailureKind = "query"

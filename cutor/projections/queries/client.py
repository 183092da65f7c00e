"""Questions in SQL to the projector of a stack."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, Final, NamedTuple

import msgspec

from cutor.bus.connection import Bus
from cutor.bus.service import NobodyServes, NoReply, request
from cutor.projections.errors import QueryError, QueryTimeout, QueryUnavailable
from cutor.projections.queries.questions import DEFAULT_ROWS, DEFAULT_TIMEOUT_S, SUBJECT, AsOf, Failure, Parameters, Question

MARGIN_S: Final = 5.0
"""What an answer may take on its way beyond the time that the query is given."""


class Column(NamedTuple):
    """A column of an answer; ``type`` is DuckDB's name of it."""

    name: str
    """its name"""
    type: str
    """DuckDB's name of its type"""


class Table(NamedTuple):
    """An answer. Values are those of JSON: times, UUIDs, intervals, blobs and numbers like NaN are text
    as DuckDB writes it; those of a DECIMAL are `decimal.Decimal`, exact.

    ``truncated`` says that there were more rows than were asked for. ``as_of`` says, for each stream, up to where the views
    held it, and ``behind`` how many messages it held beyond that; ``views_bytes`` is the size of the views. None where
    the projector does not say.
    """

    columns: list[Column]
    """name and type of each"""
    rows: list[list[Any]]
    """a list of values each"""
    truncated: bool
    """whether there were more rows than were asked for"""
    as_of: dict[str, AsOf] | None = None
    """up to where the views held each stream"""
    behind: dict[str, int] | None = None
    """messages that each stream held beyond that; None where that is not known"""
    views_bytes: int | None = None
    """size of the views on the projector's disk, with their log"""


async def query(
    bus: Bus,
    sql: str,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    *,
    rows: int = DEFAULT_ROWS,
    parameters: Parameters | None = None,
    max_age_s: float | None = None,
) -> Table:
    """Ask the projector; the answer sees everything that it had committed ``max_age_s`` before the question came.

    That is 0 unless the projector is configured otherwise; the answer says how far behind the streams it is.

    What others wrote goes into ``parameters``, never into ``sql``: ``$name`` there stands for the value of that name.

    Raises `QueryError` (the statement is wrong, not allowed, or its answer too large), `QueryTimeout` (stopped after
    ``timeout_s``), `QueryUnavailable` (no projector answers, or it has too much to do); one line each.
    """
    try:
        question = Question(sql=sql, parameters=dict(parameters or {}), timeout_s=timeout_s, rows=rows, max_age_s=max_age_s)
        answer = await request(bus, SUBJECT, msgspec.json.encode(question), timeout_s=timeout_s + MARGIN_S)
    except UnicodeEncodeError as error:
        raise QueryError("the question is not UTF-8") from error
    except NobodyServes as error:
        raise QueryUnavailable(f"no projector answers queries at {bus.address}: is one running (`cutor up`)?") from error
    except NoReply as error:
        raise QueryTimeout(f"the projector at {bus.address} did not answer in {timeout_s + MARGIN_S:g} s") from error
    try:
        return _table(json.loads(answer, parse_constant=str, parse_float=Decimal))
    except RecursionError as error:
        raise QueryError("the answer is nested too deeply to be read") from error


def _table(document: dict[str, Any]) -> Table:
    if "error" in document:
        failure = msgspec.convert(document, Failure)
        kinds = {"query": QueryError, "timeout": QueryTimeout, "unavailable": QueryUnavailable}
        raise kinds[failure.kind](failure.error)
    columns = [Column(column["name"], column["type"]) for column in document["columns"]]
    inexact = [number for number, column in enumerate(columns) if "DECIMAL" not in column.type]
    for row in document["rows"]:
        for number in inexact:
            row[number] = _as_floats(row[number])
    as_of = msgspec.convert(document.get("as_of"), dict[str, AsOf] | None)
    return Table(columns, document["rows"], document["truncated"], as_of, document.get("behind"), document.get("views_bytes"))


def _as_floats(value: Any) -> Any:
    """Return a value with floats in place of decimals: the number was a DOUBLE, of which DuckDB writes what makes it again."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, list):
        return [_as_floats(item) for item in value]
    return {key: _as_floats(item) for key, item in value.items()} if isinstance(value, dict) else value

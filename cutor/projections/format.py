"""A table as text for people, or as JSON or CSV for programs. Without side effects."""

from __future__ import annotations

import csv
import io
import json
import re
from decimal import Decimal
from typing import Any, Final

import msgspec

from cutor.model.units import counted
from cutor.projections.queries.client import Column, Table
from cutor.text import cut, escape, width

CELL_COLUMNS: Final = 60
"""Widest cell of a table for people."""
_NUMBER: Final = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|DOUBLE|FLOAT|DECIMAL\(\d+, ?\d+\)", re.ASCII)
"""Types whose values stand to the right."""
NOTICEABLE: Final = 100
"""Messages behind a stream from which on a table for people says so."""
EXPLAIN_COLUMNS: Final = ["explain_key", "explain_value"]
"""The columns of an EXPLAIN, whose plans are pictures: they are shown as they are."""


def to_text(table: Table, columns: int | None = None) -> str:
    """Return a table for a terminal: aligned columns, control characters escaped, long cells cut, a line about the rest.

    ``columns``: how many the terminal has. Where the table is wider than that, each row is shown by itself, a value a line.
    """
    if [column.name for column in table.columns] == EXPLAIN_COLUMNS:
        return "\n".join(escape(str(plan), keep="\n") for _, plan in table.rows)
    header = [_cell(column.name) for column in table.columns]
    cells = [[_cell(value) for value in row] for row in table.rows]
    widths = [max(map(width, column)) for column in zip(header, *cells, strict=True)]
    if columns is not None and sum(widths) + 2 * (len(widths) - 1) > columns:
        lines = _records(header, cells, columns)
    else:
        lines = [_line(header, widths, table.columns), "  ".join("─" * wide for wide in widths)]
        lines += [_line(row, widths, table.columns) for row in cells]
    count = counted(len(table.rows), "row")
    lines.append(f"({count}{', and more that are not shown' if table.truncated else ''})")
    return "\n".join([*lines, *_lag(table)])


def _lag(table: Table) -> list[str]:
    """Return a line where the answer is of some time ago; the few messages of a moment are none."""
    late = {stream: count for stream, count in (table.behind or {}).items() if count >= NOTICEABLE}
    as_of = table.as_of or {}
    told = [
        f"{stream}: {counted(count, 'message')} behind, as of {as_of[stream].time or 'its beginning'}"
        for stream, count in late.items()
    ]
    return [*([f"({'; '.join(told)})"] if told else []), *(f"({escape(reason)})" for reason in waits(table))]


def waits(table: Table) -> list[str]:
    """Return what keeps the views of an answer from going on; each names its stream."""
    return [at.waits_for for at in (table.as_of or {}).values() if at.waits_for is not None]


def _line(cells: list[str], widths: list[int], columns: list[Column]) -> str:
    aligned = [
        " " * (wide - width(cell)) + cell if _NUMBER.fullmatch(column.type) else cell + " " * (wide - width(cell))
        for cell, wide, column in zip(cells, widths, columns, strict=True)
    ]
    return "  ".join(aligned).rstrip()


def _records(header: list[str], cells: list[list[str]], columns: int) -> list[str]:
    """Return each row below a line of its own, a value a line; of no row the names alone."""
    names = [cut(name, columns) for name in header]
    aside = max(map(width, names))
    lines: list[str] = [] if cells else names
    for number, row in enumerate(cells, 1):
        lines.append(f"── {number} ".ljust(min(columns, aside + CELL_COLUMNS), "─"))
        named = (f"{name}{' ' * (aside - width(name))}  {value}" for name, value in zip(names, row, strict=True))
        lines += [cut(line, columns).rstrip() for line in named]
    return lines


def _cell(value: Any) -> str:
    return cut(escape("" if value is None else value if isinstance(value, str) else json_text(value)), CELL_COLUMNS)


def to_json(table: Table) -> str:
    """Return a JSON document: ``columns`` (name, type), ``rows`` (one array each), ``truncated``, ``as_of``, ``behind``."""
    columns = [column._asdict() for column in table.columns]
    as_of = {stream: msgspec.structs.asdict(at) for stream, at in (table.as_of or {}).items()} or None
    answer = {"columns": columns, "rows": table.rows, "truncated": table.truncated, "as_of": as_of, "behind": table.behind}
    return json_text(answer)


def json_text(value: Any) -> str:
    """Return JSON of a value of a table; a decimal is a number with all of its digits."""
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError:  # there is a decimal in it: `json` writes them nowhere, and a float would not be the same number
        return _with_decimals(value)


def _with_decimals(value: Any) -> str:
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json_text(key)}: {json_text(item)}" for key, item in value.items()) + "}"
    return "[" + ", ".join(map(json_text, value)) + "]"


def to_csv(table: Table) -> str:
    """Return CSV with a header; null is an empty field, nested values are JSON."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow([column.name for column in table.columns])
    for row in table.rows:
        writer.writerow([value if value is None or isinstance(value, str) else json_text(value) for value in row])
    return written.getvalue()

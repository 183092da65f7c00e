"""A table as text for people, or as JSON, CSV or Parquet for programs. Pure but for `to_parquet`."""

from __future__ import annotations

import csv
import io
import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import duckdb

from cutor.projections.errors import AnswerNotWritten
from cutor.projections.query_client import Column, Table
from cutor.text import cut, escape, width

CELL_COLUMNS: Final = 60
"""Widest cell of a table for people."""
_FLAT_TYPE: Final = re.compile(r"[A-Z][A-Z0-9_ ]*(\(\d+(, ?\d+)?\))?(\[\d*\])?", re.ASCII)
"""Types that a Parquet column takes over as they are; others (structs, maps, enums) become JSON text."""
_NUMBER: Final = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|DOUBLE|FLOAT|DECIMAL\(\d+, ?\d+\)", re.ASCII)
"""Types whose values stand to the right."""
EXPLAIN_COLUMNS: Final = ["explain_key", "explain_value"]
"""The columns of an EXPLAIN, whose plans are pictures: they are shown as they are."""


def to_text(table: Table) -> str:
    """Return a table for a terminal: aligned columns, control characters escaped, long cells cut, a line about the rest."""
    if [column.name for column in table.columns] == EXPLAIN_COLUMNS:
        return "\n".join(escape(str(plan), keep="\n") for _, plan in table.rows)
    header = [escape(column.name) for column in table.columns]
    cells = [[_cell(value) for value in row] for row in table.rows]
    widths = [max(map(width, column)) for column in zip(header, *cells, strict=True)]
    lines = [_line(header, widths, table.columns), "  ".join("─" * columns for columns in widths)]
    lines += [_line(row, widths, table.columns) for row in cells]
    count = f"{len(table.rows)} row{'' if len(table.rows) == 1 else 's'}"
    lines.append(f"({count}{', and more that are not shown' if table.truncated else ''})")
    return "\n".join(lines)


def _line(cells: list[str], widths: list[int], columns: list[Column]) -> str:
    aligned = [
        " " * (wide - width(cell)) + cell if _NUMBER.fullmatch(column.type) else cell + " " * (wide - width(cell))
        for cell, wide, column in zip(cells, widths, columns, strict=True)
    ]
    return "  ".join(aligned).rstrip()


def _cell(value: Any) -> str:
    return cut(escape("" if value is None else value if isinstance(value, str) else _json(value)), CELL_COLUMNS)


def to_json(table: Table) -> str:
    """Return a JSON document: ``columns`` (name, type), ``rows`` (one array each), ``truncated``."""
    return _json({"columns": [column._asdict() for column in table.columns], "rows": table.rows, "truncated": table.truncated})


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError:  # there is a decimal in it: `json` writes them nowhere, and a float would not be the same number
        return _json_with_decimals(value)


def _json_with_decimals(value: Any) -> str:
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_json(key)}: {_json(item)}" for key, item in value.items()) + "}"
    return "[" + ", ".join(map(_json, value)) + "]"


def to_csv(table: Table) -> str:
    """Return CSV with a header; null is an empty field, nested values are JSON."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow([column.name for column in table.columns])
    for row in table.rows:
        writer.writerow([value if value is None or isinstance(value, str) else _json(value) for value in row])
    return written.getvalue()


def to_parquet(table: Table, path: Path) -> None:
    """Write a Parquet file with the types of the answer; nested values other than lists become JSON text.

    The name of a column that is there twice gets a number. Raises `AnswerNotWritten`.
    """
    try:
        _write_parquet(table, path)
    except duckdb.Error as error:
        raise AnswerNotWritten(f"the answer cannot be written as a Parquet file: {error}") from error


def _write_parquet(table: Table, path: Path) -> None:
    with duckdb.connect(config={"autoinstall_known_extensions": False, "python_enable_replacements": False}) as connection:
        connection.execute(f"CREATE TABLE answer ({', '.join(f'c{n} JSON' for n in range(len(table.columns)))})")
        appender = connection.appender("answer")
        appender.append_rows([None if value is None else _json(value) for value in row] for row in table.rows)
        appender.flush()
        columns = ", ".join(
            f"{_parquet_value(n, column.type)} AS {_quoted(name)}"
            for n, (column, name) in enumerate(zip(table.columns, _distinct(table.columns), strict=True))
        )
        target = str(path).replace("'", "''")
        connection.execute(f"COPY (SELECT {columns} FROM answer) TO '{target}' (FORMAT parquet, USE_TMP_FILE false)")  # noqa: S608 - quoted above


def _parquet_value(number: int, kind: str) -> str:
    if kind == "BLOB":
        return f"(c{number} ->> '$')::BLOB"
    if not _FLAT_TYPE.fullmatch(kind) or kind == "JSON":
        return f"c{number}::VARCHAR"
    if kind.startswith("DECIMAL") and not kind.endswith("]"):
        return f"c{number}::VARCHAR::{kind}"  # `->>` would read the number as a DOUBLE
    return f"CAST(c{number} AS {kind})" if kind.endswith("]") else f"(c{number} ->> '$')::{kind}"


def _distinct(columns: list[Column]) -> list[str]:
    names: list[str] = []
    for column in columns:
        name, number = column.name, 1
        while name.lower() in {taken.lower() for taken in names}:
            name = f"{column.name}_{(number := number + 1)}"
        names.append(name)
    return names


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'

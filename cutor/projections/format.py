"""A table as text for people, or as JSON, CSV or Parquet for programs. Pure but for `to_parquet`."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any, Final

import duckdb

from cutor.projections.query_client import Column, Table

CELL_CHARACTERS: Final = 60
"""Widest cell of a table for people."""
_FLAT_TYPE: Final = re.compile(r"[A-Z][A-Z0-9_ ]*(\(\d+(, ?\d+)?\))?(\[\d*\])?", re.ASCII)
"""Types that a Parquet column takes over as they are; others (structs, maps, enums) become JSON text."""
_RIGHT: Final = ("INT", "DOUBLE", "FLOAT", "DECIMAL")


def to_text(table: Table) -> str:
    """Return a table for a terminal: aligned columns, control characters escaped, long cells cut, a line about the rest."""
    header = [_printable(column.name) for column in table.columns]
    cells = [[_cell(value) for value in row] for row in table.rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    lines = [_line(header, widths, table.columns), "  ".join("─" * width for width in widths)]
    lines += [_line(row, widths, table.columns) for row in cells]
    count = f"{len(table.rows)} row{'' if len(table.rows) == 1 else 's'}"
    lines.append(f"({count}{', and more that are not shown' if table.truncated else ''})")
    return "\n".join(lines)


def _line(cells: list[str], widths: list[int], columns: list[Column]) -> str:
    aligned = [
        cell.rjust(width) if any(kind in column.type for kind in _RIGHT) and "(" not in column.type else cell.ljust(width)
        for cell, width, column in zip(cells, widths, columns, strict=True)
    ]
    return "  ".join(aligned).rstrip()


def _cell(value: Any) -> str:
    text = _printable("" if value is None else value if isinstance(value, str) else _json(value))
    return text if len(text) <= CELL_CHARACTERS else text[: CELL_CHARACTERS - 1] + "…"


def _printable(text: str) -> str:
    """Return text that cannot move a cursor: what is not printable is written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def to_json(table: Table) -> str:
    """Return a JSON document: ``columns`` (name, type), ``rows`` (one array each), ``truncated``."""
    return _json({"columns": [column._asdict() for column in table.columns], "rows": table.rows, "truncated": table.truncated})


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


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

    The name of a column that is there twice gets a number. Raises duckdb.Error where the file cannot be written.
    """
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
        connection.execute(f"COPY (SELECT {columns} FROM answer) TO '{target}' (FORMAT parquet)")  # noqa: S608 - quoted above


def _parquet_value(number: int, kind: str) -> str:
    if kind == "BLOB":
        return f"(c{number} ->> '$')::BLOB"
    if not _FLAT_TYPE.fullmatch(kind) or kind == "JSON":
        return f"c{number}::VARCHAR"
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

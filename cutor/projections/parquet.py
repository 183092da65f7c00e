"""A table as a Parquet file, which DuckDB writes: imported where one is wanted, for it takes as long as a whole command."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import duckdb

from cutor.projections.errors import AnswerNotWritten
from cutor.projections.format import json_text
from cutor.projections.queries.client import Column, Table

_FLAT_TYPE: Final = re.compile(r"[A-Z][A-Z0-9_ ]*(\(\d+(, ?\d+)?\))?(\[\d*\])?", re.ASCII)
"""Types that a Parquet column takes over as they are; others (structs, maps, enums) become JSON text."""


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
        appender.append_rows([None if value is None else json_text(value) for value in row] for row in table.rows)
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

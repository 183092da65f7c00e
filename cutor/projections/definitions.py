"""What a file of views that somebody else may have written defines: code of its own is found before any of it is run.

A view, a macro or a trigger of a file is run by whoever asks that file for rows. So this looks into DuckDB's own catalog alone,
over a connection that reaches nothing but the file, and compares it with that of an empty file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

import duckdb

from cutor.projections import schema

_CATALOG: Final = """
SELECT 'table', schema_name, table_name, sql FROM duckdb_tables() WHERE NOT internal
UNION ALL SELECT 'view', schema_name, view_name, sql FROM duckdb_views() WHERE NOT internal
UNION ALL SELECT 'index', schema_name, index_name, sql FROM duckdb_indexes()
UNION ALL SELECT 'trigger', schema_name, trigger_name, sql FROM duckdb_triggers()
UNION ALL SELECT 'sequence', schema_name, sequence_name, sql FROM duckdb_sequences()
UNION ALL SELECT 'type', schema_name, type_name, logical_type FROM duckdb_types() WHERE NOT internal
UNION ALL SELECT 'macro', schema_name, function_name, macro_definition FROM duckdb_functions() WHERE NOT internal
UNION ALL SELECT 'schema', schema_name, '', NULL FROM duckdb_schemas() WHERE NOT internal
"""
_ENCLOSED: Final[dict[str, str | bool | int | float | list[str]]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "enable_external_access": False,
    "python_enable_replacements": False,
}


class DefinedOtherwise(Exception):
    """A file defines something in another way than views do, or more, or less; the message names it."""


@contextmanager
def enclosed(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a file to read, such that nothing in it leads to another file or an extension. Raises what DuckDB raises."""
    with duckdb.connect(path, read_only=True, config=_ENCLOSED) as connection:
        yield connection


def check_definitions(connection: duckdb.DuckDBPyConnection) -> None:
    """Raise `DefinedOtherwise` unless a file defines what an empty one does. Nothing that the file defines is run."""
    found, wanted = _defined(connection), defined()
    if found == wanted:
        return
    kind, *names = min(found ^ wanted, key=str)[:3]
    raise DefinedOtherwise(f"its {kind} {'.'.join(filter(None, names))} is not defined as in views")


@cache
def defined() -> frozenset[tuple[str, ...]]:
    """Return what an empty file of views defines. It takes 0.2 s, once."""
    with duckdb.connect(":memory:") as connection:
        for script in schema.table_scripts():
            connection.execute(script)
        return _defined(connection)


def _defined(connection: duckdb.DuckDBPyConnection) -> frozenset[tuple[str, ...]]:
    return frozenset(connection.execute(_CATALOG).fetchall())

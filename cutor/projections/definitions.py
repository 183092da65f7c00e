"""What a file of views that somebody else may have written defines: code of its own is found before any of it is run.

A view, a macro or a trigger of a file is run by whoever asks that file for rows. So this looks into DuckDB's own catalog alone,
over a connection that reaches nothing but the file, and compares it with that of an empty file.

To make an empty file takes 0.2 s. So what one defines lies beside the SQL, as a digest (`Defined`; `make docs` writes it).
Where that is of another DuckDB or of other scripts, or is not what a file defines, an empty one is made all the same, and has
the say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

import duckdb
import msgspec

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


DIGEST: Final = schema.SQL / "definitions.json"
"""Has what an empty file of views defines, as `Defined`."""

Definitions = frozenset[tuple[str | None, ...]]


class Defined(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a file defines: the SHA-256, in hex, of that, as this version of DuckDB tells it, and of the scripts of views."""

    duckdb: str
    scripts: str
    definitions: str

    @classmethod
    def of(cls, definitions: Definitions) -> Self:
        """Return what a file defines, if DuckDB and scripts are those of this process."""
        return cls(duckdb.__version__, _sha256(schema.table_scripts()), _sha256(sorted(definitions, key=str)))


def _sha256(told: object) -> str:
    return hashlib.sha256(msgspec.json.encode(told)).hexdigest()


class DefinedOtherwise(Exception):
    """A file defines something in another way than views do, or more, or less; the message names it."""


@contextmanager
def enclosed(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a file to read, such that nothing in it leads to another file or an extension. Raises what DuckDB raises."""
    with duckdb.connect(path, read_only=True, config=_ENCLOSED) as connection:
        yield connection


def check_definitions(connection: duckdb.DuckDBPyConnection) -> None:
    """Raise `DefinedOtherwise` unless a file defines what an empty one does. Nothing that the file defines is run."""
    found = _defined(connection)
    if Defined.of(found) == _known() or found == (wanted := defined()):
        return
    kind, *names = min(found ^ wanted, key=str)[:3]
    raise DefinedOtherwise(f"its {kind} {'.'.join(filter(None, names))} is not defined as in views")


def defined() -> Definitions:
    """Return what an empty file of views defines. It takes 0.2 s."""
    with duckdb.connect(":memory:") as connection:
        for script in schema.table_scripts():
            connection.execute(script)
        return _defined(connection)


def _known() -> Defined | None:
    """Return what an empty file of views defines, if that was written down."""
    try:
        return msgspec.json.decode(DIGEST.read_bytes(), type=Defined)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _defined(connection: duckdb.DuckDBPyConnection) -> Definitions:
    return frozenset(connection.execute(_CATALOG).fetchall())

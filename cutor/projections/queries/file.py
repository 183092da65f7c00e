"""Questions to a file of views that nobody writes: a snapshot, or what a replay made. For statements of cutor's own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import duckdb

from cutor.projections.errors import QueryError
from cutor.projections.queries.questions import Parameters
from cutor.projections.session import one_line

MEMORY_BYTES: Final = 2 << 30
"""As the projector's own connection has: the same statements are asked."""


def query_file(path: Path, statements: Sequence[str], parameters: Parameters) -> list[Mapping[str, Any]]:
    """Return the one row of each statement, by the names of its columns, which are JSON; they all see the same views.

    The file is opened for reading, and nothing else is: no other file, no network. Raises `QueryError` where it is none that
    this cutor can ask, or where a projector writes it.
    """
    if not path.is_file():
        raise QueryError(f"{path}: there is no such file")
    try:
        with duckdb.connect(path, read_only=True, config=_CONFIG) as connection:
            return [_row(connection, statement, parameters) for statement in statements]
    except (duckdb.CatalogException, duckdb.BinderException) as error:
        raise QueryError(f"{path}: not views of this version of cutor: {one_line(error)}") from error
    except duckdb.Error as error:
        why = "a projector writes it: ask a snapshot" if "lock on file" in str(error) else one_line(error)
        raise QueryError(f"{path}: cannot be asked: {why}") from error


_CONFIG: Final[dict[str, str | bool | int | float | list[str]]] = {
    "threads": 1,
    "memory_limit": f"{MEMORY_BYTES}B",
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "lock_configuration": True,
}


def _row(connection: duckdb.DuckDBPyConnection, statement: str, parameters: Parameters) -> Mapping[str, Any]:
    cursor = connection.execute(statement, dict(parameters))
    names = [column[0] for column in cursor.description]
    [values] = cursor.fetchall()
    return {name: json.loads(value) for name, value in zip(names, values, strict=True)}

"""What the statements of a fold read, by name: relations in memory, or what DuckDB reads from files itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import duckdb

from cutor.projections.folds.relation import Relation, Scan


class RelationUnreadable(Exception):
    """What a `Scan` reads is not there, or is not what it was."""


@contextmanager
def named(connection: duckdb.DuckDBPyConnection, relations: Mapping[str, Relation | Scan]) -> Iterator[None]:
    """Have a connection see relations by their names while the block lasts.

    A scan is read once, for the statements come back to it again and again. Raises `RelationUnreadable`.
    """
    try:
        for name, relation in relations.items():
            if isinstance(relation, Scan):
                _read(connection, name, relation)
            else:
                connection.register(name, relation)
        yield
    finally:
        for name, relation in relations.items():
            if isinstance(relation, Scan):
                connection.execute(f"DROP TABLE IF EXISTS temp.{name}")
            else:
                connection.unregister(name)


def _read(connection: duckdb.DuckDBPyConnection, name: str, scan: Scan) -> None:
    try:
        connection.execute(f"CREATE TEMP TABLE {name} AS {scan.sql}", scan.parameters)
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error as error:
        raise RelationUnreadable(str(error).strip().split("\n", 1)[0]) from error

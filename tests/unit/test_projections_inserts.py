"""Prepared inserts: what goes in, comes out, however it is laid out on the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import duckdb
import pytest

from cutor.projections.folds.inserts import JSON_TEXT, LIST, MAP, Insert, Row, numbers, texts

SQL = "INSERT INTO kept SELECT numbers[1], numbers[2], texts[1], texts[2], body, labels, names FROM coming"
SHAPE = {"numbers": numbers(2), "texts": texts(2), "body": JSON_TEXT, "labels": MAP, "names": LIST}
FIRST: Row = ((1, None), ("one", None), '{"a": 1}', {"course": "ä", "": ""}, ["x", None])
SECOND: Row = ((-(1 << 63), (1 << 63) - 1), ("", "zwei\0 ☃"), "null", {}, [])


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with closing(duckdb.connect()) as connection:
        connection.execute(
            "CREATE TABLE kept (a BIGINT, b BIGINT, c VARCHAR, d VARCHAR, e JSON, f MAP(VARCHAR, VARCHAR), g VARCHAR[])"
        )
        yield connection


def kept(connection: duckdb.DuckDBPyConnection) -> list[tuple[object, ...]]:
    return [tuple(row) for row in connection.execute("FROM kept ORDER BY a").fetchall()]


def flat(row: Row) -> Row:
    first, second, *rest = row
    return (*first, *second, *rest)


def test_rows_go_in_as_they_are(connection: duckdb.DuckDBPyConnection) -> None:
    Insert(connection, "coming", SQL, SHAPE)([FIRST, SECOND])
    assert kept(connection) == [flat(SECOND), flat(FIRST)]


def test_each_call_has_rows_of_its_own(connection: duckdb.DuckDBPyConnection) -> None:
    insert = Insert(connection, "coming", SQL, SHAPE)
    insert([FIRST])
    insert([])
    connection.execute("CREATE TABLE another (a BIGINT)")  # after which it is planned anew
    insert([SECOND])
    assert kept(connection) == [flat(SECOND), flat(FIRST)]


def test_rows_of_another_length_are_refused_and_leave_nothing_behind(connection: duckdb.DuckDBPyConnection) -> None:
    insert = Insert(connection, "coming", SQL, SHAPE)
    connection.begin()
    with pytest.raises(Exception, match="3 values in 1 rows of 2"):
        insert([((1, 2, 3), *FIRST[1:])])
    connection.rollback()
    insert([FIRST])
    assert kept(connection) == [flat(FIRST)]

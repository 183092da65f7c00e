"""A file of views that defines anything else than views do is told apart, and nothing that it defines is run meanwhile."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from cutor.projections.definitions import DefinedOtherwise, check_definitions, enclosed
from cutor.projections.store import Store


@pytest.fixture
def views(tmp_path: Path) -> Path:
    Store.open(tmp_path / "views.duckdb").close()
    return tmp_path / "views.duckdb"


def test_a_file_of_views_is_as_it_should_be_also_once_it_was_written_again(views: Path) -> None:
    for _ in range(2):
        with enclosed(views) as connection:
            check_definitions(connection)
        with duckdb.connect(views) as connection:
            connection.execute("UPDATE folds.waits SET reason = 'x'")
            connection.execute("CHECKPOINT")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            "CREATE OR REPLACE VIEW dead_letters AS SELECT content AS reason FROM read_text('{secret}')",
            "view main.dead_letters",
        ),
        ("CREATE VIEW more AS SELECT content AS reason FROM read_text('{secret}')", "view main.more"),
        ("DROP VIEW queue", "view main.queue"),
        ("CREATE MACRO max(a) AS a", "macro main.max"),
        ("CREATE MACRO rows() AS TABLE SELECT * FROM read_text('{secret}')", "macro main.rows"),
        ("ALTER TABLE gaps ALTER noticed_ns SET DEFAULT 7", "table main.gaps"),
        ("CREATE TABLE more (a INTEGER)", "table main.more"),
        ("CREATE TYPE mood AS ENUM ('sad')", "type main.mood"),
        ("CREATE SEQUENCE numbers", "sequence main.numbers"),
        ("CREATE SCHEMA other", "schema other"),
        ("CREATE INDEX ids ON events(id)", "index main.ids"),
    ],
)
def test_whatever_else_is_defined_is_named(views: Path, change: str, named: str) -> None:
    secret = views.with_name("secret")
    secret.write_text("secret")
    with duckdb.connect(views) as connection:
        connection.execute(change.format(secret=secret))
    secret.unlink()  # whatever looked at it would fail
    with enclosed(views) as connection, pytest.raises(DefinedOtherwise, match=f"its {named} is not defined as in views"):
        check_definitions(connection)


def test_a_file_that_is_looked_at_leads_to_no_other(views: Path) -> None:
    views.with_name("secret").write_text("secret")
    with enclosed(views) as connection, pytest.raises(duckdb.PermissionException):
        connection.execute("SELECT * FROM read_text($1)", [str(views.with_name("secret"))])

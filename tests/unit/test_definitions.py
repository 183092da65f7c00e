"""A file of views that defines anything else than views do is told apart, and nothing that it defines is run meanwhile."""

from __future__ import annotations

from pathlib import Path

import duckdb
import msgspec
import pytest

from cutor.projections import definitions
from cutor.projections.definitions import DIGEST, Defined, DefinedOtherwise, check_definitions, defined, enclosed
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


def test_what_is_written_down_is_what_an_empty_file_defines() -> None:
    assert msgspec.json.decode(DIGEST.read_bytes(), type=Defined) == Defined.of(defined()), "run `make docs`"


def test_an_empty_file_is_made_only_where_that_does_not_do(views: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(definitions, "defined", lambda: made.append(1) or defined())
    with enclosed(views) as connection:
        check_definitions(connection)
    assert made == []
    with duckdb.connect(views) as connection:
        connection.execute("CREATE TABLE more (a INTEGER)")
    with enclosed(views) as connection, pytest.raises(DefinedOtherwise):
        check_definitions(connection)
    assert made == [1]


@pytest.mark.parametrize(
    "written",
    [
        None,
        b"\xff",
        b"{}",
        msgspec.json.encode(Defined("1.0.0", "0" * 64, "0" * 64)),
        msgspec.json.encode(msgspec.structs.replace(Defined.of(defined()), duckdb="1.0.0")),
        msgspec.json.encode(msgspec.structs.replace(Defined.of(defined()), scripts="0" * 64)),
    ],
    ids=["nothing", "no JSON", "incomplete", "another", "of another DuckDB", "of other scripts"],
)
def test_what_was_written_down_of_something_else_counts_for_nothing(
    views: Path, monkeypatch: pytest.MonkeyPatch, written: bytes | None
) -> None:
    digest = views.with_name("definitions.json")
    if written is not None:
        digest.write_bytes(written)
    monkeypatch.setattr(definitions, "DIGEST", digest)
    with enclosed(views) as connection:
        check_definitions(connection)
    with duckdb.connect(views) as connection:
        connection.execute("CREATE MACRO max(a) AS a")
    with enclosed(views) as connection, pytest.raises(DefinedOtherwise, match=r"macro main\.max"):
        check_definitions(connection)

"""A file of views that somebody else may have written goes on as any other, and leads to no file but its own."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from cutor.bus.bulk.columns import Columns
from cutor.model.subjects import ENVIRONMENTS, EVENTS
from cutor.projections.errors import ViewsRejected
from cutor.projections.folds.batches import batch_of
from cutor.projections.session import Foreign, connect
from cutor.projections.store import Store
from tests.bench.lives import lives


@pytest.fixture
def views(tmp_path: Path) -> Path:
    store = Store.open(tmp_path / "views.duckdb", logged=False)
    store.apply_batch(EVENTS, batch_of(EVENTS, Columns.of([*lives(1000)][:600])))
    store.work_all_in()
    store.close()
    return tmp_path / "views.duckdb"


def test_it_is_folded_on(views: Path) -> None:
    rest = Columns.of([*lives(1000)][600:])
    store = Store.open(views, logged=False, foreign=Foreign())
    assert store.checkpoint(EVENTS).sequence == 600
    store.apply_batch(EVENTS, batch_of(EVENTS, rest.part(0, 300)))
    store.apply(EVENTS, rest.part(300, 400).each(EVENTS))
    store.work_all_in()
    store.close()
    again = Store.open(views)
    assert again.checkpoint(EVENTS).sequence == 1000
    again.close()
    with duckdb.connect(views, read_only=True) as connection:
        assert connection.execute("SELECT count(*) FILTER (counts), count(DISTINCT id) FROM events").fetchall() == [(1000, 200)]


@pytest.mark.parametrize(
    "change",
    [
        "CREATE OR REPLACE VIEW checkpoint AS SELECT content AS stream, 1 AS sequence FROM read_text('{secret}')",
        "CREATE MACRO utc(a) AS (SELECT content FROM read_text('{secret}'))",
        "DROP TABLE folds.rules; CREATE VIEW folds.rules AS SELECT content AS digest FROM read_text('{secret}')",
        "CREATE TABLE other (a INTEGER)",
    ],
)
def test_whatever_else_it_defines_is_not_run(views: Path, change: str) -> None:
    secret = views.with_name("secret")
    secret.write_text("secret")
    with duckdb.connect(views) as connection:
        connection.execute(change.format(secret=secret))
    secret.unlink()  # whatever looked at it would fail
    with pytest.raises(ViewsRejected, match="is not defined as in views"):
        Store.open(views, logged=False, foreign=Foreign())


def test_it_leads_to_what_it_is_to_read_alone(views: Path, tmp_path: Path) -> None:
    inside, outside = tmp_path / "archive", tmp_path / "archived"
    for place in (inside, outside):
        place.mkdir()
        (place / "file").write_text("some")
    with connect(views, logged=False, foreign=Foreign(reads=(inside,))) as connection:
        assert connection.execute("SELECT content FROM read_text($1)", [str(inside / "file")]).fetchall() == [("some",)]
        for path in (outside / "file", inside / ".." / "archived" / "file"):
            with pytest.raises(duckdb.PermissionException):
                connection.execute("SELECT content FROM read_text($1)", [str(path)])
        for statement in ("SET enable_external_access = TRUE", "SET allowed_directories = ['/']"):
            with pytest.raises(duckdb.InvalidInputException):
                connection.execute(statement)
        with pytest.raises(duckdb.PermissionException):
            connection.execute(f"ATTACH '{tmp_path / 'more.duckdb'}'")


def test_one_of_our_own_is_asked_for_nothing(views: Path) -> None:
    with duckdb.connect(views) as connection:
        connection.execute("CREATE TABLE other (a INTEGER)")
    Store.open(views, logged=False).close()


def test_rows_that_it_lacks_stop_nobody(views: Path) -> None:
    with duckdb.connect(views) as connection:
        connection.execute("DELETE FROM folds.waits")
    store = Store.open(views, logged=False, foreign=Foreign())
    assert [store.waits_for(stream) for stream in (EVENTS, ENVIRONMENTS)] == [None, None]
    store.close()

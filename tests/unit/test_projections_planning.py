"""The optimizers that small commits do without are there again for whatever reads many rows of the same file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cutor.model.subjects import EVENTS
from cutor.projections.store import Store
from tests.bench.lives import lives


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store.open(tmp_path / "views.duckdb")) as store:
        store.apply(EVENTS, [*lives(20)])
        assert "join_order" in left_out(store), "a small commit has set it"
        yield store


def left_out(store: Store) -> str:
    [(names,)] = store._connection.execute("SELECT current_setting('disabled_optimizers')").fetchall()
    return str(names)


def test_dead_letters_are_looked_for_with_all_optimizers(store: Store) -> None:
    assert store.dead_letters(EVENTS, 0, 10) == []
    assert left_out(store) == ""


def test_states_are_worked_in_with_all_optimizers(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cutor.projections.folds.small_fold.MOVING", 0)
    store.work_in()
    assert left_out(store) == ""


def test_nobody_else_asks_the_database_whose_optimizers_are_left_out(store: Store) -> None:
    """Two connections beside the first work the log in; a fourth one would be asking without optimizers."""
    [(connections,)] = store._connection.execute("SELECT * FROM duckdb_connection_count()").fetchall()
    assert connections == 3

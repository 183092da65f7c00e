"""A file of views without a write-ahead log: the same views, by whatever name it is opened, once everything is worked in."""

from __future__ import annotations

import itertools
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from cutor.bus.bulk.columns import Columns
from cutor.model.subjects import EVENTS
from cutor.projections.errors import ViewsUnwritable
from cutor.projections.folds.batches import batch_of
from cutor.projections.rebuilds.compare import Compared
from cutor.projections.schema import TABLES
from cutor.projections.session import UNLOGGED
from cutor.projections.store import Store
from cutor.projections.views_paths import literal
from tests.bench.lives import lives
from tests.full_disk import no_file_longer_than

BATCH, BATCHES = 1000, 3


def fold_into(store: Store) -> None:
    events = lives(BATCH * BATCHES)
    while some := list(itertools.islice(events, BATCH)):
        store.apply_batch(EVENTS, batch_of(EVENTS, Columns.of(some)))
        store.work_in()


@pytest.mark.parametrize("bytes_between_checkpoints", [0, 1 << 30])
def test_its_views_are_those_of_one_with_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bytes_between_checkpoints: int
) -> None:
    monkeypatch.setattr("cutor.projections.store.UNLOGGED_BYTES", bytes_between_checkpoints)
    made, moved, logged = (tmp_path / name for name in ("it's.duckdb", "else where.duckdb", "logged.duckdb"))
    with closing(Store.open(made, logged=False)) as store:
        fold_into(store)
        assert [path.name for path in tmp_path.iterdir()] == [made.name]
        store.work_all_in()
    made.rename(moved)
    with closing(Store.open(logged)) as store:
        fold_into(store)
    with closing(Compared(logged, moved, tmp_path)) as compared:
        assert compared.compare().difference is None
    assert UNLOGGED not in moved.stem
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH {literal(moved)} AS other (READ_ONLY)")
        for view in TABLES:
            connection.execute(f"SELECT * FROM other.{view}").fetchone()
    with closing(Store.open(moved)) as store:
        assert store.checkpoint(EVENTS).sequence == BATCH * BATCHES


def test_what_cannot_be_worked_in_is_no_silent_loss(tmp_path: Path) -> None:
    """No commit needs the disk, and the end does."""
    with closing(Store.open(tmp_path / "views.duckdb", logged=False)) as store:
        fold_into(store)
        with no_file_longer_than(100_000), pytest.raises(ViewsUnwritable, match="views cannot be written"):
            store.work_all_in()

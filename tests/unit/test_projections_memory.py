"""What passed through the session's tables is given back: a projector, or a rebuild, holds no more for having folded more."""

from __future__ import annotations

import itertools
from contextlib import closing
from pathlib import Path

import pytest

from cutor.bus.bulk.columns import Columns
from cutor.bus.message import Stored
from cutor.model.subjects import EVENTS
from cutor.projections.folds.batches import batch_of
from cutor.projections.store import Store
from tests.bench.lives import lives

BATCH, BATCHES = 1000, 12


def held_bytes(store: Store) -> int:
    """Return what tables in memory take."""
    sql = "SELECT memory_usage_bytes FROM duckdb_memory() WHERE tag = 'IN_MEMORY_TABLE'"
    [(size_bytes,)] = store._connection.execute(sql).fetchall()
    return int(size_bytes)


@pytest.mark.parametrize(("in_columns", "logged"), [(True, True), (False, True), (True, False)])
def test_memory_does_not_grow_with_what_was_folded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_columns: bool, logged: bool
) -> None:
    monkeypatch.setattr("cutor.projections.store.WAL_BYTES", 0)  # what is not in the file yet is in memory, too
    monkeypatch.setattr("cutor.projections.store.UNLOGGED_BYTES", 0)
    held = []
    with closing(Store.open(tmp_path / "views.duckdb", logged=logged)) as store:
        store.small = 0
        events = lives(BATCH * BATCHES, output_bytes=2000)
        while some := list(itertools.islice(events, BATCH)):
            if in_columns:
                messages = (Stored(EVENTS, one.sequence, one.subject, one.time_ns, None, {}, one.body) for one in some)
                store.apply_batch(EVENTS, batch_of(EVENTS, Columns.of(messages)))
            else:
                store.apply(EVENTS, some)
            store.work_in()
            held.append(held_bytes(store))
    assert max(held[BATCHES // 2 :]) <= max(held[: BATCHES // 2]) + (1 << 20)

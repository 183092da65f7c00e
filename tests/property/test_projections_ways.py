"""Every way to fold the same messages leaves the same rows: one by one, in small batches, in SQL, and any mixture of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cutor.projections.schema import FOLDS
from tests.property.submission_histories import streams
from tests.unit.views import Views, Written

TABLES = {
    "events": "sequence",
    "stages": "sequence",
    "folds.submissions": "last_sequence",
    "folds.requests": "sequence",
    "folds.builds": "sequence",
    "folds.ends": "sequence",
}
"""Every table of submissions, and the column that tells the rows of one example from those of the others."""


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Views]]:
    """One file that is folded in SQL, all messages at once; one message by message; one anyhow."""
    ways = [Views(tmp_path_factory.mktemp(name)) for name in ("sql", "one", "mixed")]
    ways[0].store.small = 0
    yield ways
    for views in ways:
        views.store.close()


@pytest.mark.timeout(900)
@settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.data())
def test_every_way_to_fold_leaves_the_same_rows(ways: list[Views], data: st.DataObject) -> None:
    whole, one_by_one, mixed = ways
    messages = [message for _, message in data.draw(streams(after=whole.sequence))]
    batches = cut(data, messages)  # all is drawn before any of it happens: an example may end at any draw
    before, whole.sequence = whole.sequence, whole.sequence + len(messages)
    whole.apply(messages)
    one_by_one.apply(messages, batch=1)
    for batch, small, memory in batches:
        anyhow(mixed, batch, small=small, memory=memory)
    for table, column in TABLES.items():
        expected = rows(whole, table, column, before)
        assert rows(one_by_one, table, column, before) == expected, table
        assert rows(mixed, table, column, before) == expected, table
    for views in ways:
        assert views.store._read_checkpoints() == {stream: views.store.checkpoint(stream) for stream in FOLDS}


def rows(views: Views, table: str, column: str, after: int) -> list[tuple[object, ...]]:
    """The rows that messages behind a sequence made."""
    return views.query(f"SELECT * FROM {table} WHERE {column} > $1 ORDER BY ALL", after)


def cut(data: st.DataObject, messages: Sequence[Written]) -> list[tuple[Sequence[Written], int, str]]:
    """Batches of any size, each with the way to fold it and what happens to the fold's memory before."""
    batches = []
    start = 0
    while start < len(messages):
        size = data.draw(st.integers(1, 6))
        small, memory = data.draw(st.tuples(st.sampled_from([0, 1000]), st.sampled_from(["kept", "kept", "lost", "settled"])))
        batches.append((messages[start : start + size], small, memory))
        start += size
    return batches


def anyhow(views: Views, batch: Sequence[Written], *, small: int, memory: str) -> None:
    views.store.small = small
    if memory == "lost":
        views.store._small.reset()
    elif memory == "settled":
        views.store._small.settle()
    views.apply(batch)

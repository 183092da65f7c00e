"""A range that this process reads is folded in two batches, each made piece by piece, which leaves no trace in them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from itertools import pairwise

import duckdb
import pytest

from cutor.bus.bulk.columns import Columns
from cutor.bus.message import Stored
from cutor.model.subjects import ENVIRONMENTS, EVENTS
from cutor.projections.folds import batches
from cutor.projections.folds.batch import Batch
from cutor.projections.folds.batches import batch_of, gathered
from cutor.projections.folds.row_groups import DIVIDED, end_of_first
from tests.bench.lives import lives


async def pieces(columns: Columns, *cuts: int) -> AsyncGenerator[Columns, None]:
    for start, end in pairwise((0, *cuts, len(columns))):
        yield columns.part(start, end)


async def made(columns: Columns, stream: str, halfway: int, *cuts: int) -> list[Batch]:
    return [batch async for batch in gathered(pieces(columns, *cuts), stream, halfway)]


def rows(batch: Batch) -> dict[str, list[tuple[object, ...]]]:
    with duckdb.connect() as database:
        for name, relation in batch.relations().items():
            database.register(name, relation)
        return {name: database.execute(f"FROM {name}").fetchall() for name in batch.relations()}


def events(count: int) -> Columns:
    """Some of all kinds; among them two that are not read with many others."""
    columns = Columns.of([*lives(40 * count)][::40])
    columns.sequences[:] = range(1, count + 1)
    if count > 11:
        columns.bodies[7], columns.subjects[11] = b"\xff", "cutor.ev.default.x.unheard"
    return columns


@pytest.mark.parametrize("cuts", [(), (60,), (1, 59, 61), (30, 90), (100,)], ids=str)
async def test_batches_of_pieces_are_those_of_all_at_once(cuts: Sequence[int]) -> None:
    columns = events(100)
    found = await made(columns, EVENTS, 60, *cuts)
    assert [batch.sequences for batch in found] == [columns.sequences[:60], columns.sequences[60:]]
    for batch, part in zip(found, (columns.part(0, 60), columns.part(60, 100)), strict=True):
        expected = batch_of(EVENTS, part)
        assert rows(batch) == rows(expected)
        for name in ("columns", "last", "times_ns", "body_bytes", "kinds", "faults"):
            assert getattr(batch, name) == getattr(expected, name), name


async def test_a_stream_that_lacks_the_sequence_between_them_is_divided_a_piece_later() -> None:
    columns = events(100)
    lacking = Columns.joined([columns.part(0, 55), columns.part(65, 100)])
    for cuts, firsts in (((), [1]), ((40, 80), [1, 91]), ((55, 70), [1, 81])):
        found = await made(lacking, EVENTS, 60, *cuts)
        assert [batch.sequences[0] for batch in found] == firsts
        assert [sequence for batch in found for sequence in batch.sequences] == lacking.sequences


async def test_large_messages_make_more_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "GROUP_BYTES", 20_000)
    columns = events(100)
    found = await made(columns, EVENTS, 60, *range(5, 100, 5))
    assert len(found) > 2
    assert [sequence for batch in found for sequence in batch.sequences] == columns.sequences
    assert all(batch.body_bytes < 30_000 for batch in found)
    assert 60 in [batch.sequences[-1] for batch in found]


async def test_environments_are_gathered_likewise() -> None:
    bodies = [b'{"version":1}', b"\xff", b"{}"]
    columns = Columns.of(Stored(ENVIRONMENTS, n, f"cutor.env.{n}", n, None, {}, body) for n, body in enumerate(bodies, 1))
    [batch] = await made(columns, ENVIRONMENTS, 3, 1, 2)
    assert rows(batch) == rows(batch_of(ENVIRONMENTS, columns))
    assert (batch.faults, batch.columns) == (batch_of(ENVIRONMENTS, columns).faults, columns)


async def test_what_was_gathered_before_an_error_is_not_yielded() -> None:
    async def failing() -> AsyncGenerator[Columns, None]:
        yield events(10)
        raise OSError("lost")

    with pytest.raises(OSError, match="lost"):
        await anext(gathered(failing(), EVENTS, 60))


def test_few_messages_are_one_batch() -> None:
    assert end_of_first(1, DIVIDED) == DIVIDED
    assert end_of_first(5, 5) == 5
    assert end_of_first(950_001, 1_000_000) == 980_000

"""Batches as DuckDB writes them best: exact in size where bytes allow, in order, and whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from cutor.bus.bulk.columns import Columns
from cutor.projections.folds.row_groups import ENDLESS, Portions, in_row_groups


async def batches(*sizes: int, size_bytes: int = 1, error: Exception | None = None) -> AsyncGenerator[Columns, None]:
    first = 1
    for size in sizes:
        sequences = list(range(first, first + size))
        yield Columns(sequences, sequences, ["s"] * size, [None] * size, [b"." * size_bytes] * size)
        first += size
    if error:
        raise error


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [((), []), ((3,), [3]), ((4, 4, 3), [10, 1]), ((10,), [10]), ((25, 5), [10, 10, 10]), ((9, 2, 9), [10, 10])],
)
async def test_batches_are_exact_and_nothing_is_lost(sizes: tuple[int, ...], expected: list[int]) -> None:
    found = [one async for one in in_row_groups(batches(*sizes), 10)]
    assert [len(one) for one in found] == expected
    assert [sequence for one in found for sequence in one.sequences] == list(range(1, sum(sizes) + 1))


async def test_large_messages_make_smaller_batches() -> None:
    found = [len(one) async for one in in_row_groups(batches(3, 3, 3, 1, size_bytes=100), 10, 600)]
    assert found == [6, 4]


async def test_an_error_comes_behind_the_last_whole_batch() -> None:
    groups = in_row_groups(batches(10, 5, error=OSError("lost")), 10)
    assert len(await anext(groups)) == 10
    with pytest.raises(OSError, match="lost"):
        await anext(groups)


def portions(*sizes: int, size_bytes: int = 1, until: int = ENDLESS) -> list[list[int]]:
    """Return how long the portions of each batch are."""
    found = Portions(10, 600, 4, 300, until)
    given: list[tuple[Columns, bool]] = []
    first = 1
    for size in sizes:
        sequences = list(range(first, first + size))
        found.add(Columns(sequences, sequences, ["s"] * size, [None] * size, [b"." * size_bytes] * size))
        first += size
        while portion := found.next():
            given.append(portion)
    given += found.rest()
    assert [sequence for columns, _ in given for sequence in columns.sequences] == list(range(1, first))
    batches: list[list[int]] = [[]]
    for columns, ends_batch in given:
        batches[-1].append(len(columns))
        if ends_batch:
            batches.append([])
    assert not batches.pop()
    return batches


def test_portions_add_up_to_exact_batches_of_which_the_first_come_soon() -> None:
    assert portions() == []
    assert portions(3) == [[3]]
    assert portions(10) == [[4], [4, 2]]
    assert portions(25) == [[4], [4, 2], [4, 4, 2], [4, 1]]
    assert portions(*[1] * 13) == [[4], [4, 2], [3]]


def test_the_last_batches_become_smaller() -> None:
    assert portions(50, until=50) == [[4], [4, 2], [4, 4, 2], [4, 4, 2], [4, 4, 2], [4, 4], [2]]
    assert portions(24, until=24) == [[4], [4, 2], [4, 4], [4], [2]]
    assert portions(10, until=11) == [[4], [4], [2]]


def test_large_messages_make_smaller_portions() -> None:
    assert portions(*[1] * 7, size_bytes=150) == [[2, 2], [2, 1]]
    assert portions(1, 1, size_bytes=1000) == [[1], [1]]

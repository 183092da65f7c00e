"""Batches of the size that DuckDB writes best. Pure, but for where the batches come from.

DuckDB keeps tables in groups of rows. Rows of a transaction that fill such groups go to the file at once, compressed; what is
less goes through the write-ahead log, and is compressed when that is worked into the file.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Final

from cutor.bus.bulk.columns import Columns

ROW_GROUP: Final = 122_880
"""Rows of a group, as DuckDB has them unless a file says otherwise."""
GROUP_BYTES: Final = 64 << 20
"""A batch whose bodies have as many bytes is not filled up any further."""
PORTION: Final = ROW_GROUP // 6
"""Messages of a batch that are read at one time, where another process does it."""
PORTION_BYTES: Final = GROUP_BYTES // 6
"""As `PORTION`, where bodies are large: a sixth of what fills a batch. A choice."""
DIVIDED: Final = 15_000
"""A range with more messages than that is folded in two batches; a batch costs 40 ms, however small it is."""
FIRST_PART: Final = 0.6
"""What the first one has of that: nothing is read any more while the second one is folded."""
ENDLESS: Final = 1 << 63
"""No sequence is the last one that is wanted."""


async def in_row_groups(
    batches: AsyncIterator[Columns], size: int = ROW_GROUP, size_bytes: int = GROUP_BYTES
) -> AsyncGenerator[Columns, None]:
    """Yield the messages of batches in batches of exactly ``size``; fewer at the end, or where they are large.

    An error of the batches comes behind the last whole one: what was gathered after that is not yielded.
    """
    gathered, held_bytes = Columns.empty(), 0
    async for columns in batches:
        gathered.add(columns)
        held_bytes += sum(map(len, columns.bodies))
        while len(gathered) >= size:
            yield gathered.part(0, size)
            gathered = gathered.part(size, len(gathered))
            held_bytes = sum(map(len, gathered.bodies))
        if held_bytes >= size_bytes:
            yield gathered
            gathered, held_bytes = Columns.empty(), 0
    if len(gathered):
        yield gathered


def end_of_first(first: int, last: int) -> int:
    """Return the last sequence of the first batch of a range, of two or of one."""
    count = last - first + 1
    return last if count <= DIVIDED else first + int(count * FIRST_PART) - 1


class Portions:
    """Messages as they come, given out in portions that add up to batches of such a size.

    The first of these is of one portion, for who folds it waits for it; the next ones of one more each, until they have filled
    one batch together. A batch ends early where no more than it has is left ``until`` the last sequence: so the last ones
    become smaller and smaller, for nothing is read any more while the very last one is folded.
    """

    def __init__(
        self,
        size: int = ROW_GROUP,
        size_bytes: int = GROUP_BYTES,
        portion: int = PORTION,
        portion_bytes: int = PORTION_BYTES,
        until: int = ENDLESS,
    ) -> None:
        self._whole = size
        self._size = portion
        self._left = size - portion
        self._size_bytes = size_bytes
        self._portion = portion
        self._portion_bytes = portion_bytes
        self._until = until
        self._gathered = Columns.empty()
        self._gathered_bytes = 0
        self._given = 0
        self._given_bytes = 0

    def add(self, columns: Columns) -> None:
        """Take messages."""
        self._gathered.add(columns)
        self._gathered_bytes += sum(map(len, columns.bodies))

    def next(self) -> tuple[Columns, bool] | None:
        """Return a portion, and whether it ends its batch; None where there are too few messages for one."""
        count = min(self._portion, self._size - self._given)
        if len(self._gathered) < count and self._gathered_bytes < self._portion_bytes:
            return None
        return self._give(self._gathered.part(0, count))

    def rest(self) -> Iterator[tuple[Columns, bool]]:
        """Yield what is left; the last portion ends its batch."""
        while portion := self.next():
            yield portion
        if len(self._gathered):
            columns, _ = self._give(self._gathered)
            yield columns, True

    def _give(self, portion: Columns) -> tuple[Columns, bool]:
        self._gathered = self._gathered.part(len(portion), len(self._gathered))
        size_bytes = sum(map(len, portion.bodies))
        self._gathered_bytes -= size_bytes
        self._given += len(portion)
        self._given_bytes += size_bytes
        is_full = self._given >= self._size or self._given_bytes >= self._size_bytes
        ends_batch = is_full or self._given >= self._until - portion.last
        if ends_batch:
            self._given = self._given_bytes = 0
            self._grow()
        return portion, ends_batch

    def _grow(self) -> None:
        grown = min(self._size + self._portion, self._left)
        self._size, self._left = (grown, self._left - grown) if self._left else (self._whole, 0)

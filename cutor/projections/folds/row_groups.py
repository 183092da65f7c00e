"""Batches of the size that DuckDB writes best. Pure, but for where the batches come from.

DuckDB keeps tables in groups of rows. Rows of a transaction that fill such groups go to the file at once, compressed; what is
less goes through the write-ahead log, and is compressed when that is worked into the file.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from cutor.bus.bulk.columns import Columns

ROW_GROUP: Final = 122_880
"""Rows of a group, as DuckDB has them unless a file says otherwise."""
GROUP_BYTES: Final = 64 << 20
"""A batch whose bodies have as many bytes is not filled up any further."""


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

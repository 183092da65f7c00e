"""Sealed messages into a file of views: what the archive has of a stream is folded from its files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

from cutor.bus.bulk.columns import Columns
from cutor.projections.archive.joined import Joined, Piece
from cutor.projections.archive.segment_file import columns_of
from cutor.projections.folds.batches import ahead
from cutor.projections.folds.row_groups import in_row_groups
from cutor.projections.writer import Writer

FETCHED: Final = 4096
"""Messages that are taken from a file at a time: `in_row_groups` looks at their bytes only when they are there."""

Tell = Callable[[int, int, int], None]
"""Is told after each transaction: the last sequence that is folded in, how many messages and bytes it was."""


async def fold_sealed(writer: Writer, joined: Joined, first: int, last: int, tell: Tell = lambda *_: None) -> None:
    """Fold in what the archive has of a range behind where the views stand.

    Raises `ArchiveDamaged`, and what `Store.apply` raises.
    """
    start = max(first, writer.position(joined.stream).sequence + 1)
    pieces = joined.pieces(start, last)
    known = {gap.last for gap in await writer.gaps(joined.stream)} if pieces else set()
    if gaps := [gap for gap in joined.gaps(start, last) if pieces and gap.first >= start and gap.last not in known]:
        await writer.note_gaps(joined.stream, gaps)
    for piece in pieces:
        await joined.check(piece)
        async with aclosing(ahead(in_row_groups(_columns(piece)), joined.stream)) as batches:
            async for batch in batches:
                await writer.apply_batch(joined.stream, batch)
                tell(batch.last.sequence, len(batch), batch.body_bytes)


async def _columns(piece: Piece) -> AsyncGenerator[Columns, None]:
    found = columns_of(piece.path, piece.first, piece.last, FETCHED)
    while columns := await asyncio.to_thread(next, found, None):
        yield columns

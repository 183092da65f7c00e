"""Sealed messages into a file of views: what the archive has of a stream is folded from its files.

Of a segment that was decoded, DuckDB reads what the fold takes from files by itself. Of any other one, and wherever those files
are not what they were, the bodies are read: the views are the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Final

from cutor.bus.bulk.columns import Columns
from cutor.projections.archive.decoded import DecodedFiles
from cutor.projections.archive.joined import Joined, Piece
from cutor.projections.archive.sealed_batch import batches_of
from cutor.projections.archive.segment_file import columns_of
from cutor.projections.folds.batch import Batch
from cutor.projections.folds.batches import ahead
from cutor.projections.folds.row_groups import in_row_groups
from cutor.projections.folds.scans import RelationUnreadable
from cutor.projections.writer import Writer

log = logging.getLogger(__name__)

FETCHED: Final = 4096
"""Messages that are taken from a file at a time: `in_row_groups` looks at their bytes only when they are there."""

Tell = Callable[[int, int, int], None]
"""Is told after each transaction: the last sequence that is folded in, how many messages and bytes it was."""


async def fold_sealed(
    writer: Writer, joined: Joined, first: int, last: int, tell: Tell = lambda *_: None, *, from_bodies: bool = False
) -> None:
    """Fold in what the archive has of a range behind where the views stand; with ``from_bodies`` whatever was decoded.

    Raises `ArchiveDamaged`, and what `Store.apply` raises.
    """
    start = max(first, writer.checkpoint(joined.stream).sequence + 1)
    pieces = joined.pieces(start, last)
    known = {gap.last for gap in await writer.gaps(joined.stream)} if pieces else set()
    missing = await joined.missing(start, last) if pieces else []
    if gaps := [gap for gap in missing if gap.first >= start and gap.last not in known]:
        await writer.note_gaps(joined.stream, gaps)
    async with aclosing(_checked(joined, pieces, from_bodies=from_bodies)) as checked:
        async for piece, files in checked:
            begin = max(first, writer.checkpoint(joined.stream).sequence + 1)
            if begin < piece.first:
                again = ahead(in_row_groups(_kept(joined, begin, piece.first - 1)), joined.stream)
                await _fold_batches(writer, joined.stream, again, tell)
            await _fold_piece(writer, joined.stream, piece, files, tell)


async def _checked(
    joined: Joined, pieces: Sequence[Piece], *, from_bodies: bool
) -> AsyncGenerator[tuple[Piece, DecodedFiles | None], None]:
    """Yield pieces whose hashes are right, each with what was decoded of it; the next one is looked at meanwhile."""
    decoded = {} if from_bodies else await asyncio.to_thread(joined.decoded)

    async def check(piece: Piece) -> DecodedFiles | None:
        await joined.check(piece)
        files = decoded.get(piece.begin)
        fault = await asyncio.to_thread(files.fault) if files else None
        if fault is not None:
            log.error("%s: the bodies of the segment are read in its place", fault)
        return None if fault else files

    following = asyncio.create_task(check(pieces[0])) if pieces else None
    try:
        for number, piece in enumerate(pieces, 1):
            assert following is not None
            files = await following
            following = asyncio.create_task(check(pieces[number])) if number < len(pieces) else None
            yield piece, files
    finally:
        if following is not None:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def _fold_piece(writer: Writer, stream: str, piece: Piece, files: DecodedFiles | None, tell: Tell) -> None:
    if files is not None:
        try:
            await _fold_batches(writer, stream, _decoded(stream, piece, files), tell)
        except RelationUnreadable as error:
            log.error("%s: what was decoded cannot be read (%s): the bodies are read in its place", piece.path, error)
        else:
            return
    rest = piece._replace(first=max(piece.first, writer.checkpoint(stream).sequence + 1))
    await _fold_batches(writer, stream, ahead(in_row_groups(_columns(rest)), stream), tell)


async def _fold_batches(writer: Writer, stream: str, coming: AsyncGenerator[Batch, None], tell: Tell) -> None:
    async with aclosing(coming) as batches:
        async for batch in batches:
            await writer.apply_batch(stream, batch)
            tell(batch.last.sequence, len(batch), batch.body_bytes)


async def _decoded(stream: str, piece: Piece, files: DecodedFiles) -> AsyncGenerator[Batch, None]:
    found = batches_of(stream, piece, files, piece.first)
    while batch := await asyncio.to_thread(next, found, None):
        yield batch


async def _kept(joined: Joined, first: int, last: int) -> AsyncGenerator[Columns, None]:
    """Yield what the stream has again of what was acknowledged as missing."""
    async with aclosing(joined.again(first, last)) as batches:
        async for messages in batches:
            yield Columns.of(messages)


async def _columns(piece: Piece) -> AsyncGenerator[Columns, None]:
    found = columns_of(piece.path, piece.first, piece.last, FETCHED)
    while columns := await asyncio.to_thread(next, found, None):
        yield columns

"""Sealed messages into a file of views, without a look at each: what the archive has of a stream is folded from its files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cutor.projections.archive.joined import Joined, Piece
from cutor.projections.archive.segment_file import messages_of
from cutor.projections.writer import Writer

BATCH: Final = 100_000
"""Most messages of one transaction; a file has more where they are small."""

Tell = Callable[[int, int, int], None]
"""Is told after each transaction: the last sequence that is folded in, how many messages it was, and about how many bytes."""


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
        for begin in range(piece.first, piece.last + 1, BATCH):
            part = piece._replace(first=begin, last=min(begin + BATCH - 1, piece.last))
            await _fold_piece(writer, joined.stream, part)
            count = part.last - part.first + 1
            tell(part.last, count, count * piece.body_bytes // piece.messages)


async def _fold_piece(writer: Writer, stream: str, piece: Piece) -> None:
    """Fold a part of a file in: read body by body where its kinds were found by other rules than today's."""
    if piece.ready:
        await writer.apply_sealed(stream, piece.path, piece.first, piece.last)
        return
    for messages in messages_of(stream, piece.path, piece.first, piece.last):
        await writer.apply(stream, messages)

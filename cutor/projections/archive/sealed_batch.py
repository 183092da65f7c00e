"""Sealed messages as a fold takes them, decoded already: no body passes through Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from typing import Final

from cutor.bus.bulk.columns import Columns, Message
from cutor.projections.archive.decoded import DecodedFiles
from cutor.projections.archive.decoded_file import scans_of
from cutor.projections.archive.joined import Piece
from cutor.projections.archive.segment_file import columns_of, messages_at
from cutor.projections.folds.relation import Scan
from cutor.projections.folds.row_groups import GROUP_BYTES

MOST: Final = 250_000
"""Messages of a batch: a whole segment, so that DuckDB fills groups of rows, and has some for every thread."""


class SealedBatch:
    """The messages of a segment from one sequence to another; a `Batch` of `cutor.projections.folds.batches`."""

    def __init__(self, stream: str, piece: Piece, files: DecodedFiles, first: int, last: Message) -> None:
        self._stream = stream
        self._path = piece.path
        self._files = files
        self._first = first
        self.kinds: AbstractSet[str | None] = frozenset(files.decoded.kinds)
        """Those of the whole segment."""
        self.faults = files.decoded.faults
        """Of the whole segment, too."""
        self.sequences = range(first, last.sequence + 1)
        self.body_bytes = share(piece, last.sequence + 1) - share(piece, first)
        """About: the segment's, by the share of its messages."""
        self.last = last

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def times_ns(self) -> Sequence[int]:
        """Their times, read from the segment."""
        return self.columns.times_ns

    @cached_property
    def columns(self) -> Columns:
        """The messages, read from the segment where somebody wants them after all."""
        columns = Columns.empty()
        for found in columns_of(self._path, self._first, self.last.sequence, len(self)):
            columns.add(found)
        return columns

    def relations(self) -> dict[str, Scan]:
        """Return what the statements of the fold read, by name."""
        return scans_of(self._stream, self._path, self._files.paths, self._first, self.last.sequence)


def batches_of(stream: str, piece: Piece, files: DecodedFiles, start: int) -> Iterator[SealedBatch]:
    """Yield the messages of a piece from ``start`` on, in batches of one size that have neither too many nor too large ones.

    Their last messages are read at one time: a database that reads a file is opened in some 20 ms.
    """
    messages, body_bytes = piece.last + 1 - start, share(piece, piece.last + 1) - share(piece, start)
    count = max(-(-messages // MOST), -(-body_bytes // GROUP_BYTES), 1)
    size = -(-messages // count)
    firsts = range(start, piece.last + 1, size)
    lasts = messages_at(stream, piece.path, [min(first + size - 1, piece.last) for first in firsts])
    for first, last in zip(firsts, lasts, strict=True):
        yield SealedBatch(stream, piece, files, first, last)


def share(piece: Piece, before: int) -> int:
    """Return about how many bytes the bodies of a segment have before a sequence of it."""
    return piece.body_bytes * (before - piece.begin) // piece.messages

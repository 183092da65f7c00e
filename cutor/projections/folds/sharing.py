"""Batches in memory that two processes share: written by the one that reads a stream, and mapped by the one that folds it.

A piece of a batch is a nameless file in memory (memfd_create(2)) with the buffers of its Arrow arrays, and a packet that says
where in it each lies. Nothing is copied where it is read: DuckDB scans what is mapped.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Final, Protocol

import msgspec

from cutor.bus.bulk.columns import Columns, Message
from cutor.bus.message import Stored
from cutor.projections.folds.relation import Buffer, Kind, Parts, Relation

ALIGNED: Final = 64
"""Buffers begin at multiples of that, as Arrow recommends."""
_AT_ONCE: Final = 512
"""Buffers of one writev(2), which takes 1,024."""


class Place(msgspec.Struct, array_like=True, frozen=True):
    """Where the parts of an array lie: for every buffer where it begins and how many bytes it has, or None."""

    length: int
    buffers: list[tuple[int, int] | None]
    children: list[Place]


class Piece(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What is said of a piece of a batch; its memory comes along."""

    messages: str
    """The name of the table that has every message."""
    behind: int
    """The sequence of the last message of the piece before; 0 for the first one of a reading."""
    last: int
    """The sequence of the last message."""
    body_bytes: int
    kinds: list[str | None]
    faults: int
    ends_batch: bool
    places: dict[str, Place]


class Alive(msgspec.Struct, frozen=True, tag=True):
    """Nothing has come for a while; it is listened."""


class Ended(msgspec.Struct, frozen=True, tag=True):
    """There is no more: all that was wanted has come, or ``fault`` says why not."""

    fault: str | None = None


class Made(Protocol):
    """A batch as it is written."""

    def __len__(self) -> int: ...
    @property
    def sequences(self) -> Sequence[int]: ...
    @property
    def body_bytes(self) -> int: ...
    @property
    def kinds(self) -> AbstractSet[str | None]: ...
    @property
    def faults(self) -> int: ...
    def parts(self) -> dict[str, Parts]: ...


def write(batch: Made, *, behind: int, ends_batch: bool) -> tuple[Piece, int]:
    """Write a piece of a batch into memory; return what is to be said of it, and the descriptor, which is the caller's.

    Raises OSError where there is not enough memory.
    """
    found = batch.parts()
    layout = _Layout()
    places = {name: layout.place(parts) for name, parts in found.items()}
    descriptor = os.memfd_create("cutor-batch", os.MFD_CLOEXEC)
    try:
        _write_all(descriptor, layout.buffers)
    except BaseException:
        os.close(descriptor)
        raise
    piece = Piece(
        messages=next(iter(found)),
        behind=behind,
        last=batch.sequences[-1],
        body_bytes=batch.body_bytes,
        kinds=[*batch.kinds],
        faults=batch.faults,
        ends_batch=ends_batch,
        places=places,
    )
    return piece, descriptor


class _Layout:
    """Buffers one behind the other."""

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self._end = 0

    def place(self, parts: Parts) -> Place:
        buffers = [None if buffer is None else self._put(buffer) for buffer in parts.buffers]
        return Place(parts.length, buffers, [self.place(child) for child in parts.children])

    def _put(self, buffer: Buffer) -> tuple[int, int]:
        start, size = self._end, len(buffer)
        padding = -size % ALIGNED
        self.buffers += [buffer, bytes(padding)]
        self._end += size + padding
        return start, size


def _write_all(descriptor: int, buffers: Sequence[Buffer]) -> None:
    for start in range(0, len(buffers), _AT_ONCE):
        some = buffers[start : start + _AT_ONCE]
        if os.writev(descriptor, some) != sum(map(len, some)):
            raise OSError("there is not enough memory for a batch")


class Mapped:
    """A piece of a batch that another process has written."""

    def __init__(self, piece: Piece, descriptor: int) -> None:
        """Map it; the descriptor is closed by that. Raises OSError."""
        self.piece = piece
        try:
            size = os.fstat(descriptor).st_size
            self._memory = memoryview(mmap.mmap(descriptor, size, mmap.MAP_SHARED | mmap.MAP_POPULATE, mmap.PROT_READ))
        finally:
            os.close(descriptor)

    @property
    def last(self) -> int:
        """The sequence of the last message."""
        return self.piece.last

    def parts(self, table: str) -> Parts:
        """Return the parts of a table."""
        return self._parts(self.piece.places[table])

    def messages(self) -> Parts:
        """Return the parts of the table that has every message."""
        return self.parts(self.piece.messages)

    def _parts(self, place: Place) -> Parts:
        buffers = [None if found is None else self._memory[found[0] : found[0] + found[1]] for found in place.buffers]
        return Parts(place.length, buffers, [self._parts(child) for child in place.children])


class SharedBatch:
    """A batch of such pieces; see `cutor.projections.folds.batch.Batch`."""

    def __init__(self, stream: str, kinds_of_tables: dict[str, Kind], pieces: Sequence[Mapped]) -> None:
        self._stream = stream
        self._tables = kinds_of_tables
        self._pieces = pieces
        self.kinds = {kind for mapped in pieces for kind in mapped.piece.kinds}
        self.faults = sum(mapped.piece.faults for mapped in pieces)
        self.body_bytes = sum(mapped.piece.body_bytes for mapped in pieces)

    def __len__(self) -> int:
        return sum(mapped.messages().length for mapped in self._pieces)

    @property
    def last(self) -> Message:
        return _Messages(self._stream, self._pieces[-1].messages()).at(-1)

    @property
    def sequences(self) -> list[int]:
        return self._numbers(0)

    @property
    def times_ns(self) -> list[int]:
        return self._numbers(1)

    @property
    def columns(self) -> Columns:
        return Columns.of(message for mapped in self._pieces for message in _Messages(self._stream, mapped.messages()))

    def relations(self) -> dict[str, Relation]:
        return {name: Relation(kind, [one.parts(name) for one in self._pieces]) for name, kind in self._tables.items()}

    def _numbers(self, column: int) -> list[int]:
        return [number for mapped in self._pieces for number in _numbers(mapped.messages().children[column])]


class _Messages:
    """Messages of a table that begins with ``sequence``, ``time_ns``, ``subject``, ``message_id``, ``body`` and ``raw``."""

    def __init__(self, stream: str, table: Parts) -> None:
        self._stream = stream
        self._count = table.length
        sequences, times, *values = table.children[:6]
        self._sequences, self._times = _numbers(sequences), _numbers(times)
        self._subjects, self._message_ids, self._bodies, self._raw = (_Values(one) for one in values)

    def __iter__(self) -> Iterator[Message]:
        return map(self.at, range(self._count))

    def at(self, place: int) -> Message:
        """Return one; a place below 0 is counted from the end."""
        place %= self._count
        subject, message_id = self._subjects.at(place), self._message_ids.at(place)
        body = self._bodies.at(place)
        return Stored(
            self._stream,
            self._sequences[place],
            (subject or b"").decode(),
            self._times[place],
            None if message_id is None else message_id.decode(),
            {},
            (self._raw.at(place) or b"") if body is None else body,
        )


class _Values:
    """Texts or bytes of a column."""

    def __init__(self, parts: Parts) -> None:
        self._there, ends, self._data = (None if buffer is None else memoryview(buffer) for buffer in parts.buffers)
        self._ends = (ends or memoryview(b"")).cast("i")

    def at(self, place: int) -> bytes | None:
        """Return the bytes of one; None where there is none."""
        if self._there is not None and not self._there[place >> 3] >> (place & 7) & 1:
            return None
        return bytes((self._data or b"")[self._ends[place] : self._ends[place + 1]])


def _numbers(parts: Parts) -> list[int]:
    """Return numbers that are all there."""
    return memoryview(parts.buffers[1] or b"").cast("q").tolist()

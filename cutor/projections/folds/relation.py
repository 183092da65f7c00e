"""Rows that DuckDB can scan, made of buffers that lie anywhere in memory: of this process, or shared with another one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import nanoarrow
from nanoarrow.c_array_stream import CArrayStream

Array = Any
"""What `nanoarrow.c_array_from_buffers` makes."""
Kind = Any
"""A type of Arrow's, as nanoarrow has it."""
Buffer = bytes | bytearray | memoryview

JSON: Final = nanoarrow.extension_type(nanoarrow.string(), "arrow.json", "")
"""Text that is valid JSON: DuckDB believes it."""


class Parts(NamedTuple):
    """What an Arrow array of ``length`` values consists of; its type says what each buffer and child is.

    The first buffer tells which values are there; it is None where all are.
    """

    length: int
    buffers: Sequence[Buffer | None]
    children: Sequence[Parts] = ()


class Scan(NamedTuple):
    """A relation that DuckDB reads by itself: a question, and what its parameters stand for."""

    sql: str
    parameters: Sequence[Any]


class Relation:
    """Rows of the type ``kind``, a record: in pieces, which DuckDB can scan as often as it likes."""

    def __init__(self, kind: Kind, pieces: Sequence[Parts]) -> None:
        self._kind = nanoarrow.c_schema(kind)
        self._arrays = [_array(self._kind, piece) for piece in pieces]

    def __len__(self) -> int:
        return sum(map(len, self._arrays))

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return all rows (the Arrow PyCapsule interface)."""
        stream = CArrayStream.from_c_arrays(self._arrays, self._kind, validate=False)
        return stream.__arrow_c_stream__(requested_schema)


def _array(kind: Any, parts: Parts) -> Array:
    children = [_array(kind.child(place), child) for place, child in enumerate(parts.children)]
    return nanoarrow.c_array_from_buffers(kind, parts.length, parts.buffers, children=children)

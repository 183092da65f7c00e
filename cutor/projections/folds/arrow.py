"""Columns of values as the buffers of Arrow arrays, which DuckDB takes as they lie in memory.

A column takes values as they come, some hundred at a time, and keeps nothing but their bytes. They are put together by what
Python does in one call for many: packing numbers, joining texts, adding up their lengths. None is a value that is not there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain
from typing import Any, Final, Protocol

import nanoarrow
from msgspec.structs import astuple

from cutor.projections.folds.relation import JSON, Kind, Parts, Relation

_BIGINTS: Final = range(-(1 << 63), 1 << 63)


class Column(Protocol):
    """Values of one type, in their order."""

    def add(self, values: Sequence[Any]) -> None:
        """Take more of them."""

    @property
    def kind(self) -> Kind:
        """Their type."""

    def parts(self) -> Parts:
        """Return all of them."""


class _There:
    """Which values are there: a bit each, the lowest of the first byte for the first; nothing where all are."""

    def __init__(self) -> None:
        self._digits: list[str] = []
        self._all = True
        self.count = 0

    def add_all(self, count: int) -> None:
        """Take values of which each is there."""
        self.count += count
        self._digits.append("1" * count)

    def add(self, values: Sequence[object]) -> bool:
        """Take values; return whether one of them is there."""
        self.count += len(values)
        missing = values.count(None)
        self._all = self._all and not missing
        nowhere = missing == len(values)
        self._digits.append("0" * missing if nowhere else "".join(["0" if value is None else "1" for value in values]))
        return not nowhere

    def bits(self) -> bytes | None:
        return None if self._all else _bits(self._digits)


def _bits(digits: Iterable[str]) -> bytes:
    joined = "".join(digits)
    return int(joined[::-1] or "0", 2).to_bytes((len(joined) + 7) // 8, "little")


class Numbers:
    """Whole numbers of 64 bits; one that has no place in them is not there."""

    kind = nanoarrow.int64()

    def __init__(self) -> None:
        self._there = _There()
        self._data = bytearray()

    def add(self, values: Sequence[int | None]) -> None:
        try:
            data = _packed(values)
        except (TypeError, struct.error):
            fitting = [value if value is not None and value in _BIGINTS else None for value in values]
            data = _packed([value or 0 for value in fitting]) if self._there.add(fitting) else bytes(8 * len(values))
        else:
            self._there.add_all(len(values))
        self._data += data

    def parts(self) -> Parts:
        return Parts(self._there.count, [self._there.bits(), self._data])


def _packed(values: Sequence[Any]) -> bytes | bytearray:
    """Return numbers of 64 bits. Raises TypeError or `struct.error` where one is none.

    Most are from 0 to 255: those are put in place all at once.
    """
    try:
        lowest = bytes(values)
    except ValueError:
        return struct.pack(f"<{len(values)}q", *values)
    data = bytearray(8 * len(values))
    data[::8] = lowest
    return data


class SmallNumbers:
    """Whole numbers from 0 to 255."""

    kind = nanoarrow.uint8()

    def __init__(self) -> None:
        self._there = _There()
        self._data = bytearray()

    def add(self, values: Sequence[int | None]) -> None:
        try:
            self._data += bytes(values)  # type: ignore[arg-type]  # that is the question
        except TypeError:
            self._there.add(values)
            self._data += bytes([value or 0 for value in values])
        else:
            self._there.add_all(len(values))

    def parts(self) -> Parts:
        return Parts(self._there.count, [self._there.bits(), self._data])


class Booleans:
    """Truth values."""

    kind = nanoarrow.bool_()

    def __init__(self) -> None:
        self._digits: list[str] = []

    def add(self, values: Sequence[bool]) -> None:
        self._digits.append("".join(["1" if value else "0" for value in values]) if True in values else "0" * len(values))

    def parts(self) -> Parts:
        return Parts(sum(map(len, self._digits)), [None, _bits(self._digits)])


class _Ends:
    """Where each of several things ends that stand in one row."""

    def __init__(self) -> None:
        self._end = 0
        self.packed = bytearray(4)

    def add(self, lengths: Iterable[int]) -> None:
        ends = [*accumulate(lengths, initial=self._end)]
        self.packed += struct.pack(f"<{len(ends)}i", *ends)[4:]
        self._end = ends[-1]

    def add_empty(self, count: int) -> None:
        self.packed += struct.pack("<i", self._end) * count


class Texts:
    """Texts."""

    kind = nanoarrow.string()

    def __init__(self) -> None:
        self._there = _There()
        self._ends = _Ends()
        self._data: list[bytes] = []

    def add(self, values: Sequence[str | None]) -> None:
        try:
            self._add_all(values)  # type: ignore[arg-type]  # that is the question
        except TypeError:
            if self._there.add(values):
                self._add([value or "" for value in values])
            else:
                self._ends.add_empty(len(values))

    def _add_all(self, values: Sequence[str]) -> None:
        self._add(values)
        self._there.add_all(len(values))

    def _add(self, values: Sequence[str]) -> None:
        joined = "".join(values)
        data = joined.encode()
        self._ends.add(map(len, values) if len(data) == len(joined) else [len(value.encode()) for value in values])
        self._data.append(data)

    def parts(self) -> Parts:
        return Parts(self._there.count, [self._there.bits(), self._ends.packed, b"".join(self._data)])


class Strings:
    """Bytes: ``Strings.json()`` of `JSON`, in UTF-8, ``Strings.raw()`` of anything."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self._there = _There()
        self._ends = _Ends()
        self._values: list[bytes] = []

    @classmethod
    def json(cls) -> Strings:
        return cls(JSON)

    @classmethod
    def raw(cls) -> Strings:
        return cls(nanoarrow.binary())

    def add(self, values: Sequence[bytes | None]) -> None:
        if not self._there.add(values):
            self._ends.add_empty(len(values))
            return
        found: Sequence[Any] = values if None not in values else [value or b"" for value in values]
        self._ends.add(map(len, found))
        self._values.extend(found)

    def parts(self) -> Parts:
        return Parts(self._there.count, [self._there.bits(), self._ends.packed, b"".join(self._values)])


class Lists:
    """A list of texts each."""

    kind = nanoarrow.list_(nanoarrow.string())

    def __init__(self) -> None:
        self._count = 0
        self._ends = _Ends()
        self._items = Texts()

    def add(self, values: Sequence[Sequence[str | None]]) -> None:
        self._count += len(values)
        self._ends.add(map(len, values))
        self._items.add([*chain.from_iterable(values)])

    def parts(self) -> Parts:
        return Parts(self._count, [None, self._ends.packed], [self._items.parts()])


class Maps:
    """A map of texts to texts each."""

    kind = nanoarrow.map_(nanoarrow.string(), nanoarrow.string())

    def __init__(self) -> None:
        self._count = 0
        self._ends = _Ends()
        self._keys = Texts()
        self._values = Texts()

    def add(self, values: Sequence[Mapping[str, str]]) -> None:
        self._count += len(values)
        self._ends.add(map(len, values))
        self._keys.add([*chain.from_iterable(values)])
        self._values.add([*chain.from_iterable(one.values() for one in values)])

    def parts(self) -> Parts:
        keys, values = self._keys.parts(), self._values.parts()
        return Parts(self._count, [None, self._ends.packed], [Parts(keys.length, [None], [keys, values])])


class Records:
    """A record of 64-bit numbers each: those of an object's fields."""

    def __init__(self, names: Sequence[str]) -> None:
        self._there = _There()
        self._fields = {name: Numbers() for name in names}
        self._none = (0,) * len(names)

    def add(self, values: Sequence[Any]) -> None:
        if self._there.add(values):
            rows = zip(*[self._none if value is None else astuple(value) for value in values], strict=True)
        else:
            rows = zip(*[self._none] * len(values), strict=True)
        for field, of in zip(self._fields.values(), rows, strict=True):
            field.add(of)

    @property
    def kind(self) -> Kind:
        return nanoarrow.struct(dict.fromkeys(self._fields, nanoarrow.int64()))

    def parts(self) -> Parts:
        return Parts(self._there.count, [self._there.bits()], [field.parts() for field in self._fields.values()])


class Table:
    """Columns by their names; rows are added some at a time."""

    def __init__(self, columns: Mapping[str, Column]) -> None:
        self._columns = columns

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        """Take rows, each of a value a column."""
        if rows:
            self.add_columns(zip(*rows, strict=True))

    def add_columns(self, values: Iterable[Sequence[Any]]) -> None:
        """Take values, column by column, as many for each."""
        for column, of in zip(self._columns.values(), values, strict=True):
            column.add(of)

    @property
    def kind(self) -> Kind:
        """The type of a row."""
        return nanoarrow.struct({name: column.kind for name, column in self._columns.items()})

    def parts(self) -> Parts:
        """Return all of it."""
        parts = [column.parts() for column in self._columns.values()]
        return Parts(parts[0].length, [None], parts)

    def relation(self) -> Relation:
        """Return all of it for DuckDB."""
        return Relation(self.kind, [self.parts()])

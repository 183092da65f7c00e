"""Inserts that DuckDB plans once, whose rows lie in memory. The rows are values in Python; what they are laid out as, is here.

An appender has DuckDB plan an insert for each batch of rows, 0.05 ms a column. A prepared insert reads a relation that gives
whatever rows it was handed last, and is planned anew where the catalog changed. Its relation has few columns of many values
each: making a column takes as long as some fifty values. The statements in ``sql/small`` give the values their names.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate, chain
from typing import Any, Final, NamedTuple

import duckdb
import nanoarrow
from nanoarrow.c_array import c_array_from_buffers

from cutor.projections.folds.relation import JSON

Array = Any
"""What `nanoarrow` makes."""
Row = tuple[Any, ...]
"""For each column of a relation what its `Kind` takes."""


_NUMBER: Final = nanoarrow.c_schema(nanoarrow.int64())
_TEXT: Final = nanoarrow.c_schema(nanoarrow.string())
_JSON: Final = nanoarrow.c_schema(JSON)
_LIST: Final = nanoarrow.c_schema(nanoarrow.list_(nanoarrow.string()))
_MAP: Final = nanoarrow.c_schema(nanoarrow.map_(nanoarrow.string(), nanoarrow.string()))
_ENTRY: Final = nanoarrow.c_schema(nanoarrow.struct({"key": nanoarrow.string(nullable=False), "value": nanoarrow.string()}))


class Kind(NamedTuple):
    """What a column holds in each row: an Arrow type, and what makes an array of it from the values of all rows."""

    shape: Any
    array: Callable[[Sequence[Any]], Array]


def numbers(count: int) -> Kind:
    """Return the kind of column with so many whole numbers of 64 bits in each row; None is one that is not there."""
    shape = nanoarrow.fixed_size_list(nanoarrow.int64(), count)
    schema = nanoarrow.c_schema(shape)
    return Kind(shape, lambda rows: _array(schema, len(rows), [None], [_numbers(_flat(rows, count))]))


def texts(count: int) -> Kind:
    """Return the kind of column with so many texts in each row; None is one that is not there."""
    shape = nanoarrow.fixed_size_list(nanoarrow.string(), count)
    schema = nanoarrow.c_schema(shape)
    return Kind(shape, lambda rows: _array(schema, len(rows), [None], [_texts(_TEXT, _flat(rows, count))]))


class Insert:
    """A statement that inserts what the relation holds that it reads."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, relation: str, sql: str, columns: Mapping[str, Kind]) -> None:
        self._connection = connection
        self._given = _Given(columns)
        connection.register(relation, self._given)
        connection.execute(f"PREPARE {relation} AS {sql}")
        self._run = connection.extract_statements(f"EXECUTE {relation}")[0]

    def __call__(self, rows: Sequence[Row]) -> None:
        """Insert rows, if there are any. Raises what DuckDB raises."""
        if rows:
            self._given.rows = rows
            try:
                self._connection.execute(self._run)
            finally:
                self._given.rows = ()


class _Given:
    """A relation of the rows that were given last. It knows nothing of the connection, which keeps it."""

    def __init__(self, columns: Mapping[str, Kind]) -> None:
        self._kinds = list(columns.values())
        self._schema = nanoarrow.c_schema(nanoarrow.struct({name: kind.shape for name, kind in columns.items()}))
        self.rows: Sequence[Row] = ()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return the rows (the Arrow PyCapsule interface)."""
        rows = self.rows
        columns: Sequence[Sequence[Any]] = [*zip(*rows, strict=True)] if rows else [()] * len(self._kinds)
        arrays = [kind.array(values) for kind, values in zip(self._kinds, columns, strict=True)]
        records = _array(self._schema, len(rows), [None], arrays)
        return nanoarrow.c_array_stream(records).__arrow_c_stream__(requested_schema)


def _flat(rows: Sequence[Sequence[Any]], count: int) -> list[Any]:
    """Return the values of rows behind each other. Raises ValueError where they are not as many as they are to be."""
    flat = [*chain.from_iterable(rows)]
    if len(flat) != count * len(rows):
        raise ValueError(f"{len(flat)} values in {len(rows)} rows of {count}")
    return flat


def _numbers(values: list[int | None]) -> Array:
    there, found = _there(values, 0)
    return _array(_NUMBER, len(values), [there, struct.pack(f"<{len(values)}q", *found)])


def _texts(schema: Any, values: Sequence[str | None]) -> Array:
    there, found = _there(values, "")
    joined = "".join(found)
    data = joined.encode()
    lengths = map(len, found) if len(data) == len(joined) else [len(value.encode()) for value in found]
    return _array(schema, len(values), [there, _ends(lengths), data])


def _lists(rows: Sequence[Sequence[str | None]]) -> Array:
    return _array(_LIST, len(rows), [None, _ends(map(len, rows))], [_texts(_TEXT, [*chain.from_iterable(rows)])])


def _maps(rows: Sequence[Mapping[str, str]]) -> Array:
    keys = [*chain.from_iterable(rows)]
    values = [*chain.from_iterable(row.values() for row in rows)]
    entries = _array(_ENTRY, len(keys), [None], [_texts(_TEXT, keys), _texts(_TEXT, values)])
    return _array(_MAP, len(rows), [None, _ends(map(len, rows))], [entries])


def _ends(lengths: Iterable[int]) -> bytes:
    ends = [*accumulate(lengths, initial=0)]
    return struct.pack(f"<{len(ends)}i", *ends)


def _there(values: Sequence[Any], instead: Any) -> tuple[bytes | None, Sequence[Any]]:
    """Return a bit for each value that says whether it is there, None where all are; and the values, with others for None."""
    if None not in values:
        return None, values
    digits = "".join(["0" if value is None else "1" for value in reversed(values)])
    bits = int(digits, 2).to_bytes((len(values) + 7) // 8, "little")
    return bits, [instead if value is None else value for value in values]


def _array(schema: Any, length: int, buffers: Sequence[bytes | None], children: Sequence[Array] = ()) -> Array:
    return c_array_from_buffers(schema, length, buffers, children=children, validation_level="none")


JSON_TEXT: Final = Kind(JSON, lambda rows: _texts(_JSON, rows))
"""A text that is known to be JSON."""
LIST: Final = Kind(nanoarrow.list_(nanoarrow.string()), _lists)
"""A list of texts."""
MAP: Final = Kind(nanoarrow.map_(nanoarrow.string(), nanoarrow.string()), _maps)
"""A map of texts to texts."""

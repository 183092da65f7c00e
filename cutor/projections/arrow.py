"""Columns of a stream as Arrow arrays, which DuckDB takes as they lie in memory. Pure.

They are put together by hand, from what Python does in one call for all: joining texts, and adding up their lengths.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final

import nanoarrow

from cutor.bus.bulk.columns import Columns

NAMES: Final = ("sequence", "time_ns", "subject", "message_id", "body")
_SCHEMA: Final = nanoarrow.struct(
    dict(zip(NAMES, (nanoarrow.int64(), nanoarrow.int64(), *[nanoarrow.string()] * 3), strict=True))
)


def arrow_of(columns: Columns) -> Any:
    """Return columns as one Arrow stream of the names `NAMES`. Bodies must be UTF-8: DuckDB believes it."""
    children = [
        nanoarrow.c_array_from_buffers(nanoarrow.int64(), len(columns), [None, array("q", columns.sequences)]),
        nanoarrow.c_array_from_buffers(nanoarrow.int64(), len(columns), [None, array("q", columns.times_ns)]),
        _texts([*map(str.encode, columns.subjects)]),
        _optional_texts(columns.message_ids),
        _texts(columns.bodies),
    ]
    return nanoarrow.ArrayStream(nanoarrow.c_array_from_buffers(_SCHEMA, len(columns), [None], children=children))


def _texts(texts: Sequence[bytes], validity: bytes | None = None) -> Any:
    ends = array("i", [0])
    ends.extend(accumulate(map(len, texts)))
    return nanoarrow.c_array_from_buffers(nanoarrow.string(), len(texts), [validity, ends, b"".join(texts)])


def _optional_texts(texts: Sequence[str | None]) -> Any:
    if None not in texts:
        return _texts([*map(str.encode, texts)])  # type: ignore[arg-type]  # none is None
    bits = bytearray((len(texts) + 7) // 8)
    for place, text in enumerate(texts):
        if text is not None:
            bits[place >> 3] |= 1 << (place & 7)
    return _texts([b"" if text is None else text.encode() for text in texts], bytes(bits))

"""Numbers with their units, for people. Pure."""

from __future__ import annotations

from typing import Final

_SIZES: Final = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
_SPANS: Final = (("min", 60_000), ("s", 1000))


def size(count: int) -> str:
    """Return a number of bytes in the largest unit that is exact: ``64 MiB``, ``1000 bytes``."""
    for unit, length in _SIZES:
        if count and count % length == 0:
            return f"{count // length} {unit}"
    return "1 byte" if count == 1 else f"{count} bytes"


def span(milliseconds: int) -> str:
    """Return a time in the largest unit that is exact: ``2 min``, ``90 s``, ``1500 ms``."""
    for unit, length in _SPANS:
        if milliseconds and milliseconds % length == 0:
            return f"{milliseconds // length} {unit}"
    return f"{milliseconds} ms"

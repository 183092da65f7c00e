"""Numbers with their units, for people. Pure."""

from __future__ import annotations

from typing import Final

_SIZES: Final = (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
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


def counted(number: int, thing: str) -> str:
    """Return a number of things: ``1 path``, ``2 paths``, ``1,200 paths``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def about(count: int) -> str:
    """Return a number of bytes with one decimal in the largest unit of which there is one at least: ``1.5 GiB``."""
    for unit, length in _SIZES:
        if count >= length:
            return f"{count / length:.1f} {unit}"
    return size(count)

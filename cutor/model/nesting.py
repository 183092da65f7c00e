"""How deep a body may be nested. Pure.

What msgspec follows depends on how many calls stand on Python's stack at that moment: near a thousand levels the same bytes are
read by one caller and refused to another. So everybody who reads what others have written counts first, in the bytes.
"""

from __future__ import annotations

from itertools import accumulate, compress
from operator import xor
from typing import Final

NESTING: Final = 64
"""Levels of arrays and objects that a body may have; what is nested deeper is no event. Cutor's own have fewer than ten."""

_MARKS: Final = b'[{]}"'
_ALL_ELSE: Final = bytes({*range(256)} - {*_MARKS})
_STEPS: Final = bytes.maketrans(_MARKS, b"\x01\x01\xff\xff\x00")
"""From a mark to what it adds to the depth, as a signed byte."""
_TURNS: Final = bytes.maketrans(_MARKS, b"\x00\x00\x00\x00\x01")
"""From a mark to whether a string begins or ends with it."""


def check_nesting(body: bytes) -> None:
    """Raise `RecursionError` for a body that is nested deeper than `NESTING`, as msgspec does for one that it cannot follow.

    Of what is no JSON it says nothing: a reader has to. Up to where that stops, the brackets that it follows were counted.
    """
    if body.count(b"{") + body.count(b"[") > NESTING and _depth(body) > NESTING:
        raise RecursionError(f"nested deeper than {NESTING} levels")


def _depth(body: bytes) -> int:
    """Return how many arrays and objects are open at once at the most: those that stand outside of strings.

    Quotes that are neighbours, once all else is gone, turn nothing. Takes the room of a few copies of the body.
    """
    marks = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _ALL_ELSE).replace(b'""', b"")
    outside = accumulate(marks.translate(_TURNS), xor, initial=1)
    steps = memoryview(marks.translate(_STEPS)).cast("b")
    return max(accumulate(compress(steps, outside)), default=0)

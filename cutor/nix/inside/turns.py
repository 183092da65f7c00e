"""Whose turn it is to be looked at where one look can't take in everybody, and whether somebody was missed for too long.

Who never was looked at comes first, in an order that nobody can foresee: nobody can place himself behind others. Then comes
whose turn was longest ago.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

BEHIND_LOOKS: Final = 20
"""In which somebody is missed, one after the other. What a build starts at once is looked at within one or two: usual lists of
mappings and of open files are short, and who has ended is missed by nobody."""


class Turns:
    """Turns of those that are there, by their numbers: `begin` a look, tell what was done of it, and `end` it."""

    def __init__(self) -> None:
        self._look = 0
        self._turns: dict[int, int] = {}
        self._done: dict[int, int] = {}
        self._missing_looks = 0

    @property
    def is_whole(self) -> bool:
        """Whether the last look took in everybody."""
        return all(look == self._look for look in self._done.values())

    @property
    def is_behind(self) -> bool:
        """Whether somebody, or each time somebody new, was missed by `BEHIND_LOOKS` looks."""
        oldest = min(self._done.values(), default=self._look)
        return self._missing_looks >= BEHIND_LOOKS or self._look - oldest >= BEHIND_LOOKS

    def begin(self, numbers: Iterable[int]) -> list[int]:
        """Begin a look at these alone; return them in the order of their turns."""
        here = list(set(numbers))
        self._turns = {number: self._turns.get(number, 0) for number in here}
        self._done = {number: self._done.get(number, self._look) for number in here}
        self._look += 1
        chances = memoryview(os.urandom(8 * len(here))).cast("Q")
        return [number for _, _, number in sorted(zip(self._turns.values(), chances, here, strict=True))]

    def took(self, number: int) -> None:
        """Take note that a part of somebody was looked at, and the rest is for other looks."""
        self._turns[number] = self._look

    def finished(self, number: int) -> None:
        """Take note that somebody was looked at to the end, or has ended."""
        self._turns[number] = self._done[number] = self._look

    def end(self) -> None:
        """End a look."""
        missed = any(not turn for turn in self._turns.values())
        self._missing_looks = self._missing_looks + 1 if missed else 0

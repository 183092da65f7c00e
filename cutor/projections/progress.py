"""How far the views are behind their streams, as the projector knows it between two looks at the server. Pure."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

SOON: Final = 20_000
"""Views that are no further behind will have caught up soon: then the role is ready, and not before."""


class Progress:
    """For each stream its newest message, when it was last looked at, and how many of its messages are not folded in."""

    def __init__(self) -> None:
        self.ends: dict[str, int] = {}
        self._behind: dict[str, int] = {}

    def compare(self, stream: str, newest: int, position: int) -> None:
        """Note how far a stream has come, and the views in it."""
        self.ends[stream] = newest
        self.fold(stream, position)

    def fold(self, stream: str, position: int) -> None:
        """Note how far the views have come."""
        self._behind[stream] = self.ends[stream] - position

    def wait(self, stream: str) -> None:
        """Note that a stream waits for its archive, however long that takes."""
        self._behind[stream] = sys.maxsize

    def behind(self, stream: str) -> int:
        """Return how many messages of a stream are to be folded in; 0 and less: none that is known of."""
        return self._behind[stream]

    def has_caught_up(self) -> bool:
        """Return whether none is known of that is to be folded in."""
        return all(behind <= 0 for behind in self._behind.values())

    def is_to_serve(self, is_excused: Callable[[str], bool], least_behind: int = SOON) -> bool:
        """Return whether the views of each stream have caught up, have more than that to catch up with, or are excused."""
        return all(behind <= 0 or behind > least_behind or is_excused(stream) for stream, behind in self._behind.items())

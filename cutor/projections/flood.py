"""How much of a flood of news is told. Pure."""

from __future__ import annotations


class Flood:
    """Lets the first few of a span of time through, and counts the rest."""

    def __init__(self, most: int, span_s: float) -> None:
        self._most = most
        self._span_s = span_s
        self._end = float("-inf")
        self._told = 0
        self.hidden = 0

    def lets_through(self, now: float) -> bool:
        """Return whether one more is told in full; ``now`` is any clock that only goes forward, in seconds."""
        if now >= self._end:
            self._end, self._told = now + self._span_s, 0
        if self._told < self._most:
            self._told += 1
            return True
        self.hidden += 1
        return False

    def wait_s(self, now: float) -> float | None:
        """Return in how many seconds the hidden ones are to be told of; None where there are none."""
        return max(0.0, self._end - now) if self.hidden else None

    def settle(self, now: float) -> int:
        """Return how many were hidden, once their span is over, and begin anew; else 0."""
        if now < self._end:
            return 0
        hidden, self.hidden = self.hidden, 0
        return hidden

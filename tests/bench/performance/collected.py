"""What is measured in turns: times of the same thing, gathered over all turns."""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench.performance.figures import Measured, What, spread


class Collected:
    """Gathers times by what was done, the case and how many at once; in the order in which each came first."""

    def __init__(self) -> None:
        self._times_ms: dict[tuple[What, str, int], list[float]] = {}
        self._seconds: dict[tuple[What, str, int], float] = {}

    def add(self, what: What, case: str, at_once: int, times_ms: Sequence[float], seconds: float) -> None:
        """Add what one turn measured: how long each one took, and how long all of them together."""
        key = (what, case, at_once)
        self._times_ms.setdefault(key, []).extend(times_ms)
        self._seconds[key] = self._seconds.get(key, 0.0) + seconds

    def measured(self) -> list[Measured]:
        """Return all of it."""
        return [
            Measured(what=what, case=case, at_once=at_once, count=len(times), seconds=self._seconds[key], ms=spread(times))
            for key, times in self._times_ms.items()
            for what, case, at_once in (key,)
        ]

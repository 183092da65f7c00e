"""Whether programs of this machine wait for its CPUs, by the kernel's own account (PSI, Linux 4.20)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

PRESSURE: Final = Path("/proc/pressure/cpu")
"""Its first line ends with the microseconds, since the start, in which at least one program waited for a CPU."""
WINDOW_S: Final = 1.0
"""The last one to two of these are looked at."""
MUCH: Final = 0.5
"""Of the time. Beside as many submissions as the CPUs bear it is nearly all."""


class CpuPressure:
    """What part of the last second or two somebody waited for a CPU; looked at when it is asked for. A look takes 20 µs."""

    def __init__(self, path: Path = PRESSURE, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._older = self._newer = self._look()

    def is_high(self) -> bool:
        """Return whether that is more than `MUCH`; False where the kernel keeps no account."""
        now = self._look()
        if now.at_s - self._newer.at_s >= WINDOW_S:
            self._older, self._newer = self._newer, now
        return now.waited_s - self._older.waited_s > MUCH * (now.at_s - self._older.at_s)

    def _look(self) -> _Look:
        try:
            some, _, _ = self._path.read_text().partition("\n")
            return _Look(self._clock(), int(some.rpartition("total=")[2]) / 1e6)
        except (OSError, ValueError):
            return _Look(self._clock(), 0.0)


class _Look(NamedTuple):
    at_s: float
    waited_s: float

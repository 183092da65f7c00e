"""When a process of the stack that died is started again, and when that is given up. Pure.

A life shorter than `QUICK_S` is a quick death. The pause before the next life doubles with every quick death in a row, up to
`LONGEST_PAUSE_S`. `QUICK_DEATHS` of them end a stack that was never ready: nothing will be different the next time, and
somebody waits for the start. A stack that has served is never ended by one process: what it lacks (Docker, memory, room on a
disk) comes back, and until then the others go on. The one exception is a demanded port that is lost (`server`).
"""

from __future__ import annotations

from typing import Final, NamedTuple

QUICK_S: Final = 10.0
"""A role serves within seconds: one that dies before this did no work worth the name. A choice."""
QUICK_DEATHS: Final = 5
"""Quick deaths in a row that end a stack which was never ready."""
FIRST_PAUSE_S: Final = 0.1
"""The first death is taken for an accident: hardly any pause. A choice."""
LONGEST_PAUSE_S: Final = 15.0
"""So late at the most a role is back once its cause is gone; four starts a minute cost little. A choice."""
_DOUBLINGS_AT_MOST: Final = 16
"""Doublings of the pause that are computed: `LONGEST_PAUSE_S` is reached long before, and no power overflows."""


class Restarts(NamedTuple):
    """How many quick deaths in a row there were."""

    quick_deaths: int = 0

    def after(self, lived_s: float) -> Restarts:
        """Return the count after a life of ``lived_s`` seconds."""
        return Restarts(self.quick_deaths + 1 if lived_s < QUICK_S else 0)

    def hopeless(self, *, served: bool) -> bool:
        """Whether to give up; ``served`` says whether the stack was ready once."""
        return not served and self.quick_deaths >= QUICK_DEATHS

    @property
    def pause_s(self) -> float:
        """Seconds to wait before the next life."""
        return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(_DOUBLINGS_AT_MOST, max(0, self.quick_deaths - 1)))

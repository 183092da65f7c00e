"""When a role process that died is started again, and when that is given up. Pure.

A life shorter than `QUICK_S` is a quick death. The pause before the next life doubles with every quick death in a row; after
`QUICK_DEATHS` of them the stack gives up, because nothing will be different the next time.
"""

from __future__ import annotations

from typing import Final, NamedTuple

QUICK_S: Final = 10.0
QUICK_DEATHS: Final = 5
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0


class Restarts(NamedTuple):
    """How many quick deaths in a row there were."""

    quick_deaths: int = 0

    def after(self, lived_s: float) -> Restarts:
        """Return the count after a life of ``lived_s`` seconds."""
        return Restarts(self.quick_deaths + 1 if lived_s < QUICK_S else 0)

    @property
    def hopeless(self) -> bool:
        """Whether to give up."""
        return self.quick_deaths >= QUICK_DEATHS

    @property
    def pause_s(self) -> float:
        """Seconds to wait before the next life."""
        return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** max(0, self.quick_deaths - 1))

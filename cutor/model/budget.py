"""The time that all stages of one submission share: whatever each of them may take, a slot is not held for longer.

Counted are compile and runs of one attempt, with what the container takes around each: a box that is slow to copy holds a slot
like a program that is slow. Not counted is the dependencies stage: an outcome must not depend on whether an environment was
there already, and a build has a limit of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from cutor.model.events import Stage
from cutor.model.limits import Limit


class WallTimeBudget(NamedTuple):
    """What is left of ``total_ms`` after ``spent_ms``; a value, made anew by `after` for each stage."""

    total_ms: int
    spent_ms: int = 0

    @property
    def left_ms(self) -> int:
        """What the stages to come may take together; 0 where nothing is left."""
        return max(self.total_ms - self.spent_ms, 0)

    def limit(self, limit: Limit) -> Limit:
        """Return a stage's limits with no more wall time than is left; 1 ms where nothing is."""
        return msgspec.structs.replace(limit, wall_time_ms=max(min(limit.wall_time_ms, self.left_ms), 1))

    def after(self, stage: Stage, took_ms: int = 0) -> WallTimeBudget:
        """Return what is left after a stage. ``took_ms``: how long the slot was held for it, its box made and cleared away."""
        return self._replace(spent_ms=self.spent_ms + max(stage.wall_time_ms or 0, took_ms))

    def explained(self, stage: Stage, own: Limit) -> Stage:
        """Return a stage with the true reason in its message, where the budget and not its ``own`` limit ended it."""
        if stage.outcome != "TLE_WALL" or self.left_ms >= own.wall_time_ms:
            return stage
        message = f"the submission's compile and run stages together took longer than {self.total_ms} ms"
        return msgspec.structs.replace(stage, message=message)

"""How long the parts of a stop may take: all follows from `shutdown_grace_s`, and each ends before who waits for it. Pure.

```
role        grace, then HAND_BACK_S to stop what runs, remove its containers and hand it back; the kernel ends it after that
supervisor  as long for every role at once, and MARGIN_S; then it kills. Then SERVER_S for the server, and SWEEP_S for Docker
cutor down  all of that
```
"""

from __future__ import annotations

from typing import Final, NamedTuple

HAND_BACK_S: Final = 15.0
"""A role that has not ended so long after its grace, or after it was told to hurry, is ended: its work is done again."""
MARGIN_S: Final = 5.0
"""Each waits this much longer than who ends before it: on a busy machine a process takes seconds to end and be reaped."""
SERVER_S: Final = 10.0
"""As `cutor.bus.embedded.STOP_TIMEOUT_S`: what is in memory is written within a second where the disk is idle."""
SWEEP_S: Final = 60.0
"""Removing a container takes Docker 0.1 s, or several where a machine is busy; more than this is an engine that hangs."""
HALTED_SWEEP_S: Final = 5.0
"""Who asked twice wants an end: enough for Docker to remove containers of an idle machine. The next start finds the rest."""
FORMER_SWEEP_S: Final = 20.0
"""How long a start waits for Docker to remove what a former life left; what stays then is left to the roles."""
ORPHANS_S: Final = 2 * HAND_BACK_S
"""How long the role processes of a supervisor that was killed may take to end: they hurry."""


class StopTimes(NamedTuple):
    """The times of a stop, in seconds, for a grace of ``grace_s``."""

    grace_s: float

    @property
    def role_s(self) -> float:
        """How long a role may take from its first signal to its end."""
        return self.grace_s + HAND_BACK_S

    @property
    def kept_role_s(self) -> float:
        """How long the supervisor waits for a role, before it kills it."""
        return self.role_s + MARGIN_S

    @property
    def stack_s(self) -> float:
        """How long a whole stack may take; `cutor down` waits so long."""
        return self.kept_role_s + SERVER_S + SWEEP_S + MARGIN_S


HURRIED: Final = StopTimes(0.0)
"""The times of what was told to hurry, from that moment on."""

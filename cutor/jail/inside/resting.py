"""How much a container holds between two stages, once the kernel has let go of what the last one had."""

from __future__ import annotations

import time

from cutor.jail.inside.cgroup import Cgroup
from cutor.jail.inside.lean import Final

REST_NOISE_BYTES: Final = 1 << 20
"""How much more than expected is not waited for."""
REST_SLACK_BYTES: Final = 2 << 20
"""How much more than expected is believed to be held: the rest, a program made the kernel keep, and it can be had back."""
REST_QUIET_S: Final = 0.02
"""After so long without a change the kernel is believed to be done. A choice: ten looks."""
REST_S: Final = 1.0
"""How long the kernel is given to free what a stage had, at the most. A choice: it is waited for between any two stages."""


def resting_bytes(cgroup: Cgroup, expected_bytes: int) -> int:
    """Return what is held; the wait for it ends early where that is about ``expected_bytes``, what can be accounted for.

    No more than `REST_SLACK_BYTES` over that is said: a program can fill the control group with what the kernel keeps for want
    of better (every name that was looked up in vain), and would have all of it as memory in the next stage.
    """
    lowest = cgroup.resting_bytes(expected_bytes)
    now = time.monotonic()
    quiet, end = now + REST_QUIET_S, now + REST_S
    while lowest > expected_bytes + REST_NOISE_BYTES and now < min(quiet, end):
        time.sleep(0.002)
        now, held = time.monotonic(), cgroup.resting_bytes(expected_bytes)
        if held < lowest - REST_NOISE_BYTES // 16:
            lowest, quiet = held, now + REST_QUIET_S
    return min(lowest, expected_bytes + REST_SLACK_BYTES)

"""Since when a worker knows of leases that came to nothing, by its own clock: the log's times are another host's."""

from __future__ import annotations

import time
from typing import Final

from cutor.model.events import Lease, Role

HELD_S: Final = 30.0
"""Between two leases of one submission, whoever has them, where the cache may be to blame for the former one."""
REMEMBERED: Final = 10_000
"""Leases; of more, the oldest are forgotten, and count as new when they are met again."""


class KnownLeases:
    """The newest leases of submissions that were delivered again, and when each was met first."""

    def __init__(self, role: Role) -> None:
        self._role = role
        self._met_s: dict[str, float] = {}

    def met_s(self, lease: Lease | None) -> float | None:
        """Return when a lease was met first, by the monotonic clock; null for none, and for one of the other role."""
        if lease is None or lease.role != self._role:
            return None
        met_s = self._met_s.setdefault(lease.token, time.monotonic())
        if len(self._met_s) > REMEMBERED:
            del self._met_s[next(iter(self._met_s))]
        return met_s

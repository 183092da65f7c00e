"""What a start does about a machine that went down under the life before: deliveries that may be lost come again.

The lock says that it happened (`lock`), and a mark in the data directory keeps it until it is seen to, however often the start
is tried. What a power failure can take, and what of it nobody else notices, is in `cutor.journal.redelivery`. Before the roles
start nothing is in work, so nothing is taken from anybody. A process that is killed, or all of them, leaves nothing to do here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from cutor.bus.connection import Bus
from cutor.journal.redelivery import CannotRedeliver, describe, redeliver
from cutor.stack.data import DataDirectory

TELL_EVERY_S: Final = 5.0
"""Who waits for a start is told how far it is. A choice."""


async def see_to_deliveries(data: DataDirectory, bus: Bus, say: Callable[[str], None]) -> None:
    """Set consumers back where the mark stands, and take it away. Cancelled, it leaves the mark. Errors: those of the bus."""
    if not data.power_failed.exists():
        return
    say("the machine may have gone down under a former life of this stack: looking for deliveries that were lost with it")
    try:
        found = await redeliver(bus, _Progress(say))
    except CannotRedeliver as error:
        say(f"{error}; submissions that were in work may stay where they are")
        return
    say("; ".join(describe(found)))
    data.power_failed.unlink(missing_ok=True)


class _Progress:
    """Says from time to time how far a long log is read."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said = time.monotonic()

    def __call__(self, read_to: int, last: int) -> None:
        """Say so, if the last time is long ago."""
        if (now := time.monotonic()) - self._said >= TELL_EVERY_S:
            self._said = now
            self._say(f"the log is read up to {read_to:,} of {last:,}")

"""The horizon of BODIES: up to which sequence its messages are to go, so that nobody refers to them anew.

It stands in the stream STACK, where whoever stores a content finds it. An archiver moves it forward, `GRACE_S` before
anything goes: see decision 0034.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from cutor.bus.errors import StreamMissing

if TYPE_CHECKING:
    from cutor.bus.connection import Bus

STACK: Final = "STACK"
SUBJECT: Final = "cutor.stack.bodies"
GRACE_S: Final = 3600.0
"""From what is said to go to what goes: far longer than anybody takes from storing a content to the event that names it."""


class Horizon(msgspec.Struct, frozen=True):
    """Nobody refers anew to what BODIES has up to ``until``; up to ``settled`` nobody has for an hour, and so it may go."""

    until: int = 0
    """sequence in BODIES up to which nobody refers to a message anew"""
    settled: int = 0
    """sequence up to which nobody has for an hour: these may go"""


class Told(NamedTuple):
    """A horizon, and when it was said, by the stream's clock; 0 where none was."""

    horizon: Horizon
    time_ns: int


async def told(bus: Bus) -> Told:
    """Return the horizon as the leader of STACK has it; one that cannot be read is none: nothing goes by it."""
    try:
        stored = await bus.last(STACK, SUBJECT, consistent=True)
    except StreamMissing:
        return Told(Horizon(), 0)
    if stored is None:
        return Told(Horizon(), 0)
    try:
        horizon = msgspec.json.decode(stored.body, type=Horizon)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Told(Horizon(), 0)
    return Told(horizon, stored.time_ns)


async def tell(bus: Bus, horizon: Horizon) -> None:
    """Move the horizon."""
    await bus.publish(SUBJECT, msgspec.json.encode(horizon))

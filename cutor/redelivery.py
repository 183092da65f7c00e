"""Deliveries that nobody holds and nobody gets any more: `cutor streams redeliver` puts the consumers back to before them.

Streams and the positions of their consumers are files of their own. A power failure of a server that does not force every
append to the disk may lose the newest events and keep what was acknowledged because of them. Then a submission has something
to be done, and its delivery counts as done. Nothing else notices, since redelivery is how everything else is noticed.

The log tells which they are: every submission that has not ended, or whose end was not cleaned up after, waits for somebody to
act on the event at its `step_sequence`. Consumers that have delivered the oldest of these are set back to it. What is delivered
again is looked up in the log and acknowledged where it is done; what runs at this moment is taken up anew, with another lease.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import NamedTuple

from cutor.bus.backup import consumers_of
from cutor.bus.backup_manifest import POSITIONS_SINCE, version_of
from cutor.bus.connection import Bus
from cutor.bus.message import Stored
from cutor.errors import CutorError
from cutor.model.events import Submitted
from cutor.model.messages import read_message
from cutor.model.state import Folding, Stamp
from cutor.model.subjects import EVENTS, Address, parse_event_subject


class CannotRedeliver(CutorError):
    """The server is too old to set a consumer back."""


class Redelivered(NamedTuple):
    """How many submissions wait for somebody, the oldest event they wait with (0: none), and which consumers were set back."""

    open: int
    oldest_sequence: int
    consumers: list[str]


async def redeliver(bus: Bus) -> Redelivered:
    """Set consumers back to the oldest event that somebody has yet to act on.

    Raises `CannotRedeliver` and the errors of the bus.
    """
    if version_of(bus.link.server_version) < POSITIONS_SINCE:
        raise CannotRedeliver(f"nats-server {bus.link.server_version} cannot set consumers back: it takes 2.14 or newer")
    steps = await _steps(bus)
    oldest = min(steps, default=0)
    consumers = await consumers_of(bus, EVENTS) if steps else []
    behind = [str(one["name"]) for one in consumers if int(one["delivered"]["stream_seq"]) >= oldest]
    for name in behind:
        await bus.api.call(f"consumer {name} of stream {EVENTS}", f"CONSUMER.RESET.{EVENTS}.{name}", {"seq": oldest})
    return Redelivered(len(steps), oldest, behind)


async def _steps(bus: Bus) -> list[int]:
    """Fold the whole log, and return the event to act on of every submission that waits for somebody."""
    waiting: dict[Address, Folding] = {}
    async with aclosing(bus.read_batches(EVENTS)) as batches:
        async for batch in batches:
            for stored in batch:
                _take(waiting, stored)
    return [one.state.step_sequence for one in waiting.values() if one.state is not None]


def _take(waiting: dict[Address, Folding], stored: Stored) -> None:
    """Take one more message; a submission that was cleaned up after is forgotten: what comes then are strays."""
    parsed = parse_event_subject(stored.subject)
    if parsed is None:
        return
    message = read_message(stored.subject, stored.body)
    if parsed.address not in waiting and not isinstance(message, Submitted):
        return
    folding = waiting.setdefault(parsed.address, Folding(parsed.address))
    state = folding.take(message, Stamp(stored.sequence, stored.time_ns))
    if state is not None and state.cleaned_ns is not None:
        del waiting[parsed.address]

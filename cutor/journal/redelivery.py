"""Deliveries that nobody holds and nobody gets any more: consumers are put back to before them.

`cutor up` does so when the machine went down under the life before (`cutor.stack.lock`), `cutor streams redeliver` when told.

Streams and the positions of their consumers are files of their own. A power failure of a server that does not force every
append to the disk may lose the newest events and keep what was acknowledged because of them. Then a submission has something
to be done, and its delivery counts as done. Nothing else notices, since redelivery is how everything else is noticed.

The log tells which they are: every submission that has not ended, or whose end was not cleaned up after, waits for somebody to
act on the event at its `step_sequence`. Consumers that have delivered the oldest of these are set back to it. What is delivered
again is looked up in the log and acknowledged where it is done; what runs at this moment is taken up anew, with another lease.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import NamedTuple

from cutor.bus.backup import check_whole, consumers_of
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


Tell = Callable[[int, int], None]
"""Is told of progress: up to which sequence the log is read, and up to which it will be."""


def tell_nobody(read_to: int, last: int) -> None:
    """Progress that nobody looks at."""


class Redelivered(NamedTuple):
    """How many submissions wait for somebody, the oldest event they wait with (0: none), and which consumers were set back."""

    open: int
    oldest_sequence: int
    consumers: list[str]


async def redeliver(bus: Bus, tell: Tell = tell_nobody) -> Redelivered:
    """Set consumers back to the oldest event that somebody has yet to act on.

    The log is read up to the end that it has at first. Beside the state of each submission that waits, the name of each that
    does not is kept: some 150 bytes. Raises `CannotRedeliver` and the errors of the bus.
    """
    if version_of(bus.link.server_version) < POSITIONS_SINCE:
        raise CannotRedeliver(f"nats-server {bus.link.server_version} cannot set consumers back: it takes 2.14 or newer")
    await check_whole(bus)
    steps = await _steps(bus, tell)
    oldest = min(steps, default=0)
    consumers = await consumers_of(bus, EVENTS) if steps else []
    behind = [str(one["name"]) for one in consumers if int(one["delivered"]["stream_seq"]) >= oldest]
    for name in behind:
        await bus.api.call(f"consumer {name} of stream {EVENTS}", f"CONSUMER.RESET.{EVENTS}.{name}", {"seq": oldest})
    return Redelivered(len(steps), oldest, behind)


def describe(found: Redelivered) -> list[str]:
    """Return in words what was found, and what was done."""
    if not found.open:
        return ["no submission waits for somebody", "no consumer was set back"]
    wait = "1 submission waits" if found.open == 1 else f"{found.open:,} submissions wait"
    back = f"set back: {', '.join(found.consumers)}" if found.consumers else "no consumer has delivered any of them yet"
    return [f"{wait} for somebody, the oldest with event {found.oldest_sequence} of {EVENTS}", back]


async def _steps(bus: Bus, tell: Tell) -> list[int]:
    """Fold the whole log, and return the event to act on of every submission that waits for somebody."""
    state = (await bus.stream_info(EVENTS))["state"]
    last = int(state["last_seq"])
    waiting = Waiting()
    if not state["messages"]:
        return []
    async with aclosing(bus.read_batches(EVENTS, until_sequence=last)) as batches:
        async for batch in batches:
            for stored in batch:
                waiting.take(stored)
            tell(batch[-1].sequence, last)
    return waiting.steps()


class Waiting:
    """The submissions of a log that wait for somebody, folded from its messages in their order. Pure."""

    def __init__(self) -> None:
        self._folding: dict[Address, Folding] = {}
        self._done: set[str] = set()

    def take(self, stored: Stored) -> None:
        """Take one more message. After ``cleaned`` whatever comes is a stray, another ``submitted`` as well."""
        parsed = parse_event_subject(stored.subject)
        if parsed is None or str(parsed.address) in self._done:
            return
        message = read_message(stored.subject, stored.body)
        if parsed.address not in self._folding and not isinstance(message, Submitted):
            return
        folding = self._folding.setdefault(parsed.address, Folding(parsed.address))
        state = folding.take(message, Stamp(stored.sequence, stored.time_ns))
        if state is not None and state.cleaned_ns is not None:
            del self._folding[parsed.address]
            self._done.add(str(parsed.address))

    def steps(self) -> list[int]:
        """Return the sequence of the event to act on, of every submission that waits."""
        return [one.state.step_sequence for one in self._folding.values() if one.state is not None]

"""Letting go of old events: those that are sealed, compared with the stream, and of submissions that have ended.

Nobody may purge a stream of cutor's. JetStream lets go of messages by their age, `max_age`, and a limit that stood would go on
when nobody seals any more. So it stands for a moment alone: it is set to the age of what is to go, which the server does at
once, and taken back. While it stands it goes on with the clock, which is why what is to stay is younger by a margin. Killed in
between, this leaves a mark in the stream's metadata, by which the next one takes the limit back, as `cutor up` and `cutor
streams apply` do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final, NamedTuple

from cutor.bus.connection import Bus
from cutor.bus.errors import BusError
from cutor.bus.message import Stored
from cutor.bus.retention_mark import MARK
from cutor.errors import REFUSED
from cutor.journal import Journal
from cutor.model.state import TERMINAL
from cutor.model.subjects import EVENTS, Address
from cutor.projections.archive.errors import ArchiveError, ArchiveForeign, MessagesMissing
from cutor.projections.archive.joined import Joined
from cutor.projections.archive.place import Archive
from cutor.projections.archive.segment_file import messages_of
from cutor.projections.archive.unended import Begun, Unended
from cutor.projections.rows import fingerprint
from cutor.undisturbed import to_the_end

log = logging.getLogger(__name__)

MARGIN_S: Final = 60.0
"""What is to stay is younger than what is to go by so much: the limit goes on with the clock while it stands."""
PATIENCE_S: Final = 10.0
LOOKS: Final = 100
LOOK_S: Final = 0.05
BATCH: Final = 20_000
STEP: Final = 1_000_000
"""Most messages that go at one time: their submissions are in memory by name."""
NS_PER_S: Final = 1_000_000_000


class RetentionRefused(ArchiveError):
    """The stream has a limit of its own, or the age is one that the server does not take."""

    exit_code = REFUSED


class Expiry(NamedTuple):
    """What may go of EVENTS: the messages from ``first`` to ``last``, none where that is smaller, up to a time.

    ``held_by`` says in words what keeps the next one, if that is old enough: not sealed, or of a submission that has not ended.
    """

    first: int
    last: int
    until_ns: int
    held_by: str | None

    @property
    def messages(self) -> int:
        """How many there are."""
        return max(0, self.last + 1 - self.first)


Tell = Callable[[int, int], None]
"""Is told of progress: up to which sequence was compared, and up to which will be."""


async def plan(
    bus: Bus, archive: Archive, keep_s: float, *, margin_s: float = MARGIN_S, tell: Tell = lambda *_: None
) -> Expiry:
    """Return what may go of all that is older; changes nothing.

    Every message of it is compared with its stream. Raises `ArchiveForeign` where one differs, `ArchiveDamaged`, and what
    `Joined.of` raises.
    """
    joined = await Joined.of(bus, EVENTS, archive)
    first = await _first(bus)
    limit_ns = joined.now_ns - int(keep_s * NS_PER_S)
    old = min(await bus.first_since(EVENTS, limit_ns + 1) - 1, first + STEP - 1)
    last = min(old, joined.sealed_from(first))
    held_by = None if last == old else f"what comes after {max(last, first - 1)} is not sealed"
    if last < first:
        return Expiry(first, first - 1, 0, held_by)
    open_ones = await _compared(bus, joined, first, last, tell)
    for begun in open_ones:
        if not await _has_ended(bus, begun.address):
            last, held_by = begun.sequence - 1, f"the submission {begun.address} has not ended, and began with {begun.sequence}"
            break
    return await _with_margin(bus, first, last, limit_ns, margin_s, held_by)


async def _compared(bus: Bus, joined: Joined, first: int, last: int, tell: Tell) -> list[Begun]:
    """Compare a range of the archive with the stream; return the submissions that begin in it and do not end in it."""
    unended, compared = Unended(), 0
    for piece in joined.pieces(first, last):
        await joined.check(piece)
        reading = bus.read_batches(EVENTS, from_sequence=piece.first, until_sequence=piece.last, batch=BATCH)
        async with aclosing(reading) as batches:
            async for kept in batches:
                sealed = await asyncio.to_thread(_sealed, piece.path, kept[0].sequence, kept[-1].sequence)
                if [fingerprint(one) for one in sealed] != [fingerprint(one) for one in kept]:
                    raise ArchiveForeign(
                        f"{piece.path}: between {kept[0].sequence} and {kept[-1].sequence} it is not what the stream holds: "
                        "nothing is let go of"
                    )
                for one in kept:
                    unended.take(one)
                compared += len(kept)
                tell(kept[-1].sequence, last)
    if compared != last + 1 - first:
        raise MessagesMissing(f"{EVENTS}: of {first} to {last} only {compared} messages are sealed and in the stream")
    return unended.begun()


def _sealed(path: Path, first: int, last: int) -> list[Stored]:
    return [one for some in messages_of(EVENTS, path, first, last) for one in some]


async def _has_ended(bus: Bus, address: Address) -> bool:
    """Whether a submission has, by all that the stream has of it."""
    state = await Journal(bus).state(address)
    return state is not None and state.status in TERMINAL


async def _with_margin(bus: Bus, first: int, last: int, limit_ns: int, margin_s: float, held_by: str | None) -> Expiry:
    """Return what may go so that what comes after it stays, though the limit goes on with the clock."""
    if last < first:
        return Expiry(first, first - 1, 0, held_by)
    newest, behind = await bus.get(EVENTS, last, consistent=True), await bus.get(EVENTS, last + 1, consistent=True)
    until_ns = limit_ns if newest is None else min(limit_ns, newest.time_ns)
    if behind is not None:
        until_ns = min(until_ns, behind.time_ns - int(margin_s * NS_PER_S) - 1)
    last = min(last, await bus.first_since(EVENTS, until_ns + 1) - 1)
    return Expiry(first, max(last, first - 1), until_ns, held_by)


async def expire(bus: Bus, expiry: Expiry) -> int:
    """Let go of what was planned; return the first sequence that is left.

    Raises `RetentionRefused` where the stream has a limit of its own, and the errors of the bus; the limit is taken back then.
    """
    await withdraw(bus)
    if not expiry.messages:
        return expiry.first
    info = await bus.stream_info(EVENTS)
    config, now_ns = info["config"], (await Joined.of(bus, EVENTS, None)).now_ns
    if config.get("max_age"):
        raise RetentionRefused(
            f"{EVENTS} has a max_age of its own: what it takes need not be sealed; write `max_age: unlimited` in streams.yaml"
        )
    age_ns = now_ns - expiry.until_ns
    if age_ns < int(config["duplicate_window"]):
        raise RetentionRefused(f"{EVENTS}: what is to go is younger than its duplicate_window: keep events longer than that")
    metadata = {**(config.get("metadata") or {}), MARK: str(expiry.last)}
    await to_the_end(_for_a_moment(bus, {**config, "max_age": age_ns, "metadata": metadata}, expiry.last))
    return await _first(bus)


async def _for_a_moment(bus: Bus, limited: dict[str, Any], last: int) -> None:
    try:
        await bus.api.call(f"stream {EVENTS}", f"STREAM.UPDATE.{EVENTS}", limited, timeout_s=PATIENCE_S)
        for _ in range(LOOKS):  # with several copies it may take a moment
            if await _first(bus) > last:
                break
            await asyncio.sleep(LOOK_S)
    finally:
        await _withdrawn(bus)


async def _withdrawn(bus: Bus) -> None:
    """Take the limit back, and try for as long as the margin lasts: from then on it would reach what must stay."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + MARGIN_S
    while True:
        try:
            await withdraw(bus)
            return
        except BusError as error:
            if loop.time() > deadline:
                raise
            log.warning("%s: the limit is not taken back yet: %s", EVENTS, error)
            await asyncio.sleep(LOOK_S)


async def withdraw(bus: Bus) -> bool:
    """Take back a limit that bears the mark; return whether there was one."""
    config = (await bus.stream_info(EVENTS))["config"]
    metadata = dict(config.get("metadata") or {})
    if metadata.pop(MARK, None) is None:
        return False
    unlimited = {**config, "max_age": 0, "metadata": metadata}
    await bus.api.call(f"stream {EVENTS}", f"STREAM.UPDATE.{EVENTS}", unlimited, timeout_s=PATIENCE_S)
    return True


async def _first(bus: Bus) -> int:
    state = (await bus.stream_info(EVENTS))["state"]
    return int(state["first_seq"]) if int(state["messages"]) else int(state["last_seq"]) + 1

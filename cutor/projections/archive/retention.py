"""Letting go of old events: those that are sealed, compared with the stream, and of submissions that have ended.

What may go of BODIES, `body_retention` says; it goes in the same way.

What may go is a range up to a sequence, and the server is asked to let go of exactly that (`cutor.bus.letting_go`): nothing
stands between two rounds, so that whoever does this may die, or stay away, at any point. Whoever plans and expires holds the
archive (`Archive.held`): what was compared is what is there when it goes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Final, NamedTuple

from cutor.bus.connection import Bus
from cutor.bus.letting_go import check_purge, let_go
from cutor.errors import REFUSED
from cutor.journal.journal import Journal
from cutor.model.state import TERMINAL
from cutor.model.subjects import EVENTS, Address
from cutor.projections.archive.errors import ArchiveError, ArchiveForeign
from cutor.projections.archive.joined import Joined
from cutor.projections.archive.kept import kept_as_sealed
from cutor.projections.archive.manifest import Segment
from cutor.projections.archive.place import Archive
from cutor.projections.archive.unended import Begun, Unended
from cutor.undisturbed import to_the_end

BATCH: Final = 20_000
"""Events that are compared with their archive at one time."""
STEP: Final = 1_000_000
"""Most messages that go at one time: their submissions are in memory by name."""
NS_PER_S: Final = 1_000_000_000
"""Nanoseconds of a second."""


class RetentionRefused(ArchiveError):
    """The stream has a limit of its own, or the age is one that cannot be."""

    exit_code = REFUSED


class Expiry(NamedTuple):
    """What may go of a stream: the messages from ``first`` to ``last``, none where that is smaller.

    ``held_by`` says in words what keeps the next one, if that is old enough: not sealed, or of a submission that has not ended.
    """

    first: int
    last: int
    held_by: str | None
    stream: str = EVENTS

    @property
    def messages(self) -> int:
        """How many sequences they are."""
        return max(0, self.last + 1 - self.first)


class _Compared(NamedTuple):
    """What was found the same in archive and stream, in these segments; and who began there and had not ended there."""

    created: str
    first: int
    last: int
    segments: tuple[Segment, ...]
    open: list[Begun]


Tell = Callable[[int, int], None]
"""Is told of progress: up to which sequence was compared, and up to which will be."""


class Retention:
    """What may go, from one round to the next: what one submission holds is not compared again until that has ended."""

    def __init__(self, bus: Bus, archive: Archive) -> None:
        self._bus = bus
        self._archive = archive
        self._compared: _Compared | None = None

    async def plan(self, keep_s: float, *, tell: Tell = lambda *_: None) -> Expiry:
        """Find out what may go of what is older than ``keep_s``: sealed, the same in both, of submissions that have ended.

        Raises `RetentionRefused`, `ArchiveDamaged` and `ArchiveForeign` where archive and stream do not hold the same, and the
        errors of the bus.
        """
        await check_limits(self._bus, EVENTS, keep_s)
        joined = await Joined.of(self._bus, EVENTS, self._archive)
        first = joined.first_kept
        old = min(await self._bus.first_since(EVENTS, joined.now_ns - int(keep_s * NS_PER_S) + 1) - 1, first + STEP - 1)
        sealed = joined.sealed_from(first)
        held_by = None if sealed >= old else f"what comes after {max(sealed, first - 1)} is not sealed"
        last = min(old, sealed, joined.sealed - 1)  # the last one that is sealed stays: by it a restored stream is known
        if last < first:
            return Expiry(first, first - 1, held_by)
        compared = await self._compare(joined, first, last, tell)
        if compared.last < last:
            last, held_by = compared.last, None  # the rest is for the next round
        while compared.open:
            begun = compared.open[0]
            if not await _has_ended(self._bus, begun.address):
                held = f"the submission {begun.address} has not ended, and began with {begun.sequence}"
                return Expiry(first, min(last, begun.sequence - 1), held)
            compared.open.pop(0)
        self._compared = None
        return Expiry(first, last, held_by)

    async def _compare(self, joined: Joined, first: int, last: int, tell: Tell) -> _Compared:
        """Compare a range of archive and stream, unless that was done for what still holds it."""
        known = self._compared
        if (
            known is not None
            and known.open
            and known.created == joined.created
            and known.first <= first <= known.last
            and known.segments == joined.segments(known.first, known.last)
        ):
            return known
        found = await _compared(self._bus, joined, first, last, tell)
        self._compared = _Compared(joined.created, first, last, joined.segments(first, last), found)
        return self._compared


async def check_limits(bus: Bus, stream: str, keep_s: float) -> None:
    """Raise `RetentionRefused` where a stream has a limit of its own, or could forget what is repeated; `PurgeDenied`."""
    config = (await bus.stream_info(stream))["config"]
    check_purge(stream, config)
    if config.get("max_age"):
        raise RetentionRefused(
            f"{stream} has a max_age of its own: what it takes need not be sealed; write `max_age: unlimited` in streams.yaml"
        )
    if keep_s * NS_PER_S < int(config["duplicate_window"]):
        window_s = int(config["duplicate_window"]) / NS_PER_S
        raise RetentionRefused(
            f"{stream}: what is to go may be younger than its duplicate_window, {window_s:g} s: keep it longer than that"
        )


async def plan(bus: Bus, archive: Archive, keep_s: float, *, tell: Tell = lambda *_: None) -> Expiry:
    """Find out what may go, once; see `Retention.plan`."""
    return await Retention(bus, archive).plan(keep_s, tell=tell)


async def _compared(bus: Bus, joined: Joined, first: int, last: int, tell: Tell) -> list[Begun]:
    """Compare a range of the archive with the stream; return the submissions that begin in it and do not end in it."""
    unended = Unended()
    async with aclosing(kept_as_sealed(bus, joined, EVENTS, first, last, batch=BATCH)) as batches:
        async for kept in batches:
            for one in kept:
                unended.take(one)
            tell(kept[-1].sequence, last)
    return unended.begun()


async def _has_ended(bus: Bus, address: Address) -> bool:
    """Whether a submission has, by all that the stream has of it."""
    state = await Journal(bus).state(address)
    return state is not None and state.status in TERMINAL


async def expire(server: str, bus: Bus, archive: Archive, expiry: Expiry) -> int:
    """Let go of what was planned while the archive was held; return the first sequence that is left.

    The files that have it are looked at once more. ``server`` is the address that `let_go` wants. Raises `PurgeDenied`,
    `ArchiveDamaged`, and the errors of the bus.
    """
    if not expiry.messages:
        return expiry.first
    joined = await Joined.of(bus, expiry.stream, archive)
    if joined.sealed_from(expiry.first) < expiry.last:
        raise ArchiveForeign(f"{archive.directory}: it is not the archive any more that was compared: nothing is let go of")
    await joined.check_gaps(expiry.first, expiry.last)
    for piece in joined.pieces(expiry.first, expiry.last):
        await joined.check(piece)
    await to_the_end(let_go(server, expiry.stream, expiry.last + 1, created=joined.created))
    return (await Joined.of(bus, expiry.stream, archive)).first_kept

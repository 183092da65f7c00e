"""Letting go of old bodies: those that are sealed, the same in archive and stream, and that nobody refers to any more.

Three steps, which need not be of one life: `announce` moves the horizon, behind which nobody refers to a body anew; `plan` says
what may go, an hour later at the earliest; `mending` puts back what somebody has come to refer to all the same. Decision 0034
has the argument.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Final

from cutor.bus import horizon
from cutor.bus.connection import Bus
from cutor.bus.horizon import GRACE_S, Horizon
from cutor.journal.journal import Journal
from cutor.model.subjects import BODIES
from cutor.projections.archive.joined import Joined
from cutor.projections.archive.kept import kept_as_sealed
from cutor.projections.archive.place import Archive
from cutor.projections.archive.references import Holder, References, still_refers
from cutor.projections.archive.retention import NS_PER_S, Expiry, check_limits
from cutor.projections.archive.sealing import state_of

STEP: Final = 4096
"""Most messages that go at one time: 2 GiB, which are compared with their archive."""
BATCH: Final = 32
"""Messages that are compared with their archive at one time: each holds a chunk of up to half a MiB."""

Tell = Callable[[int, int], None]


async def announce(bus: Bus, keep_s: float, *, grace_s: float = GRACE_S) -> Horizon:
    """Say that nobody is to refer anew to what is older than half of ``keep_s``; at the most once in ``grace_s``.

    What was said before counts as settled then: whoever referred to it has long appended the event that says so. Raises
    `RetentionRefused`, `PurgeDenied`: where nothing may go, nobody is to store anything twice.
    """
    await check_limits(bus, BODIES, keep_s)
    said, state = await horizon.told(bus), await state_of(bus, BODIES)
    before = said.horizon if said.horizon.until <= state.last else Horizon()  # of another stream
    if before == said.horizon and state.now_ns - said.time_ns < int(grace_s * NS_PER_S):
        return before
    until = await bus.first_since(BODIES, state.now_ns - int(keep_s / 2 * NS_PER_S)) - 1
    moved = Horizon(until=max(until, before.until), settled=before.until)
    if moved != said.horizon:
        await horizon.tell(bus, moved)
    return moved


async def plan(
    bus: Bus,
    archive: Archive,
    keep_s: float,
    references: References,
    *,
    tell: Tell = lambda *_: None,
) -> Expiry:
    """Return what may go of all that is older; changes nothing.

    Raises `RetentionRefused`, `ArchiveForeign` where a message differs from what is sealed, `ArchiveDamaged`, and what
    `Joined.of` raises.
    """
    await check_limits(bus, BODIES, keep_s)
    joined = await Joined.of(bus, BODIES, archive)
    first = joined.first_kept
    old = min(await bus.first_since(BODIES, joined.now_ns - int(keep_s * NS_PER_S) + 1) - 1, first + STEP - 1)
    settled = (await horizon.told(bus)).horizon.settled
    sealed = joined.sealed_from(first)
    ready, held_by = min(sealed, settled), None
    if ready < old:
        held_by = f"what comes after {max(ready, first - 1)} is " + (
            "to be announced for an hour before it goes" if ready < sealed else "not sealed"
        )
    last = min(old, ready, joined.sealed - 1)  # the last one that is sealed stays: by it a restored stream is known
    if last >= first:
        subjects = await _compared(bus, joined, first, last, tell)
        await references.catch_up(bus)
        if (held := await _first_held(bus, subjects, references)) is not None:
            sequence, holder = held
            last, held_by = sequence - 1, f"{holder} refers to what {sequence} is of"
    return Expiry(first, max(last, first - 1), held_by, BODIES)


async def _compared(bus: Bus, joined: Joined, first: int, last: int, tell: Tell) -> dict[int, str]:
    """Compare a range of the archive with the stream, message by message; return their subjects."""
    subjects: dict[int, str] = {}
    async with aclosing(kept_as_sealed(bus, joined, BODIES, first, last, batch=BATCH)) as batches:
        async for kept in batches:
            subjects |= {one.sequence: one.subject for one in kept}
            tell(kept[-1].sequence, last)
    return subjects


async def _first_held(bus: Bus, subjects: dict[int, str], references: References) -> tuple[int, Holder] | None:
    """Return the first message of these that somebody still refers to, and who."""
    journal, holders = Journal(bus), references.holders()
    for sequence, subject in sorted(subjects.items()):
        for holder in holders.of(subject):
            if await still_refers(journal, holder):
                return sequence, holder
    return None

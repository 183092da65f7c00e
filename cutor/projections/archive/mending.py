"""Putting back into BODIES what is gone though somebody refers to it: decision 0034, rule 4."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cutor.bus.bodies import Bodies, BodyRef, body_subject
from cutor.bus.connection import Bus
from cutor.bus.errors import BodyCorrupt, BodyMissing
from cutor.journal.journal import Journal
from cutor.model.subjects import BODIES
from cutor.projections.archive.errors import ArchiveDamaged, ArchiveError, ArchiveUnusable
from cutor.projections.archive.place import Archive
from cutor.projections.archive.references import Holder, References, still_refers
from cutor.projections.archive.sealed_bodies import SealedBodies
from cutor.projections.archive.sealing import state_of


async def mend(bus: Bus, archive: Archive, references: References, sealed: SealedBodies | None = None) -> int:
    """Put back what is gone though somebody refers to it, and return how many messages that were.

    It is how an event that came between `plan` and the going has its contents all the same, whenever this comes to it. A
    content is put back whole, its hash compared; what hinders one hinders no other. ``sealed``: what was read of it before.
    Raises `ArchiveDamaged` in the end, where a content cannot be had, or part of the archive cannot be read, and
    `ArchiveUnusable` where memory is too short for it.
    """
    await references.catch_up(bus)
    holders = references.holders()
    if not holders.hashes:
        return 0
    first, sealed = (await state_of(bus, BODIES)).first, sealed or SealedBodies(archive)
    gone = await asyncio.to_thread(sealed.before, holders.hashes, first)
    contents, journal, mended = Bodies(bus, _Sealed(sealed)), Journal(bus), 0
    faults: list[ArchiveError] = list(sealed.unread)
    for ref, those in holders.among(gone).items():
        missing = await _missing(bus, ref)
        if not missing or (holder := await _first_that_refers(journal, those)) is None:
            continue
        try:
            await contents.complete(ref, await contents.get(ref))
        except (BodyCorrupt, BodyMissing) as error:
            faults.append(ArchiveDamaged(f"{archive.directory}: what {holder} refers to cannot be put back: {error}"))
        except ArchiveUnusable as error:
            faults.append(error)
        else:
            mended += missing
    if faults:
        raise faults[0]
    return mended


async def _missing(bus: Bus, ref: BodyRef) -> int:
    """Return how many chunks of a content the stream has not."""
    subjects = [body_subject(ref.sha256, chunk, ref.salt) for chunk in range(ref.chunks)]
    return sum([await bus.last(BODIES, subject, consistent=True) is None for subject in subjects])


async def _first_that_refers(journal: Journal, holders: Sequence[Holder]) -> Holder | None:
    for holder in holders:
        if await still_refers(journal, holder):
            return holder
    return None


class _Sealed:
    """What is in the archive, for `Bodies`."""

    def __init__(self, sealed: SealedBodies) -> None:
        self._sealed = sealed

    async def chunks(self, subjects: Sequence[str]) -> dict[str, list[bytes]]:
        """Return what is sealed under subjects, the newest first. Raises `BodyCorrupt`, `ArchiveUnusable`."""
        try:
            return await asyncio.to_thread(self._sealed.chunks, subjects)
        except ArchiveDamaged as error:
            raise BodyCorrupt(str(error)) from error

    def lacks(self) -> str:
        """Return why something is not found there."""
        return "and not in the archive"

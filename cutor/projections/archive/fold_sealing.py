"""From segments into a sealed fold, or one that is there brought on. Whoever does it holds the archive (`Archive.held`).

A fold that is brought on is copied first: who copies it at that time, or begins to, has the former one whole. However a sealer
of folds ends, the index names a whole file, or none: the next one goes on from there.

It is folded from the bodies, whatever was decoded: what somebody had changed there would stay in the fold when it is removed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from cutor.projections.archive import fold_rules
from cutor.projections.archive.errors import ArchiveError, ArchiveFull, ArchiveUnusable
from cutor.projections.archive.fold_copy import (
    CopyUnwritable,
    FoldUnreadable,
    FoldUnusable,
    check_copy,
    check_positions,
    checked,
    copied,
    hashed,
)
from cutor.projections.archive.folding import fold_sealed
from cutor.projections.archive.joined import Joined
from cutor.projections.archive.manifest import Manifest, Segment
from cutor.projections.archive.place import Archive
from cutor.projections.archive.sealed_fold import FoldPlace, Part, SealedFold, part_of
from cutor.projections.errors import ProjectorBusy, ViewsRejected, ViewsUnwritable
from cutor.projections.schema import FOLDS
from cutor.projections.writer import Writer
from cutor.undisturbed import to_the_end

log = logging.getLogger(__name__)

ROW_BYTES: Final = 512
"""Most bytes that a message takes in the views beside its body, about."""
AS_IT_WAS: Final = "no fold was sealed; what was there is there still"
GROWN: Final = 0.05
"""A fold is brought on by itself once so much of it is sealed behind its end: to do that it is copied and hashed."""


class Progress(NamedTuple):
    """What a fold holds, and how many messages are sealed."""

    fold: SealedFold | None
    messages: int
    sealed: int

    @property
    def is_due(self) -> bool:
        """Whether it is worth to bring it on."""
        return self.sealed - self.messages > GROWN * self.messages


Tell = Callable[[Progress], None]
Go = Callable[[], bool]


def standing(archive: Archive) -> Progress:
    """Return how far the fold is that can be gone by. Raises `ArchiveDamaged`, `ArchiveUnusable`."""
    manifests = manifests_of(archive)
    return _progress(FoldPlace(archive).look(manifests).fold, manifests)


def manifests_of(archive: Archive) -> dict[str, Manifest | None]:
    """Return the manifests of the streams that are folded; likewise."""
    return {stream: archive.manifest(stream) for stream in FOLDS}


def _progress(fold: SealedFold | None, manifests: Mapping[str, Manifest | None]) -> Progress:
    sealed = sum(one.messages for one in manifests.values() if one)
    return Progress(fold, fold.messages if fold else 0, sealed)


async def seal_fold(archive: Archive, tell: Tell = lambda _: None, goes_on: Go = lambda: True) -> Progress:
    """Seal a fold of what is sealed, or bring the one on that is there, as long as ``goes_on`` says so; return how far it is.

    It takes one segment at least. One that is not what was sealed is made anew, also where nothing is sealed behind it. What is
    there stays until another one is in its place; only one that cannot be gone by is removed where there is no room for both.
    Raises `ArchiveFull`, `ArchiveUnusable`, `CodeChanged`; `ArchiveDamaged` of a segment, up to which it is sealed then.
    """
    fold_rules.check()
    manifests, place = manifests_of(archive), FoldPlace(archive)
    looked = place.look(manifests)
    if looked.is_newer:
        raise ArchiveUnusable(
            f"{looked.outdated}: it is left as it is; update cutor, or remove the directory {place.directory}"
        )
    if looked.is_unread:
        raise ArchiveUnusable(f"{looked.fault}: {AS_IT_WAS}")
    if (why := looked.fault or looked.outdated) is not None:
        log.warning("%s: a fold is sealed anew", why)
    place.tidy_up()
    at, work = _progress(looked.fold, manifests), Work(archive, place, manifests, tell, goes_on)
    try:
        if at.fold is not None and at.messages == at.sealed:
            await checked(place.path_of(at.fold), at.fold)
        return await _sealed(work, at) if at.messages < at.sealed else at
    except (FoldUnreadable, CopyUnwritable) as error:
        raise ArchiveUnusable(f"{error}: {AS_IT_WAS}") from error
    except FoldUnusable as error:
        log.error("%s: a fold is sealed anew", error)
        return await _sealed(work, _progress(None, manifests))


def tidy_up(archive: Archive) -> None:
    """Remove what a former life left where nothing is due: a fold that another one took the place of can be large.

    For who holds the archive. Raises `ArchiveUnusable`.
    """
    FoldPlace(archive).tidy_up()


async def is_whole(archive: Archive, fold: SealedFold) -> bool:
    """Whether the file of a fold is what was sealed; what cannot be read counts as whole. Reads all of it."""
    try:
        await checked(FoldPlace(archive).path_of(fold), fold)
    except FoldUnreadable:
        return True
    except FoldUnusable:
        return False
    return True


class Work(NamedTuple):
    """Where a fold is sealed, of what, and who is told."""

    archive: Archive
    place: FoldPlace
    manifests: Mapping[str, Manifest | None]
    tell: Tell
    goes_on: Go


async def _sealed(work: Work, at: Progress) -> Progress:
    """Have a fold in place that holds more than the one that can be gone by. Raises `FoldUnusable` for that one, and others."""
    _make_room(work, at)
    with work.place.draft() as draft:
        fold, hindered = await _made(work, draft, at)
        await to_the_end(asyncio.to_thread(_put_in_place, work.place, draft, fold))
    if hindered is not None:
        raise hindered
    return _progress(fold, work.manifests)


def _put_in_place(place: FoldPlace, draft: Path, fold: SealedFold) -> None:
    """Once it is there, what it takes the place of goes: who interrupts leaves no other one."""
    place.put_in_place(draft, fold)
    place.tidy(fold)


def _ahead(work: Work, at: Progress) -> list[tuple[Joined, Segment]]:
    """Return the segments that a fold lacks, each with its stream, in the order in which they are folded in."""
    sealed = [Joined.sealed_alone(work.archive, manifest) for manifest in work.manifests.values() if manifest is not None]
    return [
        (joined, segment)
        for joined in sealed
        for segment in joined.segments(at.fold.streams[joined.stream].last + 1 if at.fold else 1, joined.sealed)
    ]


def _make_room(work: Work, at: Progress) -> None:
    """Raise `ArchiveFull` where there is none; a fold that cannot be gone by gives way.

    One that is made from nothing leaves room for the next segment: else it would give way to that at once (`room`).
    """
    ahead = [one for _, one in _ahead(work, at)]
    needed = sum(one.body_bytes + ROW_BYTES * one.messages for one in ahead)
    needed += at.fold.file_bytes if at.fold else max(one.body_bytes for one in ahead)
    try:
        work.archive.check_room_for_folding(needed)
    except ArchiveFull:
        held_bytes = work.place.held_bytes()
        if at.fold is not None or not held_bytes:
            raise
        work.archive.check_room_for_folding(needed - held_bytes)
        log.warning("%s: what is there cannot be gone by, and gives way to a new fold", work.place.directory)
        work.place.remove()


async def _made(work: Work, draft: Path, at: Progress) -> tuple[SealedFold, ArchiveError | None]:
    """Make the file of a fold that holds more than the one there; return what the index says then, and what ended it."""
    writer = Writer(draft)
    try:
        if at.fold is not None:
            await _check_next(work, at)
            await copied(work.place.path_of(at.fold), at.fold, draft)
            await asyncio.to_thread(check_copy, draft, at.fold)
        await writer.make()
        hindered = await _fold(work, writer, at)
        parts = {stream: part_of(work.manifests[stream], writer.checkpoint(stream).sequence) for stream in FOLDS}
        check_positions(writer, parts)
        await writer.work_all_in()
    except (FoldUnusable, ViewsRejected) as error:
        if at.fold is None:
            raise ArchiveUnusable(f"{work.place.directory}: no fold was sealed: {error}") from error
        raise error if isinstance(error, FoldUnusable) else FoldUnusable(f"{at.fold.file_name}: {error}") from error
    except (ViewsUnwritable, ProjectorBusy) as error:
        raise ArchiveUnusable(f"{work.place.directory}: no fold was sealed: {error}") from error
    finally:
        await writer.close()
    return await _entry(draft, work.archive.mark(), parts), hindered


async def _check_next(work: Work, at: Progress) -> None:
    """Raise `ArchiveDamaged` where the next segment is not what was sealed: no fold is copied each round to find that out."""
    for joined, segment in _ahead(work, at)[:1]:
        for piece in joined.pieces(segment.first, segment.last):
            await joined.check(piece)


async def _entry(draft: Path, mark: str | None, parts: Mapping[str, Part]) -> SealedFold:
    try:
        await asyncio.to_thread(draft.chmod, 0o600)
        size_bytes, sha256 = await hashed(draft)
    except OSError as error:
        raise ArchiveUnusable(f"{draft}: no fold was sealed: {error.strerror}") from error
    return SealedFold(rules=fold_rules.folding_rules(), mark=mark, sha256=sha256, file_bytes=size_bytes, streams=parts).sealed()


async def _fold(work: Work, writer: Writer, at: Progress) -> ArchiveError | None:
    """Fold in segment by segment what is not in yet, one at least; return what ended it behind that one."""
    for number, (joined, segment) in enumerate(_ahead(work, at)):
        if number and not work.goes_on():
            break
        work.tell(at)
        try:
            await fold_sealed(writer, joined, 1, segment.last, from_bodies=True)
        except ArchiveError as error:
            if not number:
                raise
            return error
        at = at._replace(messages=at.messages + segment.messages)
    return None

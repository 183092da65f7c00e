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
from cutor.projections.archive.errors import ArchiveUnusable
from cutor.projections.archive.fold_copy import FoldUnusable, check_positions, copied
from cutor.projections.archive.folding import fold_sealed
from cutor.projections.archive.joined import Joined
from cutor.projections.archive.manifest import Manifest
from cutor.projections.archive.place import Archive, sha256_of
from cutor.projections.archive.sealed_fold import FoldPlace, Part, SealedFold, part_of
from cutor.projections.errors import ProjectorBusy, ViewsRejected, ViewsUnwritable
from cutor.projections.schema import FOLDS
from cutor.projections.writer import Writer
from cutor.undisturbed import to_the_end

log = logging.getLogger(__name__)

ROW_BYTES: Final = 512
"""Most bytes that a message takes in the views beside its body, about."""
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

    It takes one segment at least. Raises `ArchiveFull`, `ArchiveDamaged`, `ArchiveUnusable`, `CodeChanged`; the fold that is
    there stays as it is.
    """
    fold_rules.check()
    manifests, place = manifests_of(archive), FoldPlace(archive)
    looked = place.look(manifests)
    if (why := looked.fault or looked.outdated) is not None:
        log.warning("%s: a fold is sealed anew", why)
    if looked.fold is None:
        place.remove()
    place.tidy(looked.fold)
    at = _progress(looked.fold, manifests)
    if at.messages == at.sealed:
        return at
    _check_room(archive, looked.fold, manifests)
    with place.draft() as draft:
        fold = await _made(archive, place, draft, at, manifests, tell, goes_on)
        await to_the_end(asyncio.to_thread(place.put_in_place, draft, fold))
    place.tidy(fold)
    return _progress(fold, manifests)


def _check_room(archive: Archive, fold: SealedFold | None, manifests: Mapping[str, Manifest | None]) -> None:
    needed = fold.file_bytes if fold else 0
    for stream, manifest in manifests.items():
        last = fold.streams[stream].last if fold else 0
        ahead = [one for one in manifest.segments if one.last > last] if manifest else []
        needed += sum(one.body_bytes + ROW_BYTES * one.messages for one in ahead)
    archive.check_room_for_folding(needed)


async def _made(
    archive: Archive,
    place: FoldPlace,
    draft: Path,
    at: Progress,
    manifests: Mapping[str, Manifest | None],
    tell: Tell,
    goes_on: Go,
) -> SealedFold:
    """Make the file of a fold that holds more than the one that is there; return what the index is to say of it."""
    writer = Writer(draft)
    try:
        if at.fold is not None:
            await copied(place.path_of(at.fold), at.fold, draft)
        await writer.make()
        if at.fold is not None:
            check_positions(writer, at.fold.streams)
        await _fold(archive, writer, at, manifests, tell, goes_on)
        parts = {stream: part_of(manifests[stream], writer.position(stream).sequence) for stream in FOLDS}
        check_positions(writer, parts)
        await writer.work_all_in()
    except (FoldUnusable, ViewsRejected) as error:
        place.remove()
        raise ArchiveUnusable(f"{error}: it was removed, and a fold is sealed anew the next time") from error
    except (ViewsUnwritable, ProjectorBusy) as error:
        raise ArchiveUnusable(f"{place.directory}: no fold was sealed: {error}") from error
    finally:
        await writer.close()
    return await asyncio.to_thread(_entry, draft, archive.mark(), parts)


def _entry(draft: Path, mark: str | None, parts: Mapping[str, Part]) -> SealedFold:
    draft.chmod(0o600)
    size_bytes, rules = draft.stat().st_size, fold_rules.folding_rules()
    return SealedFold(rules=rules, mark=mark, sha256=sha256_of(draft), file_bytes=size_bytes, streams=parts).sealed()


async def _fold(
    archive: Archive, writer: Writer, at: Progress, manifests: Mapping[str, Manifest | None], tell: Tell, goes_on: Go
) -> None:
    """Fold in segment by segment what is not in yet, one at least."""
    sealed = [Joined.sealed_alone(archive, manifest) for manifest in manifests.values() if manifest is not None]
    ahead = [(one, segment) for one in sealed for segment in one.segments(writer.position(one.stream).sequence + 1, one.sealed)]
    for number, (joined, segment) in enumerate(ahead):
        if number and not goes_on():
            return
        tell(at)
        await fold_sealed(writer, joined, 1, segment.last, from_bodies=True)
        at = at._replace(messages=at.messages + segment.messages)

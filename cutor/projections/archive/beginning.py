"""With which sealed fold new views may begin, and its copy at their place."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from cutor.bus.connection import Bus
from cutor.model.units import about
from cutor.projections.archive.errors import ArchiveError
from cutor.projections.archive.fold_copy import FoldUnusable, Tell, copied
from cutor.projections.archive.fold_sealing import manifests_of
from cutor.projections.archive.joined import Joined
from cutor.projections.archive.place import Archive
from cutor.projections.archive.sealed_fold import FoldPlace, Looked, Part, SealedFold
from cutor.projections.folds.rows import fingerprint

log = logging.getLogger(__name__)


class Beginning(NamedTuple):
    """A fold that fits archive and streams, where it lies, and of each stream what is to be had behind it."""

    fold: SealedFold
    path: Path
    joined: Mapping[str, Joined]

    async def put(self, to: Path, tell: Tell = lambda _: None) -> None:
        """Copy it to a place where nothing is. Raises `FoldUnusable`; cancelled or failed, it leaves nothing there."""
        free = shutil.disk_usage(to.parent).free
        if free < self.fold.file_bytes:
            wanted = about(self.fold.file_bytes)
            raise FoldUnusable(f"{to.parent}: {about(free)} are free, and a copy of the sealed fold wants {wanted}")
        await copied(self.path, self.fold, to, tell)


async def find(bus: Bus, archive: Archive, until: Mapping[str, int] | None = None) -> Beginning | None:
    """Return the sealed fold of an archive where views may begin with it that end at ``until`` (None: at the streams' ends).

    Where there is one that may not be gone by, the log says why. An archive that cannot be used has none.
    """
    try:
        place, manifests = FoldPlace(archive), manifests_of(archive)
        looked = place.look(manifests)
        if looked.fold is not None:
            joined = {stream: await Joined.of(bus, stream, archive) for stream in manifests}
            looked = await _judged(bus, looked.fold, joined, until)
    except ArchiveError:
        return None  # who folds meets the same, and says so
    if looked.fault is not None:
        log.error("%s: all is folded in its place", looked.fault)
    elif looked.outdated is not None:
        log.warning("%s: all is folded in its place", looked.outdated)
    return None if looked.fold is None else Beginning(looked.fold, place.path_of(looked.fold), joined)


async def find_other(bus: Bus, archive: Archive, former: Beginning, until: Mapping[str, int] | None = None) -> Beginning | None:
    """Return the fold that took the place of one whose file is gone; None where that is there, or none did."""
    if former.path.exists():
        return None
    found = await find(bus, archive, until)
    return None if found is None or found.fold == former.fold else found


async def _judged(bus: Bus, fold: SealedFold, joined: Mapping[str, Joined], until: Mapping[str, int] | None) -> Looked:
    """Return whether a fold of what is sealed is that of the streams, too, as far as they are wanted."""
    for stream, part in fold.streams.items():
        if not part.last:
            continue
        if until is not None and until.get(stream, 0) < part.last:
            return Looked()  # what is wanted ends before it
        if joined[stream].first != part.first:
            return Looked(outdated=f"{stream} begins at {joined[stream].first}, and the sealed fold at {part.first}")
        if not await _has_its_end(bus, joined[stream], part):
            return Looked(outdated=f"{stream} has not the message at {part.last} that the sealed fold ends with")
        if (again := await _again(joined[stream], part)) is not None:
            return Looked(outdated=f"{stream} has {again} again, which the sealed fold lacks")
    return Looked(fold)


async def _has_its_end(bus: Bus, joined: Joined, part: Part) -> bool:
    """Return whether a stream that still should have the last message of a fold has that one: views are compared by it."""
    if part.last < joined.first_kept:
        return True
    message = await bus.get(joined.stream, part.last, consistent=True)
    return message is not None and fingerprint(message) == part.fingerprint


async def _again(joined: Joined, part: Part) -> str | None:
    """Return which range the stream has some of again, of those that a fold was made without; None where it is none."""
    missing = {(gap.first, gap.last) for gap in await joined.missing(part.first, part.last)}
    return next((f"some of {first} to {last}" for first, last in part.missing if (first, last) not in missing), None)

"""Is the sealed fold what was sealed, and does it hold what the segments say?

Its file is compared with its hash, and its index with the manifests. That costs a reading. Where everything is to be compared,
a copy of it is opened, all is folded again from the bodies, and compared row by row: who can write there can compute hashes.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import duckdb

from cutor.model.units import about
from cutor.projections.archive.errors import ArchiveError
from cutor.projections.archive.fold_copy import CopyUnwritable, FoldUnusable, check_copy, checked, copied
from cutor.projections.archive.fold_sealing import manifests_of
from cutor.projections.archive.folding import fold_sealed
from cutor.projections.archive.joined import Joined
from cutor.projections.archive.place import Archive
from cutor.projections.archive.sealed_fold import FoldPlace, SealedFold
from cutor.projections.errors import ViewsUnwritable
from cutor.projections.rebuilds.compare import Compared, Comparison
from cutor.projections.session import FULL, one_line
from cutor.projections.writer import Writer

LOOKS: Final = 5
"""So often a fold is looked for that is brought on while it is looked at."""
FILES: Final = 2
"""What is made in a scratch directory, as large as the fold each: a copy of it, and what is folded again."""

Tell = Callable[[int], None]
"""Is told how many messages are folded again."""


class FoldVerified(NamedTuple):
    """What was looked at: the fold, None where none can be gone by; a line a fault, and why one is not used any more."""

    fold: SealedFold | None
    faults: list[str]
    outdated: str | None = None


async def verify_fold(archive: Archive, scratch: Path | None = None, tell: Tell = lambda _: None) -> FoldVerified:
    """Verify the fold; with an empty directory for ``scratch`` a copy of it there against the bodies.

    Nobody needs to hold the archive: where the fold is brought on meanwhile, the new one is verified. Raises `ViewsUnwritable`
    where there is no room in ``scratch``: that says nothing about the fold.
    """
    place = FoldPlace(archive)
    for _ in range(LOOKS):
        try:
            manifests = manifests_of(archive)
        except ArchiveError:
            return FoldVerified(None, [])  # it is told of where its stream is verified
        try:
            looked = place.look(manifests)
            foreign = [f"{path}: it is none of cutor's files; remove it" for path in place.foreign()]
        except ArchiveError as error:
            return FoldVerified(None, [str(error)])
        if looked.fold is None:
            return FoldVerified(None, [*([looked.fault] if looked.fault else []), *foreign], looked.outdated)
        try:
            await _verify(archive, place.path_of(looked.fold), looked.fold, scratch, tell)
        except CopyUnwritable as error:
            raise ViewsUnwritable(str(error)) from error
        except (FoldUnusable, ArchiveError) as error:
            if place.look(manifests_of(archive)).fold in (looked.fold, None):
                return FoldVerified(looked.fold, [str(error), *foreign])
        else:
            return FoldVerified(looked.fold, foreign)
    return FoldVerified(None, foreign)


async def _verify(archive: Archive, path: Path, fold: SealedFold, scratch: Path | None, tell: Tell) -> None:
    """Raise `FoldUnusable` for what is wrong with a fold, and others. It is not opened where it lies: a log may lie there."""
    if scratch is None:
        await checked(path, fold)
        return
    _check_room(scratch, fold)
    copy, folded = scratch / "used.duckdb", scratch / "folded.duckdb"
    for former in (copy, folded):
        former.unlink(missing_ok=True)
    await copied(path, fold, copy)
    await asyncio.to_thread(check_copy, copy, fold)
    await _fold_again(archive, fold, folded, tell)
    if (difference := (await _compared(copy, folded, scratch)).difference) is not None:
        where = ", ".join(f"{column} {value}" for column, value in difference.row.items())
        raise FoldUnusable(f"{path}: {difference.table} ({where}) is not what the bodies say")


def _check_room(scratch: Path, fold: SealedFold) -> None:
    free, needed = shutil.disk_usage(scratch).free, FILES * fold.file_bytes
    if free < needed:
        raise ViewsUnwritable(f"{scratch}: {about(free)} are free, and verifying the fold wants {about(needed)}: set TMPDIR")


async def _fold_again(archive: Archive, fold: SealedFold, path: Path, tell: Tell) -> None:
    writer = Writer(path)
    done = 0

    def folded(_at: int, messages: int, _size: int) -> None:
        nonlocal done
        done += messages
        tell(done)

    try:
        await writer.make()
        for stream, manifest in manifests_of(archive).items():
            if manifest is not None and fold.streams[stream].last:
                joined = Joined.sealed_alone(archive, manifest)
                await fold_sealed(writer, joined, 1, fold.streams[stream].last, folded, from_bodies=True)
        await writer.work_all_in()
    finally:
        await writer.close()


async def _compared(copy: Path, folded: Path, scratch: Path) -> Comparison:
    """Compare in a thread; who is cancelled waits until it has stopped."""
    try:
        compared = Compared(copy, folded, scratch)
        return await compared.in_thread(compared.compare)
    except duckdb.Error as error:
        if any(words in str(error) for words in FULL):
            raise ViewsUnwritable(f"{scratch}: the fold cannot be compared: {one_line(error)}") from error
        raise FoldUnusable(f"{copy.name}: it cannot be compared: {one_line(error)}") from error

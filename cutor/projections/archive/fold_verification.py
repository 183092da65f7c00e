"""Is the sealed fold what was sealed, and does it hold what the segments say?

Its file is compared with its hash, and what it stands at with the manifests. That costs a reading. Where everything is to be
compared, all of it is folded again from the bodies, and compared row by row: who can write there can compute hashes, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import duckdb

from cutor.projections.archive.errors import ArchiveError
from cutor.projections.archive.fold_copy import FoldUnusable, check_copy, check_file
from cutor.projections.archive.fold_sealing import manifests_of
from cutor.projections.archive.folding import fold_sealed
from cutor.projections.archive.joined import Joined
from cutor.projections.archive.place import Archive
from cutor.projections.archive.sealed_fold import FoldPlace, SealedFold
from cutor.projections.errors import ViewsUnwritable
from cutor.projections.rebuilds.compare import Compared, Comparison
from cutor.projections.session import one_line
from cutor.projections.writer import Writer

Tell = Callable[[int], None]
"""Is told how many messages are folded again."""


class FoldVerified(NamedTuple):
    """What was looked at: the fold, None where none can be gone by; a line a fault, and why one is not used any more."""

    fold: SealedFold | None
    faults: list[str]
    outdated: str | None = None


async def verify_fold(archive: Archive, scratch: Path | None = None, tell: Tell = lambda _: None) -> FoldVerified:
    """Verify the fold; with an empty directory for ``scratch`` against the bodies."""
    place = FoldPlace(archive)
    try:
        looked = place.look(manifests_of(archive))
    except ArchiveError:
        return FoldVerified(None, [])  # of a manifest, which is told of where its stream is verified
    fold = looked.fold
    if fold is None:
        return FoldVerified(None, [looked.fault] if looked.fault else [], looked.outdated)
    path = place.path_of(fold)
    try:
        await asyncio.to_thread(check_file, path, fold)
        await asyncio.to_thread(check_copy, path, fold)
        if scratch is not None:
            await _fold_again(archive, fold, scratch / "folded.duckdb", tell)
            compared = await asyncio.to_thread(_compare, path, scratch)
            if (difference := compared.difference) is not None:
                where = ", ".join(f"{column} {value}" for column, value in difference.row.items())
                return FoldVerified(fold, [f"{path}: {difference.table} ({where}) is not what the bodies say"])
    except (FoldUnusable, ArchiveError, ViewsUnwritable) as error:
        return FoldVerified(fold, [str(error)])
    except duckdb.Error as error:
        return FoldVerified(fold, [f"{path}: cannot be compared: {one_line(error)}"])
    return FoldVerified(fold, [])


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


def _compare(path: Path, scratch: Path) -> Comparison:
    compared = Compared(path, scratch / "folded.duckdb", scratch)
    try:
        return compared.compare()
    finally:
        compared.close()

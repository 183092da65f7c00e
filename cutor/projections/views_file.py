"""Where the views lie: a file that one projector at a time may write, and what else belongs to it.

Beside ``projections.duckdb``: ``.wal`` and ``.tmp`` (DuckDB's), ``.lock`` (who writes), ``.snapshot`` with its ``.wal`` (what
queries read), ``.rebuild`` (views that are being made anew), ``.fold`` (the copy of a sealed fold that is to be it) and
``.aside`` (the last file that could not be continued, kept for a look at it).
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cutor.model.units import about
from cutor.projections.archive.place import flush
from cutor.projections.errors import ProjectorBusy, RebuildFailed, ViewsRejected, ViewsUnwritable
from cutor.projections.session import Foreign
from cutor.projections.store import Store
from cutor.projections.views_paths import COPIES, beside, wal_paths

log = logging.getLogger(__name__)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Be the only projector of a file as long as this lasts. Makes its directory, for the owner alone, where there is none.

    Raises `ProjectorBusy` where another one lives, `ViewsUnwritable` where the directory cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(beside(path, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ViewsUnwritable(f"{path}: the views cannot be written: {error.strerror}; see [projector] database") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ProjectorBusy(f"{path}: another projector writes this file; end it, or set [projector] database") from error
        yield
    finally:
        os.close(descriptor)


def open_or_make_anew(path: Path) -> Store:
    """Open a file of views; one that cannot be continued is set aside, and an empty one made."""
    if not path.exists():
        _remove_wals(path)
    else:
        try:
            with path.open("r+b"):
                pass
        except OSError as error:
            raise ViewsUnwritable(f"{path}: the views cannot be written: {error.strerror}") from error
    try:
        return Store.open(path)
    except ViewsRejected as rejection:
        log.error("%s: %s; the views are made anew", path, rejection)
        set_aside(path)
        return Store.open(path)


def make_unlogged(path: Path, foreign: Foreign | None = None) -> Store:
    """Make an empty file without a write-ahead log, where there is none: it is whole only after `Store.work_all_in`.

    Where there is one, it is opened so; ``foreign`` is for one that somebody else may have written.
    """
    _remove_wals(path)
    return Store.open(path, logged=False, foreign=foreign)


def set_aside(path: Path) -> None:
    """Move a file of views out of the way; a file that was set aside before gives way to it."""
    aside = beside(path, "aside")
    for old, new in ((path, aside), *zip(wal_paths(path), wal_paths(aside), strict=True)):
        new.unlink(missing_ok=True)
        if old.exists():
            old.rename(new)


def draft_of(path: Path) -> Path:
    """Return where views are made anew that are to take the place of a file."""
    return beside(path, "rebuild")


def check_room(path: Path) -> None:
    """Raise `RebuildFailed` where there is not as much room beside a file of views as it has: new ones want about that."""
    there = [one.stat().st_size for one in (path, *wal_paths(path)) if one.exists()]
    free = shutil.disk_usage(path.parent).free
    if free < sum(there):
        raise RebuildFailed(
            f"{path.parent}: {about(free)} are free, and the new views want about as much as the old ones have, "
            f"{about(sum(there))}: make room there; the old ones stay"
        )


def put_in_place(draft: Path, path: Path) -> None:
    """Put views that were made anew, closed and whole, in the place of a file that nobody has open. For who holds the file.

    Whoever is killed within leaves the old file or the new one, whole. It is on the disk before: commits that follow
    are forced there, and what they rest on is not. Raises `RebuildFailed` where the old one has to stay.
    """
    try:
        flush(draft)
        _remove_wals(path)
        draft.rename(path)
        flush(path.parent)
    except OSError as error:
        raise RebuildFailed(f"{path}: the new views cannot be put there: {error.strerror}; the old ones stay") from error


def remove_views(path: Path) -> None:
    """Remove a file of views that nobody has open, and all of DuckDB's beside it."""
    path.unlink(missing_ok=True)
    _remove_wals(path)
    shutil.rmtree(beside(path, "tmp"), ignore_errors=True)


def _remove_wals(path: Path) -> None:
    """Remove write-ahead logs without their file: DuckDB would take them for those of the file that is made next."""
    for wal in wal_paths(path):
        wal.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Remove what a projector that was killed left behind beside its file: copies for queries, and what DuckDB had spilled.

    The write-ahead log stays: it has what was committed. For who holds the file.
    """
    left = [beside(path, what) for what in (*COPIES, "tmp", "fold")]
    left += [draft_of(path), *(beside(draft_of(path), what) for what in ("wal", "tmp"))]
    for place in (found for found in left if found.exists()):
        log.warning("removed what a former life left behind: %s", place)
        if place.is_dir():
            shutil.rmtree(place, ignore_errors=True)
        else:
            place.unlink(missing_ok=True)


def is_same_file(path: Path, inode: int) -> bool:
    """Return whether a path still leads to the file that was opened there."""
    try:
        return path.stat().st_ino == inode
    except FileNotFoundError:
        return False

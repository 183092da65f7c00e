"""Whether a data directory is this user's alone: what others may write there, they may replace by links to anything.

A process opens, replaces and removes files beneath its data directory by name, with its user's rights. So nobody else may write
there, and nothing that cutor uses may be somebody else's: who could write there once may have left a link, or a file with a
password of his own. A link that this user made is his own decision (``nats`` on another disk, say).
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

USED: Final = frozenset(
    {"lock", "instance", "place", "config.toml", "images.json", "nats", "restoring", "power-failed", "log", "in-hand", "roles"}
)
VIEWS: Final = "projections.duckdb"
"""Where the projector has its views without a `projector.database` of its own; what belongs to them begins so."""
OPENED_BENEATH: Final = {"nats": ("nats-", "jetstream"), "log": ("supervisor", "builder", "runner", "projector", "archiver")}
"""What names begin with that are opened in these directories by cutor or nats-server: one on a disk of its own has more."""
OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
ROOT: Final = 0
"""User id of root."""
ANOTHER: Final = "take another one with --data"


def objection(path: Path) -> str | None:
    """Return why a data directory may not be used by this user, in one line; None where nothing is in the way, or none there.

    Raises OSError where it cannot be looked at.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISDIR(found.st_mode):
        return None  # whoever makes it says so
    if found.st_uid != os.geteuid():
        return f"it belongs to another user ({found.st_uid}): {ANOTHER}, or be that user"
    if found.st_mode & OTHERS_MAY_WRITE:
        return f"others may write to it, and could have this user's files replaced: `chmod go-w {_quoted(path)}`, or {ANOTHER}"
    return next(_objections_beneath(path), None)


def _objections_beneath(path: Path) -> Iterator[str]:
    """Yield why what cutor uses of a directory may not be used: two levels, beneath which it makes everything itself.

    What root has in the second is in nobody's way: `lost+found` of a disk, say; root may write anywhere.
    """
    for entry in _entries(path):
        if entry.name not in USED and not entry.name.startswith(VIEWS):
            continue
        yield from _objections_to(Path(entry.path))
        if entry.is_dir():
            opened = OPENED_BENEATH.get(entry.name, ("",))
            for inner in _entries(Path(entry.path)):
                if inner.name.startswith(opened):
                    yield from _objections_to(Path(inner.path), ROOT)


def _objections_to(path: Path, *trusted: int) -> Iterator[str]:
    try:
        if (owner := path.lstat().st_uid) not in {os.geteuid(), *trusted}:
            yield f"{path} in it belongs to another user ({owner}), who may have put it there: {ANOTHER}"
            return
        mode = path.stat().st_mode
    except FileNotFoundError:  # gone meanwhile, or a link of this user's to nothing
        return
    if stat.S_ISDIR(mode) and mode & OTHERS_MAY_WRITE:
        yield f"others may write to {path} in it: `chmod go-w {_quoted(path)}` and see what is there, or {ANOTHER}"


def _entries(path: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as found:
            return list(found)
    except FileNotFoundError:
        return []


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))

"""What a life that was killed left in its directories; removed at the next start, and by `cutor down`, under their locks.

A file is written as a draft beside it and put in place at once (`write_privately`); a kill in between leaves the draft. Nothing
but names that cutor itself gives is touched: a data directory may have been chosen that holds other things.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from cutor.stack.data import DataDirectory

DRAFT: Final = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}", re.ASCII)
OWN_FILES: Final = frozenset({"instance", "place", "config.toml", "images.json", "restoring", "power-failed"})
ROLES: Final = ("builder", "runner", "projector")
SERVER_FILES: Final = frozenset({"nats-server.conf", "nats-password", "nats-port"})


def remove_leftovers(data: DataDirectory) -> list[str]:
    """Remove what a dead life of a data directory left in it, and return its paths beneath it. For who holds its lock."""
    _forget_endpoints(data.path / "metrics")
    removed = remove_drafts(data.path, OWN_FILES)
    return removed + [f"{data.server.name}/{name}" for name in remove_drafts(data.server, SERVER_FILES)]


def _forget_endpoints(directory: Path) -> None:
    """Remove the files that tell where roles have their metrics: nobody listens there any more. Never raises."""
    for role in ROLES:
        for name in (f"{role}.json", f".{role}.json"):
            with suppress(OSError):
                (directory / name).unlink(missing_ok=True)


def remove_drafts(directory: Path, files: Collection[str]) -> list[str]:
    """Remove the drafts of some files of a directory that nobody writes now, and return their names. Never raises."""
    try:
        found = sorted(entry for entry in directory.iterdir() if _is_draft(entry, files))
        for draft in found:
            draft.unlink(missing_ok=True)
    except OSError:
        return []  # what cannot be removed is in nobody's way
    return [draft.name for draft in found]


def _is_draft(entry: Path, files: Collection[str]) -> bool:
    matched = DRAFT.fullmatch(entry.name)
    return matched is not None and matched["name"] in files and entry.is_file() and not entry.is_symlink()

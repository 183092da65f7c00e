"""Files of stacks that work meanwhile: one may go between the look at its directory and the look at it, and is then none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def beneath(directory: Path) -> Iterator[Path]:
    """Yield all that is beneath a directory, directories too; of what goes meanwhile some, or nothing."""
    for top, directories, files in os.walk(directory):
        for name in (*directories, *files):
            yield Path(top) / name


def text_of(path: Path) -> str:
    """Return what is in a file, one of a process too; nothing where it is not there any more."""
    try:
        return path.read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""

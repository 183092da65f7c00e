"""Directories of notes beneath a data directory: what a role writes down for its next life.

Nothing is opened or removed through a link: both directories are opened as what they are, and all that is done in them is done
beneath the open descriptor. A link there leads into a directory that holds no notes, whoever made it.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

DIRECTORY: Final = "in-hand"
"""Beneath a data directory: what is above every directory of notes."""
WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a note is opened to be written."""
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_BENEATH: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def opened(path: Path) -> int:
    """Make ``path`` and the directory above it beneath a data directory, where they are not there; return it, opened.

    Raises OSError, with the path.
    """
    above = os.open(path.parent.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in (path.parent.name, path.name):
        try:
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=above)
            beneath = os.open(name, _BENEATH, dir_fd=above)
        except OSError as error:
            error.filename = str(path)
            raise
        finally:
            os.close(above)
        above = beneath
    return above


def content(directory: int, name: str, most_bytes: int) -> bytes:
    """Return the beginning of a note. Raises OSError, and ValueError for what is no regular file."""
    descriptor = os.open(name, _READ, dir_fd=directory)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("not a regular file")
        return os.read(descriptor, most_bytes)
    finally:
        os.close(descriptor)


def write_durably(directory: int, name: str, data: bytes) -> None:
    """Write a note so that it outlasts a power failure, in the place of one that is there. Raises OSError."""
    draft = f".{name}"
    with suppress(FileNotFoundError):
        os.unlink(draft, dir_fd=directory)
    descriptor = os.open(draft, WRITE, 0o600, dir_fd=directory)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(draft, name, src_dir_fd=directory, dst_dir_fd=directory)
    os.fsync(directory)

"""Files that jails share with the build init. What a jail left is read without following a link or waiting for a writer."""

from __future__ import annotations

import os
import stat
from pathlib import Path


class FilesError(RuntimeError):
    """A file is not what a build leaves or brings: a fault of cutor, or an attempt to mislead it."""


def make_directory(path: str, owner: int, mode: int = 0o755) -> None:
    """Make a directory of the container's own that belongs to ``owner``, with exactly ``mode``."""
    directory = Path(path)
    directory.mkdir()
    directory.chmod(mode)
    os.chown(path, owner, owner)


def read_file(path: str, max_bytes: int) -> bytes | None:
    """Return what a regular file holds; None where there is none. Raises `FilesError` for another kind, or a larger one."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FilesError(f"{path} is not a file that can be read: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise FilesError(f"{path} is not a regular file")
        data = b""
        while piece := os.read(handle, max_bytes + 1 - len(data)):
            data += piece
    finally:
        os.close(handle)
    if len(data) > max_bytes:
        raise FilesError(f"{path} is larger than {max_bytes} bytes")
    return data

"""Files that only their owner may read, put in place at once."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_privately(path: Path, content: bytes) -> None:
    """Replace a file at once with one that only its owner can read: readers see the old content or the new, never a part."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as opened:  # noqa: PTH123 - a descriptor, not a path
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        fresh.replace(path)
        _force_names(path.parent)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def _force_names(directory: Path) -> None:
    """Have the disk know what was put in place, before what comes next is written."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

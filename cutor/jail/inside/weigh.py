"""How much memory a box holds, as exactly as it can be known: what is not accounted for is not believed to be held.

A tmpfs counts its pages. What the kernel holds for a file beside them it does not, and that differs: a second name of a file
takes a fifth of a file, a long name half of one. With many files that is more than may be guessed, in either direction.
"""

from __future__ import annotations

import os
import stat
from typing import Final

from cutor.jail.inside.box import INODE_BYTES, held_bytes

NAME_BYTES: Final = 256
"""What a further name of a file takes (measured: 205), and what is believed of a file that could not be looked at."""
FEW_FILES: Final = 2048
"""Up to here every file counts as `INODE_BYTES`, unseen."""
INLINE_NAME_BYTES: Final = 31
"""A longer name has an allocation of its own, of the next power of two."""
NAME_HEAD_BYTES: Final = 24
MAX_DEPTH: Final = 100
"""How deep is looked: each level takes two descriptors and 32 KiB. What lies deeper was put there to be a nuisance."""

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def weigh(root: str) -> int:
    """Return how much memory the file system of ``root`` holds, which is its only directory (4 µs a file, where many).

    Nothing else may run in it. Follows no link, and leaves everything as it was, directories that refuse to be read included.
    """
    facts = os.statvfs(root)
    names = facts.f_files - facts.f_ffree
    if names <= FEW_FILES:
        return held_bytes(root)
    seen = _Seen()
    top = os.open(os.path.dirname(root), _DIRECTORY)  # noqa: PTH120
    try:
        seen.enter(top, os.path.basename(root), 0)  # noqa: PTH119
    finally:
        os.close(top)
    files = min(round(seen.files), names)
    return held_bytes(root) - (names - files) * (INODE_BYTES - NAME_BYTES) + seen.extra_bytes


class _Seen:
    """What was seen of a tree: its files, each counted once over all its names, and what long names and links take beside."""

    def __init__(self) -> None:
        self.files = 1.0
        self.extra_bytes = 0

    def enter(self, parent: int, name: str, depth: int) -> None:
        """Look at the directory ``name``, and beneath. What can't be looked at is not counted."""
        try:
            mode = stat.S_IMODE(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
            if mode & stat.S_IRWXU != stat.S_IRWXU:
                os.chmod(name, mode | stat.S_IRWXU, dir_fd=parent)
            try:
                directory = os.open(name, _DIRECTORY, dir_fd=parent)
                try:
                    self._look(directory, depth)
                finally:
                    os.close(directory)
            finally:
                if mode & stat.S_IRWXU != stat.S_IRWXU:
                    os.chmod(name, mode, dir_fd=parent)
        except OSError:
            return

    def _look(self, directory: int, depth: int) -> None:
        with os.scandir(directory) as entries:
            for entry in entries:
                facts = entry.stat(follow_symlinks=False)
                self._name(len(os.fsencode(entry.name)))
                if stat.S_ISDIR(facts.st_mode):
                    self.files += 1
                    if depth < MAX_DEPTH:
                        self.enter(directory, entry.name, depth + 1)
                else:
                    self.files += 1 / facts.st_nlink
                    if stat.S_ISLNK(facts.st_mode) and not facts.st_blocks:
                        self.extra_bytes += facts.st_size + 1

    def _name(self, length: int) -> None:
        if length > INLINE_NAME_BYTES:
            self.extra_bytes += 1 << (length + NAME_HEAD_BYTES).bit_length()

"""For which directory a stack's name was made: a data directory that is copied takes the name along, and must not answer to it.

Two directories of one name would remove each other's containers, and take work from each other. A directory is known by its
inode, which ``mv`` within a file system keeps, and which no copy, restored backup or move to another disk has. The number of
the device tells two file systems apart only within one boot of the machine: the kernel gives it anew at each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_PLACE_BYTES: Final = 4096


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A directory: its inode, the device of its file system, and the boot in which that number was the device's."""

    inode: int
    device: int
    boot: str | None = None

    @classmethod
    def of(cls, directory: Path) -> Place:
        """Return the place that a directory is. Raises OSError."""
        found = directory.stat()
        return cls(inode=found.st_ino, device=found.st_dev, boot=boot())

    def is_same(self, other: Place) -> bool:
        """Whether both are one directory, as far as that can be told."""
        within_a_boot = self.boot is not None and self.boot == other.boot
        return self.inode == other.inode and (self.device == other.device or not within_a_boot)


def read(file: Path) -> Place | None:
    """Return the place that is recorded, None where there is none: as with a data directory of an older cutor."""
    try:
        with file.open("rb") as opened:
            return msgspec.json.decode(opened.read(_PLACE_BYTES), type=Place)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def boot() -> str | None:
    """Return the name of this boot of the machine; None where the kernel gives none."""
    try:
        return BOOT_ID.read_text().strip() or None
    except OSError:
        return None

"""For which directory a stack's name was made: a data directory that is copied takes the name along, and must not answer to it.

Two directories of one name would remove each other's containers, and take work from each other. A directory is known by its
inode, which ``mv`` within a file system keeps, and by its file system, since some inodes are on many: the root of an ext4 has
number 2 on each, and a snapshot of a btrfs has those of its original.

A file system is known by the id that it keeps for good, where it has one (statvfs(3): ``f_fsid``), and by the number of its
device. That is given anew at each boot of the machine, and within one at each mount of what is on no block device of its own
(overlay, btrfs), so it counts within a boot, and there not against an id. A disk that was copied block by block has the id of
its original, and is told from it by its device alone, until the next boot. In doubt within a boot a directory is another one:
that costs a new name, and the other mistake would cost containers.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_PLACE_BYTES: Final = 4096
"""A path has 4,095 bytes at the most (Linux, PATH_MAX); a document that is longer tells no directory of ours."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A directory: its inode, the device of its file system, and the boot in which that number was the device's.

    ``file_system`` is the id that the file system keeps, None where it has none.
    """

    inode: int
    device: int
    boot: str | None = None
    file_system: int | None = None

    @classmethod
    def of(cls, directory: Path) -> Place:
        """Return the place that a directory is. Raises OSError."""
        found = directory.stat()
        return cls(inode=found.st_ino, device=found.st_dev, boot=boot(), file_system=_kept(os.statvfs(directory).f_fsid))

    def is_same(self, other: Place) -> bool:
        """Whether both are one directory, as far as that can be told."""
        if self.inode != other.inode:
            return False
        both_have_an_id = self.file_system is not None and other.file_system is not None
        if both_have_an_id and self.file_system != other.file_system:
            return False
        within_a_boot = self.boot is not None and self.boot == other.boot
        if not within_a_boot or self.device == other.device:
            return True
        return both_have_an_id and self._given_at_mount() and other._given_at_mount()

    def _given_at_mount(self) -> bool:
        return os.major(self.device) == 0


def read(file: Path) -> Place | None:
    """Return the place that is recorded, None where there is none: as with a data directory of an older cutor."""
    try:
        with file.open("rb") as opened:
            return msgspec.json.decode(opened.read(_PLACE_BYTES), type=Place)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _kept(file_system: int) -> int | None:
    """Return the id of a file system where it is one: a number of 32 bits is that of its device (xfs), or nothing."""
    return file_system if file_system >> 32 else None


def boot() -> str | None:
    """Return the name of this boot of the machine; None where the kernel gives none."""
    try:
        return BOOT_ID.read_text().strip() or None
    except OSError:
        return None

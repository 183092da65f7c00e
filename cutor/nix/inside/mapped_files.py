"""Files that have no name any more and that processes keep by a mapping, read from their ``/proc/PID/maps``. Pure.

How large such a file is nobody tells: what leads from a mapping to its file (``map_files``) is for root of the machine alone.
What it had when it was seen open is known, how much of it is mapped, and how much less is free on the disk than before.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Generator, Mapping, Set
from typing import Final, NamedTuple

_MAPPING: Final = re.compile(
    rb"^([0-9a-f]+)-([0-9a-f]+) \S+ ([0-9a-f]+) ([0-9a-f]+):([0-9a-f]+) (\d+) [^\n]* \(deleted\)$", re.MULTILINE
)
"""Range, offset, major and minor number of the device, inode (proc(5)). A newline in a file's name is written as an octal."""
FILES_AT_MOST: Final = 1024
"""Of one process, nameless files that are told apart. Who has more of them keeps what can't be counted."""

FILES_AT_ONCE: Final = 1024
"""Gone through between two pauses, 1 µs each: all processes together may have very many."""


class Uncounted(NamedTuple):
    """Mapped files that are counted nowhere else: what they had when they were seen open, and what is mapped beyond that."""

    inodes: Set[int]
    known_bytes: int
    beyond_bytes: int

    def total_bytes(self, unexplained_bytes: int) -> int:
        """Return what they take on the disk.

        What is mapped beyond what is known may be on the disk or, of a sparse file, nowhere: together it is no more than
        ``unexplained_bytes``, what the disk has lost and nothing else accounts for.
        """
        return self.known_bytes + max(min(self.beyond_bytes, unexplained_bytes), 0)


class MappedFiles:
    """What a process, or several, have mapped of the nameless files of one device (major, minor)."""

    def __init__(self, device: tuple[int, int]) -> None:
        self._device = device
        self._ranges: dict[int, tuple[int, int]] = {}
        self.is_overfull = False
        """Whether there are more files than `FILES_AT_MOST`."""

    def add(self, other: MappedFiles) -> None:
        """Take what one process has mapped, too."""
        for inode, (first, last) in other._ranges.items():
            self._add(inode, first, last)

    def read(self, maps: bytes) -> None:
        """Take whole lines of a process's list of mappings."""
        for low, high, offset, major, minor, inode in _MAPPING.findall(maps):
            if (int(major, 16), int(minor, 16)) == self._device:
                if len(self._ranges) < FILES_AT_MOST or int(inode) in self._ranges:
                    start = int(offset, 16)
                    self._add(int(inode), start, start + int(high, 16) - int(low, 16))
                else:
                    self.is_overfull = True

    def _add(self, inode: int, first: int, last: int) -> None:
        low, high = self._ranges.get(inode, (first, last))
        self._ranges[inode] = min(low, first), max(high, last)

    def uncounted(self, counted: Collection[int], known_bytes: Mapping[int, int]) -> Generator[None, None, Uncounted]:
        """Return those not among ``counted``, each once, pausing; ``known_bytes`` are what files had that were seen open."""
        known_total = beyond_total = 0
        inodes: set[int] = set()
        for number, (inode, (first, last)) in enumerate(self._ranges.items(), 1):
            if inode not in counted:
                known = known_bytes.get(inode, 0)
                inodes.add(inode)
                known_total += known
                beyond_total += max(last - first - known, 0)
            if not number % FILES_AT_ONCE:
                yield
        return Uncounted(inodes, known_total, beyond_total)

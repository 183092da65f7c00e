"""How much of a disk trees of files take, counted while others may still write them: a little at a time, and by no link.

Directories are entered by open descriptors, so nobody can lead the count elsewhere. What vanishes while it is counted is left
out; the next count has what took its place.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

ENTRY_BYTES: Final = 4096
"""What a file takes at the least, an empty one too: its inode, its name, its part of the file system's tables."""
BLOCK_BYTES: Final = 512
"""Of ``st_blocks``, whatever the file system's blocks are (stat(2))."""
MAX_DEPTH: Final = 200
"""Two descriptors a level; Linux opens no path that is deeper than about 2,000."""
MAX_LINKED: Final = 100_000
"""Files with several names that are remembered, to count each once; of more, every name counts."""
ENTRIES_AT_ONCE: Final = 64
"""Between two pauses, 2 µs each: 0.1 ms, short beside a slice of a look. A choice."""

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class TooDeep(Exception):
    """A directory deeper than what can be counted."""


class Tally:
    """A sum over trees. A file counts as its blocks, `ENTRY_BYTES` at the least, and once under all its names."""

    def __init__(self) -> None:
        self.total_bytes = 0
        self._linked: set[tuple[int, int]] = set()

    def count(self, facts: os.stat_result) -> None:
        """Add a file, directory or link."""
        if facts.st_nlink > 1 and not stat.S_ISDIR(facts.st_mode):
            if (name := (facts.st_dev, facts.st_ino)) in self._linked:
                return
            if len(self._linked) < MAX_LINKED:
                self._linked.add(name)
        self.total_bytes += max(facts.st_blocks * BLOCK_BYTES, ENTRY_BYTES)


def count_tree(tally: Tally, parent: int, name: str) -> Iterator[None]:
    """Add the tree ``name`` in the open directory ``parent``, pausing every `ENTRIES_AT_ONCE` entries (2 µs an entry).

    Raises `TooDeep`.
    """
    try:
        facts = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return
    tally.count(facts)
    if stat.S_ISDIR(facts.st_mode):
        yield from _count_directories(tally, parent, name)


def _count_directories(tally: Tally, parent: int, name: str) -> Iterator[None]:
    open_directories: list[_Directory] = []
    seen = 0
    try:
        _enter(open_directories, parent, name)
        while open_directories:
            here = open_directories[-1]
            if (entry := here.next()) is None:
                open_directories.pop().close()
                continue
            seen += 1
            with suppress(FileNotFoundError):
                facts = entry.stat(follow_symlinks=False)
                tally.count(facts)
                if stat.S_ISDIR(facts.st_mode):
                    _enter(open_directories, here.handle, entry.name)
            if not seen % ENTRIES_AT_ONCE:
                yield
    finally:
        for directory in open_directories:
            directory.close()


class _Directory:
    """An open directory whose entries are read as they are asked for: there may be millions."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self._entries = os.scandir(handle)

    def next(self) -> os.DirEntry[str] | None:
        return next(self._entries, None)

    def close(self) -> None:
        self._entries.close()
        os.close(self.handle)


def _enter(open_directories: list[_Directory], parent: int, name: str) -> None:
    if len(open_directories) == MAX_DEPTH:
        raise TooDeep
    with suppress(FileNotFoundError, NotADirectoryError):  # something else by now; a link is refused as no directory
        open_directories.append(_Directory(os.open(name, _DIRECTORY, dir_fd=parent)))


def free_bytes(path: str) -> int:
    """Return what an ordinary user may still write to the file system of ``path``; files it has no room for count as well."""
    facts = os.statvfs(path)
    free = facts.f_bavail * facts.f_frsize
    return min(free, facts.f_favail * ENTRY_BYTES) if facts.f_files else free


def unwritten_bytes(path: str) -> int:
    """Return the room for contents alone on the file system of ``path``, however many files it has room for."""
    facts = os.statvfs(path)
    return facts.f_bavail * facts.f_frsize

"""How much memory a box holds, as exactly as it can be known: what is not accounted for is not believed to be held.

A tmpfs counts its pages. What the kernel holds for a file beside them it does not, and that differs: a second name of a file
takes a fifth of a file, a long name half of one, and pages far from each other have nodes of an index between them. With many
files that is more than may be guessed, in either direction.
"""

from __future__ import annotations

import os
import stat

from cutor.jail.inside.box import INODE_BYTES, extents, held_bytes
from cutor.jail.inside.lean import Final, Iterable

NAME_BYTES: Final = 256
"""What a further name of a file takes (measured: 205), and what is believed of a file that could not be looked at."""
FEW_FILES: Final = 2048
"""Up to so many names, every file counts as `INODE_BYTES`, unseen: 2 MiB at the most."""
FEW_PAGES: Final = 2048
"""Up to so many pages (8 MiB), what their index takes is not counted."""
INLINE_NAME_BYTES: Final = 31
"""A longer name has an allocation of its own, of the next power of two."""
NAME_HEAD_BYTES: Final = 24
"""What the kernel keeps in front of such a name, rounded up (Linux: ``struct external_name``)."""
PAGE_BYTES: Final = 4096
"""A page of memory on x86-64."""
NODE_BYTES: Final = 592
"""A node of the index of a file's pages: 64 places, each for a page or a node (Linux: ``xa_node``, 7 of them in a page)."""
NODE_BITS: Final = 6
"""Of a page's number, that a node decides by: 64 places are 2**6."""
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


def weigh(root: str) -> int:
    """Return how much memory the file system of ``root`` holds, which is its only directory (4 µs a file, where many).

    Nothing else may run in it. Follows no link, and leaves everything as it was, directories that refuse to be read included.
    """
    facts = os.statvfs(root)
    names = facts.f_files - facts.f_ffree
    pages = (facts.f_blocks - facts.f_bfree) * facts.f_frsize // PAGE_BYTES
    if names <= FEW_FILES and pages <= FEW_PAGES:
        return held_bytes(root)
    seen = _Seen()
    seen.walk(root)
    files = min(round(seen.files), names)
    return held_bytes(root) - (names - files) * (INODE_BYTES - NAME_BYTES) + round(seen.extra_bytes)


class _Seen:
    """What was seen of a tree: its files, each counted once over all its names, and what else the kernel holds for them."""

    def __init__(self) -> None:
        self.files = 1.0
        self.extra_bytes = 0.0

    def walk(self, root: str) -> None:
        """Look at ``root`` and all beneath it, one directory open at a time: ``..`` leads back, since nothing moves meanwhile.

        Of the directories that are still to do, only names are kept, and only of those that have directories themselves.
        """
        here = os.open(os.path.dirname(root), _DIRECTORY)  # noqa: PTH120
        waiting = [[os.path.basename(root)]]  # noqa: PTH119
        modes: list[int] = []
        try:
            while waiting:
                if waiting[-1]:
                    name = waiting[-1].pop()
                    if (entered := _enter(here, name)) is not None:
                        os.close(here)
                        here, mode = entered
                        modes.append(mode)
                        waiting.append(self._look(here))
                else:
                    waiting.pop()
                    here = _leave(here, modes.pop()) if modes else here
        finally:
            os.close(here)

    def _look(self, directory: int) -> list[str]:
        """Count what is in a directory; return the names of the directories in it that are to be looked at by themselves."""
        deeper = []
        with os.scandir(directory) as entries:
            for entry in entries:
                facts = entry.stat(follow_symlinks=False)
                self._name(len(os.fsencode(entry.name)))
                if stat.S_ISDIR(facts.st_mode):
                    self.files += 1
                    if facts.st_nlink == 2:  # of a tmpfs: there is no directory in it
                        self._leaf(directory, entry.name)
                    else:
                        deeper.append(entry.name)
                else:
                    self._file(directory, entry.name, facts)
        return deeper

    def _leaf(self, parent: int, name: str) -> None:
        if (entered := _enter(parent, name)) is not None:
            directory, mode = entered
            self._look(directory)
            os.fchmod(directory, mode)
            os.close(directory)

    def _file(self, directory: int, name: str, facts: os.stat_result) -> None:
        self.files += 1 / facts.st_nlink
        if stat.S_ISLNK(facts.st_mode) and not facts.st_blocks:
            self.extra_bytes += facts.st_size + 1
        elif stat.S_ISREG(facts.st_mode) and facts.st_blocks:
            self.extra_bytes += NODE_BYTES * nodes_of(directory, name, facts) / facts.st_nlink

    def _name(self, length: int) -> None:
        if length > INLINE_NAME_BYTES:
            self.extra_bytes += 1 << (length + NAME_HEAD_BYTES).bit_length()


def _enter(parent: int, name: str) -> tuple[int, int] | None:
    """Open a directory, made readable if need be; return it with the mode it had. None for what can't be looked at."""
    mode = stat.S_IMODE(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    try:
        if mode & stat.S_IRWXU != stat.S_IRWXU:
            os.chmod(name, mode | stat.S_IRWXU, dir_fd=parent)
        return os.open(name, _DIRECTORY, dir_fd=parent), mode
    except OSError:
        return None


def _leave(directory: int, mode: int) -> int:
    """Return the directory above, opened; the one that is left has its mode again."""
    parent = os.open("..", _DIRECTORY, dir_fd=directory)
    os.fchmod(directory, mode)
    os.close(directory)
    return parent


def nodes_of(directory: int, name: str, facts: os.stat_result) -> int:
    """Return how many nodes the index of a file's pages has: exactly where it has holes, else by its number of pages."""
    pages = facts.st_blocks * 512 // PAGE_BYTES
    if facts.st_size <= (pages + 1) * PAGE_BYTES:
        return index_nodes([(0, pages)])
    mode = stat.S_IMODE(facts.st_mode)
    try:
        if not mode & stat.S_IRUSR:
            os.chmod(name, mode | stat.S_IRUSR, dir_fd=directory)
        file = os.open(name, _FILE, dir_fd=directory)
    except OSError:
        return index_nodes([(0, pages)])
    try:
        return index_nodes((start // PAGE_BYTES, -(-end // PAGE_BYTES)) for start, end in extents(file))
    finally:
        os.fchmod(file, mode)
        os.close(file)


def index_nodes(extents: Iterable[tuple[int, int]]) -> int:
    """Return how many nodes an index of these pages has; extents are in order. A file of its first page alone needs none.

    A level that a later page adds has one node for all that was there before.
    """
    counts: list[int] = []
    last: list[int] = []
    before = 0
    for start, end in extents:
        levels = max(-(-(end - 1).bit_length() // NODE_BITS), len(counts))
        counts += [before] * (levels - len(counts))
        last += [before - 1] * (levels - len(last))
        for level in range(levels):
            shift = NODE_BITS * (level + 1)
            first, final = start >> shift, (end - 1) >> shift
            counts[level] += final - first + 1 - (first == last[level])
            last[level] = final
        before = 1
    return sum(counts)

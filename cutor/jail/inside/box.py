"""Files of a submission in the box: written beneath it, copied and removed without ever following a link.

What lies in a box was written by user code. Every directory is opened relative to its parent's descriptor with O_NOFOLLOW, so
no name of the user's can lead out of it. Copying is the way of kernels that have no overlay for us; see `nsjail_args.Layered`.
"""

from __future__ import annotations

# Descriptors of directories, which pathlib has not:
# ruff: noqa: PTH101, PTH102, PTH116, PTH208
import errno
import math
import os
import stat
import time

from cutor.jail.inside.lean import Final, Iterator, suppress

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE_BYTES: Final = 1 << 20
"""Written by one call: the process looks after nothing else meanwhile. A choice."""
INODE_BYTES: Final = 1024
"""About what the kernel holds for a file beside its data (measured: 950 for an empty one with a short name)."""

_PROGRESS: Final = 64
"""Entries that a removal without any time left takes away all the same: who tries again and again comes to an end."""


class BoxError(Exception):
    """The box can't be filled or copied; the message names the file."""


def write_file(root: str, name: str, data: bytes | memoryview) -> None:
    """Write a new file of a relative name beneath ``root``, with the directories on its way.

    Raises `BoxError` for a name that leads through a link, out of the box, to a file that exists, or for a full box.
    """
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise BoxError(f"not a name of a file in the box: {name!r}")
    try:
        _write_beneath(root, parts, data)
    except OSError as error:
        raise BoxError(f"{name}: {error.strerror}") from error


def _write_beneath(root: str, parts: list[str], data: bytes | memoryview) -> None:
    directory = os.open(root, _DIRECTORY)
    try:
        for part in parts[:-1]:
            directory = _enter(directory, part)
        _write(directory, parts[-1], data)
    finally:
        os.close(directory)


def _enter(parent: int, name: str) -> int:
    """Return a descriptor of the directory ``name``, made if it is missing; ``parent`` is closed."""
    try:
        with suppress(FileExistsError):  # a directory by an earlier file, or something that opening refuses
            os.mkdir(name, 0o755, dir_fd=parent)
        return os.open(name, _DIRECTORY, dir_fd=parent)
    finally:
        os.close(parent)


def _write(directory: int, name: str, data: bytes | memoryview) -> None:
    fd = os.open(name, _CREATE, 0o644, dir_fd=directory)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view[:_PIECE_BYTES]) :]
    finally:
        os.close(fd)


def held_bytes(root: str) -> int:
    """Return about how much memory the file system of ``root`` holds: a tmpfs's pages exactly, its files by their number."""
    facts = os.statvfs(root)
    return (facts.f_blocks - facts.f_bfree) * facts.f_frsize + (facts.f_files - facts.f_ffree) * INODE_BYTES


def copy_tree(source: str, target: str) -> None:
    """Copy a directory however deep: regular files with their holes, links as links, modes; no named pipes and sockets.

    ``source`` must be on a file system of its own: no more is copied than that holds, which a file with several names could
    ask for, since each becomes a file of its own. Needs no recursion and four descriptors; nothing else may run meanwhile.
    Raises `BoxError`, with what could not be copied.
    """
    os.mkdir(target, 0o755)
    facts = os.statvfs(source)
    room_bytes = (facts.f_blocks - facts.f_bfree) * facts.f_frsize
    try:
        _copy_levels(source, target, room_bytes)
    except OSError as error:
        raise BoxError(os.strerror(error.errno or 0)) from error


class _Level:
    """A directory on the way from the box to where a copy is: its own mode, and the directories in it that are still to do."""

    def __init__(self, mode: int) -> None:
        self.mode = stat.S_IMODE(mode)
        self.waiting: list[str] = []


def _copy_levels(source: str, target: str, room_bytes: int) -> None:
    mode = os.stat(source, follow_symlinks=False).st_mode
    os.chmod(source, 0o700)  # it is ours, whatever its owner's program made of its mode
    here = _Pair(os.open(source, _DIRECTORY), os.open(target, _DIRECTORY))
    levels = [_Level(mode)]
    try:
        room_bytes -= _copy_files(here, levels[-1], room_bytes)
        while True:
            if levels[-1].waiting:
                mode = here.enter(levels[-1].waiting.pop())
                levels.append(_Level(mode))
                room_bytes -= _copy_files(here, levels[-1], room_bytes)
                continue
            level = levels.pop()
            if not levels:
                os.fchmod(here.source, level.mode)  # the copy's own root stays as a box is
                return
            here.leave(level.mode)
    finally:
        here.close()


class _Pair:
    """Where a copy is: a directory and its counterpart. Going up is safe: ``..`` is no link, and nothing moves meanwhile."""

    def __init__(self, source: int, target: int) -> None:
        self.source = source
        self.target = target

    def enter(self, name: str) -> int:
        """Go down into ``name``, made readable here and new there; return the mode it had."""
        mode = os.stat(name, dir_fd=self.source, follow_symlinks=False).st_mode
        os.chmod(name, 0o700, dir_fd=self.source)
        os.mkdir(name, 0o700, dir_fd=self.target)
        self._go(name)
        return mode

    def leave(self, mode: int) -> None:
        """Go up; both directories get ``mode`` once they are left."""
        left = _Pair(os.dup(self.source), os.dup(self.target))
        try:
            self._go("..")
            os.fchmod(left.source, mode)
            os.fchmod(left.target, mode)
        finally:
            left.close()

    def _go(self, name: str) -> None:
        source = os.open(name, _DIRECTORY, dir_fd=self.source)
        os.close(self.source)
        self.source = source
        target = os.open(name, _DIRECTORY, dir_fd=self.target)
        os.close(self.target)
        self.target = target

    def close(self) -> None:
        """Close both."""
        os.close(self.source)
        os.close(self.target)


def _copy_files(here: _Pair, level: _Level, room_bytes: int) -> int:
    """Copy what is in a directory but directories, which are noted in ``level``; return how many bytes that took."""
    taken = 0
    for name in os.listdir(here.source):
        facts = os.stat(name, dir_fd=here.source, follow_symlinks=False)
        if stat.S_ISDIR(facts.st_mode):
            level.waiting.append(name)
        elif stat.S_ISLNK(facts.st_mode):
            os.symlink(os.readlink(name, dir_fd=here.source), name, dir_fd=here.target)
        elif stat.S_ISREG(facts.st_mode):
            taken += facts.st_blocks * 512
            if taken > room_bytes:
                raise BoxError("files with several names would take more room as files of their own")
            _copy_file(here, name, facts)
    return taken


def _copy_file(here: _Pair, name: str, facts: os.stat_result) -> None:
    mode = stat.S_IMODE(facts.st_mode)
    if not mode & stat.S_IRUSR:
        os.chmod(name, mode | stat.S_IRUSR, dir_fd=here.source)
    source = os.open(name, _READ, dir_fd=here.source)
    target = os.open(name, _CREATE, 0o600, dir_fd=here.target)
    try:
        _copy_data(source, target, facts.st_size)
        os.fchmod(source, mode)
        os.fchmod(target, mode)
    finally:
        os.close(source)
        os.close(target)


def _copy_data(source: int, target: int, size: int) -> None:
    """Copy a file's data and leave its holes holes: they take no memory in the box either."""
    os.ftruncate(target, size)
    for start, end in extents(source):
        at = os.lseek(target, start, os.SEEK_SET)
        while at < end:  # copy_file_range does not lead from one file system to another
            sent = os.sendfile(target, source, at, min(end - at, _PIECE_BYTES * 64))
            if not sent:
                return
            at += sent


def extents(file: int) -> Iterator[tuple[int, int]]:
    """Yield where a file has data, in order: from the first byte of each run of it up to the one after its last."""
    end = 0
    while True:
        try:
            start = os.lseek(file, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # nothing but a hole up to the end
            raise
        end = os.lseek(file, start, os.SEEK_HOLE)
        yield start, end


def remove_tree(root: str, name: str, seconds: float = math.inf) -> bool:
    """Remove the directory ``name`` beneath ``root``, however deep and wide; return whether it was done within ``seconds``.

    A directory in it is moved up, into ``name``, before its own turn comes, so this needs four descriptors, no recursion, no
    list of what there is, and nothing new on a full file system. What is left after ``seconds`` stays under ``name``; some
    progress is made in any case. Nothing else may run in the box meanwhile.
    """
    parent = os.open(root, _DIRECTORY)
    try:
        os.chmod(name, 0o700, dir_fd=parent)
        top = os.open(name, _DIRECTORY, dir_fd=parent)
        try:
            emptied = _empty(top, _Allowance(seconds))
        finally:
            os.close(top)
        if emptied:
            os.rmdir(name, dir_fd=parent)
        return emptied
    finally:
        os.close(parent)


class _Allowance:
    """The time that a removal has, and the entries that it removes even if it has none."""

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._free = _PROGRESS

    def used_up(self) -> bool:
        """Return whether to stop, after one more entry."""
        self._free -= 1
        return self._free < 0 and time.monotonic() >= self._deadline


def _empty(top: int, allowance: _Allowance) -> bool:
    """Remove what is in a directory, until a look finds nothing: one that changes may hide entries from who reads it."""
    progress = True
    while progress:
        progress = False
        with os.scandir(top) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # read twice
                    if not entry.is_dir(follow_symlinks=False):
                        os.unlink(entry.name, dir_fd=top)
                    elif not _take_apart(top, entry.name, allowance):
                        return False
                    progress = True
                if allowance.used_up():
                    return False
    return True


def _take_apart(top: int, name: str, allowance: _Allowance) -> bool:
    """Remove the directory ``name`` of ``top`` and its files; its directories move to ``top``. Return whether time sufficed."""
    os.chmod(name, 0o700, dir_fd=top)
    directory = os.open(name, _DIRECTORY, dir_fd=top)
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # read twice
                    if entry.is_dir(follow_symlinks=False):
                        os.chmod(entry.name, 0o700, dir_fd=directory)  # what moves must be writable: its ".." changes
                        os.rename(entry.name, os.urandom(12).hex(), src_dir_fd=directory, dst_dir_fd=top)
                    else:
                        os.unlink(entry.name, dir_fd=directory)
                if allowance.used_up():
                    return False
    finally:
        os.close(directory)
    try:
        os.rmdir(name, dir_fd=top)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:  # hidden from who read it: the next look finds it
            raise
    return True

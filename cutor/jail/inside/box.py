"""Files of a submission in the box: written beneath it, copied and removed without ever following a link.

What lies in a box was written by user code. Every directory is opened relative to its parent's descriptor with O_NOFOLLOW, so
no name of the user's can lead out of it. Copying is the way of kernels that have no overlay for us; see `nsjail_args.Layered`.
"""

from __future__ import annotations

# Descriptors of directories, which pathlib has not:
# ruff: noqa: PTH102
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Final

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 128
"""Directories within directories that a copy takes: each holds a descriptor open while it lasts."""


class BoxError(Exception):
    """The box can't be filled or copied; the message names the file."""


def write_file(root: str, name: str, data: bytes) -> None:
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


def _write_beneath(root: str, parts: list[str], data: bytes) -> None:
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


def _write(directory: int, name: str, data: bytes) -> None:
    fd = os.open(name, _CREATE, 0o644, dir_fd=directory)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view[:_PIECE_BYTES]) :]
    finally:
        os.close(fd)


def used_bytes(root: str) -> int:
    """Return how much memory the file system of ``root`` holds: of a tmpfs exactly what its files take."""
    facts = os.statvfs(root)
    return (facts.f_blocks - facts.f_bfree) * facts.f_frsize


def copy_tree(source: str, target: str) -> None:
    """Copy a directory: regular files, links as links, modes; named pipes, sockets and devices are left out.

    Raises `BoxError` for directories more than `MAX_DEPTH` deep and for a full box.
    """
    os.mkdir(target, 0o755)
    try:
        _copy_directory(os.open(source, _DIRECTORY), os.open(target, _DIRECTORY), MAX_DEPTH)
    except OSError as error:
        raise BoxError(f"copying the box: {error.strerror}") from error


def _copy_directory(source: int, target: int, depth: int) -> None:
    """Copy what is in one directory into another; both descriptors are closed."""
    try:
        if depth == 0:
            raise BoxError(f"copying the box: more than {MAX_DEPTH} directories deep")
        for name in os.listdir(source):
            facts = os.stat(name, dir_fd=source, follow_symlinks=False)
            if stat.S_ISLNK(facts.st_mode):
                os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            elif stat.S_ISDIR(facts.st_mode):
                os.mkdir(name, 0o700, dir_fd=target)
                with _readable(source, name, facts.st_mode):
                    below = os.open(name, _DIRECTORY, dir_fd=source), os.open(name, _DIRECTORY, dir_fd=target)
                    _copy_directory(*below, depth - 1)
                os.chmod(name, stat.S_IMODE(facts.st_mode), dir_fd=target)
            elif stat.S_ISREG(facts.st_mode):
                with _readable(source, name, facts.st_mode):
                    _copy_file(os.open(name, _READ, dir_fd=source), target, name, stat.S_IMODE(facts.st_mode))
    finally:
        os.close(source)
        os.close(target)


@contextmanager
def _readable(parent: int, name: str, mode: int) -> Iterator[None]:
    """Make what we own readable for us while the block lasts, whatever its owner's program made of its mode."""
    if mode & stat.S_IRUSR and (mode & stat.S_IXUSR or not stat.S_ISDIR(mode)):
        yield
        return
    os.chmod(name, stat.S_IMODE(mode) | 0o500, dir_fd=parent)
    try:
        yield
    finally:
        os.chmod(name, stat.S_IMODE(mode), dir_fd=parent)


def _copy_file(source: int, directory: int, name: str, mode: int) -> None:
    target = os.open(name, _CREATE, 0o600, dir_fd=directory)
    try:
        while os.copy_file_range(source, target, _PIECE_BYTES * 64):
            pass
        os.fchmod(target, mode)
    finally:
        os.close(source)
        os.close(target)


def remove_tree(root: str, name: str) -> None:
    """Remove the directory ``name`` beneath ``root``, however deep: a directory in it is moved up before its own turn comes.

    Needs two descriptors and no recursion. Nothing else may run in the box meanwhile.
    """
    top = os.open(root, _DIRECTORY)
    try:
        waiting = [name]
        numbers = count(1)
        while waiting:
            current = waiting.pop()
            os.chmod(current, 0o700, dir_fd=top)
            for entry in _remove_files(os.open(current, _DIRECTORY, dir_fd=top)):
                moved = f"{name}.removing.{next(numbers)}"
                os.rename(f"{current}/{entry}", moved, src_dir_fd=top, dst_dir_fd=top)
                waiting.append(moved)
            os.rmdir(current, dir_fd=top)
    finally:
        os.close(top)


def _remove_files(directory: int) -> list[str]:
    """Remove everything in a directory that is none itself; return the directories, made ours to move. Closes it."""
    directories = []
    try:
        for entry in os.listdir(directory):
            if stat.S_ISDIR(os.stat(entry, dir_fd=directory, follow_symlinks=False).st_mode):
                os.chmod(entry, 0o700, dir_fd=directory)
                directories.append(entry)
            else:
                os.unlink(entry, dir_fd=directory)
    finally:
        os.close(directory)
    return directories

"""The per-user file by which commands find the stack that was started last: its address with the credential, mode 0600."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from cutor.errors import CutorError
from cutor.private_files import write_privately
from cutor.stack.data import PRIVATE
from cutor.stack.leftovers import remove_drafts
from cutor.stack.lock import POLL_S, is_free

_FILE_BYTES: Final = 1 << 16
"""Far above what cutor writes there: others' files are not read whole."""
LOCK_TIMEOUT_S: Final = 5.0
"""Whoever has the lock reads and writes a small file under it, which takes milliseconds."""
STACKS_AT_MOST: Final = 16
"""Stacks of one user that are remembered at one time."""


class CurrentStackDamaged(CutorError):
    """The current-stack file cannot be read; the message names it."""


class CurrentStack(msgspec.Struct, frozen=True, kw_only=True):
    """What ``cutor up`` leaves for commands. ``server`` holds the credential: it is never printed.

    ``previous`` is the stack that was current when this one was started: it is so again when this one ends.
    """

    server: str
    data: str
    instance: str
    previous: CurrentStack | None = None


def read(path: Path) -> CurrentStack | None:
    """Return the stack that was started last, or None where none runs. Raises `CurrentStackDamaged`."""
    try:
        with path.open("rb") as opened:
            return msgspec.json.decode(opened.read(_FILE_BYTES), type=CurrentStack)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CurrentStackDamaged(f"{path} cannot be read: remove it, or start the stack again with `cutor up`") from error


def known(path: Path) -> list[CurrentStack]:
    """Return every stack that was started and not stopped, dead ones too, the last one first. Raises `CurrentStackDamaged`."""
    return _chain(read(path))


def running(path: Path) -> list[CurrentStack]:
    """Return every stack that runs, the last one first. Raises `CurrentStackDamaged`."""
    return [stack for stack in known(path) if runs(stack)]


def write(path: Path, stack: CurrentStack) -> None:
    """Make a stack the current one of this user. Raises `CurrentStackDamaged` where that cannot be written."""
    try:
        path.parent.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        with _locked(path) as alone:
            if alone:
                remove_drafts(path.parent, {path.name})
            others = [other for other in _chain(_read_or_none(path)) if other.instance != stack.instance and runs(other)]
            write_privately(path, msgspec.json.encode(_linked([stack, *others[: STACKS_AT_MOST - 1]])))
    except OSError as error:
        raise CurrentStackDamaged(f"{path} cannot be written: {error.strerror}") from error


def remove(path: Path, instance: str) -> bool:
    """Forget a stack; the one that was started before it and still runs is the current one again.

    Returns whether the stack was known. A file that cannot be read is left alone.

    Raises `CurrentStackDamaged` where it cannot be written.
    """
    try:
        if not path.exists():
            return False
        with _locked(path):
            return _remove(path, instance)
    except OSError as error:
        raise CurrentStackDamaged(f"{path} cannot be written: {error.strerror}") from error


def _remove(path: Path, instance: str) -> bool:
    before = _chain(_read_or_none(path))
    left = [stack for stack in before if stack.instance != instance]
    if len(left) == len(before):
        return False
    running = [stack for stack in left if runs(stack)]
    if running:
        write_privately(path, msgspec.json.encode(_linked(running)))
    else:
        path.unlink(missing_ok=True)
    return True


def move(path: Path, instance: str, server: str) -> None:
    """Give a stack's server another address, in the place that the stack has. Raises `CurrentStackDamaged`."""
    try:
        with _locked(path):
            before = known(path)
            moved = [replace(stack, server=server) if stack.instance == instance else stack for stack in before]
            if moved != before:
                write_privately(path, msgspec.json.encode(_linked(moved)))
    except OSError as error:
        raise CurrentStackDamaged(f"{path} cannot be written: {error.strerror}") from error


def lock_path(path: Path) -> Path:
    """Return the file that is locked while the current-stack file is changed."""
    return path.with_name(f"{path.name}.lock")


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Keep other stacks from reading the file and writing it again at the same time, by a lock on a file beside it.

    The directory may be a data directory, too, whose own lock is one on itself.
    A process that holds it for `LOCK_TIMEOUT_S` is stopped or hangs, and is not waited for any longer: False then.
    """
    descriptor = os.open(lock_path(path), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while not (alone := _try_lock(descriptor)) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        yield alone
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_or_none(path: Path) -> CurrentStack | None:
    try:
        return read(path)
    except CurrentStackDamaged:
        return None


def _chain(stack: CurrentStack | None) -> list[CurrentStack]:
    found: list[CurrentStack] = []
    while stack is not None and len(found) < STACKS_AT_MOST:
        found.append(stack)
        stack = stack.previous
    return found


def _linked(stacks: Sequence[CurrentStack]) -> CurrentStack:
    linked: CurrentStack | None = None
    for stack in reversed(stacks):
        linked = replace(stack, previous=linked)
    assert linked is not None
    return linked


def runs(stack: CurrentStack) -> bool:
    """Whether a process of the stack lives."""
    return not is_free(Path(stack.data) / "lock")

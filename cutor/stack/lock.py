"""The lock of a data directory: it decides who is alive, where a pid alone would be a guess.

The supervisor (or a role that runs by itself) holds an flock on ``<data>/lock`` for life, and its role processes inherit the
open file: the lock is free only when all of them are dead. The file says who took it; that is believed only for a process
that is still the same one (its start time is compared).

A lock whose name is that of a process of another boot of the machine tells of more than a process that died: the disk may lack
what the operating system had yet to write. Before the name goes, that is noted beside it (`DataDirectory.power_failed`).
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from cutor.errors import CutorError
from cutor.stack.data import DataDirectory, DataDirectoryUnusable, command_for, write_privately
from cutor.stack.place import boot
from cutor.stack.stop_times import ORPHANS_S

POLL_S: Final = 0.02
_HOLDER_BYTES: Final = 4096


class AlreadyRunning(CutorError):
    """Another process holds the lock of the data directory; the message names its pid."""


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who took the lock: its pid, and when that process started (clock ticks since boot: field 22 of ``/proc/PID/stat``).

    ``boot`` is the name that the kernel gave that boot of the machine (random(4)), None where it gives none.
    """

    pid: int
    started_ticks: int
    boot: str | None = None


class Lock:
    """A held lock. It lasts until `release` and until every process that inherited `descriptor` has ended."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    def take(cls, path: Path) -> Lock:
        """Take the lock of a prepared data directory. Raises `AlreadyRunning` and `DataDirectoryUnusable`."""
        descriptor = _open(path, os.O_RDWR | os.O_CREAT)
        if not _lock_soon(descriptor) and not (_holder_died(path) and _lock_soon(descriptor, ORPHANS_S)):
            holder = read_holder(path)
            os.close(descriptor)
            who = f" with pid {holder.pid}" if holder else ""
            raise AlreadyRunning(f"{path.parent} is in use by a process{who}; `{command_for('down', path.parent)}` stops it")
        _note_power_failure(path, _holder_in(descriptor))
        mine = Holder(pid=os.getpid(), started_ticks=start_time_ticks(os.getpid()) or 0, boot=boot())
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, msgspec.json.encode(mine), 0)
        return cls(descriptor)

    @classmethod
    def take_over(cls, path: Path, dead: Holder) -> Lock | None:
        """Take the lock of a process that died, whose name stays in it: one that starts meanwhile waits until `release`.

        None where that is not the last life any more: another process has the lock, or has had it.
        """
        descriptor = _open(path, os.O_RDWR)
        if _lock_soon(descriptor) and _holder_in(descriptor) == dead:
            _note_power_failure(path, dead)
            return cls(descriptor)
        os.close(descriptor)
        return None

    def release(self, *, orderly: bool) -> None:
        """Give up this process's share in the lock; after an orderly end, in which nothing was left, its name goes, too.

        A free lock that names a holder therefore tells of a process that died: `cutor down` cleans up after it.
        """
        if orderly:
            os.ftruncate(self.descriptor, 0)
        os.close(self.descriptor)


def _holder_died(path: Path) -> bool:
    """Whether the process that took the lock is dead: who holds it now are its children, which are ending."""
    holder = read_holder(path)
    return holder is not None and start_time_ticks(holder.pid) != holder.started_ticks


def _note_power_failure(path: Path, former: Holder | None) -> None:
    """Note that the machine may have gone down under a former life which kept streams. For who has the lock.

    A copy that was made of a living stack is no better: its files are of different moments.
    """
    data = DataDirectory(path.parent)
    if former is None or not data.server.is_dir():
        return
    if former.boot is None or former.boot != boot() or data.is_copy():
        write_privately(data.power_failed, b"")


def _lock_soon(descriptor: int, timeout_s: float = 0.1) -> bool:
    """Lock an open file; a few attempts, because `is_free` holds it for a moment."""
    for _ in range(max(1, int(timeout_s / POLL_S))):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(POLL_S)
        else:
            return True
    return False


def is_free(path: Path) -> bool:
    """Whether nobody holds the lock: every process of that stack is dead."""
    try:
        descriptor = _open(path, os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def wait_free(path: Path, timeout_s: float) -> bool:
    """Wait until nobody holds the lock; False when the time ran out."""
    deadline = time.monotonic() + timeout_s
    while not is_free(path):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def read_holder(path: Path) -> Holder | None:
    """Return who says to have taken the lock, or None where the file says nothing that can be read."""
    try:
        descriptor = _open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return _holder_in(descriptor)
    finally:
        os.close(descriptor)


def _holder_in(descriptor: int) -> Holder | None:
    try:
        return msgspec.json.decode(os.pread(descriptor, _HOLDER_BYTES, 0), type=Holder)
    except msgspec.DecodeError:
        return None


@contextmanager
def opened_holder(path: Path) -> Iterator[int | None]:
    """Yield a pidfd of the process that took the lock; None where it is gone, or nobody's name can be read.

    The pidfd is opened before the start time is compared: a pid that was given to another process meanwhile is never hit.
    """
    holder = read_holder(path)
    try:
        descriptor = None if holder is None else os.pidfd_open(holder.pid)
    except (ProcessLookupError, ValueError, OverflowError):
        descriptor = None
    if holder is None or descriptor is None:
        yield None
        return
    try:
        yield descriptor if start_time_ticks(holder.pid) == holder.started_ticks else None
    finally:
        os.close(descriptor)


def send_to_holder(path: Path, number: signal.Signals) -> bool:
    """Signal the process that holds the lock; False where it is gone."""
    with opened_holder(path) as holder:
        return holder is not None and send(holder, number)


def send(holder: int, number: signal.Signals) -> bool:
    """Signal the process of a pidfd; False where it has ended."""
    try:
        signal.pidfd_send_signal(holder, number)
    except ProcessLookupError:
        return False
    return True


def wait_ended(holder: int, timeout_s: float) -> bool:
    """Wait until the process of a pidfd has ended; False when the time ran out."""
    poll = select.poll()
    poll.register(holder, select.POLLIN)
    return bool(poll.poll(max(0.0, timeout_s) * 1000))


def start_time_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot (proc(5): field 22 of ``stat``).

    None where it is gone, or dead and only not yet collected by its parent.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataDirectoryUnusable(f"{path} cannot be opened: {error.strerror}") from error

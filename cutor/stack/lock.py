"""The lock of a data directory: it decides who is alive, where a pid alone would be a guess.

The supervisor (or a role that runs by itself) holds an flock on the data directory itself and one on ``<data>/lock`` for life,
and its role processes inherit both: the lock is free only when all of them are dead. The first cannot be removed while the
directory is there; the second is what an older cutor holds. The file says who took it; that is believed only for a process that
is still the same one (its start time is compared), and holds this lock: a copy of the directory has the name, too. Where it
says nothing, not even that the last life ended, the kernel does (`holding`).

A lock whose name is that of a process of another boot of the machine tells of more than a process that died: the disk may lack
what the operating system had yet to write. So may one that says nothing, not even that the last life ended in order: a name is
on the disk before anything is begun under it. Before the name goes, that is noted beside it (`DataDirectory.power_failed`).
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from cutor.errors import CutorError
from cutor.private_files import write_privately
from cutor.stack.data import DataDirectory, DataDirectoryUnusable, command_for
from cutor.stack.holding import holders, holds, leader
from cutor.stack.place import boot
from cutor.stack.stop_times import ORPHANS_S

POLL_S: Final = 0.02
"""Between two tries at a lock: nobody notices, and it is no load. A choice."""
ENDED: Final = b"ended\n"
"""What the file says after an orderly end."""
_HOLDER_BYTES: Final = 4096
"""Far above what a holder has: two numbers, or a word."""
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY


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
    """A held lock. It lasts until `release` and until every process that inherited `descriptors` has ended."""

    def __init__(self, directory: int, file: int) -> None:
        self.descriptors = (directory, file)

    @classmethod
    def take(cls, path: Path) -> Lock:
        """Take the lock of a prepared data directory. Raises `AlreadyRunning` and `DataDirectoryUnusable`."""
        lock = cls._both(path, os.O_RDWR | os.O_CREAT, lambda held: _lock_soon(held) or _orphans_end(path, held))
        if lock is None:
            raise AlreadyRunning(f"{path.parent} is in use by a process {described_holder(path)}{_way_out(path)}")
        try:
            lock._note_power_failure(path)
            mine = Holder(pid=os.getpid(), started_ticks=start_time_ticks(os.getpid()) or 0, boot=boot())
            lock._say(msgspec.json.encode(mine))
        except OSError as error:
            lock._close()
            raise DataDirectoryUnusable(f"{path} cannot be written: {error.strerror}") from error
        return lock

    @classmethod
    def take_over(cls, path: Path, dead: Holder) -> Lock | None:
        """Take the lock of a process that died, whose name stays in it: one that starts meanwhile waits until `release`.

        None where that is not the last life any more: another process has the lock, or has had it.
        """
        lock = cls._both(path, os.O_RDWR, _lock_soon)
        if lock is None or _holder_in(lock.descriptors[1]) != dead:
            if lock is not None:
                lock._close()
            return None
        lock._note_power_failure(path)
        return lock

    @classmethod
    def _both(cls, path: Path, flags: int, locked: Callable[[int], bool]) -> Lock | None:
        """Lock the directory, and then the file, which is not opened before; None where somebody has one of them."""
        with ExitStack() as given_up:
            directory = _open(path.parent, _DIRECTORY)
            given_up.callback(os.close, directory)
            if not locked(directory):
                return None
            file = _open(path, flags | os.O_NOFOLLOW)
            given_up.callback(os.close, file)
            if not locked(file):
                return None
            given_up.pop_all()
            return cls(directory, file)

    def _note_power_failure(self, path: Path) -> None:
        """Note that the machine may have gone down under a former life which kept streams.

        A copy that was made of a living stack is no better: its files are of different moments.
        """
        data = DataDirectory(path.parent)
        former = _holder_in(self.descriptors[1])
        if _ended_in(self.descriptors[1]) or not data.server.is_dir():
            return
        if former is None or former.boot is None or former.boot != boot() or data.is_copy():
            write_privately(data.power_failed, b"")

    def _say(self, content: bytes) -> None:
        """Replace what the file says, and return once that is on the disk."""
        directory, file = self.descriptors
        os.ftruncate(file, 0)
        os.pwrite(file, content, 0)
        os.fsync(file)
        os.fsync(directory)

    def release(self, *, orderly: bool) -> None:
        """Give up this process's share in the lock; after an orderly end, in which nothing was left, its name goes, too.

        A free lock that names a holder therefore tells of a process that died: `cutor down` cleans up after it.
        """
        if orderly:
            with suppress(OSError):  # a disk that is full, say: a file that says nothing costs the next start a look at the log
                self._say(ENDED)
        self._close()

    def _close(self) -> None:
        for descriptor in reversed(self.descriptors):
            os.close(descriptor)


def _orphans_end(path: Path, descriptor: int) -> bool:
    """Lock an open file whose holders are the children of a dead process, which are ending; False where they are not."""
    holder = read_holder(path)
    died = holder is not None and start_time_ticks(holder.pid) != holder.started_ticks
    return died and _lock_soon(descriptor, ORPHANS_S)


def _lock_soon(descriptor: int, timeout_s: float = 0.1) -> bool:
    """Lock an open file; a few attempts, because `is_free` holds it for a moment."""
    for _ in range(max(1, int(timeout_s / POLL_S))):
        if _try_lock(descriptor):
            return True
        time.sleep(POLL_S)
    return False


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # a network file system, say
        raise DataDirectoryUnusable(
            f"the data directory cannot be locked: {error.strerror}; it must be on a local disk"
        ) from error
    return True


def is_free(path: Path) -> bool:
    """Whether nobody holds the lock: every process of that stack is dead."""
    return all(_is_free(place, flags) for place, flags in ((path.parent, _DIRECTORY), (path, os.O_RDWR | os.O_NOFOLLOW)))


def _is_free(place: Path, flags: int) -> bool:
    try:
        descriptor = _open(place, flags)
    except FileNotFoundError:
        return True
    try:
        return _try_lock(descriptor)
    finally:
        os.close(descriptor)


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
        descriptor = _open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        return _holder_in(descriptor)
    finally:
        os.close(descriptor)


def named_holder(path: Path) -> Holder | None:
    """Return who says to have taken the lock, dead or alive; None where nobody does, or a process lives that has not got it.

    Then the name is that of another directory's stack: this one is a copy of it. Or it is of another user, and can't be seen.
    """
    holder = read_holder(path)
    if holder is None or start_time_ticks(holder.pid) != holder.started_ticks:
        return holder
    return holder if holds(holder.pid, path.parent) else None


def _says_ended(path: Path) -> bool:
    try:
        descriptor = _open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        return _ended_in(descriptor)
    finally:
        os.close(descriptor)


def _ended_in(descriptor: int) -> bool:
    return os.pread(descriptor, len(ENDED), 0) == ENDED


def _holder_in(descriptor: int) -> Holder | None:
    try:
        return msgspec.json.decode(os.pread(descriptor, _HOLDER_BYTES, 0), type=Holder)
    except msgspec.DecodeError:
        return None


@contextmanager
def opened_holder(path: Path) -> Iterator[int | None]:
    """Yield a pidfd of the process that took the lock; None where it is gone, or nobody can be found.

    The pidfd is opened before the start time is compared: a pid that was given to another process meanwhile is never hit.
    """
    holder = named_holder(path) or _found_holder(path)
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


def described_holder(path: Path) -> str:
    """Return who holds the lock, to be read after ``a process``: who took it, or those that share it since that one ended."""
    holder = named_holder(path)
    if holder is not None and start_time_ticks(holder.pid) == holder.started_ticks:
        return f"with pid {holder.pid}"
    first = leader(path.parent)
    found = sorted(holders(path.parent)) if first is None else [first]
    return f"with pid {', '.join(map(str, found))}" if found else "that this user cannot see"


def _way_out(path: Path) -> str:
    if named_holder(path) is None and _found_holder(path) is None:
        return ", and nothing says that it is a stack: end it yourself"
    return f"; `{command_for('down', path.parent)}` stops it"


def _found_holder(path: Path) -> Holder | None:
    """Return which stack holds the lock, where the file does not say it: it was removed, perhaps.

    None where it says that the last life ended: whoever has locked the directory since is no stack.
    """
    pid = None if _says_ended(path) else leader(path.parent)
    started_ticks = None if pid is None else start_time_ticks(pid)
    return None if pid is None or started_ticks is None else Holder(pid=pid, started_ticks=started_ticks, boot=boot())


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
        return os.open(path, flags | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataDirectoryUnusable(f"{path} cannot be opened: {error.strerror}") from error

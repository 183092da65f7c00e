"""Which process holds the lock of a directory, where its name cannot be read: the kernel knows who has it open, and locked.

`/proc/PID/fdinfo` says of each open file whether a lock is on it (proc(5)). A lock that several processes share, as those of a
stack do, is said of each of them: the one that none of the others started is the supervisor. Anybody may lock a directory
(`flock DIR backup-script`); only a stack locks the file in it, too, which is told even of one that was removed.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

PROC = Path("/proc")


def leader(directory: Path) -> int | None:
    """Return the pid of the process of a stack that holds the lock of a directory, and that none of the others started.

    None where no stack does, where several processes are left (the children of one that has ended), and where this user may
    not see who.
    """
    found = {pid for pid in holders(directory) if _has_locked(PROC / str(pid), _names_of_lock(directory))}
    leaders = [pid for pid in found if _parent(pid) not in found]
    return leaders[0] if len(leaders) == 1 else None


def holders(directory: Path) -> set[int]:
    """Return the pids of the processes of this user that hold the flock of a directory."""
    return {int(process.name) for process in PROC.iterdir() if process.name.isdecimal() and _holds(process, directory)}


def holds(pid: int, directory: Path) -> bool:
    """Return whether a process of this user's holds the lock of a stack's directory: of the directory, or the file in it.

    The file alone is what a stack of an older cutor has locked.
    """
    process, file = PROC / str(pid), directory / "lock"
    return _holds(process, directory) or _has_locked(process, _names_of_lock(directory)[:1], of=file)


def _holds(process: Path, directory: Path) -> bool:
    return _has_locked(process, _resolved(directory), of=directory)


def _names_of_lock(directory: Path) -> list[str]:
    """Return how the kernel may name the lock file of a directory: as it is, and removed."""
    files = [f"{path}/lock" for path in _resolved(directory)]
    return [*files, *(f"{file} (deleted)" for file in files)]


def _resolved(directory: Path) -> list[str]:
    try:
        return [str(directory.resolve(strict=True))]
    except OSError:
        return []


def _has_locked(process: Path, names: Collection[str], of: Path | None = None) -> bool:
    """Return whether a process of this user's has a file of one of these names open and locked, which is ``of`` itself.

    Names alone do not tell: in a mount namespace of his own anybody gives another directory the same one.
    """
    try:
        if process.stat().st_uid != os.geteuid():
            return False
        for entry in os.scandir(process / "fd"):
            if _leads_to(entry.path, names, of) and _is_locked(process / "fdinfo" / entry.name):
                return True
    except OSError:  # it has ended, or is not this user's
        return False
    return False


def _leads_to(link: str, names: Collection[str], of: Path | None) -> bool:
    try:
        named = os.readlink(link) in names  # noqa: PTH115 - of every open file of every process: a path of each takes longer
        return named and (of is None or os.path.samestat(os.stat(link), of.stat()))  # noqa: PTH116
    except OSError:
        return False


def _is_locked(information: Path) -> bool:
    try:
        return any(line.startswith("lock:") and " FLOCK " in line for line in information.read_text().splitlines())
    except OSError:
        return False


def _parent(pid: int) -> int | None:
    try:
        return int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None

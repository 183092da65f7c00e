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
    files = [f"{path}/lock" for path in _resolved(directory)]
    wanted = [*files, *(f"{file} (deleted)" for file in files)]
    found = {pid for pid in holders(directory) if _holds(PROC / str(pid), wanted)}
    leaders = [pid for pid in found if _parent(pid) not in found]
    return leaders[0] if len(leaders) == 1 else None


def holders(directory: Path) -> set[int]:
    """Return the pids of the processes of this user that hold the flock of a directory."""
    wanted = _resolved(directory)
    return {int(process.name) for process in PROC.iterdir() if process.name.isdecimal() and _holds(process, wanted)}


def _resolved(directory: Path) -> list[str]:
    try:
        return [str(directory.resolve(strict=True))]
    except OSError:
        return []


def _holds(process: Path, wanted: Collection[str]) -> bool:
    try:
        for entry in os.scandir(process / "fd"):
            if _leads_to(entry.path, wanted) and _is_locked(process / "fdinfo" / entry.name):
                return True
    except OSError:  # it has ended, or is not this user's
        return False
    return False


def _leads_to(link: str, wanted: Collection[str]) -> bool:
    try:
        return os.readlink(link) in wanted  # noqa: PTH115 - of every open file of every process: a path made of each takes longer
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

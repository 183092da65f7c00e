"""What is in a container as the host counts it, whatever its init says: processes, and memory that can't be taken back.

Read from the container's control group, on the engine's own machine; nothing is asked of Docker. Anybody may read that.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from cutor.containers.control_group import PLACES, ROOT
from cutor.jail.inside.cgroup import CgroupError, Version, parse_held_bytes, parse_number

_READ_BYTES: Final = 16_384
"""Far above what memory.stat has: about a KiB."""


class Occupancy:
    """One container's. `remember` before it serves anybody, `found` when it should be empty again, `close` in the end."""

    def __init__(self, version: Version, tasks_fd: int, stat_fd: int) -> None:
        self._version = version
        self._tasks = tasks_fd
        self._stat = stat_fd
        self._before_bytes = 0

    @classmethod
    def find(cls, container_id: str, root: Path = ROOT) -> Occupancy | None:
        """Return that of a container; None where its group is not here."""
        for files in PLACES:
            directory = files.directory.format(container_id)
            version: Version = "v1" if directory.startswith("memory/") else "v2"
            tasks = directory.replace("memory/", "pids/", 1) if version == "v1" else directory
            with suppress(OSError), ExitStack() as opened:
                tasks_fd = os.open(root / tasks / "pids.current", os.O_RDONLY | os.O_CLOEXEC)
                opened.callback(os.close, tasks_fd)
                stat_fd = os.open(root / directory / "memory.stat", os.O_RDONLY | os.O_CLOEXEC)
                opened.pop_all()
                return cls(version, tasks_fd, stat_fd)
        return None

    def remember(self) -> None:
        """Note what processes and files in memory hold now. Nothing happens where the container is gone."""
        with suppress(OSError, CgroupError):
            self._before_bytes = self._held_bytes()

    def found(self, tasks: int, more_bytes: int) -> str:
        """Return what there is beyond so many tasks, and so much more than was remembered (5 µs); empty where that is all."""
        try:
            now, held = parse_number(os.pread(self._tasks, _READ_BYTES, 0)), self._held_bytes()
        except OSError as error:
            return f"its control group is gone ({error.strerror})"
        except CgroupError as error:
            return f"its control group can't be read: {error}"
        if now > tasks:
            return f"{now} tasks, where {tasks} are cutor's own"
        if held > self._before_bytes + more_bytes:
            return f"{held} bytes are held, {self._before_bytes} were before its first submission"
        return ""

    def _held_bytes(self) -> int:
        return parse_held_bytes(self._version, os.pread(self._stat, _READ_BYTES, 0))

    def close(self) -> None:
        """Let go of the group."""
        os.close(self._tasks)
        os.close(self._stat)

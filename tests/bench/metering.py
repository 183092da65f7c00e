"""What a block of a benchmark takes, by the clock and of CPUs."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


class Spent(NamedTuple):
    """Seconds by the clock, of CPU time of this process and of those that it has ended, and of the server's."""

    wall_s: float
    cpu_s: float
    server_s: float = 0.0


class Meter:
    """Measures a block; of a server, where its process is given."""

    def __init__(self, server_pid: int | None = None) -> None:
        self._server_pid = server_pid
        self.spent = Spent(0.0, 0.0)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure what the block takes, on top of the blocks before it."""
        began = self._now()
        try:
            yield
        finally:
            self.spent = Spent(*(had + ended - at for had, ended, at in zip(self.spent, self._now(), began, strict=True)))

    def _now(self) -> Spent:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = time.process_time() + children.ru_utime + children.ru_stime
        return Spent(time.perf_counter(), cpu_s, 0.0 if self._server_pid is None else _cpu_s(self._server_pid))


def _cpu_s(pid: int) -> float:
    """Return the CPU time of a process; see proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

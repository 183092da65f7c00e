"""What a stage uses of its container: differences of the control group's counters, from the moment at which its jail stands."""

from __future__ import annotations

import time

from cutor.jail.inside.cgroup import Cgroup


class Meter:
    """Made before the jail, `begin` when it stands; then it is read as often as is wanted."""

    def __init__(self, cgroup: Cgroup) -> None:
        self._cgroup = cgroup
        self._oom_baseline = cgroup.oom_kills()
        self._held_baseline = 0
        self._cpu_baseline_ns: int | None = None
        self.memory_before: tuple[int, int] | None = None
        """What the group held when the jail stood, and its watermark; null before, and where the kernel keeps none."""

    @property
    def began(self) -> bool:
        """Whether the jail stood."""
        return self._cpu_baseline_ns is not None

    @property
    def quota_cpus(self) -> float | None:
        """How many CPUs the container may have on average; null where nothing bounds that."""
        return self._cgroup.quota_cpus

    def begin(self) -> None:
        """Read the baselines."""
        self._cpu_baseline_ns = self.cpu_ns()
        self._held_baseline = self._cgroup.held_bytes()
        peak_bytes = self._cgroup.memory_peak_bytes()
        self.memory_before = None if peak_bytes is None else (self._cgroup.memory_bytes(), peak_bytes)

    def cpu_ns(self) -> int:
        """Return the CPU time since `begin`, without this process's own."""
        own_ns = time.process_time_ns()  # first: it makes the kernel account for our running slice
        return self._cgroup.cpu_ns() - own_ns - (self._cpu_baseline_ns or 0)

    def program_bytes(self, kept_bytes: int) -> int:
        """Return what the program's processes and files hold, without the output that is kept here (buffers grow by eighths).

        Page cache and the kernel's own memory are left out: the control group's limit is for them, and takes back what it can.
        """
        return self._cgroup.held_bytes() - self._held_baseline - kept_bytes - kept_bytes // 8

    def oom_kills(self) -> int:
        """Return how often the OOM killer struck since this was made."""
        return self._cgroup.oom_kills() - self._oom_baseline

    def peak_bytes(self) -> int | None:
        """Return the group's watermark now; null where the kernel keeps none."""
        return self._cgroup.memory_peak_bytes()

"""The container's own control group, read from inside: CPU time, OOM kills, tasks, the high watermark of memory.

Version 2 and version 1 (also hybrid) say the same things in different files. The files are opened once and read with ``pread``
(1 µs); the parsers are pure and tested against recorded text. All counters only grow or stand for the whole container: a stage
takes differences.
"""

from __future__ import annotations

# Importing pathlib costs an init 8 ms:
# ruff: noqa: PTH110
import os

from cutor.jail.inside.lean import Final, Literal, NamedTuple

ROOT: Final = "/sys/fs/cgroup"
Version = Literal["v1", "v2"]
_READ_BYTES: Final = 16_384
"""Far above what memory.stat has, the longest of these files: about a KiB."""


class CgroupError(Exception):
    """The control group can't be read as cutor needs it; the message names what is missing."""


class Files(NamedTuple):
    """Where a version keeps each counter, relative to the root. ``peak`` may be missing on a kernel before 5.19."""

    cpu: str
    oom: str
    tasks: str
    refusals: str
    usage: str
    stat: str
    peak: str
    quota: str


FILES: Final[dict[Version, Files]] = {
    "v2": Files(
        "cpu.stat", "memory.events", "pids.current", "pids.events", "memory.current", "memory.stat", "memory.peak", "cpu.max"
    ),
    "v1": Files(
        "cpuacct/cpuacct.usage",
        "memory/memory.oom_control",
        "pids/pids.current",
        "pids/pids.events",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "memory/memory.max_usage_in_bytes",
        "cpu/cpu.cfs_quota_us",
    ),
}


def detect(root: str = ROOT) -> Version:
    """Return the version that holds the memory controller here. A hybrid host has it in version 1."""
    try:
        controllers = _read(root, "cgroup.controllers")
    except CgroupError:
        return "v1"
    return "v2" if b"memory" in controllers.split() else "v1"


def parse_number(text: bytes) -> int:
    """Return the one number of a file. Raises `CgroupError` for another form (``max`` included)."""
    stripped = text.strip()
    if not stripped.isdigit():
        raise CgroupError(f"not a number: {stripped[:40]!r}")
    return int(stripped)


def parse_field(text: bytes, name: bytes) -> int:
    """Return the number after ``name`` in a file of ``name number`` lines. Raises `CgroupError` where there is none."""
    for line in text.splitlines():
        key, _, value = line.partition(b" ")
        if key == name:
            return parse_number(value)
    raise CgroupError(f"no field {name.decode()}")


def parse_cpu_ns(version: Version, text: bytes) -> int:
    """Return CPU time in nanoseconds (version 2 counts microseconds)."""
    return parse_field(text, b"usage_usec") * 1000 if version == "v2" else parse_number(text)


def parse_oom_kills(text: bytes) -> int:
    """Return how many processes the kernel's OOM killer ended; both versions name the field alike (version 1 since 4.13)."""
    return parse_field(text, b"oom_kill")


def parse_file_cache_bytes(version: Version, text: bytes) -> int:
    """Return how much of the memory is page cache of files on disks: the kernel drops it as soon as it is short of memory."""
    prefix = b"" if version == "v2" else b"total_"
    return parse_field(text, prefix + b"active_file") + parse_field(text, prefix + b"inactive_file")


def parse_held_bytes(version: Version, text: bytes) -> int:
    """Return how much of the memory is processes' own and files in memory: without swap, none of it can be taken back."""
    prefix, anonymous = (b"", b"anon") if version == "v2" else (b"total_", b"rss")
    return parse_field(text, prefix + anonymous) + parse_field(text, prefix + b"shmem")


def parse_reclaimable_bytes(version: Version, text: bytes) -> int:
    """Return how much of the memory is names and inodes that the kernel may give up; 0 on version 1, which does not say."""
    return parse_field(text, b"slab_reclaimable") if version == "v2" else 0


def parse_quota_cpus(version: Version, text: bytes) -> float | None:
    """Return how many CPUs the quota allows on average, null where there is none. Version 1's period is Docker's 100 ms."""
    if version == "v1":
        quota_us = int(text.strip() or b"-1")
        return quota_us / 100_000 if quota_us > 0 else None
    quota, _, period = text.strip().partition(b" ")
    return None if quota == b"max" else int(quota) / int(period)


class Cgroup:
    """The counters of this container, with their descriptors kept open."""

    def __init__(self, root: str = ROOT) -> None:
        """Open the files. Raises `CgroupError` naming the first that is missing."""
        self.version: Version = detect(root)
        files = FILES[self.version]
        self._cpu = _open(root, files.cpu)
        self._oom = _open(root, files.oom)
        self._tasks = _open(root, files.tasks)
        self._refusals = _open(root, files.refusals)
        self._usage = _open(root, files.usage)
        self._stat = _open(root, files.stat)
        self._peak = _open(root, files.peak) if os.path.exists(f"{root}/{files.peak}") else None
        self.quota_cpus = parse_quota_cpus(self.version, _read(root, files.quota))

    def cpu_ns(self) -> int:
        """Return the CPU time of everything that ever ran in the container, in nanoseconds."""
        return parse_cpu_ns(self.version, os.pread(self._cpu, _READ_BYTES, 0))

    def oom_kills(self) -> int:
        """Return how often the OOM killer struck in the container."""
        return parse_oom_kills(os.pread(self._oom, _READ_BYTES, 0))

    def tasks(self) -> int:
        """Return how many processes and threads there are now."""
        return parse_number(os.pread(self._tasks, _READ_BYTES, 0))

    def refused_tasks(self) -> int:
        """Return how often a process or thread was refused because the container had as many as it may."""
        return parse_field(os.pread(self._refusals, _READ_BYTES, 0), b"max")

    def memory_bytes(self) -> int:
        """Return the memory the container holds now, page cache and files in memory included."""
        return parse_number(os.pread(self._usage, _READ_BYTES, 0))

    def held_bytes(self) -> int:
        """Return the memory of the container's processes and of its files in memory, without anything of the kernel's own."""
        return parse_held_bytes(self.version, os.pread(self._stat, _READ_BYTES, 0))

    def resting_bytes(self, expected_bytes: int = 0) -> int:
        """Return the memory that the kernel can't take back: what processes and files in memory hold, and its own for them.

        Version 2 counts what the kernel could take back and what it needs for files in memory as one: it is left out down to
        ``expected_bytes``, what is known to be held. Version 1 does not say; there it is all in the number.
        """
        stat = os.pread(self._stat, _READ_BYTES, 0)
        held = max(self.memory_bytes() - parse_file_cache_bytes(self.version, stat), 0)
        return min(held, max(held - parse_reclaimable_bytes(self.version, stat), expected_bytes))

    def memory_peak_bytes(self) -> int | None:
        """Return the most memory the container ever held, page cache included; null where the kernel keeps no watermark."""
        return None if self._peak is None else parse_number(os.pread(self._peak, _READ_BYTES, 0))


def _read(root: str, name: str) -> bytes:
    fd = _open(root, name)
    try:
        return os.read(fd, _READ_BYTES)
    finally:
        os.close(fd)


def _open(root: str, name: str) -> int:
    try:
        return os.open(f"{root}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise CgroupError(f"the control group has no {name}: {error.strerror}") from error

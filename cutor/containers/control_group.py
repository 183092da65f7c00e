"""A container's control group as the host sees it: what neither the container's init nor Docker can do there.

Where cutor may write to it (a runner that is root, on the machine of its Docker Engine), two things are done. Before each stage
the watermark of memory is set back: from inside it can't be, so there only a stage that needs more than every one before it has
a peak. And on version 1, where packets in sockets count apart from memory and without a limit (a program held 2.4 GB of them),
they get one. No request to Docker is made: the group is found by the container's id (10 µs).
"""

from __future__ import annotations

import os
import re
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path("/sys/fs/cgroup")
_READ_BYTES: Final = 64
"""A number of 64 bits has 20 digits."""


class _Files(NamedTuple):
    """A place where Docker makes the group of a container, and the names of the two counters there."""

    directory: str
    watermark: str
    usage: str


_V1: Final = ("memory.max_usage_in_bytes", "memory.usage_in_bytes")
_V2: Final = ("memory.peak", "memory.current")
V2_SINCE: Final = (6, 12)
"""The first Linux that sets back the watermark of version 2 (kernel documentation, cgroup-v2: memory.peak)."""
PLACES: Final = (
    _Files("system.slice/docker-{}.scope", *_V2),  # the systemd driver, control groups version 2
    _Files("docker/{}", *_V2),  # the cgroupfs driver
    _Files("memory/docker/{}", *_V1),
    _Files("memory/system.slice/docker-{}.scope", *_V1),
)


SOCKETS: Final = "memory.kmem.tcp.limit_in_bytes"
"""Of version 1: what packets in sockets may hold; UDP included, whatever it is called."""
SOCKET_BYTES: Final = 32 << 20
"""Beside the memory limit, and enough for what programs on one loopback say to each other."""


def limit_sockets(container_id: str, root: Path = ROOT) -> bool:
    """Bound what packets in sockets hold beside the container's memory; return whether that was to be done, and could be.

    On version 2 they are memory like any other: nothing is to be done.
    """
    for files in PLACES:
        with suppress(OSError):
            (root / files.directory.format(container_id) / SOCKETS).write_text(str(SOCKET_BYTES))
            return True
    return False


def hindrance(root: Path = ROOT) -> str | None:
    """Return why this process could not set back any container's watermark on this machine; None where it can."""
    version_1 = root / "memory" / _V1[0]
    if version_1.exists():
        return None if os.access(version_1, os.W_OK) else "only root may set them back"
    release = os.uname().release
    if tuple(int(number) for number in re.findall(r"\d+", release)[:2]) < V2_SINCE:
        return f"Linux {release} can't set them back"
    return None if os.geteuid() == 0 else "only root may set them back"


class Watermark:
    """The watermark of one container. `reset` before a stage, `added_bytes` after it, `close` in the end.

    Version 1 has one watermark a group; version 2 one a descriptor, since Linux 6.12, with which it is set back and read.
    """

    def __init__(self, watermark_fd: int, usage_fd: int) -> None:
        self._watermark = watermark_fd
        self._usage = usage_fd
        self._before_bytes = 0

    @classmethod
    def find(cls, container_id: str, root: Path = ROOT) -> Watermark | None:
        """Return the watermark of a container; None where its group is not here, is not ours to write, or can't be set back."""
        for files in PLACES:
            directory = root / files.directory.format(container_id)
            with suppress(OSError), ExitStack() as opened:
                watermark = os.open(directory / files.watermark, os.O_RDWR | os.O_CLOEXEC)
                opened.callback(os.close, watermark)
                usage = os.open(directory / files.usage, os.O_RDONLY | os.O_CLOEXEC)
                opened.pop_all()
                return cls(watermark, usage)
        return None

    def reset(self) -> None:
        """Set it back to what the container holds now. Nothing happens where the container is gone already."""
        try:
            self._before_bytes = _number(self._usage)
            os.pwrite(self._watermark, b"0", 0)
        except OSError:
            self._before_bytes = 0

    def added_bytes(self) -> int | None:
        """Return how much more than at the reset the container held at the most: with a jail's own memory, up to 2 MiB.

        A stage may stay below that: the kernel still frees what an earlier one had (2 MiB, else it is taken back before). Then
        this is what was freed meanwhile, than which it held no more. None where nothing is known: the container is gone.
        """
        try:
            added, freed = _number(self._watermark) - self._before_bytes, self._before_bytes - _number(self._usage)
        except OSError:
            return None
        known = added if added > 0 else freed
        return known if self._before_bytes and known > 0 else None

    def close(self) -> None:
        """Let go of the group."""
        os.close(self._watermark)
        os.close(self._usage)


def _number(fd: int) -> int:
    return int(os.pread(fd, _READ_BYTES, 0))

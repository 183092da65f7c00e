"""What the kernel keeps for a container for want of better, taken back before it could cost the next stage its life.

A program can make the kernel keep tens of MiB in its name: every name that it looked up in vain. The kernel gives them up when
memory is short, but frees them only a little later (after a grace period of RCU), and an OOM kill does not wait for that: on a
busy machine, a program that took no more than its limit was killed for what an earlier stage had left. So this is done before a
stage, and waited for.

It takes root on the machine of the Docker Engine; elsewhere it is left to chance, as small as that is. The group's files are
found by the container's id. None of this is a request to Docker.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from cutor.containers.control_group import PLACES, ROOT

SURPLUS_BYTES: Final = 2 << 20
"""So much more than is known to be held is let alone: there is room for it beside the stage's limit."""
TAKE_BACK_S: Final = 2.0
"""How long the kernel is given. What stays then is believed to stay: it is not asked for again."""
_LOOK_S: Final = 0.005
"""Between two looks. A choice: a look is one read of a file."""


class _Files(NamedTuple):
    """How the kernel is asked to take memory back, and how it names page cache of files on disks, which it always can."""

    reclaim: str
    caches: tuple[bytes, bytes]


_V1: Final = _Files("memory.force_empty", (b"total_active_file", b"total_inactive_file"))
_V2: Final = _Files("memory.reclaim", (b"active_file", b"inactive_file"))
"""Since Linux 5.19; it is told how many bytes."""


class Surplus:
    """The group of one container. `take_back` between two of its stages; nothing is to be closed."""

    def __init__(self, directory: Path, usage: str, files: _Files) -> None:
        self._usage = directory / usage
        self._stat = directory / "memory.stat"
        self._reclaim = directory / files.reclaim
        self._caches = files.caches
        self._staying_bytes = 0

    @classmethod
    def find(cls, container_id: str, root: Path = ROOT) -> Surplus | None:
        """Return that of a container; None where its group is not here, or not ours to write."""
        for place in PLACES:
            directory = root / place.directory.format(container_id)
            files = _V1 if place.directory.startswith("memory/") else _V2
            if os.access(directory / files.reclaim, os.W_OK):
                return cls(directory, place.usage, files)
        return None

    async def take_back(self, held_bytes: int) -> int:
        """Make the kernel give up what it keeps beyond `held_bytes`, what is known to be held, and wait until it has.

        Return how much of it stays, 0 where that is no more than `SURPLUS_BYTES`. Costs a read where there is none (20 µs), a
        quarter of a second for 60 MiB of names, `TAKE_BACK_S` at the most. Raises nothing where the container is gone.
        """
        with suppress(OSError):
            deadline = asyncio.get_running_loop().time() + TAKE_BACK_S
            while (surplus_bytes := self._beyond(held_bytes)) > self._staying_bytes + SURPLUS_BYTES:
                if asyncio.get_running_loop().time() > deadline:
                    self._staying_bytes = surplus_bytes
                    break
                await asyncio.to_thread(self._ask, surplus_bytes)
                await asyncio.sleep(_LOOK_S)
        return self._staying_bytes

    def forget(self) -> None:
        """Ask for all of it again, also for what stayed before: another submission's memory is not to be less for that."""
        self._staying_bytes = 0

    def _beyond(self, held_bytes: int) -> int:
        """Return how much more than this the container holds, page cache left out; it is looked at only where it counts."""
        surplus_bytes = int(self._usage.read_bytes()) - held_bytes
        if surplus_bytes <= self._staying_bytes + SURPLUS_BYTES:
            return surplus_bytes
        fields = dict(line.split(b" ", 1) for line in self._stat.read_bytes().splitlines())
        return surplus_bytes - sum(int(fields[name]) for name in self._caches)

    def _ask(self, surplus_bytes: int) -> None:
        """Have the kernel free what it can: version 1 tries all there is. It may say EAGAIN: it did what it could by now."""
        with suppress(BlockingIOError, InterruptedError):
            self._reclaim.write_text(str(surplus_bytes))

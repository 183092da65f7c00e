"""What a runner's container may use, changed between its stages where the next one needs more, or much less."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from cutor.containers.child import Child
from cutor.containers.errors import EngineRefused, SessionFault
from cutor.containers.host_config import Resources
from cutor.jail.memory import NEW_ROOM_BYTES
from cutor.model.limits import MIB

ROOM_MEMORY_BYTES: Final = 3 * MIB
"""How much more than needed a container is left with: changing a limit takes Docker 20 ms, and what it rests at varies."""
OWN_TASKS: Final = 5
"""The init, and nsjail and jail-init of the stage's jail and of one that is kept: beside the program's own processes and
threads, whose number is bounded in its jail."""
LOWERING: Final = (
    *((0.0, 0), (0.05, 0), (0.2, 0), (0.5, 0)),
    *((0.5, 4 * MIB), (0.5, 8 * MIB), (0.5, 12 * MIB), (0.5, 16 * MIB)),
)
"""How a refused lowering of the memory limit is tried again: after how many seconds, with how much more.

The kernel refuses where it could take nothing back any more, so what is over the limit is held: a stage that is given a step
more gets less than that step of it. Over the last step a container is given up: its stages would not have the limits that their
reports name."""

log = logging.getLogger(__name__)


class Room:
    """Memory and processes of one container: what it has, and what it is to have."""

    def __init__(self, child: Child, resources: Resources) -> None:
        """``resources`` is what it was made with."""
        self._child = child
        self.memory_bytes = resources.memory_bytes
        self.processes = resources.processes

    async def make(self, memory_bytes: int, processes: int) -> None:
        """Give the container the limits of what comes next (20 ms), unless its own are as good.

        Raises `EngineFailure`, and `SessionFault` where memory in use is more than what comes next may have.
        """
        enough = memory_bytes <= self.memory_bytes <= memory_bytes + ROOM_MEMORY_BYTES
        if enough and processes == self.processes:
            return
        target_bytes = self.memory_bytes if enough else memory_bytes + NEW_ROOM_BYTES
        if target_bytes < self.memory_bytes:
            await self._lower(target_bytes, processes)
        else:
            await self._update(target_bytes, processes)

    async def _lower(self, memory_bytes: int, processes: int) -> None:
        """Lower the memory limit; on version 1 the kernel takes back what it can, and refuses where that is not enough.

        It may refuse while it still frees what an earlier stage had: no fault of anybody's. Raises `SessionFault` where it
        keeps refusing more than `LOWERING` allows.
        """
        refused: EngineRefused | None = None
        for pause_s, more_bytes in LOWERING:
            await asyncio.sleep(pause_s)
            try:
                await self._update(min(memory_bytes + more_bytes, self.memory_bytes), processes)
            except EngineRefused as error:
                refused = error
                log.warning("%s: its memory limit stays for now: %s", self._child.name, error)
            else:
                return
        raise SessionFault(f"the container's memory limit could not be lowered to {memory_bytes} bytes: {refused}")

    async def _update(self, memory_bytes: int, processes: int) -> None:
        await self._child.update(memory_bytes=memory_bytes, processes=processes)
        self.memory_bytes, self.processes = memory_bytes, processes

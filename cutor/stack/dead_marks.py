"""Marks of environments that nobody uses any more: those of runners which were killed, and have had no next life since.

A mark outlives its runner, so that user code which may still run loses nothing. The next life of the runner removes it; a stack
that is never started again leaves it, and every collection would spare its environment.

Where the data directory is not there, no lock tells who lives: it may have been removed, or be in a runner's own container.
Then age tells, and Docker: no use of an environment lasts for `NOBODYS_S` without a container.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from cutor.containers.host_config import VolumeSpec
from cutor.containers.labels import DATA_LABEL, ENVIRONMENT_LABEL, INSTANCE_LABEL, STORE_LABEL
from cutor.errors import CutorError
from cutor.stack.data import DataDirectory
from cutor.stack.lock import is_free

if TYPE_CHECKING:
    from cutor.containers.engine import Engine


NOBODYS_S: Final = 24 * 3600.0
"""How old a mark gets before it is nobody's, of a stack whose data directory is not here. A living runner has a new one for who
comes after a minute, and removes it behind its last use: a wait for a collection or a cache, minutes, then a container."""


async def remove_dead_marks(engine: Engine, store_volume: str, now_s: float | None = None) -> int:
    """Remove the marks of instances in a store that are dead, and of which no container runs; return how many.

    In this order: who made a mark that was listed is dead where the lock is free after that, and makes no container any more.
    Of a directory that is not for this user to look into nothing is claimed; of one that is not there, that its marks are
    nobody's once they are a day old. ``now_s`` stands for the clock. Raises errors of `cutor.containers`.
    """
    now_s = time.time() if now_s is None else now_s
    found = await engine.labelled_volumes(f"{STORE_LABEL}={store_volume}", ENVIRONMENT_LABEL)
    dead = [one for one in found if (state := state_of(one)) == "dead" or (state == "unknown" and is_old(one, now_s))]
    if not dead:
        return 0
    containers = await engine.labelled(STORE_LABEL, store_volume)
    alive = {one.labels.get(INSTANCE_LABEL) for one in containers if not one.has_ended}
    return sum(
        await asyncio.gather(*(engine.remove_volume(one.name) for one in dead if one.labels.get(INSTANCE_LABEL) not in alive))
    )


def state_of(mark: VolumeSpec) -> Literal["dead", "living", "hidden", "unknown"]:
    """Return what the data directory of the instance tells that made a mark: ``hidden`` where it is not for this user to look
    into, ``unknown`` where it is not there, or another instance's by now.
    """
    if DATA_LABEL not in mark.labels:
        return "unknown"
    data = DataDirectory(Path(mark.labels[DATA_LABEL]))
    try:
        if data.instance() != mark.labels.get(INSTANCE_LABEL):
            return "unknown"
        return "dead" if is_free(data.lock) else "living"
    except (CutorError, OSError):
        return "hidden"


def is_old(mark: VolumeSpec, now_s: float) -> bool:
    """Return whether nobody can use a mark any more, however long a use takes; false where Docker does not say its age."""
    return mark.made_s is not None and now_s - mark.made_s > NOBODYS_S

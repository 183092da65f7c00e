"""Marks of environments that nobody uses any more: those of runners which were killed, and have had no next life since.

A mark outlives its runner, so that user code which may still run loses nothing. The next life of the runner removes it; a stack
that is never started again leaves it, and every collection would spare its environment.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from cutor.containers.host_config import DATA_LABEL, ENVIRONMENT_LABEL, STORE_LABEL, VolumeSpec
from cutor.errors import CutorError
from cutor.roles.sweep import ENDED
from cutor.stack.data import DataDirectory
from cutor.stack.lock import is_free

if TYPE_CHECKING:
    from cutor.containers.engine import Engine


async def remove_dead_marks(engine: Engine, store_volume: str) -> int:
    """Remove the marks of instances in a store that are dead, and of which no container runs; return how many.

    In this order: who made a mark that was listed is dead where the lock is free after that, and makes no container any more.
    Of a directory that is not there, or not for this user to look into, nothing is claimed. Raises errors of
    `cutor.containers`.
    """
    found = await engine.labelled_volumes(f"{STORE_LABEL}={store_volume}", ENVIRONMENT_LABEL)
    dead = [one for one in found if _is_dead(one)]
    if not dead:
        return 0
    containers = await engine.labelled(STORE_LABEL, store_volume)
    alive = {one.labels.get("cutor") for one in containers if one.state not in ENDED}
    return sum(await asyncio.gather(*(engine.remove_volume(one.name) for one in dead if one.labels.get("cutor") not in alive)))


def _is_dead(mark: VolumeSpec) -> bool:
    """Return whether no process of the instance lives that made a mark, as far as its data directory tells."""
    if DATA_LABEL not in mark.labels:
        return False
    data = DataDirectory(Path(mark.labels[DATA_LABEL]))
    try:
        return data.instance() == mark.labels.get("cutor") and is_free(data.lock)
    except (CutorError, OSError):
        return False

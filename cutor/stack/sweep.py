"""Which roles start containers, and the removal of those of a stack. Without the client of Docker until there is a connection:
see `cutor.containers.connecting`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cutor.containers.errors import EngineFailure, EngineUnreachable
from cutor.containers.requested import left, remove_left

if TYPE_CHECKING:
    from cutor.containers.engine import Engine

CONTAINER_ROLES: Final = frozenset({"builder", "runner"})
"""Those that start containers."""
REMOVED_S: Final = 60.0
"""How long Docker may take to remove a container."""


class ContainersStuck(EngineFailure):
    """Docker does not let go some containers or marks; the others are removed. The message names one, and why."""


async def remove_containers(engine: Engine, instance: str, data: Path, *, within_s: float = REMOVED_S) -> int:
    """Remove every container of an instance, ``within_s`` seconds for each and all at once; return how many there were.

    What Docker is still making for a process that was killed, by the notes in the data directory, is waited for. Then the marks
    of the environments that its runner used: they keep collections away for as long as a container may run.
    Raises `ContainersStuck` once all were tried, and `EngineUnreachable`.
    """
    late = await remove_left(engine, data, left(data, instance))
    found = await engine.list(instance)
    await _all_removed("containers", {one.name: engine.remove(one.id) for one in found}, within_s)
    marks = await engine.marks(instance)
    await _all_removed("marks of environments", {one.name: engine.remove_volume(one.name) for one in marks}, within_s)
    return late + len(found)


async def _all_removed(what: str, removals: Mapping[str, Awaitable[bool]], within_s: float) -> None:
    failures = await asyncio.gather(*(_failure(removal, within_s) for removal in removals.values()))
    stuck = [(name, failure) for name, failure in zip(removals, failures, strict=True) if failure is not None]
    for _name, failure in stuck:
        if isinstance(failure, EngineUnreachable):
            raise failure
    if stuck:
        name, why = stuck[0]
        raise ContainersStuck(f"Docker does not let go {len(stuck)} of {len(removals)} {what}; of {name} it says: {why}")


async def _failure(removal: Awaitable[bool], within_s: float) -> EngineFailure | None:
    """Remove something; return why that failed, None where it did not."""
    try:
        async with asyncio.timeout(within_s):
            await removal
    except EngineFailure as error:
        return error
    except TimeoutError:
        return EngineFailure(f"nothing within {within_s:g} s")
    return None

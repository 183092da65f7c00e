"""Which roles start containers, and the removal of those of a stack. Without the client of Docker until there is a connection:
see `cutor.containers.connecting`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from cutor.containers.errors import EngineFailure, EngineUnreachable

if TYPE_CHECKING:
    from cutor.containers.engine import Engine

CONTAINER_ROLES: Final = frozenset({"builder", "runner"})
"""Those that start containers."""
REMOVED_S: Final = 60.0
"""How long Docker may take to remove a container."""


class ContainersStuck(EngineFailure):
    """Docker does not let go some containers; the others are removed. The message names one, and what Docker said of it."""


async def remove_containers(engine: Engine, instance: str, *, within_s: float = REMOVED_S) -> int:
    """Remove every container of an instance, ``within_s`` seconds for each and all at once; return how many there were.

    Raises `ContainersStuck` once all were tried, and `EngineUnreachable`.
    """
    found = await engine.list(instance)
    failures = await asyncio.gather(*(_failure(engine, container.id, within_s) for container in found))
    stuck = [(container.name, failure) for container, failure in zip(found, failures, strict=True) if failure is not None]
    for _name, failure in stuck:
        if isinstance(failure, EngineUnreachable):
            raise failure
    if stuck:
        name, why = stuck[0]
        raise ContainersStuck(f"Docker does not let go {len(stuck)} of {len(found)} containers; of {name} it says: {why}")
    return len(found)


async def _failure(engine: Engine, container_id: str, within_s: float) -> EngineFailure | None:
    """Remove a container; return why that failed, None where it did not."""
    try:
        async with asyncio.timeout(within_s):
            await engine.remove(container_id)
    except EngineFailure as error:
        return error
    except TimeoutError:
        return EngineFailure(f"nothing within {within_s:g} s")
    return None

"""What a role asks of its engine: does it answer, and what did a dead life of this role leave behind on this host."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from cutor.containers.engine import Engine
from cutor.containers.errors import ContainerError
from cutor.model.errors import InvalidRequest
from cutor.model.events import Role
from cutor.model.subjects import Address, check_address
from cutor.roles.job import WorkerUnable

log = logging.getLogger(__name__)

CHECK_S: Final = 5.0


async def check_engine(engine: Engine) -> None:
    """Make sure that the engine answers, before a lease is spent on it (1 ms). Raises `WorkerUnable`."""
    try:
        async with asyncio.timeout(CHECK_S):
            version = await engine.version()
    except TimeoutError as error:
        raise WorkerUnable(f"Docker did not answer within {CHECK_S:g} s") from error
    except (ContainerError, ValueError) as error:
        raise WorkerUnable(str(error)) from error
    if not isinstance(version, dict) or "Version" not in version:
        raise WorkerUnable(f"what answers at {engine.address} is no Docker Engine")


async def sweep(engine: Engine, instance: str, role: Role) -> set[Address]:
    """Remove every container of an instance and role; return the submissions that they served.

    None of them can belong to a living process: an instance is held by a lock, and runs one process of each role.
    """
    left = [found for found in await engine.list(instance) if found.labels.get("cutor.role") == role]
    await asyncio.gather(*(engine.remove(found.id) for found in left))
    if left:
        log.warning("removed %d containers of a %s that died", len(left), role)
    served = (_submission(found.labels.get("cutor.submission", "")) for found in left)
    return {address for address in served if address is not None}


def _submission(label: str) -> Address | None:
    """Return the submission that a container's label names; None where it names none."""
    tenant, _, submission_id = label.partition("/")
    try:
        return check_address(tenant, submission_id)
    except InvalidRequest:
        return None

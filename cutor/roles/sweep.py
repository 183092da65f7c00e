"""What a role asks of its engine: does it answer, and what did a dead life of this role leave behind on this host."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from cutor.containers.engine import ContainerSummary, Engine
from cutor.containers.errors import ContainerError
from cutor.containers.host_config import UID_LABEL
from cutor.model.errors import InvalidRequest
from cutor.model.events import Role
from cutor.model.subjects import Address, check_address
from cutor.roles.job import WorkerUnable

log = logging.getLogger(__name__)

CHECK_S: Final = 5.0
REMOVE_S: Final = 20.0
"""How long a role's start waits for Docker to remove what is left; its supervisor waits a minute for the role."""


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


class Stuck(NamedTuple):
    """A container that Docker does not let go: what it served and its uid, as far as it says; ``removal`` ends with it."""

    address: Address | None
    uid: int | None
    removal: asyncio.Future[None]

    @property
    def gone(self) -> bool:
        """Whether it is removed at last."""
        return self.removal.done() and not self.removal.cancelled() and self.removal.exception() is None


class Swept(NamedTuple):
    """What came of the containers of a dead life: the submissions of those that are ``gone``, and those that are ``stuck``."""

    gone: frozenset[Address]
    stuck: tuple[Stuck, ...]

    def holds(self, address: Address) -> bool:
        """Return whether a container of a submission may still be there."""
        return any(one.address == address and not one.gone for one in self.stuck)


NOTHING: Final = Swept(frozenset(), ())


@asynccontextmanager
async def sweeping(engine: Engine, instance: str, role: Role) -> AsyncIterator[Swept]:
    """Remove every container of an instance and role, then lend what came of it.

    None of them can belong to a living process: an instance is held by a lock, and runs one process of each role. What Docker
    does not let go keeps nobody from serving: it is said, and tried again while the block lasts.
    """
    left = [found for found in await engine.list(instance) if found.labels.get("cutor.role") == role]
    removed = await asyncio.gather(*(_removed(engine, found) for found in left))
    stuck = [found for found, gone in zip(left, removed, strict=True) if not gone]
    if len(left) > len(stuck):
        log.warning("removed %d containers of a %s that died", len(left) - len(stuck), role)
    tried = tuple(_tried_again(engine, found) for found in stuck)
    try:
        yield Swept(_served(left) - _served(stuck), tried)
    finally:
        for one in tried:
            one.removal.cancel()
        await asyncio.gather(*(one.removal for one in tried), return_exceptions=True)


def _tried_again(engine: Engine, found: ContainerSummary) -> Stuck:
    removal = asyncio.create_task(engine.discard(found.id, found.name), name=f"sweep {found.name}")
    uid = found.labels.get(UID_LABEL, "")
    known = uid.isascii() and uid.isdigit()
    return Stuck(_submission(found.labels.get("cutor.submission", "")), int(uid) if known else None, removal)


async def _removed(engine: Engine, found: ContainerSummary) -> bool:
    try:
        async with asyncio.timeout(REMOVE_S):
            await engine.remove(found.id)
    except (ContainerError, TimeoutError) as error:
        why = str(error) or f"Docker took more than {REMOVE_S:g} s"
        log.error("container %s of a life that died can't be removed, it is tried again meanwhile: %s", found.name, why)
        return False
    return True


def _served(containers: Iterable[ContainerSummary]) -> frozenset[Address]:
    served = (_submission(found.labels.get("cutor.submission", "")) for found in containers)
    return frozenset(address for address in served if address is not None)


def _submission(label: str) -> Address | None:
    """Return the submission that a container's label names; None where it names none."""
    tenant, _, submission_id = label.partition("/")
    try:
        return check_address(tenant, submission_id)
    except InvalidRequest:
        return None

"""What a role asks of its engine: does it answer, and what did a dead life of this role leave behind on this host."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

from cutor.containers.engine import ContainerSummary, Engine
from cutor.containers.errors import ContainerError
from cutor.containers.facts import Facts
from cutor.containers.host_config import VolumeSpec
from cutor.containers.labels import ROLE_LABEL, SUBMISSION_LABEL, UID_LABEL, USER_LABEL
from cutor.containers.requested import Requested, left, remove_left
from cutor.model.errors import InvalidRequest
from cutor.model.events import Role
from cutor.model.subjects import Address, check_address
from cutor.model.units import counted
from cutor.roles.step import WorkerUnable

log = logging.getLogger(__name__)

CHECK_S: Final = 5.0
"""Docker answers this in milliseconds. A worker whose engine takes so long takes no submission up: it would fail it."""
ANSWERED_S: Final = 0.5
"""How long an answer of the engine counts for the question whether it answers, while it is listened to."""
ANSWERED_HERE_S: Final = 5.0
"""Likewise of one on this host, whose end would be heard: what stands still is left, and fails no sooner than after that."""
REMOVE_S: Final = 20.0
"""How long a role's start waits for Docker to remove what is left; its supervisor waits a minute for the role."""


async def check_engine(engine: Engine, facts: Facts) -> None:
    """Make sure that the engine answers, before a lease is spent on it (1 ms). Raises `WorkerUnable`.

    Where it did something a short time ago, and its connection has not ended since, it is not asked: should it be gone all the
    same, a lease is spent that is counted, as where it goes right behind its answer.
    """
    if facts.listening and engine.answered_within(ANSWERED_HERE_S if facts.hears_its_end else ANSWERED_S):
        return
    try:
        async with asyncio.timeout(CHECK_S):
            is_docker = await engine.ping()
    except TimeoutError as error:
        raise WorkerUnable(f"Docker did not answer within {CHECK_S:g} s") from error
    except (ContainerError, ValueError) as error:
        raise WorkerUnable(str(error)) from error
    if not is_docker:
        raise WorkerUnable(f"what answers at {engine.address} is no Docker Engine")


class Stuck(NamedTuple):
    """A container that Docker does not let go: what it served and its uid, as far as it says; ``removal`` ends with it.

    A builder's says what it serves, a runner's its uid: it may have served anything that the runner had in hand.
    """

    address: Address | None
    uid: int | None
    removal: asyncio.Future[None]

    @property
    def gone(self) -> bool:
        """Whether it is removed at last."""
        return self.removal.done() and not self.removal.cancelled() and self.removal.exception() is None


class Swept(NamedTuple):
    """What came of the containers of a dead life: the submissions of those that are ``gone``, and those that are ``stuck``.

    ``in_hand`` are the submissions that this life had in hand when it died.
    """

    gone: frozenset[Address]
    stuck: tuple[Stuck, ...]
    in_hand: frozenset[Address] = frozenset()

    def holding(self, address: Address) -> list[Stuck]:
        """Return the stuck containers that may have served a submission."""
        unnamed = address in self.in_hand
        return [
            one for one in self.stuck if one.address == address or (unnamed and one.address is None and one.uid is not None)
        ]

    def holds(self, address: Address) -> bool:
        """Return whether a container of a submission may still be there."""
        return any(not one.gone for one in self.holding(address))

    def may_hold(self) -> frozenset[Address]:
        """Return every submission that a stuck container may have served."""
        named = {one.address for one in self.stuck if one.address is not None}
        return frozenset(named | {address for address in self.in_hand if self.holding(address)})


PAUSE_ROLES: Final = ("pause", "parked")
"""What the label of a pause container says; "parked" where it was made before it was called so, by a life that died since."""

NOTHING: Final = Swept(frozenset(), ())


@asynccontextmanager
async def sweeping(engine: Engine, instance: str, role: Role, data: Path | None = None) -> AsyncIterator[Swept]:
    """Remove every container of an instance and role, then lend what came of it.

    None of them can belong to a living process: an instance is held by a lock, and runs one process of each role. Store
    containers of commands that died are nobody's, whatever instance is on their label. What Docker does not let go keeps nobody
    from serving: it is said, and tried again while the block lasts. A runner's marks go once no container is left. What Docker
    is still making for that life, by the notes in ``data``, nobody has started: it is removed beside, once it is there.
    """
    noted = [] if data is None else [one for one in left(data, instance) if is_left(_summary(one), role)]
    late = asyncio.create_task(_late(engine, role, data, noted), name="sweep what Docker still makes")
    found = [*await engine.list(instance), *await engine.labelled(USER_LABEL, "command")]
    dead = [one for one in {one.id: one for one in found}.values() if is_left(one, role)]
    removed = await asyncio.gather(*(_removed(engine, one) for one in dead))
    stuck = [one for one, gone in zip(dead, removed, strict=True) if not gone]
    if len(dead) > len(stuck):
        log.warning("removed %s of a %s or command that died", counted(len(dead) - len(stuck), "container"), role)
    tried = tuple(_tried_again(engine, one) for one in stuck)
    left_to_do: list[asyncio.Future[None]] = [late, *(one.removal for one in tried)]
    if role == "runner":
        marks = await engine.marks(instance)
        left_to_do.append(unmarking := asyncio.create_task(_unmark(engine, marks, tried), name="sweep marks"))
        if not tried:
            await asyncio.wait([unmarking], timeout=REMOVE_S)
    try:
        yield Swept(_served(dead) - _served(stuck), tried)
    finally:
        for one in left_to_do:
            one.cancel()
        await asyncio.gather(*left_to_do, return_exceptions=True)


async def _late(engine: Engine, role: Role, data: Path | None, noted: Sequence[Requested]) -> None:
    """Remove what Docker was asked for by a dead life, once it has made it; where Docker fails, that is the next sweep's."""
    try:
        if data is not None and (removed := await remove_left(engine, data, noted)):
            log.warning("removed %s that Docker was still making for a %s that died", counted(removed, "container"), role)
    except ContainerError as error:
        log.warning("what Docker was asked for by a %s that died is left to the next sweep: %s", role, error)


async def _unmark(engine: Engine, marks: Sequence[VolumeSpec], stuck: Sequence[Stuck]) -> None:
    """Remove marks of a dead life once its last container is gone, however long Docker takes: until then nothing collects what
    they mark, since their instance lives.
    """
    await asyncio.gather(*(one.removal for one in stuck))
    await asyncio.gather(*(engine.discard_volume(mark.name) for mark in marks))


def is_left(found: ContainerSummary, role: Role) -> bool:
    """Return whether a container is left by a dead life of this role, or by a command (of any instance) that died.

    A command's store container ends with it: one that has ended is nobody's, and one that runs is a living command's.
    """
    if found.labels.get(ROLE_LABEL) == "store":
        user = found.labels.get(USER_LABEL)
        return user == role or (user == "command" and found.has_ended)
    if found.labels.get(ROLE_LABEL) in PAUSE_ROLES:
        return role == "runner"
    return found.labels.get(ROLE_LABEL) == role


def _summary(noted: Requested) -> ContainerSummary:
    return ContainerSummary(noted.name, noted.name, "created", dict(noted.labels))


def _tried_again(engine: Engine, found: ContainerSummary) -> Stuck:
    removal = asyncio.create_task(engine.discard(found.id, found.name), name=f"sweep {found.name}")
    uid = found.labels.get(UID_LABEL, "")
    known = uid.isascii() and uid.isdigit()
    return Stuck(_submission(found), int(uid) if known else None, removal)


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
    served = (_submission(found) for found in containers)
    return frozenset(address for address in served if address is not None)


def _submission(found: ContainerSummary) -> Address | None:
    """Return the submission that a container's label names; None where it names none."""
    tenant, _, submission_id = found.labels.get(SUBMISSION_LABEL, "").partition("/")
    try:
        return check_address(tenant, submission_id)
    except InvalidRequest:
        return None

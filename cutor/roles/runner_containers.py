"""A runner's containers: each serves one submission, or as many as it is set to, and is mostly made before that is there.

    made ahead   started, its init up, limits as the last submission wanted them; nothing of any submission in it
    lent         handed a submission's files
    given back   removed, then its uid is free again; or cleared away and ready again, where it may serve more than one

Where none stands ready, the one that is being made is waited for, or one is started for whoever wants it.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from cutor.containers.control_group import Watermark
from cutor.containers.engine import Engine
from cutor.containers.errors import ContainerError, EngineFailure
from cutor.containers.host_config import Identity, Resources, RunnerStorage, runner_spec
from cutor.containers.occupancy import Occupancy
from cutor.containers.pause import PauseNetwork
from cutor.containers.pool import Bounds, Pool
from cutor.containers.surplus import Surplus
from cutor.jail.session import WorkerSession
from cutor.metrics import table
from cutor.metrics.tally import Observation
from cutor.process.context import RoleContext
from cutor.roles.step import WorkerUnable
from cutor.roles.uids import Uids
from cutor.undisturbed import to_the_end

log = logging.getLogger(__name__)


class MadeAheadFailed(ContainerError):
    """A container that stood ready took no submission: the fault is its own, and of an earlier time."""


class RunnerContainer:
    """One container with its session, and the uid that it has until it is gone; ``made_ahead``: it stood ready."""

    def __init__(self, session: WorkerSession, uid: int, uids: Uids, *, made_ahead: bool) -> None:
        self.session = session
        self.served = 0
        """How many submissions are done with it."""
        self.made_ahead = made_ahead
        self._uid = uid
        self._uids = uids

    @property
    def name(self) -> str:
        """Its name, as `docker ps` shows it."""
        return self.session.name

    async def failed(self) -> str:
        """Return once it can't be used any more, with the reason; to be awaited while nothing is asked of it."""
        return await self.session.failed()

    async def close(self) -> None:
        """Remove it, and give its uid back."""
        await self.session.close()
        self._uids.take_back(self._uid)


class RunnerContainers:
    """Makes and lends the containers of one runner. ``uids`` has one for each slot and for each place of the pool."""

    def __init__(self, engine: Engine, context: RoleContext, uids: Uids, resources: Resources) -> None:
        settings = context.config.runner
        self._context = context
        self._uids = uids
        self._resources = resources  # what the last submission wanted: the next one often wants the same
        self._network = PauseNetwork(engine, context.config.docker.image, context.instance, context.data)
        self._storage = RunnerStorage(store_volume=context.config.nix.store_volume)
        self._pool = Pool(self._made_ahead, Bounds(settings.least_ready, settings.most_ready), returning=settings.reuses)

    @asynccontextmanager
    async def keeping(self) -> AsyncIterator[None]:
        """Keep containers ready while the block lasts, and count them; then none of them is left."""
        with self._context.measures.sampling(self._sample, table.POOL_CONTAINERS, local=True):
            async with self._network.kept(), self._pool.keeping():
                yield

    async def lend(self, resources: Resources) -> RunnerContainer:
        """Return a container for one submission: one that stands ready, or is about to; else one is started.

        Raises errors of `cutor.containers`; nothing is left then.
        """
        self._resources = resources
        return await self._pool.take() or await self.start(resources)

    async def start(self, resources: Resources) -> RunnerContainer:
        """Return a container that was made for this submission; its init may not be ready yet. Raises as `lend`."""
        container = await self._started(resources, made_ahead=False)
        self._pool.encourage()
        return container

    async def give_back(self, container: RunnerContainer, *, whole: bool = False) -> None:
        """Have a container of which its submission is done: it is gone when this returns, however long that takes.

        One that is ``whole``, since all that the submission did ended by itself, is cleared away instead, and stands ready for
        another one, up to `submissions_per_container`.
        """
        container.served += 1
        more = container.served < self._context.config.runner.submissions_per_container
        if not (whole and more and container.session.clean and await self._cleared(container) and self._pool.admit(container)):
            await container.close()
            self._pool.gone(container)

    async def _cleared(self, container: RunnerContainer) -> bool:
        try:
            await container.session.reset()
        except ContainerError as error:
            log.warning("%s is removed, and serves no other submission: %s", container.name, error)
            return False
        except Exception:
            log.exception("a bug in clearing %s away: it is removed", container.name)
            return False
        container.made_ahead = True
        return True

    async def _made_ahead(self) -> RunnerContainer:
        try:
            await self._uids.reserve()
        except WorkerUnable as error:
            raise EngineFailure(str(error)) from error
        container = await self._started(self._resources, made_ahead=True)
        try:
            await container.session.ready()
        except BaseException:
            await to_the_end(container.close())
            raise
        return container

    async def _started(self, resources: Resources, *, made_ahead: bool) -> RunnerContainer:
        uid = self._uids.lend()
        identity = Identity(self._context.instance, secrets.token_hex(6), data=self._context.data)
        spec = partial(
            runner_spec,
            identity,
            image=self._context.config.docker.image,
            uid=uid,
            resources=resources,
            storage=self._storage,
        )
        try:
            child = await self._network.start(lambda network: spec(network=network))
        except BaseException:
            self._uids.take_back(uid)
            raise
        occupancy = Occupancy.find(child.id) if self._context.config.runner.reuses else None
        session = WorkerSession(child, resources, Watermark.find(child.id), Surplus.find(child.id), occupancy)
        return RunnerContainer(session, uid, self._uids, made_ahead=made_ahead)

    async def _sample(self) -> list[Observation]:
        now = self._pool.census()
        return [
            Observation(table.POOL_CONTAINERS, now.ready, ("ready",)),
            Observation(table.POOL_CONTAINERS, now.making, ("starting",)),
            Observation(table.POOL_CONTAINERS, now.wanted, ("wanted",)),
        ]

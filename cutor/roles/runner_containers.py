"""A runner's containers: each serves one submission, and is made ahead where the runner has a pool.

    made ahead   started, its init up, limits as the last submission wanted them; no submission's name on it
    lent         renamed, so that a sweep and a collection of the store see in Docker whom it serves
    closed       removed, then its uid is free again

Where none stands ready, one is started when it is wanted.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cutor.containers.control_group import Watermark
from cutor.containers.engine import Engine
from cutor.containers.errors import ContainerError, EngineFailure
from cutor.containers.host_config import Identity, Resources, RunnerStorage, Serving, runner_spec
from cutor.containers.pool import Bounds, Pool
from cutor.containers.surplus import Surplus
from cutor.jail.session import WorkerSession
from cutor.metrics import table
from cutor.metrics.tally import Observation
from cutor.roles.context import RoleContext
from cutor.roles.job import WorkerUnable
from cutor.roles.slots import Slots
from cutor.undisturbed import to_the_end

log = logging.getLogger(__name__)


class RunnerContainer:
    """One container with its session, and the uid that it has until it is gone; ``warm``: it was made ahead."""

    def __init__(self, session: WorkerSession, uid: int, slots: Slots, *, warm: bool) -> None:
        self.session = session
        self.warm = warm
        self._uid = uid
        self._slots = slots

    async def failed(self) -> str:
        """Return once it can't be used any more, with the reason; to be awaited while nothing is asked of it."""
        return await self.session.failed()

    async def close(self) -> None:
        """Remove it, and give its uid back."""
        await self.session.close()
        self._slots.take_back(self._uid)


class RunnerContainers:
    """Makes and lends the containers of one runner. ``slots`` has a uid for each slot and for each place of the pool."""

    def __init__(self, engine: Engine, context: RoleContext, slots: Slots, resources: Resources) -> None:
        settings = context.config.runner
        self._engine = engine
        self._context = context
        self._slots = slots
        self._resources = resources  # what the last submission wanted: the next one often wants the same
        self._storage = RunnerStorage(store_volume=context.config.nix.store_volume)
        self._pool = Pool(self._made_ahead, Bounds(settings.pool_minimum, settings.pool_maximum))

    @asynccontextmanager
    async def keeping(self) -> AsyncIterator[None]:
        """Keep containers ready while the block lasts, and count them; then none of them is left."""
        sampling = self._context.measures.sampling(self._sample, table.POOL_CONTAINERS, local=True)
        with sampling:
            async with self._pool.keeping():
                yield

    async def lend(self, serving: Serving, resources: Resources) -> RunnerContainer:
        """Return a container for a submission, seen in Docker as that; one that was not made ahead may not be ready yet.

        Raises errors of `cutor.containers`; nothing is left then.
        """
        self._resources = resources
        while (container := await self._pool.take()) is not None:
            try:
                await container.session.serve(serving)
            except ContainerError as error:
                log.warning("a container that was ready ahead is of no use: %s", error)
                await to_the_end(container.close())
            except BaseException:
                await to_the_end(container.close())
                raise
            else:
                return container
        return await self._started(resources, serving)

    async def _made_ahead(self) -> RunnerContainer:
        try:
            await self._slots.claim()
        except WorkerUnable as error:
            raise EngineFailure(str(error)) from error
        container = await self._started(self._resources)
        try:
            await container.session.ready()
        except BaseException:
            await to_the_end(container.close())
            raise
        return container

    async def _started(self, resources: Resources, serving: Serving | None = None) -> RunnerContainer:
        uid = self._slots.lend()
        submission, environment = serving or (None, None)
        identity = Identity(self._context.instance, secrets.token_hex(6), submission, self._context.data)
        image = self._context.config.docker.image
        spec = runner_spec(identity, image=image, uid=uid, resources=resources, storage=self._storage, environment=environment)
        try:
            child = await self._engine.start(spec)
        except BaseException:
            self._slots.take_back(uid)
            raise
        session = WorkerSession(child, resources, Watermark.find(child.id), Surplus.find(child.id))
        return RunnerContainer(session, uid, self._slots, warm=serving is None)

    async def _sample(self) -> list[Observation]:
        now = self._pool.census()
        return [
            Observation(table.POOL_CONTAINERS, now.ready, ("ready",)),
            Observation(table.POOL_CONTAINERS, now.making, ("starting",)),
            Observation(table.POOL_CONTAINERS, now.wanted, ("wanted",)),
        ]

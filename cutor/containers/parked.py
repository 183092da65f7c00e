"""One container that does nothing: all containers of a runner join its network namespace.

Making a network namespace costs Docker as much as all the rest of a container's start; joining one costs nothing. In this one
there is a loopback, nothing that listens, and nothing behind it. Every jail has a namespace of its own (decision 0052).

The parked container ends with its standard input, so with its runner, however that ends; the next start sweeps it. Who joined
one that ended keeps the namespace.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import PurePath
from typing import Final, NamedTuple

from cutor.containers.child import Child
from cutor.containers.engine import Engine
from cutor.containers.errors import EngineFailure, EngineRefused, ImageMissing
from cutor.containers.host_config import ContainerSpec, Identity, parked_network, parked_spec
from cutor.undisturbed import to_the_end

TRIES: Final = 3
"""How often a container is made whose parked one is gone by then: who ends more of them in a row does so on purpose."""

log = logging.getLogger(__name__)


class _Parked(NamedTuple):
    """The container, and the task that ends with it."""

    child: Child
    end: asyncio.Task[bytes]


class ParkedNetwork:
    """The network of one runner's containers: parked with the first of them, and anew where it ended, while `kept` lasts."""

    def __init__(self, engine: Engine, image: str, instance: str, data: PurePath | None = None) -> None:
        self._engine = engine
        self._image = image
        self._instance = instance
        self._data = data
        self._parked: _Parked | None = None
        self._parking = asyncio.Lock()
        self._removals: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """When the block is left, nothing of it is there any more, however long Docker takes to remove it."""
        try:
            yield
        finally:
            await to_the_end(self._close())

    async def start(self, spec: Callable[[str], ContainerSpec]) -> Child:
        """Start the container that ``spec`` makes for a network: as `Engine.start` does, with its errors.

        Where the parked one has ended by then, it is made anew in the network of another.
        """
        for _ in range(TRIES - 1):
            parked = await self._stands()
            try:
                return await self._engine.start(spec(parked_network(parked.child.id)))
            except (EngineRefused, ImageMissing):  # of a network that is gone Docker says what it says of an image
                if await self._runs(parked):
                    raise
        parked = await self._stands()
        return await self._engine.start(spec(parked_network(parked.child.id)))

    async def _stands(self) -> _Parked:
        async with self._parking:
            if self._parked is not None and self._parked.end.done():
                ended = self._parked.child
                log.warning("container %s has ended, whose network others join: another takes its place", ended.name)
                self._remove(ended)
                self._parked = None
            if self._parked is None:
                spec = parked_spec(Identity(self._instance, secrets.token_hex(6), data=self._data), image=self._image)
                child = await self._engine.start(spec)
                self._parked = _Parked(child, asyncio.create_task(child.receive(), name=f"end of {child.name}"))
            return self._parked

    async def _runs(self, parked: _Parked) -> bool:
        """Return whether a parked container can be joined. One that can't be has ended for the next caller, too."""
        try:
            runs = not parked.end.done() and (await parked.child.state()).running
        except EngineFailure:
            return True  # what fails is Docker, and not this container
        if not runs:
            await _ended(parked.end)
        return runs

    def _remove(self, child: Child) -> None:
        self._removals.add(task := asyncio.create_task(child.discard(), name=f"remove {child.name}"))
        task.add_done_callback(self._removals.discard)

    async def _close(self) -> None:
        async with self._parking:
            if self._parked is not None:
                await _ended(self._parked.end)
                self._remove(self._parked.child)
                self._parked = None
        await asyncio.gather(*self._removals)


async def _ended(task: asyncio.Task[bytes]) -> None:
    """End a task that only waits."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

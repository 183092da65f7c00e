"""One container that does nothing: all containers of a runner join its network namespace.

Making a network namespace costs Docker as much as all the rest of a container's start; joining one costs nothing. In this one
there is a loopback, nothing that listens, and nothing behind it. Every jail has a namespace of its own (decision 0052).

The pause container ends with its standard input, so with its runner, however that ends; the next start sweeps it. Who joined
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
from cutor.containers.host_config import ContainerSpec, Identity, pause_network, pause_spec
from cutor.undisturbed import to_the_end

TRIES: Final = 3
"""How often a container is made whose pause container is gone by then: who ends more of them in a row does so on purpose."""

log = logging.getLogger(__name__)


class _Pause(NamedTuple):
    """The container, and the task that ends with it."""

    child: Child
    end: asyncio.Task[bytes]


class PauseNetwork:
    """The network of one runner's containers. What holds it is made with the first of them, and anew where it ended."""

    def __init__(self, engine: Engine, image: str, instance: str, data: PurePath | None = None) -> None:
        self._engine = engine
        self._image = image
        self._instance = instance
        self._data = data
        self._pause: _Pause | None = None
        self._turn = asyncio.Lock()
        self._removals: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Have it while the block lasts; behind it nothing of it is there any more, however long Docker takes to remove it."""
        try:
            yield
        finally:
            await to_the_end(self._close())

    async def start(self, spec: Callable[[str], ContainerSpec]) -> Child:
        """Start the container that ``spec`` makes for a network: as `Engine.start` does, with its errors.

        Where the pause container has ended by then, it is made anew in the network of another.
        """
        for _ in range(TRIES - 1):
            pause = await self._stands()
            try:
                return await self._engine.start(spec(pause_network(pause.child.id)))
            except (EngineRefused, ImageMissing):  # of a network that is gone Docker says what it says of an image
                if await self._runs(pause):
                    raise
        pause = await self._stands()
        return await self._engine.start(spec(pause_network(pause.child.id)))

    async def _stands(self) -> _Pause:
        async with self._turn:
            if self._pause is not None and self._pause.end.done():
                ended = self._pause.child
                log.warning("container %s has ended, whose network others join: another takes its place", ended.name)
                self._remove(ended)
                self._pause = None
            if self._pause is None:
                spec = pause_spec(Identity(self._instance, secrets.token_hex(6), data=self._data), image=self._image)
                child = await self._engine.start(spec)
                self._pause = _Pause(child, asyncio.create_task(child.receive(), name=f"end of {child.name}"))
            return self._pause

    async def _runs(self, pause: _Pause) -> bool:
        """Return whether a pause container can be joined. One that can't be has ended for the next caller, too."""
        try:
            runs = not pause.end.done() and (await pause.child.state()).running
        except EngineFailure:
            return True  # what fails is Docker, and not this container
        if not runs:
            await _ended(pause.end)
        return runs

    def _remove(self, child: Child) -> None:
        self._removals.add(task := asyncio.create_task(child.discard(), name=f"remove {child.name}"))
        task.add_done_callback(self._removals.discard)

    async def _close(self) -> None:
        async with self._turn:
            if self._pause is not None:
                await _ended(self._pause.end)
                self._remove(self._pause.child)
                self._pause = None
        await asyncio.gather(*self._removals)


async def _ended(task: asyncio.Task[bytes]) -> None:
    """End a task that only waits."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

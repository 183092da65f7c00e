"""Whether a worker can do its step at all: where it can't, no submission is to blame, and nothing is taken up until it can."""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import Final

from cutor.roles.step import Step, WorkerUnable

log = logging.getLogger(__name__)

PAUSES_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Pauses between two looks whether a worker that could do nothing can again; the last one stays."""


class Ability:
    """What one worker can do now. ``recovery`` is there while it can do nothing: it ends once the worker is able again."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._look: asyncio.Task[None] | None = None
        self.recovery: asyncio.Task[None] | None = None

    def begin(self) -> asyncio.Task[None] | None:
        """Begin to look whether this worker can do its step, beside whatever is read meanwhile: one look for all that come
        while it lasts. Null where it is known that it can't.
        """
        if self.recovery is None and (self._look is None or self._look.done()):
            self._look = asyncio.create_task(self._looked(), name="look at the worker")
        return None if self.recovery is not None else self._look

    async def check(self, look: asyncio.Task[None] | None) -> bool:
        """Return whether this worker can do its step, as a look found; where it can't, looking for when it can has begun."""
        if look is not None:
            await asyncio.shield(look)
        return self.recovery is None

    def close(self) -> None:
        """Look no more."""
        for task in (self._look, self.recovery):
            if task is not None:
                task.cancel()

    async def _looked(self) -> None:
        try:
            await self._step.check()
        except WorkerUnable as error:
            self._lost(str(error))
        except Exception as bug:
            log.exception("looking whether the %s can work", self._step.role)
            self._lost(f"a bug: {type(bug).__name__}: {bug}")

    def _lost(self, reason: str) -> None:
        if self.recovery is None:
            log.error("%s; nothing is taken up until that is mended", reason)
            self.recovery = asyncio.create_task(self._recover(), name="recovery")

    async def _recover(self) -> None:
        """Look again and again until this worker is able, whatever goes wrong with the looking."""
        for pause_s in itertools.chain(PAUSES_S, itertools.repeat(PAUSES_S[-1])):
            await asyncio.sleep(pause_s)
            try:
                await self._step.check()
            except WorkerUnable as error:
                log.debug("%s", error)
            except Exception:
                log.exception("looking whether the %s can work again", self._step.role)
            else:
                log.info("the %s takes up work again", self._step.role)
                self.recovery = None
                return

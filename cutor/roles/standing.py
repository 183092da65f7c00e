"""Which environments stand, as far as one role process was told: what a submission in a known environment need not ask again.

Kept is what the log said last of a key, and what was decoded of it. Each message under a key is heard as it passes by, and
makes this process forget what it knows of it. It may be heard before the stream has stored it, so what is asked within
`SETTLES_S` of it is not kept. What makes that wrong, and what comes of it:

    a notice that is missed      with the connection all is forgotten; nothing else loses one, and all ends after `LASTS_S`
    a stream that stores late    what was asked in between counts for `LASTS_S` at the most

In that time a builder may find an environment that has just been removed, and a runner use one: as who came a moment earlier.
No path is missed unseen: a runner's container looks for each, and where one is gone, the submission says so and is built anew.
What has lost its environment once is told by the log alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, NamedTuple

from cutor.bus.connection import Bus
from cutor.bus.errors import BusError, NotPermitted
from cutor.journal.environments import Environments, Known
from cutor.journal.journal import Journal
from cutor.model.environments import EnvironmentBuilt, unpack_variables
from cutor.model.subjects import environment_subject

log = logging.getLogger(__name__)

KEPT: Final = 64
"""Environments that are kept, those that were used last."""
KEPT_BYTES: Final = 1 << 20
"""Variables that are larger are fetched each time."""
LASTS_S: Final = 30.0
"""How long what was said counts, whatever is heard."""
SETTLES_S: Final = 1.0
"""How long after a notice what is asked may yet be what the notice changes."""

Variables = tuple[tuple[bytes, bytes], ...]


class _Kept(NamedTuple):
    known: Known
    until_s: float
    variables: Variables | None


class Standing:
    """What one role process knows of environments."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        self._noticed_s: dict[str, float] = {}
        self._earlier_s = float("-inf")
        self._hears = False
        self._gaps = 0
        self.heard = 0
        """How many messages under keys passed by."""

    @asynccontextmanager
    async def following(self, journal: Journal) -> AsyncIterator[None]:
        """Hear of what happens to environments while the block lasts. Nothing is kept otherwise, nor where that is not
        permitted, as to a runner by the accounts of an older cutor.
        """
        async with AsyncExitStack() as stack:
            try:
                subscribed = journal.bus.subscribe(environment_subject("*"), on_gap=self._forget_all)
                notices = await stack.enter_async_context(subscribed)
            except NotPermitted as error:
                log.warning("environments are asked for each time: %s", error)
                yield
                return

            async def hear() -> None:
                async for notice in notices:
                    self._forget(notice.subject)

            hearing = asyncio.create_task(hear(), name="environments")
            end_watch = journal.bus.link.watch(lost=self._forget_all)
            hearing.add_done_callback(self._end)
            self._hears = True
            try:
                yield
            finally:
                end_watch()
                hearing.cancel()
                await asyncio.wait({hearing})

    async def find(self, bus: Bus, key: str, *, anew: bool = False) -> Known | None:
        """As `Environments.find`; ``anew``: from the log, whatever is known."""
        subject, now_s = environment_subject(key), time.monotonic()
        kept = self._kept.get(subject)
        if kept is not None and not anew and now_s < kept.until_s:
            self._keep(subject, kept)
            return kept.known
        gaps = self._gaps
        known = await Environments(bus).find(key)
        if known is not None and self._hears and gaps == self._gaps and self._quiet(subject, now_s):
            self._keep(subject, _Kept(known, now_s + LASTS_S, None))
        return known

    async def variables(self, journal: Journal, built: EnvironmentBuilt) -> Variables:
        """Return an environment's variables. Raises what `Contents.fetch` raises."""
        subject = environment_subject(built.key)
        kept = self._kept.get(subject)
        if kept is not None and kept.known.built is built and kept.variables is not None:
            return kept.variables
        block = await journal.contents.fetch(built.variables)
        variables = unpack_variables(block)
        kept = self._kept.get(subject)
        if kept is not None and kept.known.built is built and len(block) <= KEPT_BYTES:
            self._kept[subject] = kept._replace(variables=variables)
        return variables

    def _quiet(self, subject: str, asked_s: float) -> bool:
        """Whether nothing was heard of a key since shortly before it was asked for."""
        return self._noticed_s.get(subject, self._earlier_s) + SETTLES_S < asked_s

    def _keep(self, subject: str, kept: _Kept) -> None:
        self._kept.pop(subject, None)
        self._kept[subject] = kept
        if len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]

    def _forget(self, subject: str) -> None:
        self.heard += 1
        self._kept.pop(subject, None)
        self._noticed_s.pop(subject, None)
        self._noticed_s[subject] = time.monotonic()
        if len(self._noticed_s) > KEPT:  # the earliest, which from now on is said of every other one
            self._earlier_s = self._noticed_s.pop(next(iter(self._noticed_s)))

    def _forget_all(self) -> None:
        self._kept.clear()
        self._gaps += 1

    def _end(self, hearing: asyncio.Task[None]) -> None:
        """Keep nothing any more; a closed connection ends the role elsewhere."""
        self._hears = False
        self._forget_all()
        if not hearing.cancelled() and (error := hearing.exception()) is not None and not isinstance(error, BusError):
            log.error("%s ended", hearing.get_name(), exc_info=error)

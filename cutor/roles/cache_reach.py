"""Whether the binary cache answers, as far as one runner knows: what finds it away waits, instead of being lost.

A cache that does not answer has said nothing about an environment, so nothing is lost for it. From then on a runner lets what
wants a fetch come again later, before a lease, until a look says that the cache answers. A look may take long, where the cache
hangs: it is beside whatever the slots do. It asks for what the cache did not tell, but fetches nothing: of a cache that tells
what it has, and fails to give it, a fetch alone shows that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from cutor.containers.engine import Engine
from cutor.containers.errors import ContainerError
from cutor.model.events import Role
from cutor.nix.cache import CachePlace
from cutor.nix.cache_session import CacheSession, DirectoryMissing
from cutor.nix.settings import NixSettings
from cutor.nix.store_session import Away, Refused

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 10.0
"""Between two looks, each a container (0.4 s, up to 20 s more where the cache hangs)."""
KNOWN_S: Final = 2 * LOOK_EVERY_S
"""How long what was seen counts as known."""

WHAT: Final[Mapping[Role, str]] = {"builder": "published to", "runner": "fetched from"}


class CacheReach:
    """What one role knows of it. ``away``: it did not answer, and no look has found since that it does."""

    def __init__(
        self, engine: Engine, settings: NixSettings, instance: str, data: Path | None, place: CachePlace, role: Role = "runner"
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._instance = instance
        self._data = data
        self._place = place
        self._role: Role = role
        self._looked_s = self._known_s = float("-inf")
        self._path = ""
        self.gave_s = float("-inf")
        """When a fetch was given what it wanted, or was told why not, by the monotonic clock."""
        self._look: asyncio.Task[None] | None = None
        self.away = False

    @property
    def known(self) -> bool:
        """Whether ``away`` was seen to be so a short time ago."""
        return time.monotonic() - self._known_s < KNOWN_S

    def gave(self) -> None:
        """Note that a fetch came to its end, be it with a refusal."""
        self.gave_s = time.monotonic()
        self.note(away=False)

    def note(self, *, away: bool, why: str = "", path: str = "") -> None:
        """Note how the cache was just found; a look asks for ``path`` from now on, if any."""
        self._path = path or self._path
        if away and not self.away:
            log.error("the cache does not answer: what is to be %s it waits until it does; %s", WHAT[self._role], why)
        elif self.away and not away:
            log.info("the cache answers again")
        self.away, self._known_s = away, time.monotonic()

    def answers(self, since_s: float) -> bool:
        """Return whether it was seen to answer since then, by the monotonic clock; else have somebody look, for who asks next.

        However late that is: of many workers, to which a delivery goes in turn, each is asked seldom.
        """
        if self.away or self._known_s < since_s:
            self.look()
        return self._known_s >= since_s and not self.away

    def look(self) -> None:
        """Have somebody look, unless that is under way, or was done `LOOK_EVERY_S` ago or less."""
        if (self._look is None or self._look.done()) and time.monotonic() - self._looked_s >= LOOK_EVERY_S:
            self._look = asyncio.create_task(self._looked(), name="look at the cache")

    @property
    def _writes(self) -> bool:
        """Whether it is looked whether it may be written to: of a directory that can be seen."""
        return self._role == "builder" and self._place.mount == "directory"

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """End a look that is under way when the block is left."""
        try:
            yield
        finally:
            if self._look is not None:
                self._look.cancel()
                await asyncio.gather(self._look, return_exceptions=True)

    async def _looked(self) -> None:
        """See whether it answers, be it with a refusal. What cannot be seen changes nothing."""
        try:
            async with CacheSession(
                self._engine, self._settings, instance=self._instance, user=self._role, data=self._data
            ) as session:
                await session.probe(self._place, write=self._writes, path=self._path)
            self.note(away=False)
        except (Away, DirectoryMissing) as error:
            self.note(away=True, why=str(error))
        except Refused:
            self.note(away=False)
        except ContainerError as error:
            log.warning("whether the cache answers could not be seen: %s", error)
        except Exception:
            log.exception("a bug beside a look at the cache")
        finally:
            self._looked_s = time.monotonic()

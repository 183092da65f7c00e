"""Room on the store's volume of this host, for builds and fetches: what finds none is nobody's fault, and costs one lease.

A build that finds the volume as good as full is a fault of the host's (`NoRoomLeft`), and so is a fetch. From then on its role
takes up what needs none, and lets the rest come again later, before a lease: until a look says that there is room. Before its
first build a role looks, too: a host that is full from the start costs no lease at all.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from pathlib import PurePath
from typing import Final

from cutor.containers.engine import Engine
from cutor.containers.errors import ContainerError
from cutor.model.events import Role
from cutor.nix.settings import NixSettings
from cutor.nix.store_session import Room, StoreSession

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 10.0
"""Between two looks, each a container (0.4 s), while there is none."""


WHAT: Final[Mapping[Role, str]] = {"builder": "builds", "runner": "fetches from the cache"}


class StoreRoom:
    """What one role knows of it. ``short``: its work found none, and no look has found any since."""

    def __init__(self, engine: Engine, settings: NixSettings, instance: str, data: PurePath | None, role: Role) -> None:
        self._engine = engine
        self._settings = settings
        self._instance = instance
        self._data = data
        self._role: Role = role
        self._looking = asyncio.Lock()
        self._looked_s = float("-inf")
        self._free_bytes = float("inf")
        self.short = False

    def ran_out(self) -> None:
        """Note that work found none."""
        self._looked_s, self._free_bytes = time.monotonic(), 0
        if not self.short:
            what = WHAT[self._role]
            log.error("the store volume has no room for %s: they wait until there is some (`cutor gc`)", what)
        self.short = True

    async def suffices(self, needed_bytes: int = 0) -> bool:
        """Return whether work that takes so much may be tried: where so much is free, and ``nix.min_free_bytes`` at the least.

        It is looked for at first, and after that where there was too little, every `LOOK_EVERY_S` at most.
        """
        least_bytes = max(self._settings.min_free_bytes, needed_bytes)
        async with self._looking:
            first = self._looked_s == float("-inf")
            if first or (self._free_bytes < least_bytes and time.monotonic() - self._looked_s >= LOOK_EVERY_S):
                self._looked_s, room = time.monotonic(), await self.look()
                self._free_bytes = self._free_bytes if room is None else room.free_bytes
            enough = self._free_bytes >= least_bytes
            if first and not enough:
                self.ran_out()
            elif enough and self.short:
                log.info("the store volume has room again: %s go on", WHAT[self._role])
                self.short = False
        return enough

    async def look(self) -> Room | None:
        """Look how much is free; null where that cannot be seen, which is said."""
        try:
            async with StoreSession(
                self._engine, self._settings, instance=self._instance, user=self._role, data=self._data
            ) as store:
                return await store.room()
        except ContainerError as error:
            log.warning("whether the store volume has room could not be seen: %s", error)
            return None

"""A runner's part in the binary cache: what its host's store lacks of an environment is fetched before the submission runs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from cutor.containers.engine import Engine
from cutor.jail.job import EnvironmentMissing
from cutor.model.environments import EnvironmentBuilt
from cutor.model.events import Lease
from cutor.nix.cache_session import CacheSession, DirectoryMissing
from cutor.nix.messages import fetch_advised
from cutor.nix.session import NoRoomLeft
from cutor.nix.settings import NixSettings, download_from
from cutor.nix.store_session import Away, Full, Refused
from cutor.roles.cache_reach import CacheReach
from cutor.roles.known_leases import HELD_S, KnownLeases
from cutor.roles.room import StoreRoom

log = logging.getLogger(__name__)

SHORT: Final = 12
"""Characters of a key that a log needs."""
REMEMBERED: Final = 1000
"""Environments of which it is remembered when they were fetched last, or how much room they did not find."""


class Fetching:
    """Fetches environments from the cache, where one is configured with keys to trust; one at a time of each."""

    def __init__(self, engine: Engine, settings: NixSettings, instance: str, data: Path | None) -> None:
        self._engine = engine
        self._settings = settings
        self._instance = instance
        self._data = data
        self._place = download_from(settings)
        self._room = StoreRoom(engine, settings, instance, data, "runner")
        self._reach = None if self._place is None else CacheReach(engine, settings, instance, data, self._place)
        self._leases = KnownLeases("runner")
        self._kept_out: dict[str, int] = {}
        self._unreached: dict[str, float] = {}
        self._turns: dict[str, tuple[asyncio.Lock, int]] = {}
        self._fetched_at: dict[str, float] = {}

    async def fetch(self, environment: EnvironmentBuilt, missed: EnvironmentMissing, looked_at: float) -> None:
        """Bring an environment, of which a container missed something, into this host's store.

        ``looked_at`` is when that container was asked for, by the monotonic clock: what was fetched since is not fetched again.
        Raises `EnvironmentMissing` with the reason where there is no cache, or where it does not give the environment, which
        a builder mends. Raises an error of `cutor.containers` where this host's Docker fails, `Away` where the cache does not
        answer, `NoRoomLeft` where less than ``nix.min_free_bytes`` is free on its store's volume, or the fetch filled it.
        """
        if self._place is None or self._reach is None:
            raise missed
        async with self._turn(environment.key):
            if self._fetched_at.get(environment.key, looked_at - 1) >= looked_at:
                return
            started = time.monotonic()
            await self._check_room(environment.key)
            if self._reach.away and self._reach.known:
                raise self._unanswered(environment.key, "as others found just now")
            try:
                async with CacheSession(
                    self._engine, self._settings, instance=self._instance, user="runner", data=self._data
                ) as session:
                    keys = self._settings.cache_public_keys
                    await session.fetch(self._place, keys, environment.key, environment.closure)
            except (Away, DirectoryMissing) as away:
                self._reach.note(away=True, why=str(away), path=next(iter(environment.closure), ""))
                raise self._unanswered(environment.key, str(away)) from away
            except Refused as refusal:
                if not isinstance(refusal, Full):
                    self._reach.gave()
                await self._check_room(environment.key, _missing_bytes(environment, refusal))
                told = fetch_advised(str(refusal))
                log.warning("environment %s could not be fetched from the cache: %s", environment.key[:SHORT], told)
                raise EnvironmentMissing(f"{missed.path}; fetching it failed: {told}") from refusal
            self._reach.gave()
            self._remember(environment.key)
            log.info("environment %s: fetched in %.1f s", environment.key[:SHORT], time.monotonic() - started)

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """While the block lasts, it may be looked whether a cache answers again."""
        if self._reach is None:
            yield
            return
        async with self._reach.following():
            yield

    async def may_begin(self, key: str, lease: Lease | None = None) -> bool:
        """Return whether a lease is not spent in vain; ``lease`` is the submission's newest.

        It would be for an environment that found no room, while there is none, or found the cache away, while it is, and for
        `HELD_S` in any case, unless the cache gave something since: a look does not see all that a fetch needs. Where
        another runner's lease came to nothing, this one looks first whether the cache answers, and waits for that for `HELD_S`:
        else each of several would spend one to learn that. It may have the environment, so it waits no longer.
        """
        if not self._reaches(key, lease):
            return False
        needed_bytes = self._kept_out.get(key)
        if needed_bytes is None:
            return True
        if not await self._room.suffices(needed_bytes):
            return False
        self._kept_out.pop(key, None)
        return True

    def _reaches(self, key: str, lease: Lease | None) -> bool:
        """Return whether the cache answers, or is not known to be needed."""
        if (reach := self._reach) is None:
            return True
        if reach.away:
            reach.look()
        failed_s = self._unreached.get(key)
        if failed_s is not None and (reach.away or (reach.gave_s <= failed_s and time.monotonic() - failed_s < HELD_S)):
            return False
        self._unreached.pop(key, None)
        met_s = self._leases.met_s(lease)
        if met_s is None or time.monotonic() - met_s >= HELD_S:
            return True
        if not reach.known:
            reach.look()
        return reach.known and not reach.away

    def _unanswered(self, key: str, why: str) -> Away:
        """Note that an environment wants a cache that is away; return what tells it."""
        if len(self._unreached) >= REMEMBERED:
            self._unreached.clear()
        self._unreached[key] = time.monotonic()
        return Away(f"the environment is to be fetched, and the cache does not answer: {why}")

    async def _check_room(self, key: str, missing_bytes: int | None = None) -> None:
        """Raise `NoRoomLeft` where less than ``nix.min_free_bytes`` is free, or so much was missing when the volume was full.

        Where that is more than the whole volume, it is never there, and not waited for. What cannot be seen is for the fetch.
        """
        room = await self._room.look()
        least_bytes = max(self._settings.min_free_bytes, missing_bytes or 0)
        if missing_bytes is None and (room is None or room.free_bytes >= least_bytes):
            return
        if missing_bytes is not None and room is not None and missing_bytes > room.size_bytes:
            raise NoRoomLeft(f"the store's volume has {room.size_bytes} bytes in all, a fetch wants {missing_bytes}")
        self._room.ran_out()
        if len(self._kept_out) >= REMEMBERED:
            self._kept_out.clear()
        self._kept_out[key] = least_bytes
        has = "is full" if room is None else f"has {room.free_bytes} bytes free"
        raise NoRoomLeft(f"the store's volume {has}, a fetch wants {least_bytes}: make room by `cutor gc` on this host")

    def _remember(self, key: str) -> None:
        self._fetched_at.pop(key, None)
        self._fetched_at[key] = time.monotonic()
        if len(self._fetched_at) > REMEMBERED:
            del self._fetched_at[next(iter(self._fetched_at))]

    @asynccontextmanager
    async def _turn(self, key: str) -> AsyncIterator[None]:
        """Let one slot at a time fetch a key; the others wait, and find it done."""
        lock, users = self._turns.get(key, (asyncio.Lock(), 0))
        self._turns[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            users = self._turns[key][1] - 1
            if users:
                self._turns[key] = (lock, users)
            else:
                del self._turns[key]


def _missing_bytes(environment: EnvironmentBuilt, refusal: Refused) -> int | None:
    """Return how much of an environment the store lacks whose volume is full; null for what was refused otherwise."""
    return max(environment.closure_bytes - refusal.present_bytes, 0) if isinstance(refusal, Full) else None

"""A builder's part in the binary cache: what it built is there before the log says that it is built.

A cache that fails is nobody's fault, and must hold up no build: after one failure it is left alone for a while, longer each
time. What is built meanwhile is said to be built, kept in mind, and published once that time is over, beside the builds. What
this process has not published when it ends, it says; it crashes without that: runners elsewhere report what the cache lacks as
lost, and the build that follows publishes it.

What a runner missed already is another matter: to say again that it is built, while the cache lacks it, would only lose it
again. So that is published in any case, or is not said to be built. Each try of it costs a lease: between two of one submission
is time, whichever builder made them, and while the cache fails a builder makes one at a time. After the first one a cache that
does not answer at all is waited for, without a lease: what it has against a copy, a try alone shows.

Only what Nix, the key's file or a directory that is missing has against a copy counts against the cache. A store that is busy,
or a Docker that fails, says nothing about it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cutor.containers.engine import Engine
from cutor.containers.errors import ContainerError
from cutor.errors import CutorError
from cutor.model.events import Lease
from cutor.nix.cache_session import CacheSession, DirectoryMissing, directory_remedy
from cutor.nix.report import BuiltEnvironment
from cutor.nix.secret_key import SecretKeyUnusable, read_secret_key
from cutor.nix.settings import NixSettings, upload_to
from cutor.nix.store_session import GaveWay, Gone, Refused
from cutor.roles.cache_reach import CacheReach
from cutor.roles.known_leases import HELD_S, KnownLeases

log = logging.getLogger(__name__)

SHORT: Final = 12
"""Characters of a key that a log needs."""
AT_ONCE: Final = 4
"""Copies at one time, each in a container."""
BESIDE_AT_MOST: Final = 16
"""Environments that are published beside the builds, or wait for that; what is one more keeps the slot that it was built in."""
PAUSE_S: Final = 5.0
"""How long a cache that failed is left alone; twice as long each time, up to `PAUSE_MAX_S`."""
PAUSE_MAX_S: Final = 30.0
"""So late at the most a cache is used again that is back. A choice: each try waits for a cache that does not answer."""
FAILURES: Final = 3
"""What fails so often where the cache has just taken something else is given up: it is to blame itself."""
DENIED: Final = os.strerror(errno.EACCES)
WAYS_GIVEN: Final = 2
"""How often one publication gives way to who waits to be alone with the store (a collection), and begins again behind him."""
REMEMBERED: Final = 1000
"""Environments that are to be published later; of more, the oldest are given up, and said."""


@dataclass
class _Unpublished:
    """The closure of an environment that the cache lacks; so many ``failures`` came right after something else succeeded.

    ``reason`` is of the last failure; ``gone``: a collection took it meanwhile, so it can't be published any more.
    ``blamed``: it failed again where the cache had taken something since, so that says nothing against the cache.
    """

    closure: Sequence[str]
    failures: int = 0
    reason: str = ""
    gone: bool = False
    blamed: bool = False


class NotPublished(CutorError):
    """What has to be in the cache before anything else is not: it is to be tried again."""


class Publishing:
    """Copies what a builder built into the cache, where one is configured with a key to sign by."""

    def __init__(self, engine: Engine, settings: NixSettings, instance: str, data: Path | None) -> None:
        self._engine = engine
        self._settings = settings
        self._instance = instance
        self._data = data
        self._place = upload_to(settings)
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._beside = 0
        self._left: dict[str, _Unpublished] = {}
        self._more = asyncio.Event()
        self._failed = False
        self._said: type[CutorError] | None = None
        self._pause_s = PAUSE_S
        self._away_until_s = self._held_until_s = self._refused_s = self._took_s = float("-inf")
        self._leases = KnownLeases("builder")
        place = self._place
        self._reach = None if place is None else CacheReach(engine, settings, instance, data, place, "builder")

    @property
    def away(self) -> bool:
        """Whether the cache failed, and is left alone for now."""
        return time.monotonic() < self._away_until_s

    def may_try(self, lease: Lease | None) -> bool:
        """Return whether a lease may be spent on what a runner missed; ``lease`` is the submission's newest.

        While the cache fails, of all submissions one may try, and the next one after a pause: a yes counts.
        """
        if self.holds_back(lease):
            return False
        if self._fails:
            self._held_until_s = time.monotonic() + self._pause_s
        return True

    def holds_back(self, lease: Lease | None) -> bool:
        """Return whether it may not: without counting for anything.

        Behind another builder's lease, or one of this one, not before `HELD_S` are over or the cache has taken something here:
        it did not take that then. There, and while it fails, it has to have answered since: that is looked at without a lease,
        however long it is away, and meanwhile, so that who comes again when the time is over knows.
        """
        now_s, met_s = time.monotonic(), self._leases.met_s(lease)
        failed = met_s is not None and self._took_s <= met_s
        if self._reach is None or not (failed or self._fails):
            return False
        held_until_s, since_s = self._held_until_s, self._refused_s
        if met_s is not None and failed:
            held_until_s, since_s = max(held_until_s, met_s + HELD_S), max(since_s, met_s)
        return not self._reach.answers(since_s) or now_s < held_until_s

    @property
    def _fails(self) -> bool:
        """Whether the cache did not take what a runner missed, and nothing since."""
        return self._refused_s > float("-inf")

    def takes_time(self, *, missed: bool = False) -> bool:
        """Return whether publishing is waited for, and what is published may be beside the builds meanwhile."""
        return self._place is not None and (missed or not self.away) and self._beside < BESIDE_AT_MOST

    async def publish(self, built: BuiltEnvironment, *, kept: bool = True, missed: bool = False) -> None:
        """Copy a closure into the cache, signed, or leave it for later; where that fails, it is a warning.

        It may crash anywhere: what is copied twice is the same. ``kept`` false: what is not to be kept is not published later.
        ``missed``: a runner missed it already, so it is copied now, also to a cache that is left alone; raises `NotPublished`
        where that fails.
        """
        if self._place is None:
            return
        former = self._left.get(built.key)
        one = _Unpublished(built.closure, 0 if former is None else former.failures)
        self._beside += 1
        try:
            async with self._turns:
                published = (missed or not self.away) and await self._tried(built.key, one)
        finally:
            self._beside -= 1
        if published:
            self._left.pop(built.key, None)
        elif kept and not one.gone:
            self._leave(built.key, one)
        if missed and not published:
            if self._failed and not one.blamed:
                self._refused_s = time.monotonic()
                self._held_until_s = self._refused_s + self._pause_s
            raise NotPublished(f"the environment, which a runner missed, could not be published to the cache: {one.reason}")

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """While the block lasts, publish what was left for later. What is left at its end is said."""
        task = asyncio.create_task(self._follow(), name="unpublished environments")
        try:
            async with AsyncExitStack() as looks:
                if self._reach is not None:
                    await looks.enter_async_context(self._reach.following())
                yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if self._left:
                keys = ", ".join(key[:SHORT] for key in self._left)
                log.warning("not published to the cache: %s; a runner elsewhere that needs one has it built again", keys)

    async def _follow(self) -> None:
        rest_s = 0.0
        while await self._more.wait():
            await asyncio.sleep(max(rest_s, self._away_until_s - time.monotonic()))
            if not self._left:
                self._more.clear()
            elif not self.away:  # else it failed meanwhile
                rest_s = 0.0 if await self._one_left() else PAUSE_S

    async def _one_left(self) -> bool:
        """Publish what was left first; return whether that is done with. What fails goes behind the others, or is given up."""
        key, one = next(iter(self._left.items()))
        try:
            published = await self._tried(key, one)
        except Exception:
            log.exception("a bug beside the publication of environment %s", key[:SHORT])
            published = False
        if self._left.pop(key, None) is None or published or one.gone:
            return published or one.gone
        if one.failures < FAILURES:
            self._left[key] = one
        else:
            log.warning("environment %s is not published to the cache, which takes others", key[:SHORT])
        return published

    def _leave(self, key: str, one: _Unpublished) -> None:
        self._left.pop(key, None)
        self._left[key] = one
        self._more.set()
        if len(self._left) > REMEMBERED:
            key = next(iter(self._left))
            del self._left[key]
            log.warning("environment %s is not published to the cache: too many wait for that", key[:SHORT])

    async def _tried(self, key: str, one: _Unpublished) -> bool:
        """Copy a closure; return whether the cache has it. The first failure of several is a warning."""
        started = time.monotonic()
        try:
            await self._copy(one.closure)
        except (ContainerError, SecretKeyUnusable) as error:
            self._note(key, one, error)
            return False
        if self._said is not None:
            log.info("the cache takes environments again")
        if self._reach is not None:
            self._reach.note(away=False)
        self._failed, self._said = False, None
        self._away_until_s = self._held_until_s = self._refused_s = float("-inf")
        self._took_s = time.monotonic()
        seconds = time.monotonic() - started
        log.info("environment %s: %d paths published in %.1f s", key[:SHORT], len(one.closure), seconds)
        return True

    def _note(self, key: str, one: _Unpublished, error: CutorError) -> None:
        """Note why something was not published; the first time of several it is a warning."""
        one.reason, one.gone = str(error), isinstance(error, Gone)
        if one.gone:
            log.info("environment %s is not published to the cache: %s", key[:SHORT], error)
            return
        place = self._place
        directory = place is not None and place.mount == "directory" and DENIED in one.reason
        told = f"{error}: {directory_remedy(place)}" if place is not None and directory else error
        log.log(
            logging.DEBUG if type(error) is self._said else logging.WARNING,
            "environment %s could not be published to the cache: %s; it is tried again",
            *(key[:SHORT], told),
        )
        self._said = type(error)
        if isinstance(error, (Refused, SecretKeyUnusable, DirectoryMissing)):
            self._leave_alone(one)

    def _leave_alone(self, one: _Unpublished) -> None:
        """Leave the cache alone for a while: it did not take something, unless that is to blame itself."""
        one.blamed = one.failures > 0 and not self._failed
        one.failures += not self._failed
        if not self.away and not one.blamed:  # of several that fail at one time, one counts
            self._pause_s = min(2 * self._pause_s, PAUSE_MAX_S) if self._failed else PAUSE_S
            self._away_until_s = time.monotonic() + self._pause_s
        self._failed = True

    async def _copy(self, closure: Sequence[str]) -> None:
        """Copy, again where that gave way. Raises `SecretKeyUnusable`, and an error of `cutor.containers`."""
        for _ in range(WAYS_GIVEN):
            with suppress(GaveWay):
                await self._copy_once(closure)
                return
        await self._copy_once(closure)

    async def _copy_once(self, closure: Sequence[str]) -> None:
        """Raises `SecretKeyUnusable`, and an error of `cutor.containers`."""
        file, place = self._settings.cache_secret_key_file, self._place
        assert file is not None, "without a key there is no place"
        assert place is not None
        secret = read_secret_key(file)
        async with CacheSession(
            self._engine, self._settings, instance=self._instance, user="builder", data=self._data
        ) as session:
            await session.publish(place, secret, closure)

"""What a runner uses of the store, as every collection sees it in Docker: one labelled volume, a mark, for each environment.

    first use of a key     the mark is made · a look for collections (`until_kept`) · the closure is checked, the stages begin
    a use is foreseen      the mark is made, and lingers like one whose use has ended, until the use begins
    a use beside or soon   the mark stands, and has been looked past: nothing is asked of Docker
    the last use ends      the mark stays for `LINGERS_S`, then it is removed; at once where the environment is the user's alone

While a mark stands, whatever begins to collect sees it: a look is needed once, by who made it. Each mark has a name of its own
and is never taken up again once its removal began. See decision 0050.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from cutor.containers.engine import GONE_PAUSES_S, Engine
from cutor.containers.errors import ContainerError
from cutor.containers.host_config import Identity, VolumeSpec, use_mark
from cutor.process.context import RoleContext
from cutor.roles.collections import LINGERS_S, until_kept
from cutor.undisturbed import to_the_end

TRUSTED_S: Final = 60.0
"""How old a mark gets for who comes: then it has another one, so that whoever waits for the end of a mark need not wait for
the end of all traffic, and one that somebody removed behind our back is missed for no longer."""
LINGERING_MOST: Final = 32
"""Marks without a user that are there at one time; beyond it the one that has been so for longest goes."""
REMOVED_AT_ONCE: Final = 2
"""Marks that are removed at one time; each is a volume."""

log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Mark:
    """A volume, and who uses it; ``stands`` ends once others see it, and it is known that no collection missed it."""

    volume: VolumeSpec
    stands: asyncio.Task[None]
    until_s: float
    users: int = 0
    lingering: asyncio.TimerHandle | None = None


class Use:
    """One submission's use of an environment."""

    def __init__(self, mark: _Mark) -> None:
        self._mark = mark
        self.alone = False
        """Whether nobody else can come to use it: then its mark need not linger."""

    async def stands(self) -> None:
        """Return once no collection may delete what the environment needs: at once where its mark stood before.

        Raises `StepFault` where a collection takes too long, and errors of `cutor.containers`.
        """
        await asyncio.shield(self._mark.stands)


class Uses:
    """The marks of one runner."""

    def __init__(self, engine: Engine, context: RoleContext) -> None:
        self._engine = engine
        self._context = context
        self._marks: dict[str, _Mark] = {}
        self._lingering: dict[_Mark, str] = {}
        self._removals: set[asyncio.Task[None]] = set()
        self._removing = asyncio.Semaphore(REMOVED_AT_ONCE)
        self._closing = asyncio.Event()

    @asynccontextmanager
    async def keeping(self) -> AsyncIterator[None]:
        """Have marks while the block lasts, in which every use is; then remove all of them."""
        try:
            yield
        finally:
            self._closing.set()
            for key, mark in [*self._marks.items()]:
                self._give_back(key, mark)
            await to_the_end(self._all_removed())

    @contextmanager
    def of(self, key: str) -> Iterator[Use]:
        """Mark an environment as used while the block lasts. The mark is made beside: see `Use.stands`."""
        mark = self._standing(key)
        use = Use(mark)
        mark.users += 1
        if mark.lingering is not None:
            self._linger_no_more(mark)
        try:
            yield use
        finally:
            mark.users -= 1
            if not mark.users:
                self._unused(key, mark, alone=use.alone)

    def foresee(self, key: str) -> None:
        """Have a mark made for a use that is about to begin (4 ms), which need not wait for it then. It may never begin.

        While all slots are taken who comes has to wait for one, perhaps for longer than a mark lingers: then none is made.
        """
        slots_taken = sum(mark.users for mark in self._marks.values())
        if slots_taken >= self._context.config.runner.slots or self._closing.is_set():
            return
        if not (mark := self._standing(key)).users:
            self._linger(key, mark)

    def _standing(self, key: str) -> _Mark:
        """Return the mark of a key that who comes may rely on, or one that is being made."""
        mark = self._marks.get(key)
        now_s = asyncio.get_running_loop().time()
        if mark is not None and now_s < mark.until_s and not _failed(mark):
            return mark
        if mark is not None and not mark.users:
            self._give_back(key, mark)
        identity = Identity(self._context.instance, secrets.token_hex(6), data=self._context.data)
        volume = use_mark(identity, self._context.config.nix.store_volume, key)
        stands = asyncio.create_task(self._set(volume, key), name=f"mark {key}")
        stands.add_done_callback(_heard)
        mark = self._marks[key] = _Mark(volume, stands, now_s + TRUSTED_S)
        return mark

    async def _set(self, volume: VolumeSpec, key: str) -> None:
        nix = self._context.config.nix
        await self._engine.make_volume(volume)
        await until_kept(self._engine, nix.store_volume, key, timeout_s=nix.collection_timeout_ms / 1000)

    def _unused(self, key: str, mark: _Mark, *, alone: bool) -> None:
        """See to a mark that nobody uses any more: it lingers, if somebody may come to use it."""
        if alone or self._closing.is_set() or self._marks.get(key) is not mark or not _set_well(mark):
            self._give_back(key, mark)
        else:
            self._linger(key, mark)

    def _linger(self, key: str, mark: _Mark) -> None:
        """Let a mark without a user stay for a while, and for as long as it is used within that."""
        self._linger_no_more(mark)
        mark.lingering = asyncio.get_running_loop().call_later(LINGERS_S, self._give_back, key, mark)
        self._lingering[mark] = key
        if len(self._lingering) > LINGERING_MOST:
            oldest = next(iter(self._lingering))
            self._give_back(self._lingering[oldest], oldest)

    def _linger_no_more(self, mark: _Mark) -> None:
        if mark.lingering is not None:
            mark.lingering.cancel()
            mark.lingering = None
        self._lingering.pop(mark, None)

    def _give_back(self, key: str, mark: _Mark) -> None:
        """Begin to remove a mark; who comes from now on has another one."""
        self._linger_no_more(mark)
        if self._marks.get(key) is mark:
            del self._marks[key]
        self._removals.add(task := asyncio.create_task(self._remove(mark), name=f"give back {mark.volume.name}"))
        task.add_done_callback(self._removals.discard)

    async def _remove(self, mark: _Mark) -> None:
        """Remove a mark, trying again for as long as Docker fails; at the runner's end what is left is the next one's."""
        mark.stands.cancel()
        await asyncio.wait([mark.stands])
        made = _set_well(mark)
        for tried, pause_s in enumerate(itertools.chain(GONE_PAUSES_S, itertools.repeat(GONE_PAUSES_S[-1]))):
            try:
                async with self._removing:
                    there = await self._engine.remove_volume(mark.volume.name)
            except ContainerError as error:
                if not tried:
                    log.warning("the mark of an environment, %s, can't be removed for now: %s", mark.volume.name, error)
            else:
                if made and not there and not tried:
                    log.error("the mark of an environment in use, %s, was removed by somebody else", mark.volume.name)
                return
            if self._closing.is_set():
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._closing.wait()

    async def _all_removed(self) -> None:
        while self._removals:
            await asyncio.wait(self._removals)


def _set_well(mark: _Mark) -> bool:
    return mark.stands.done() and not _failed(mark)


def _failed(mark: _Mark) -> bool:
    return mark.stands.done() and (mark.stands.cancelled() or mark.stands.exception() is not None)


def _heard(task: asyncio.Task[None]) -> None:
    """Take a failure as heard of, though every use of the mark may have ended by now."""
    if not task.cancelled():
        task.exception()

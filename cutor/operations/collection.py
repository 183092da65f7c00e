"""Collections of this host's store: planned, told to the log, done. And roots of single environments that are given up.

The order makes every end a sound one, however it comes: first a container that runs can see (`cutor.roles.collections`), and a
look at who else removes roots; then the store, alone; then a look at the roots and runs that are there; then the log
(``env-removed``), so that no submission is given what is to go; then the roots; then what nothing keeps. Whoever stops before
the log has changed nothing; whoever stops behind it leaves garbage for the next collection, and nothing else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from cutor.bus.connection import Bus
from cutor.containers.engine import Engine
from cutor.containers.labels import RELEASES_LABEL, USER_LABEL
from cutor.journal.environments import Environments
from cutor.model.collection import Plan, Taken, Wish, plan
from cutor.model.environments import EnvironmentRemoved
from cutor.nix.settings import NixSettings
from cutor.nix.store_report import Collected, Inventory
from cutor.nix.store_session import OnCount, StoreBusy, StoreSession
from cutor.operations.catalogue import Catalogue
from cutor.roles.collections import AT_WORK, give_up_roots, keys_in_use, runs_in, trim_roots

WAIT_S: Final = 120.0
"""How long a collection waits for builds, and for runs that nothing would protect from it; builds wait for it meanwhile."""
PAUSE_S: Final = 0.5
"""Between two looks at who is in the way, each one request to Docker. A choice."""
TELLING_S: Final = 60.0
"""How long a collection may tell the log of environments that go, alone with the store: builds wait. The rest stays for now."""
CHANGES_AT_MOST: Final = 5
"""Times that a collection begins anew because it must not begin yet (`Unsettled`)."""
NAME_CHARACTERS: Final = 40
"""Of each name in the error that tells what a collection waited for in vain."""
LATER: Final = "too many at one time: a later collection takes it"
IN_USE: Final = "in use by now: a later collection takes it"
ANEW: Final = "built anew by now"
OnWait = Callable[[], None]


class Unsettled(Exception):
    """A collection must not begin yet: what it was to keep has lost its roots, or runs use what has none.

    ``rooted`` are the keys that have roots now, ``runs`` such runs: their marks, each with its key.
    """

    def __init__(self, rooted: set[str], runs: Mapping[str, str]) -> None:
        super().__init__("the store is not as it was planned with")
        self.rooted = rooted
        self.runs = runs


@dataclass(frozen=True)
class Place:
    """Which store, and whose command it is: settings of environments, and the instance whose label its containers have."""

    settings: NixSettings
    instance: str
    data: Path | None = None


class Planned(NamedTuple):
    """What a collection is to take, and the store as it was then."""

    plan: Plan
    inventory: Inventory

    def agreed(self, before: Plan) -> Planned:
        """Return what of this an earlier plan takes, too: what somebody has seen, as far as it is still right."""
        seen = {one.key for one in before.take}
        take = tuple(one for one in self.plan.take if one.key in seen)
        return Planned(msgspec.structs.replace(self.plan, take=take), self.inventory)


class Spared(msgspec.Struct, frozen=True, kw_only=True):
    """A key of a plan that stayed, and why."""

    key: str
    because: str


class Done(msgspec.Struct, kw_only=True):
    """What came of a collection so far: environments that the log gave up, keys that stayed, what went from the store.

    ``collected`` is null where it did not come to that.
    """

    removed: list[str] = msgspec.field(default_factory=list)
    spared: list[Spared] = msgspec.field(default_factory=list)
    collected: Collected | None = None


class Collector:
    """Collections of one store for one stack, over its bus and the engine of this host."""

    def __init__(self, bus: Bus, engine: Engine, place: Place, *, wait_s: float = WAIT_S) -> None:
        self._catalogue = Catalogue(bus)
        self._environments = Environments(bus)
        self._engine = engine
        self._place = place
        self._wait_s = wait_s

    async def plan(self, wish: Wish) -> Planned:
        """Return what a collection would take, and what the store holds. Changes nothing.

        Raises `SessionFault` and others of `cutor.containers`, `QueryUnavailable`, `ViewsBehind`.
        """
        await self._sweep()
        inventory, in_use = await asyncio.gather(self._inventory(), self.keys_in_use())
        known = {entry.key: entry for entry in await self._catalogue.of(one.key for one in inventory.keys)}
        return Planned(plan(inventory, known, in_use, wish, int(time.time())), inventory)

    async def keys_in_use(self) -> set[str]:
        """Return the keys in which something runs on this host, of whatever stack."""
        return await keys_in_use(self._engine, self._place.settings.store_volume)

    async def _runs(self) -> dict[str, str]:
        """Return the marks of runs in environments of the store, by name, each with its key."""
        return await runs_in(self._engine, self._place.settings.store_volume)

    async def collect(
        self,
        planned: Planned,
        done: Done,
        *,
        local: bool = False,
        on_removed: OnCount | None = None,
        on_wait: OnWait | None = None,
        on_count: OnCount | None = None,
    ) -> None:
        """Do what was planned, and put down in ``done`` what came of it, step by step. No environment is given up before the
        store is had.

        ``local``: environments that stand go from this store alone, and on standing in the log: a runner here fetches one again
        from the binary cache, or has it built.
        ``on_removed`` and ``on_count`` are given how many environments are given up, how many paths deleted. Raises as `plan`,
        and `StoreBusy` where builds, or what else it must not begin beside, go on for too long. When stopped, what is done is
        done and sound.
        """
        seen_s = {one.key: one.made_at_s for one in planned.inventory.keys}
        take, rooted = planned.plan.take, set(seen_s)

        async def choose(now: Mapping[str, int]) -> Mapping[str, int]:
            in_use = await self._settled(now, rooted - going)
            gone = await self._given_up(take, _changed(take, seen_s, now, in_use), done, local=local, on_removed=on_removed)
            return {key: seen_s[key] for key in gone}

        async def once_seen() -> None:
            await self._until(lambda: self._at_work(RELEASES_LABEL), "roots are removed by others")

        going = {one.key for one in take}
        for _ in range(CHANGES_AT_MOST):
            try:
                async with self._session(on_wait) as store:
                    done.collected = await store.collect(choose, on_count, keeps=rooted - going, once_seen=once_seen)
            except Unsettled as now:
                rooted = now.rooted
                await self._ended(now.runs)
            else:
                return
        raise StoreBusy("roots come and go in the Nix store of this host: try again later; nothing was deleted")

    async def _settled(self, rooted: Mapping[str, int], keeps: Set[str]) -> set[str]:
        """Return the keys in which something runs, where a collection may begin. Raises `Unsettled`.

        That is raised for runs in environments without roots, too, so that they are waited for without a container in the way
        of theirs: they may wait for its end.
        """
        runs = await self._runs()
        unprotected = {one: key for one, key in runs.items() if key not in rooted}
        if unprotected or not keeps <= rooted.keys():
            raise Unsettled(set(rooted), unprotected)
        return set(runs.values())

    async def _given_up(
        self, take: Iterable[Taken], changed: Mapping[str, str], done: Done, *, local: bool, on_removed: OnCount | None
    ) -> list[str]:
        """Tell the log of what goes, and return it; what stays, for a reason that is known or found now, is put down."""
        gone, deadline = [], time.monotonic() + TELLING_S
        for number, one in enumerate(take):
            told = one.stands and not (local and not one.private)
            why = changed.get(one.key) or (LATER if time.monotonic() > deadline else await self._stays(one, told=told))
            if why is None:
                gone.append(one.key)
                done.removed += [one.key] if told else []
            else:
                done.spared.append(Spared(key=one.key, because=why))
            if on_removed is not None:
                on_removed(number + 1)
        return gone

    async def release(self, keys: Iterable[str]) -> dict[str, str]:
        """Remove the roots of keys that the log has given up; return those that keep theirs for now, and why."""
        async with self._session() as store:
            return await give_up_roots(store, self._engine, self._place.settings.store_volume, keys)

    async def trim(self, key: str, paths: Iterable[str]) -> str | None:
        """Remove those roots of a key that lead to some paths; return why not, where they must stay for now."""
        async with self._session() as store:
            return await trim_roots(store, self._engine, self._place.settings.store_volume, key, paths)

    async def _sweep(self) -> None:
        """Remove the store containers of commands that were killed: they have ended with them, and are nobody's."""
        for one in await self._engine.labelled(USER_LABEL, "command"):
            if one.has_ended:
                await self._engine.remove(one.id)

    async def _stays(self, one: Taken, *, told: bool) -> str | None:
        """Return why a key stays by now, if it does; else the log gives it up, where it is ``told``."""
        if told:
            event = EnvironmentRemoved(key=one.key, reason=f"collected: {one.because}")
            if await self._environments.append_removed(event, "collection", unless_pinned=True):
                return None
            return "pinned by now" if (await self._environments.state(one.key)).pinned else None
        state = await self._environments.state(one.key)
        if state.pinned:
            return "pinned by now"
        return ANEW if state.built is not None and not one.stands else None

    async def _ended(self, runs: Mapping[str, str]) -> None:
        """Wait until these runs have ended. Raises `StoreBusy`."""

        async def left() -> set[str]:
            return {runs[one] for one in runs.keys() & (await self._runs()).keys()}

        await self._until(left, "runs go on in environments whose roots are gone")

    async def _at_work(self, label: str) -> set[str]:
        """Return the names of store containers with a label that are at work on this store."""
        found = await self._engine.labelled(label, self._place.settings.store_volume)
        return {one.name for one in found if one.state in AT_WORK}

    async def _until(self, left: Callable[[], Awaitable[set[str]]], what: str) -> None:
        """Wait until nothing is left that a collection must not begin beside. Raises `StoreBusy`."""
        deadline = time.monotonic() + self._wait_s
        while names := await left():
            if time.monotonic() > deadline:
                named = ", ".join(sorted(name[:NAME_CHARACTERS] for name in names))
                raise StoreBusy(f"{what}, after {self._wait_s:.0f} s still ({named}): try again later; nothing was deleted")
            await asyncio.sleep(PAUSE_S)

    async def _inventory(self) -> Inventory:
        async with self._session() as store:
            return await store.inventory()

    def _session(self, on_wait: OnWait | None = None) -> StoreSession:
        place = self._place
        return StoreSession(
            self._engine,
            place.settings,
            instance=place.instance,
            user="command",
            data=place.data,
            wait_s=self._wait_s,
            on_wait=on_wait,
        )


def _changed(take: Iterable[Taken], seen_s: Mapping[str, int], now_s: Mapping[str, int], in_use: Set[str]) -> dict[str, str]:
    """Return why keys stay that were to go: what runs in them by now, or roots that are newer than those that were seen."""
    anew = {one.key: ANEW for one in take if now_s.get(one.key, 0) > seen_s[one.key]}
    return anew | {one.key: IN_USE for one in take if one.key in in_use}

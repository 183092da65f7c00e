"""What a run asks of collections of the store that it uses: that none deletes what it needs. And what who removes roots asks.

Run and collection see each other in Docker, in whatever order they begin, whatever stacks they are of:

    collection   container there, with the keys that it keeps · looks for containers of runs · deletes, those keys spared
    run          container there, with its key · looks for containers of collections · checks its closure, begins

Whichever container is there last, its owner sees the other one. A run whose key a collection keeps goes on at once. Any other
waits for the end of the collection: then its closure is complete, or it sees what is missing. A collection that sees a run
keeps its roots, and where it has none, does not begin.

Roots that the log has given up are removed by `give_up_roots` alone, a collection's own apart: not beside a collection, whose
label may say that it keeps them, and not under a run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from cutor.containers.engine import ContainerSummary, Engine
from cutor.containers.host_config import COLLECTS_LABEL, ENVIRONMENT_LABEL, KEEPS_LABEL, KEPT_CHARACTERS, STORE_LABEL
from cutor.nix.store_session import StoreSession
from cutor.roles.job import StepFault
from cutor.roles.sweep import ENDED

log = logging.getLogger(__name__)

PAUSE_S: Final = 0.5
AT_WORK: Final = frozenset({"running", "paused", "restarting", "removing"})
"""States of a container in which a collection may delete: it is given its job once it runs, and looks for runs after that."""


async def until_kept(engine: Engine, store_volume: str, key: str, *, timeout_s: float) -> None:
    """Return once no collection may delete what a key needs: at once, but for one that does not know the key (1 ms).

    Raises `StepFault` where that takes longer than ``timeout_s``, and errors of `cutor.containers`.
    """
    deadline = asyncio.get_running_loop().time() + timeout_s
    told = False
    while threatened(await engine.labelled(COLLECTS_LABEL, store_volume), key):
        if not told:
            log.info("environment %s: its run waits for the end of a collection of the store", key[:KEPT_CHARACTERS])
            told = True
        if asyncio.get_running_loop().time() > deadline:
            raise StepFault(f"a collection of the store {store_volume} takes longer than {timeout_s:.0f} s")
        await asyncio.sleep(PAUSE_S)


def threatened(collections: list[ContainerSummary], key: str) -> bool:
    """Return whether any of these collections may delete what a key needs."""
    return any(one.state in AT_WORK and not keeps(one, key) for one in collections)


def keeps(collection: ContainerSummary, key: str) -> bool:
    """Return whether a collection keeps the environment of a key for certain."""
    return key[:KEPT_CHARACTERS] in collection.labels.get(KEEPS_LABEL, "").split(" ")


async def runs_in(engine: Engine, store_volume: str) -> dict[str, str]:
    """Return the containers that run in an environment of a store, of whatever stack: by id, with its key."""
    found = await engine.labelled(STORE_LABEL, store_volume)
    labelled = {one.id: one.labels.get(ENVIRONMENT_LABEL) for one in found if one.state not in ENDED}
    return {one: key for one, key in labelled.items() if key is not None}


async def give_up_roots(store: StoreSession, engine: Engine, store_volume: str, keys: Iterable[str]) -> dict[str, str]:
    """Remove the roots of keys that the log has given up, but for those that must stay for now; return these, each with why.

    Raises `SessionFault` and others of `cutor.containers`.
    """
    wanted, held = set(keys), dict[str, str]()

    async def confirm() -> set[str]:
        held.update(await _held(engine, store_volume, wanted))
        return wanted - held.keys()

    await store.release(wanted, confirm=confirm)
    return held


async def trim_roots(store: StoreSession, engine: Engine, store_volume: str, key: str, paths: Iterable[str]) -> str | None:
    """Remove those roots of a key that lead to some paths; return why not, where they must stay for now. As `give_up_roots`."""
    held = dict[str, str]()

    async def confirm() -> bool:
        held.update(await _held(engine, store_volume, {key}))
        return not held

    await store.trim(key, paths, confirm=confirm)
    return held.get(key)


async def _held(engine: Engine, store_volume: str, keys: set[str]) -> dict[str, str]:
    """Return why the roots of some of these keys must stay for now, for who has a container that a collection sees."""
    if any(one.state in AT_WORK for one in await engine.labelled(COLLECTS_LABEL, store_volume)):
        return dict.fromkeys(keys, "a collection is at work")
    in_use = set((await runs_in(engine, store_volume)).values())
    return dict.fromkeys(keys & in_use, "something runs in it")

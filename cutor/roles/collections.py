"""What a run asks of collections of the store that it uses: that none deletes what it needs. And what who removes roots asks.

Run and collection see each other in Docker, in whatever order they begin, whatever stacks they are of:

    collection   container there, with the keys that it keeps · looks for marks of runs · deletes, those keys spared
    run          mark there, with its key · looks for containers of collections · checks its closure, begins

Whichever is there last, its owner sees the other one. A run whose key a collection keeps goes on at once. Any other waits for
the end of the collection: then its closure is complete, or it sees what is missing. A collection that sees a run keeps its
roots, and where it has none, does not begin. A mark serves one run after another (`cutor.roles.uses`).

Roots that the log has given up are removed by `give_up_roots` alone, a collection's own apart: not beside a collection, whose
label may say that it keeps them, and not under a run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Set
from typing import Final

from cutor.containers.engine import ContainerSummary, Engine
from cutor.containers.labels import COLLECTS_LABEL, ENVIRONMENT_LABEL, KEEPS_LABEL, KEPT_CHARACTERS, STORE_LABEL
from cutor.nix.store_session import StoreSession
from cutor.roles.step import StepFault

log = logging.getLogger(__name__)

PAUSE_S: Final = 0.5
"""Between two looks at a collection that is waited for, each one request to Docker. A choice."""
LINGERS_S: Final = 1.0
"""How long the mark of a run stays behind its end, for the next one in the same environment."""
LOOK_PAUSE_S: Final = 0.1
"""Between two looks at a mark that lingers: it does for a second at the most. A choice."""
LOOKS_S: Final = 2 * LINGERS_S
"""How long is looked whether a mark only lingers: the runner may be busy, and Docker takes its time to remove it."""
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
    """Return the marks of runs in environments of a store, of whatever stack: by name, each with its key (1 ms)."""
    found = await engine.labelled_volumes(f"{STORE_LABEL}={store_volume}", ENVIRONMENT_LABEL)
    return {one.name: one.labels[ENVIRONMENT_LABEL] for one in found}


async def keys_in_use(engine: Engine, store_volume: str, keys: Set[str] | None = None) -> set[str]:
    """Return the keys in which something runs, of all or of some; one whose mark only lingers is waited for (`LOOKS_S`)."""
    deadline = asyncio.get_running_loop().time() + LOOKS_S
    while True:
        used = set((await runs_in(engine, store_volume)).values())
        wanted = used if keys is None else used & keys
        if not wanted or asyncio.get_running_loop().time() > deadline:
            return wanted
        await asyncio.sleep(LOOK_PAUSE_S)


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


async def _held(engine: Engine, store_volume: str, keys: Set[str]) -> dict[str, str]:
    """Return why the roots of some of these keys must stay for now, for who has a container that a collection sees."""
    if any(one.state in AT_WORK for one in await engine.labelled(COLLECTS_LABEL, store_volume)):
        return dict.fromkeys(keys, "a collection is at work")
    return dict.fromkeys(await keys_in_use(engine, store_volume, keys), "something runs in it")

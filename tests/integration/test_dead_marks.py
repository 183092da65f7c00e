"""Marks of dead instances hold no environment; those of living ones, and of who cannot be looked at, stay."""

from __future__ import annotations

import fcntl
import secrets
import time
from pathlib import Path

from cutor.containers.engine import Engine
from cutor.containers.host_config import Identity, RunnerStorage, VolumeSpec, runner_spec, use_mark
from cutor.roles.collections import runs_in
from cutor.stack.data import DataDirectory
from cutor.stack.dead_marks import NOBODYS_S, remove_dead_marks
from tests.child_image import IMAGE
from tests.integration.stage_support import RESOURCES, UID, connected


async def marked(engine: Engine, volume: str, instance: str, data: Path | None) -> VolumeSpec:
    mark = use_mark(Identity(instance, secrets.token_hex(6), data=data), volume, secrets.token_hex(32))
    await engine.make_volume(mark)
    return mark


async def test_only_marks_of_dead_instances_go(tmp_path: Path) -> None:
    volume = f"no-store-{secrets.token_hex(4)}"
    dead, living = DataDirectory(tmp_path / "dead"), DataDirectory(tmp_path / "living")
    for data in (dead, living):
        data.prepare()
    async with connected() as engine:
        of_dead = await marked(engine, volume, dead.make_instance(), dead.path)
        stay = [
            await marked(engine, volume, living.make_instance(), living.path),
            await marked(engine, volume, secrets.token_hex(6), dead.path),
            await marked(engine, volume, secrets.token_hex(6), tmp_path / "gone"),
            await marked(engine, volume, secrets.token_hex(6), None),
        ]
        elsewhere = await marked(engine, f"{volume}-other", dead.make_instance(), dead.path)
        with living.lock.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert await remove_dead_marks(engine, volume) == 1
            assert set(await runs_in(engine, volume)) == {one.name for one in stay}
            assert of_dead.name not in await runs_in(engine, volume)
        assert await remove_dead_marks(engine, volume) == 1, "its lock is free now"
        assert await remove_dead_marks(engine, elsewhere.labels["cutor.store"]) == 1
        assert set(await runs_in(engine, volume)) == {one.name for one in stay[1:]}
        with living.lock.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            of_living = await marked(engine, volume, living.make_instance(), living.path)
            assert await remove_dead_marks(engine, volume, time.time() + NOBODYS_S + 60) == len(stay[1:])
            assert set(await runs_in(engine, volume)) == {of_living.name}
        assert await engine.remove_volume(of_living.name)


async def test_a_mark_stays_while_a_container_of_its_instance_runs(tmp_path: Path) -> None:
    """User code may be in it: its runner was killed a moment ago, and Docker has not ended it.

    Or its runner lives, in a container that has the data directory.
    """
    volume = f"no-store-{secrets.token_hex(4)}"
    data = DataDirectory(tmp_path / "data")
    data.prepare()
    instance = data.make_instance()
    async with connected() as engine:
        identity = Identity(instance, secrets.token_hex(6), data=data.path)
        storage = RunnerStorage(store_volume=volume)
        child = await engine.start(runner_spec(identity, image=IMAGE, uid=UID + 40_000, resources=RESOURCES, storage=storage))
        try:
            mark = await marked(engine, volume, instance, data.path)
            elsewhere = await marked(engine, volume, instance, tmp_path / "of another")
            await remove_dead_marks(engine, volume, time.time() + NOBODYS_S + 60)
            assert {mark.name, elsewhere.name} <= set(await runs_in(engine, volume))
        finally:
            await child.remove()
        await remove_dead_marks(engine, volume, time.time() + NOBODYS_S + 60)
        assert not {mark.name, elsewhere.name} & set(await runs_in(engine, volume))
        assert await engine.remove_volume(volume)

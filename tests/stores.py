"""Stores of a test's own: volumes, empty or copied from what set-up made, that go with who asked for them.

What tests build, hostile things among it, never enters the store that users of this machine share.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

from aiodocker import Docker, DockerError
from aiodocker.volumes import DockerVolume

from cutor.containers.child import Child
from cutor.containers.engine import Engine
from cutor.containers.host_config import BuilderStorage, ContainerSpec, Identity, Resources, builder_spec
from cutor.model.limits import MIB
from cutor.nix.session import INIT_MODULE, WORK_TMPFS
from cutor.nix.settings import NixSettings
from cutor.setup import volumes
from tests.child_image import IMAGE

NOT_FOUND: Final = 404
RUN: Final = "TESTS_RUN"
"""A variable with a token of the run of tests, which is in the names of its volumes."""
COPY: Final = """
import fcntl, os, subprocess, sys
sys.path.insert(0, "/opt/cutor")
from cutor.nix.inside.store import is_leftover
fcntl.flock(os.open("/source/var/cutor/builds.lock", os.O_RDONLY), fcntl.LOCK_EX)  # or the database would be at work
kept = [entry.path for entry in os.scandir("/source/store") if not is_leftover(entry)]
for start in range(0, len(kept), 5000):
    subprocess.run(["cp", "-a", "-t", "/nix/store", "--", *kept[start : start + 5000]], check=True)
subprocess.run(["cp", "-a", "/source/var/.", "/nix/var"], check=True)
"""


def own_volumes(kind: str = "") -> NixSettings:
    """Return settings that name volumes which nobody else has; they are not made yet."""
    token = f"{os.environ.get(RUN, 'alone')}-{secrets.token_hex(4)}"
    names = {f"{what}_volume": f"cutor-test-{kind}{what}-{token}" for what in ("store", "var")}
    return NixSettings(image=IMAGE, **names)


async def make_store(settings: NixSettings) -> None:
    """Make the volumes of ``settings``, empty ones where they are missing."""
    async with Docker() as docker:
        await volumes.ensure(docker, settings.store_volume, settings.var_volume)
        await volumes.claim(docker, settings.store_volume, settings.var_volume)


async def copy_store(settings: NixSettings, store: str = volumes.STORE, var: str = volumes.VAR) -> None:
    """Make the volumes of ``settings`` as copies of others: those that set-up made (500 MB, 2 s), or a test's."""
    await make_store(settings)
    spec = builder_container(["/usr/bin/python3", "-S", "-E", "-c", COPY], settings)
    spec.body["User"] = "200000:200000"
    for source, target in ((store, "/source/store"), (var, "/source/var")):
        spec.body["HostConfig"]["Mounts"].append({"Type": "volume", "Source": source, "Target": target, "ReadOnly": True})
    async with Engine.connect() as engine:
        child = await engine.start(spec)
        try:
            while await child.receive():
                pass
            state = await child.state()
            assert not state.exit_code, (state, child.stderr_tail)
        finally:
            await child.remove()


async def remove_store(settings: NixSettings) -> None:
    """Remove the volumes of ``settings``, those that are there."""
    async with Docker() as docker:
        for name in (settings.store_volume, settings.var_volume):
            try:
                await DockerVolume(docker, name).delete()
            except DockerError as error:
                if error.status != NOT_FOUND:
                    raise


async def remove_stores_of(run: str) -> None:
    """Remove the volumes of a run of tests that nothing has mounted any more."""
    async with Docker() as docker:
        for volume in (await docker.volumes.list(filters={"name": [f"-{run}-"], "dangling": ["true"]}))["Volumes"] or []:
            if volume["Name"].startswith("cutor-test-"):
                await DockerVolume(docker, volume["Name"]).delete()


Fill = Callable[[NixSettings], Awaitable[None]]


@contextmanager
def lent_store(fill: Fill = make_store) -> Iterator[NixSettings]:
    """Lend a store: an empty one, or with `copy_store` what set-up made. It is removed in the end."""
    settings = own_volumes()
    try:
        asyncio.run(fill(settings))
        yield settings
    finally:
        asyncio.run(remove_store(settings))


@asynccontextmanager
async def lent_store_async(fill: Fill = make_store) -> AsyncIterator[NixSettings]:
    """As `lent_store`, in an event loop."""
    settings = own_volumes()
    try:
        await fill(settings)
        yield settings
    finally:
        await remove_store(settings)


def section(settings: NixSettings, **nix: str | int | list[str]) -> str:
    """Return the section ``[nix]`` of a configuration that uses the volumes of ``settings``; ``nix`` are further settings."""
    values = {"store_volume": settings.store_volume, "var_volume": settings.var_volume} | nix
    return "[nix]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())


def write_config(path: Path, settings: NixSettings, **nix: str | int | list[str]) -> Path:
    """Write a configuration that has this section alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(section(settings, **nix))
    return path


def builder_container(command: list[str], settings: NixSettings) -> ContainerSpec:
    """Return a container like a build's, with another command in it."""
    spec = builder_spec(
        Identity("test-store", secrets.token_hex(6)),
        image=settings.image,
        module=INIT_MODULE,
        resources=Resources(1024 * MIB, 256, 2),
        storage=BuilderStorage(store_volume=settings.store_volume, var_volume=settings.var_volume, extra=(WORK_TMPFS,)),
    )
    spec.body["Cmd"] = command
    return spec


@asynccontextmanager
async def store_container(engine: Engine, command: list[str], settings: NixSettings) -> AsyncIterator[Child]:
    """Run a command as the owner of the store volumes while the block lasts."""
    spec = builder_container(command, settings)
    spec.body["User"] = "200000:200000"
    child = await engine.start(spec)
    try:
        yield child
    finally:
        await child.remove()


async def run_in_store(engine: Engine, script: str, settings: NixSettings) -> str:
    """Run a script of bash in a container with the store volumes, as their owner."""
    async with store_container(engine, ["/usr/bin/bash", "-euc", script], settings) as child:
        printed = b""
        while data := await child.receive():
            printed += data
        state = await child.state()
        assert not state.exit_code, (script, state, child.stderr_tail)
        return printed.decode()

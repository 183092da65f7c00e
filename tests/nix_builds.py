"""Fixtures with real environment builds: a pytest plugin (``pytest_plugins = ["tests.nix_builds"]``).

`builds` makes environments in real build containers, on a copy of the store that set-up made: what tests leave in it, killed
builds among them, goes with the session. A container that a test leaves behind fails it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from aiodocker import Docker
from aiodocker.volumes import DockerVolume
from msgspec.structs import replace

from cutor.containers.engine import Child, Engine
from cutor.containers.errors import EngineUnreachable, ImageMissing
from cutor.containers.host_config import BuilderStorage, ContainerSpec, Identity, Resources, builder_spec
from cutor.model.limits import DEFAULT_LIMITS, MIB, Limit
from cutor.nix.report import BuildReport, Built, BuiltEnvironment, Failed
from cutor.nix.session import INIT_MODULE, WORK_TMPFS, BuildSession, OnProgress
from cutor.nix.settings import NixSettings
from deploy.setup import volumes
from tests.child_image import IMAGE

TEST_KEYS: Final = "7e57"
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
LIMIT: Final = replace(DEFAULT_LIMITS.dependencies.default, wall_time_ms=60_000)


class Builds:
    """Builds environments in containers of one instance, which is this test's own."""

    def __init__(self, engine: Engine, settings: NixSettings) -> None:
        self.engine = engine
        self.instance = f"test-{secrets.token_hex(4)}"
        self.settings = settings

    async def build(
        self, files: str | Mapping[str, str], *, key: str | None = None, on_progress: OnProgress | None = None, **limits: int
    ) -> BuildReport:
        """Build a shell.nix, or files by name, with some limits changed."""
        texts = {"shell.nix": files} if isinstance(files, str) else files
        limit: Limit = replace(LIMIT, **limits)
        async with BuildSession(self.engine, self.settings, instance=self.instance, submission="default/test") as session:
            contents = {name: text.encode(errors="surrogateescape") for name, text in texts.items()}
            return await session.build(key or new_key(), contents, limit, on_progress)

    async def built(self, files: str | Mapping[str, str], **limits: Any) -> BuiltEnvironment:
        """Build what must succeed."""
        report = await self.build(files, **limits)
        assert isinstance(report, Built), report
        return report.environment

    async def failed(self, files: str | Mapping[str, str], **limits: Any) -> Failed:
        """Build what must fail."""
        report = await self.build(files, **limits)
        assert isinstance(report, Failed), report
        return report

    async def in_store(self, script: str) -> str:
        """Run a script of bash as the owner of the store volumes; return what it prints."""
        return await run_in_store(self.engine, script, self.settings)

    @asynccontextmanager
    async def holding(self, command: list[str]) -> AsyncIterator[Child]:
        """Run a command as the owner of the store volumes while the block lasts."""
        async with store_container(self.engine, command, self.settings) as child:
            yield child

    async def containers(self) -> list[str]:
        """Names of the containers that exist."""
        return [container.name for container in await self.engine.list(self.instance)]


def new_key() -> str:
    """Return a key that no other test has."""
    return TEST_KEYS + secrets.token_hex(30)


def variables(environment: BuiltEnvironment) -> dict[str, bytes]:
    """Return captured variables by name."""
    return {name.decode(): value for name, value in environment.variables}


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


async def _set_up() -> str | None:
    """Return what is missing, or null."""
    try:
        async with Engine.connect() as engine:
            await engine.image_labels(IMAGE)
            return None if await engine.volume_labels(NixSettings().packages_volume) else "the package set is missing"
    except (EngineUnreachable, ImageMissing) as error:
        return str(error)


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
    """Remove the volumes of ``settings``."""
    async with Docker() as docker:
        for name in (settings.store_volume, settings.var_volume):
            await DockerVolume(docker, name).delete()


@pytest.fixture(scope="session")
def nix_set_up() -> None:
    """Docker, image and package set; where set-up has not run, a visible skip on a laptop and a failure in CI."""
    if missing := asyncio.run(_set_up()):
        if os.environ.get("CI") == "true":
            pytest.fail(f"{missing}: run make setup")
        pytest.skip(f"{missing}: run make setup")


@pytest.fixture(scope="session")
def nix_settings(nix_set_up: None) -> Iterator[NixSettings]:
    """Settings with a store of the session's own, in which everything that set-up built is there."""
    token = secrets.token_hex(4)
    settings = NixSettings(image=IMAGE, store_volume=f"cutor-test-store-{token}", var_volume=f"cutor-test-var-{token}")
    try:
        asyncio.run(copy_store(settings))
        yield settings
    finally:
        asyncio.run(remove_store(settings))


@pytest.fixture
async def builds(nix_settings: NixSettings) -> AsyncIterator[Builds]:
    """Environment builds; fails the test that leaves a container behind."""
    async with Engine.connect() as engine:
        made = Builds(engine, nix_settings)
        yield made
        left = await made.containers()
        for container in await engine.list(made.instance):
            await engine.remove(container.id)
        assert left == [], "containers were left behind"


@pytest.fixture
async def own_store(builds: Builds) -> AsyncIterator[Builds]:
    """Builds on two empty volumes, which are removed at the end."""
    token = secrets.token_hex(4)
    whole = builds.settings
    builds.settings = replace(whole, store_volume=f"cutor-test-store-{token}", var_volume=f"cutor-test-var-{token}")
    try:
        await make_store(builds.settings)
        yield builds
    finally:
        await remove_store(builds.settings)
        builds.settings = whole

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
from msgspec.structs import replace

from cutor.containers.child import Child
from cutor.containers.engine import Engine
from cutor.containers.errors import EngineUnreachable, ImageMissing
from cutor.containers.host_config import ContainerSpec
from cutor.model.limits import DEFAULT_LIMITS, Limit
from cutor.nix.report import BuildReport, Built, BuiltEnvironment, Failed
from cutor.nix.session import INIT_MODULE, BuildSession, OnProgress
from cutor.nix.settings import NixSettings
from tests.child_image import IMAGE
from tests.stores import Fill, copy_store, lent_store, lent_store_async, make_store, run_in_store, store_container

TEST_KEYS: Final = "7e57"
LIMIT: Final = replace(DEFAULT_LIMITS.dependencies.default, wall_time_ms=60_000)
FOUNDATION: Final = "{ pkgs ? import <nixpkgs> { } }: pkgs.mkShell { }"
LATE: Final = f"""
import sys
sys.path[0] = "/opt/cutor"
from cutor.nix.inside import store_watch
store_watch.INTERVAL_NS = SECONDS * 1_000_000_000
from {INIT_MODULE} import main
main()
"""
"""The init of a build on a machine so busy that it comes to look at the store this seldom."""


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


def look_seldom(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    """Have the inits of builds look at what they add to the store only every so often, and in the end."""
    spec = BuildSession._spec

    def late(session: BuildSession, limit: Limit) -> ContainerSpec:
        made = spec(session, limit)
        made.body["Cmd"] = ["/usr/bin/python3", "-S", "-E", "-c", LATE.replace("SECONDS", str(seconds))]
        return made

    monkeypatch.setattr(BuildSession, "_spec", late)


def new_key() -> str:
    """Return a key that no other test has."""
    return TEST_KEYS + secrets.token_hex(30)


def variables(environment: BuiltEnvironment) -> dict[str, bytes]:
    """Return captured variables by name."""
    return {name.decode(): value for name, value in environment.variables}


async def _set_up() -> str | None:
    """Return what is missing, or null."""
    try:
        async with Engine.connect() as engine:
            await engine.image_labels(IMAGE)
            return None if await engine.volume_labels(NixSettings().packages_volume) else "the package set is missing"
    except (EngineUnreachable, ImageMissing) as error:
        return str(error)


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
    with lent_store(copy_store) as settings:
        yield settings


async def _lay_foundation(settings: NixSettings) -> None:
    """Make the volumes of ``settings``, and build in them what every environment rests on; nothing of it has a root."""
    await make_store(settings)
    async with Engine.connect() as engine:
        builds = Builds(engine, settings)
        built = await builds.built(FOUNDATION, wall_time_ms=600_000, cpu_time_ms=600_000)
        await builds.in_store(f"rm -r /nix/var/nix/gcroots/cutor/{built.key}")


@pytest.fixture(scope="session")
def foundation(nix_set_up: None) -> Iterator[Fill]:
    """What fills a store of a test's own with what every environment rests on, and nothing else.

    It is built once, in volumes of the session's own, and copied: to build it anew takes many times as long.
    """
    with lent_store(_lay_foundation) as settings:

        async def fill(copy: NixSettings) -> None:
            await copy_store(copy, settings.store_volume, settings.var_volume)

        yield fill


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
async def own_store(builds: Builds, foundation: Fill) -> AsyncIterator[Builds]:
    """Builds on volumes of this test's own, in which there is what every environment rests on. They are removed at the end."""
    whole = builds.settings
    async with lent_store_async(foundation) as builds.settings:
        yield builds
    builds.settings = whole


@pytest.fixture
async def empty_store(builds: Builds) -> AsyncIterator[Builds]:
    """Builds on two empty volumes, which are removed at the end."""
    whole = builds.settings
    async with lent_store_async() as builds.settings:
        yield builds
    builds.settings = whole

"""A runner's containers beside an engine that goes away and comes back: none is left, and none is lent that is dead."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from cutor.config import Config
from cutor.containers.engine import Engine
from cutor.containers.errors import ContainerError
from cutor.containers.remedies import DEFAULT_SOCKET
from cutor.containers.settings import DockerSettings
from cutor.process.context import RoleContext
from cutor.roles.runner_containers import RunnerContainer, RunnerContainers
from cutor.roles.settings import RunnerSettings
from cutor.roles.uids import Uids
from tests.child_image import IMAGE
from tests.integration.stage_support import RESOURCES, UID, connected, submission

PATIENCE_S: Final = 180.0


class Line:
    """The way to the engine: `away` cuts what goes over it and lets nothing pass until `back`."""

    def __init__(self) -> None:
        self._open = True
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass a connection on."""
        if not self._open:
            writer.close()
            return
        there_reader, there = await asyncio.open_unix_connection(DEFAULT_SOCKET.removeprefix("unix://"))
        self._writers |= {writer, there}
        await asyncio.gather(self._pass_on(reader, there), self._pass_on(there_reader, writer))
        for one in (writer, there):
            one.close()
            self._writers.discard(one)

    @staticmethod
    async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
            writer.write_eof()

    def away(self) -> None:
        """Cut every connection."""
        self._open = False
        for one in self._writers:
            one.transport.abort()

    def back(self) -> None:
        """Let new ones pass."""
        self._open = True


@asynccontextmanager
async def engine_by(line: Line, path: Path) -> AsyncIterator[Engine]:
    """Connect to the engine by a line that can be cut."""
    async with await asyncio.start_unix_server(line.serve, path), Engine.connect(f"unix://{path}") as engine:
        yield engine


def context_of(data: Path, *, most: int, submissions: int = 1) -> RoleContext:
    """Return the context of a runner of an instance of its own."""
    settings = RunnerSettings(
        uid_base=UID + 50_000, slots=2, pool_minimum=2, pool_maximum=most, submissions_per_container=submissions
    )
    config = Config(docker=DockerSettings(image=IMAGE), runner=settings)
    return RoleContext("", f"pool-{secrets.token_hex(4)}", "w1", config, lambda: None, asyncio.Event(), data=data)


async def ready(containers: RunnerContainers, count: int) -> None:
    """Wait until so many stand ready."""
    async with asyncio.timeout(PATIENCE_S):
        while containers._pool.census().ready != count:
            await asyncio.sleep(0.02)


async def test_an_engine_that_goes_away_takes_what_stood_ready_and_gives_it_back(tmp_path: Path) -> None:
    context, line = context_of(tmp_path, most=2), Line()
    uids = Uids(context.config.runner.uid_base, context.config.runner.uids)
    await uids.reserve()
    async with connected() as direct, engine_by(line, tmp_path / "docker.sock") as engine:
        containers = RunnerContainers(engine, context, uids, RESOURCES)
        async with containers.keeping():
            await ready(containers, 2)
            before = {one.name for one in await direct.list(context.instance)}
            line.away()
            await ready(containers, 0)
            with pytest.raises(ContainerError):
                await containers.lend(RESOURCES)
            line.back()
            container = await _lent(containers)
            await container.session.ready()
            assert container.name not in before
            await containers.give_back(container)
            await ready(containers, 2)
        assert await direct.list(context.instance) == []
    uids.close()


async def _lent(containers: RunnerContainers) -> RunnerContainer:
    """Lend one as soon as the engine can be had again."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(ContainerError):
                return await containers.lend(RESOURCES)
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("after_ms", [0, 5, 50, 150, 300])
async def test_an_end_at_any_moment_of_the_filling_leaves_nothing(tmp_path: Path, after_ms: int) -> None:
    context = context_of(tmp_path, most=4)
    uids = Uids(context.config.runner.uid_base, context.config.runner.uids)
    await uids.reserve()
    async with connected() as engine:
        containers = RunnerContainers(engine, context, uids, RESOURCES)
        async with containers.keeping():
            await asyncio.sleep(after_ms / 1000)
        assert await engine.list(context.instance) == []
    assert len({uids.lend() for _ in range(context.config.runner.uids)}) == context.config.runner.uids, "all are free again"
    uids.close()


async def test_without_a_pool_each_is_made_when_it_is_wanted(tmp_path: Path) -> None:
    context = context_of(tmp_path, most=0)
    assert (context.config.runner.least_ready, context.config.runner.uids) == (0, 2)
    uids = Uids(context.config.runner.uid_base, context.config.runner.uids)
    await uids.reserve()
    async with connected() as engine:
        containers = RunnerContainers(engine, context, uids, RESOURCES)
        async with containers.keeping():
            lent = [await containers.lend(RESOURCES) for _ in range(2)]
            assert [one.made_ahead for one in lent] == [False, False]
            for one in lent:
                await one.session.ready()
                await containers.give_back(one)
            assert [one.labels["cutor.role"] for one in await engine.list(context.instance)] == ["pause"]
        assert await engine.list(context.instance) == []
    uids.close()


async def test_a_container_whose_clearing_meets_a_bug_is_removed_and_its_place_and_uid_are_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def bug() -> None:
        raise ZeroDivisionError("a bug")

    context = context_of(tmp_path, most=2, submissions=100)
    uids = Uids(context.config.runner.uid_base, context.config.runner.uids)
    await uids.reserve()
    async with connected() as engine:
        containers = RunnerContainers(engine, context, uids, RESOURCES)
        async with containers.keeping():
            await ready(containers, 2)
            served = [await containers.lend(RESOURCES) for _ in range(2)]
            for one in served:
                await one.session.hand_over(await submission(engine, {"cutor-run.sh": "exit 0"}))
                monkeypatch.setattr(one.session, "reset", bug)
                await containers.give_back(one, whole=True)
            assert not {one.name for one in served} & {one.name for one in await engine.list(context.instance)}
            assert caplog.text.count("ZeroDivisionError: a bug") == 2
            await ready(containers, 2)
    assert len({uids.lend() for _ in range(context.config.runner.uids)}) == context.config.runner.uids, "all are free again"
    uids.close()

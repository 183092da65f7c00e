"""A container that Docker does not let go keeps no stack from starting; while one is left the end does not pass for orderly."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from cutor.config import Config
from cutor.containers.engine import Engine
from cutor.containers.errors import EngineRefused, EngineUnreachable
from cutor.stack.data import DataDirectory
from cutor.stack.keeper import Orders
from cutor.stack.lock import read_holder
from cutor.stack.supervisor import ContainersLeft, StackSettings, Supervisor
from cutor.stack.sweep import ContainersStuck, remove_containers
from tests.child_image import IMAGE
from tests.integration.stage_support import connected
from tests.integration.test_stack import containers, make_container

PATIENCE_S = 180.0
BUSY = "Docker could not remove a container: device or resource busy (status 500)"
Remove = Callable[[Engine, str], Awaitable[bool]]


@dataclass
class Stubborn:
    """Docker as this process sees it: it does not let go some containers, until it does."""

    remove: Remove
    held: set[str] = field(default_factory=set)
    answer: Callable[[], Exception] | None = lambda: EngineRefused(BUSY)

    async def __call__(self, engine: Engine, container_id: str) -> bool:
        if container_id in self.held:
            if self.answer is None:
                await asyncio.Event().wait()
            else:
                raise self.answer()
        return await self.remove(engine, container_id)


@pytest.fixture
def stubborn(monkeypatch: pytest.MonkeyPatch) -> Stubborn:
    stubborn = Stubborn(Engine.remove)

    async def remove(engine: Engine, container_id: str) -> bool:
        return await stubborn(engine, container_id)

    monkeypatch.setattr(Engine, "remove", remove)
    return stubborn


def left_behind(instance: str, count: int) -> list[str]:
    """Make containers as a dead life's runner leaves them; return them as Docker lists them."""
    for _ in range(count):
        make_container(instance, "runner")
    return containers(instance)


@pytest.mark.parametrize("silent", [False, True])
async def test_all_are_tried_and_what_stays_is_said_in_one_line(stubborn: Stubborn, tmp_path: Path, silent: bool) -> None:
    instance = f"stuck-{secrets.token_hex(4)}"
    async with connected() as engine:
        await asyncio.to_thread(left_behind, instance, 3)
        held = (await engine.list(instance))[0]
        stubborn.held.add(held.id)
        if silent:
            stubborn.answer = None
        why = "nothing within 15 s" if silent else "device or resource busy"
        with pytest.raises(ContainersStuck, match=rf"let go 1 of 3 containers; of {held.name} it says: .*{why}") as raised:
            await remove_containers(engine, instance, tmp_path, within_s=15 if silent else PATIENCE_S)
        assert "\n" not in str(raised.value)
        assert [one.id for one in await engine.list(instance)] == [held.id]
        stubborn.held.clear()
        assert await remove_containers(engine, instance, tmp_path) == 1
        assert await engine.list(instance) == []


async def test_an_engine_that_is_gone_is_said_to_be_gone(stubborn: Stubborn, tmp_path: Path) -> None:
    instance = f"stuck-{secrets.token_hex(4)}"
    async with connected() as engine:
        await asyncio.to_thread(left_behind, instance, 2)
        stubborn.held = {one.id for one in await engine.list(instance)}
        stubborn.answer = lambda: EngineUnreachable("no Docker Engine answers")
        with pytest.raises(EngineUnreachable, match="no Docker Engine answers"):
            await remove_containers(engine, instance, tmp_path)
        stubborn.held.clear()
        assert await remove_containers(engine, instance, tmp_path) == 2


@pytest.mark.parametrize("lets_go", [True, False])
async def test_a_stack_starts_beside_a_container_that_stays(stubborn: Stubborn, tmp_path: Path, lets_go: bool) -> None:
    """A runner's, of a stack that has no runner now, so that only its start and its end see to it."""
    data = DataDirectory(tmp_path / "data")
    data.prepare()
    instance = data.make_instance()
    raw = f'[docker]\nimage = "{IMAGE}"\n[nix]\nimage = "{IMAGE}"\n'.encode()
    config = msgspec.toml.decode(raw, type=Config)
    await asyncio.to_thread(left_behind, instance, 2)
    async with connected() as engine:
        stubborn.held.add(held := (await engine.list(instance))[0].id)
    orders, said = Orders(), list[str]()

    def serves(_ready: object) -> None:
        if lets_go:
            stubborn.held.clear()
        orders.stop.set()

    settings = StackSettings(data, config, raw, tmp_path / "current.json", roles=["builder"])
    stack = Supervisor(settings, orders, lambda _process, line: said.append(line.decode()))
    async with asyncio.timeout(2 * PATIENCE_S):
        if lets_go:
            await stack.run(serves)
        else:
            with pytest.raises(ContainersLeft, match=r"device or resource busy.*`cutor down --data .*` removes them"):
                await stack.run(serves)
    (line,) = [line for line in said if "left behind by a former life of this stack" in line]
    assert "let go 1 of 2 containers" in line
    async with connected() as engine:
        assert [one.id for one in await engine.list(instance)] == ([] if lets_go else [held])
        assert (read_holder(data.lock) is None) == lets_go, "an orderly end"
        stubborn.held.clear()
        await remove_containers(engine, instance, tmp_path)


async def test_a_life_that_is_stopped_before_it_serves_leaves_what_stays_to_the_next(
    stubborn: Stubborn, tmp_path: Path
) -> None:
    data = DataDirectory(tmp_path / "data")
    data.prepare()
    instance = data.make_instance()
    raw = f'[docker]\nimage = "{IMAGE}"\n[nix]\nimage = "{IMAGE}"\n'.encode()
    await asyncio.to_thread(left_behind, instance, 1)
    async with connected() as engine:
        stubborn.held.add((await engine.list(instance))[0].id)
    orders = Orders()

    def show(_process: str, line: bytes) -> None:
        if b"left behind by a former life of this stack" in line:
            orders.stop.set()

    settings = StackSettings(data, msgspec.toml.decode(raw, type=Config), raw, tmp_path / "current.json", roles=["builder"])
    async with asyncio.timeout(2 * PATIENCE_S):
        await Supervisor(settings, orders, show).run(lambda _ready: None)
    assert read_holder(data.lock) is not None
    stubborn.held.clear()
    async with connected() as engine:
        assert await remove_containers(engine, instance, tmp_path) == 1

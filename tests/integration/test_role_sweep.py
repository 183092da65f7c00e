"""What a role's start does about containers of a dead life that Docker does not let go."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import pytest

from cutor.config import Config
from cutor.containers.engine import Engine
from cutor.containers.errors import EngineRefused
from cutor.containers.host_config import Identity, runner_spec
from cutor.containers.settings import DockerSettings
from cutor.model.subjects import Address
from cutor.nix.settings import NixSettings
from cutor.nix.store_session import StoreSession
from cutor.roles.context import RoleContext
from cutor.roles.private import PrivateEnvironments, releasing
from cutor.roles.runner import RunStep
from cutor.roles.settings import RunnerSettings
from cutor.roles.slots import Slots
from cutor.roles.sweep import NOTHING, sweeping
from tests.integration.stage_support import IMAGE, RESOURCES, STORAGE, UID, connected

GONE, STUCK = Address("default", "gone"), Address("default", "stuck")


async def leave(engine: Engine, instance: str, *addresses: Address, uid: int = UID) -> None:
    """Start containers as a runner that dies leaves them."""
    for address in addresses:
        identity = Identity(instance, secrets.token_hex(6), str(address))
        await engine.start(runner_spec(identity, image=IMAGE, uid=uid, resources=RESOURCES, storage=STORAGE))


async def test_one_that_cannot_be_removed_keeps_nobody_from_serving(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said, the rest goes on, and it is removed as soon as Docker lets it go."""
    instance = f"sweep-{secrets.token_hex(4)}"
    async with connected() as engine:
        await leave(engine, instance, GONE, GONE, STUCK, STUCK)
        held = next(one.id for one in await engine.list(instance) if one.labels["cutor.submission"] == str(STUCK))
        remove, holds = engine.remove, True

        async def refused(container_id: str) -> bool:
            if holds and container_id == held:
                raise EngineRefused("Docker could not remove a container: device or resource busy (status 500)")
            return await remove(container_id)

        monkeypatch.setattr(engine, "remove", refused)
        async with sweeping(engine, instance, "runner") as swept:
            (stuck,) = swept.stuck
            assert (swept.gone, stuck.address, stuck.uid) == (frozenset({GONE}), STUCK, UID)
            assert swept.holds(STUCK)
            assert not swept.holds(GONE)
            assert [one.id for one in await engine.list(instance)] == [held]
            holds = False
            async with asyncio.timeout(180):
                while await engine.list(instance):
                    await asyncio.sleep(0.05)
                await stuck.removal
            assert not swept.holds(STUCK)
    (said,) = [record.message for record in caplog.records if "can't be removed, it is tried again meanwhile" in record.message]
    assert "device or resource busy" in said


async def test_a_runner_lends_the_uid_of_a_stuck_container_only_once_it_is_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    instance, uid = f"sweep-{secrets.token_hex(4)}", UID + 20_000
    runner = RunnerSettings(uid_base=uid, slots=1)
    config = Config(docker=DockerSettings(image=IMAGE), runner=runner)
    context = RoleContext("", instance, "w1", config, lambda: None, asyncio.Event(), data=tmp_path)
    async with connected() as engine:
        await leave(engine, instance, STUCK, uid=uid)
        remove, holds = engine.remove, True

        async def refused(container_id: str) -> bool:
            if holds:
                raise EngineRefused("Docker could not remove a container: device or resource busy (status 500)")
            return await remove(container_id)

        monkeypatch.setattr(engine, "remove", refused)
        async with sweeping(engine, instance, "runner") as swept:
            private = PrivateEnvironments(None, "runner", "w1", releasing(engine, context, "runner"))
            step = RunStep(context, engine, private, swept)
            await step.check()
            with step._slots.uid() as lent:
                assert lent == uid + 1
            other = Slots(uid, 1)
            await other.claim()
            with other.uid() as others:
                assert others == uid + 2
            holds = False
            async with asyncio.timeout(180):
                await swept.stuck[0].removal
            other.close()
            await asyncio.sleep(0)
            await other.claim()
            with other.uid() as others:
                assert others == uid
            for slots in (other, step._slots):
                slots.close()


async def test_a_removal_without_an_answer_is_left_to_the_next_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("cutor.roles.sweep.REMOVE_S", 0.2)
    instance = f"sweep-{secrets.token_hex(4)}"
    async with connected() as engine:
        await leave(engine, instance, STUCK)
        remove = engine.remove

        async def silent(_container_id: str) -> bool:
            await asyncio.Event().wait()
            return False

        monkeypatch.setattr(engine, "remove", silent)
        async with sweeping(engine, instance, "runner") as swept:
            assert swept.gone == frozenset()
            assert swept.holds(STUCK)
        assert swept.holds(STUCK), "given up is not gone"
        (left,) = await engine.list(instance)
        await remove(left.id)
    assert any("Docker took more than 0.2 s" in record.message for record in caplog.records)


async def test_nothing_is_left_of_nothing() -> None:
    async with connected() as engine, sweeping(engine, f"sweep-{secrets.token_hex(4)}", "builder") as swept:
        assert swept == NOTHING


async def test_a_role_removes_what_a_command_of_any_stack_left_that_was_killed() -> None:
    """Such as `cutor env cache-key`, which belongs to no stack; one that is at work keeps its container."""
    async with connected() as engine:
        children = []
        for _ in range(2):
            settings = NixSettings(image=IMAGE)
            session = StoreSession(engine, settings, instance=f"command-{secrets.token_hex(4)}", user="command")
            children.append(await session._start(session._spec()))
        killed, living = children
        try:
            await killed.close_stdin()
            async with asyncio.timeout(180):
                while (await killed.state()).running:
                    await asyncio.sleep(0.05)
            assert (await killed.state()).exists
            async with sweeping(engine, f"sweep-{secrets.token_hex(4)}", "builder") as swept:
                assert swept.stuck == ()
                assert not (await killed.state()).exists
                assert (await living.state()).running
        finally:
            for child in children:
                await child.remove()

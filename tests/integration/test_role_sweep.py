"""What a role's start does about containers of a dead life that Docker does not let go."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import pytest

from cutor.config import Config
from cutor.containers.engine import Engine
from cutor.containers.errors import EngineRefused
from cutor.containers.host_config import Identity, builder_spec, runner_spec, use_mark
from cutor.containers.settings import DockerSettings
from cutor.model.subjects import Address
from cutor.nix.settings import NixSettings
from cutor.nix.store_session import StoreSession
from cutor.process.context import RoleContext
from cutor.roles.private import PrivateEnvironments, releasing
from cutor.roles.runner import RunStep
from cutor.roles.settings import RunnerSettings
from cutor.roles.sweep import NOTHING, sweeping
from cutor.roles.uids import Uids
from tests.integration.stage_support import IMAGE, RESOURCES, STORAGE, UID, connected

IN_HAND, OTHER = Address("default", "in-hand"), Address("default", "other")


async def leave(engine: Engine, instance: str, count: int = 1, uid: int = UID) -> None:
    """Start containers as a runner that dies leaves them, and mark what it used."""
    for _ in range(count):
        identity = Identity(instance, secrets.token_hex(6))
        await engine.start(runner_spec(identity, image=IMAGE, uid=uid, resources=RESOURCES, storage=STORAGE))
    await engine.make_volume(use_mark(Identity(instance, secrets.token_hex(6)), STORAGE.store_volume, secrets.token_hex(32)))


async def test_one_that_cannot_be_removed_keeps_nobody_from_serving(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said, the rest goes on, and it is removed as soon as Docker lets it go."""
    instance = f"sweep-{secrets.token_hex(4)}"
    async with connected() as engine:
        await leave(engine, instance, 3)
        held = (await engine.list(instance))[0].id
        remove, holds = engine.remove, True

        async def refused(container_id: str) -> bool:
            if holds and container_id == held:
                raise EngineRefused("Docker could not remove a container: device or resource busy (status 500)")
            return await remove(container_id)

        monkeypatch.setattr(engine, "remove", refused)
        async with sweeping(engine, instance, "runner") as found:
            (stuck,) = found.stuck
            swept = found._replace(in_hand=frozenset({IN_HAND}))
            assert (swept.gone, stuck.address, stuck.uid) == (frozenset(), None, UID)
            assert (swept.holds(IN_HAND), swept.holds(OTHER)) == (True, False)
            assert swept.may_hold() == {IN_HAND}
            assert [one.id for one in await engine.list(instance)] == [held]
            assert len(await engine.marks(instance)) == 1, "something may run in it"
            holds = False
            async with asyncio.timeout(180):
                while await engine.list(instance):
                    await asyncio.sleep(0.05)
                await stuck.removal
            assert not swept.holds(IN_HAND)
            async with asyncio.timeout(180):
                while await engine.marks(instance):
                    await asyncio.sleep(0.05)
    (said,) = [record.message for record in caplog.records if "can't be removed, it is tried again meanwhile" in record.message]
    assert "device or resource busy" in said


async def test_a_runner_lends_the_uid_of_a_stuck_container_only_once_it_is_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    instance, uid = f"sweep-{secrets.token_hex(4)}", UID + 20_000
    runner = RunnerSettings(uid_base=uid, slots=1, pool_maximum=0)
    config = Config(docker=DockerSettings(image=IMAGE), runner=runner)
    context = RoleContext("", instance, "w1", config, lambda: None, asyncio.Event(), data=tmp_path)
    async with connected() as engine:
        await leave(engine, instance, uid=uid)
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
            with step._uids.uid() as lent:
                assert lent == uid + 1
            other = Uids(uid, 1)
            await other.reserve()
            with other.uid() as others:
                assert others == uid + 2
            holds = False
            async with asyncio.timeout(180):
                await swept.stuck[0].removal
                while await engine.marks(instance):
                    await asyncio.sleep(0.05)
            other.close()
            await asyncio.sleep(0)
            await other.reserve()
            with other.uid() as others:
                assert others == uid
            for uids in (other, step._uids):
                uids.close()


async def test_a_removal_without_an_answer_is_left_to_the_next_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("cutor.roles.sweep.REMOVE_S", 0.2)
    instance = f"sweep-{secrets.token_hex(4)}"
    async with connected() as engine:
        await leave(engine, instance)
        remove = engine.remove

        async def silent(_container_id: str) -> bool:
            await asyncio.Event().wait()
            return False

        monkeypatch.setattr(engine, "remove", silent)
        async with sweeping(engine, instance, "runner") as found:
            swept = found._replace(in_hand=frozenset({IN_HAND}))
            assert swept.gone == frozenset()
            assert swept.holds(IN_HAND)
        assert swept.holds(IN_HAND), "given up is not gone"
        for mark in await engine.marks(instance):
            await engine.remove_volume(mark.name)
        (left,) = await engine.list(instance)
        await remove(left.id)
    assert any("Docker took more than 0.2 s" in record.message for record in caplog.records)


async def test_what_a_builder_left_says_whom_it_served() -> None:
    instance = f"sweep-{secrets.token_hex(4)}"
    async with connected() as engine:
        identity = Identity(instance, secrets.token_hex(6), str(IN_HAND))
        await engine.start(builder_spec(identity, image=IMAGE, module="cutor.nix.inside.build_init", resources=RESOURCES))
        async with sweeping(engine, instance, "builder") as swept:
            assert (swept.gone, swept.stuck) == (frozenset({IN_HAND}), ())
            assert await engine.list(instance) == []


async def test_marks_of_a_life_that_died_go_with_it_and_those_of_others_stay() -> None:
    instance, other = (f"sweep-{secrets.token_hex(4)}" for _ in range(2))
    async with connected() as engine:
        await leave(engine, instance)
        await leave(engine, other, 0)
        async with sweeping(engine, instance, "builder"):
            assert (len(await engine.list(instance)), len(await engine.marks(instance))) == (1, 1)
        async with sweeping(engine, instance, "runner") as swept:
            assert swept == NOTHING
            assert (await engine.list(instance), await engine.marks(instance)) == ([], [])
        (left,) = await engine.marks(other)
        assert await engine.remove_volume(left.name)
        assert not await engine.remove_volume(left.name)


async def test_a_mark_that_docker_does_not_remove_is_tried_again_while_the_role_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else takes it for dead meanwhile: its instance lives."""
    monkeypatch.setattr("cutor.roles.sweep.REMOVE_S", 0.2)
    instance = f"sweep-{secrets.token_hex(4)}"
    async with connected() as engine:
        await leave(engine, instance, 0)
        await leave(engine, instance, 0)
        held = (await engine.marks(instance))[0].name
        remove, holds = engine.remove_volume, True

        async def refused(name: str) -> bool:
            if holds and name == held:
                raise EngineRefused("Docker could not remove volume: device or resource busy (status 500)")
            return await remove(name)

        monkeypatch.setattr(engine, "remove_volume", refused)
        async with sweeping(engine, instance, "runner") as swept, asyncio.timeout(180):
            assert swept == NOTHING
            while [one.name for one in await engine.marks(instance)] != [held]:
                await asyncio.sleep(0.05)
            holds = False
            while await engine.marks(instance):
                await asyncio.sleep(0.05)


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

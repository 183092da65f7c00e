"""Containers that a runner makes ahead: each serves one submission; what dies is replaced; none is left."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import pytest

from cutor import Client
from cutor.containers.engine import Engine
from cutor.containers.labels import ENVIRONMENT_LABEL
from cutor.model.limits import MIB
from cutor.nix.settings import NixSettings
from cutor.roles.collections import runs_in
from tests import served
from tests.bare_stack import User
from tests.integration.live_submissions import PATIENCE_S, cleaned, document
from tests.integration.test_killed_roles import process_of
from tests.live_stack import PATIENT
from tests.stores import section

CONFIG: Final = """
[builder]
slots = 1
[runner]
slots = 2
uid_base = 520000
pool_minimum = 2
pool_maximum = 3
"""
WAITS: Final = "while [ ! -e /nowhere ]; do sleep 0.1; done"
T = TypeVar("T")


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory, nix_settings: NixSettings) -> Iterator[User]:
    """A stack whose runner has a pool; its uids and port are its own."""
    user = User(tmp_path_factory.mktemp("pooled"))
    config = user.home / "config.toml"
    config.write_text(CONFIG + section(nix_settings) + PATIENT)
    started = user.up("--config", str(config), roles=("builder", "runner", "projector"))
    assert started.returncode == 0, started.stderr
    try:
        yield user
        instance = user.stack.instance
        assert user.down().returncode == 0
        assert asyncio.run(left_of(instance)) == ([], [])
    finally:
        user.down()


async def left_of(instance: str) -> tuple[list[str], list[str]]:
    """Return what Docker has of a stack: containers and marks, by name."""
    async with Engine.connect() as engine:
        return [one.name for one in await engine.list(instance)], [one.name for one in await engine.marks(instance)]


async def containers(user: User) -> set[str]:
    """Return the ids of the runner's containers, idle or not."""
    async with Engine.connect() as engine:
        return {one.id for one in await engine.list(user.stack.instance) if one.labels["cutor.role"] == "runner"}


async def marked(user: User) -> list[str]:
    """Return the keys of environments that the runner says it uses."""
    async with Engine.connect() as engine:
        return [one.labels[ENVIRONMENT_LABEL] for one in await engine.marks(user.stack.instance)]


async def ready(user: User, least: int = 2) -> set[str]:
    """Return the ids of containers of which so many stand ready, where nothing is served."""

    async def enough() -> set[str]:
        found = await containers(user)
        return found if len(found) >= least else set()

    return await until(enough)


async def until(found: Callable[[], Awaitable[T]]) -> T:
    """Return what is looked for once it is there."""
    end = time.monotonic() + PATIENCE_S
    while not (there := await found()):
        assert time.monotonic() < end, there
        await asyncio.sleep(0.05)
    return there


async def serving(identity: str, *, but: str = "") -> str:
    """Return the container that serves a submission."""

    async def found() -> list[str]:
        return [one for one in await asyncio.to_thread(served.containers, identity, "label=cutor.role=runner") if one != but]

    (container,) = await until(found)
    return container


@asynccontextmanager
async def client_of(user: User) -> AsyncIterator[Client]:
    async with Client(user.stack.server) as client:
        yield client


def endless() -> dict[str, Any]:
    return document(WAITS, limits={"run": {"wall_time_ms": 120_000}})


async def test_each_submission_has_a_container_that_was_made_ahead_and_that_nobody_had_before(pooled: User) -> None:
    async with client_of(pooled) as client:
        used: list[str] = []
        for _ in range(3):
            standing = await ready(pooled)
            identity = (await client.submit(endless())).id
            container = await serving(identity)
            assert container in standing
            assert container not in used
            used.append(container)
            keys = await marked(pooled)
            await client.cancel(identity)
            ended = await cleaned(client, identity)
            assert ended.environment is not None
            assert keys == [ended.environment.key]
            assert container not in await containers(pooled)
        assert not await ready(pooled) & set(used)


async def test_a_mark_goes_once_nothing_was_in_its_environment_for_a_while(pooled: User) -> None:
    async with client_of(pooled) as client, Engine.connect() as engine:
        await client.result((await client.submit(document("true"))).id, wait=True, timeout_s=PATIENCE_S)

        async def given_back() -> bool:
            return not await engine.marks(pooled.stack.instance)

        await until(given_back)


async def test_limits_are_each_submissions_own(pooled: User) -> None:
    """Less than containers are made with, and more; other numbers of processes in compile and run."""
    files = {"cutor-compile.sh": "echo compiled > made"}
    needs = "exec python3 -c 'print(len(bytearray({} << 20)))'"
    async with client_of(pooled) as client:
        for run, limits, outcome in (
            (needs.format(100), {"run": {"memory_bytes": 64 * MIB}}, "MLE"),
            (needs.format(40), {"run": {"memory_bytes": 64 * MIB}}, "OK"),
            (needs.format(600), {"run": {"memory_bytes": 768 * MIB}}, "OK"),
        ):
            await ready(pooled)
            ended = await client.result(
                (await client.submit(document(run, files=files, limits=limits))).id, wait=True, timeout_s=PATIENCE_S
            )
            assert [stage.outcome for stage in ended.run] == [outcome], ended
            assert ended.attempts.runner == 1


async def test_what_dies_while_it_waits_is_replaced_and_costs_no_submission_anything(pooled: User) -> None:
    async with client_of(pooled) as client, Engine.connect() as engine:
        dead = await ready(pooled)
        await asyncio.gather(*(engine.remove(one) for one in dead))
        ended = await client.result((await client.submit(document("echo alive"))).id, wait=True, timeout_s=PATIENCE_S)
        assert (ended.outcome, ended.attempts.runner) == ("OK", 1), ended
        assert not await ready(pooled) & dead


async def paused(user: User) -> set[str]:
    """Make all containers of a runner that serves nothing stand still; return their ids."""
    async with Engine.connect() as engine:

        async def all_of_them() -> set[str]:
            runners = [one for one in await engine.list(user.stack.instance) if one.labels["cutor.role"] == "runner"]
            for one in runners:
                if one.state == "running":  # it may be about to be removed
                    await asyncio.to_thread(subprocess.run, ["docker", "pause", one.id], check=False, capture_output=True)
            return {one.id for one in runners} if {one.state for one in runners} == {"paused"} else set()

        return await until(all_of_them)


async def test_what_stands_still_while_it_waits_costs_a_submission_seconds_and_no_attempt(pooled: User) -> None:
    """The five that it is given: nothing else tells it from one that works."""
    async with client_of(pooled) as client, Engine.connect() as engine:
        await ready(pooled)
        still = await paused(pooled)
        ended = await client.result((await client.submit(document("echo alive"))).id, wait=True, timeout_s=PATIENCE_S)
        assert (ended.outcome, ended.attempts.runner) == ("OK", 1), ended
        await asyncio.gather(*(engine.remove(one) for one in still))
        assert not await ready(pooled) & still


async def test_more_at_once_than_stand_ready_are_all_served(pooled: User) -> None:
    async with client_of(pooled) as client:
        identities = [(await client.submit(document(f"echo {number}"))).id for number in range(8)]
        most = 0
        for identity in identities:
            ended = await client.result(identity, wait=True, timeout_s=PATIENCE_S)
            assert ended.outcome == "OK"
            most = max(most, len(await containers(pooled)))
        assert most <= 2 + 3 + 2, "slots, the pool at its largest, and those of them that are being removed"


async def test_a_runner_that_is_killed_leaves_no_container_and_no_mark_and_its_submission_ends(pooled: User) -> None:
    async with client_of(pooled) as client, Engine.connect() as engine:
        standing = await ready(pooled)
        identity = (await client.submit(endless())).id
        container = await serving(identity)
        marks = {one.name for one in await engine.marks(pooled.stack.instance)}
        assert len(marks) == 1
        pid = process_of("runner", pooled.stack.data)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        again = await serving(identity, but=container)
        assert again not in standing
        assert not marks & {one.name for one in await engine.marks(pooled.stack.instance)}, "those of its former life"
        await client.cancel(identity)
        ended = await cleaned(client, identity)
        assert (ended.status, ended.attempts.runner) == ("CANCELLED", 2)
        assert not await ready(pooled) & (standing | {container}), "those of its former life"


def test_a_stop_while_the_pool_fills_leaves_nothing(user: User) -> None:
    """A role is ready before its pool is."""
    for _ in range(2):
        assert user.up(roles=("runner",)).returncode == 0
        instance = user.stack.instance
        assert user.down().returncode == 0
        assert asyncio.run(left_of(instance)) == ([], [])


async def test_a_mark_is_seen_by_who_asks_for_runs_of_its_store(pooled: User, nix_settings: NixSettings) -> None:
    async with client_of(pooled) as client, Engine.connect() as engine:
        identity = (await client.submit(endless())).id
        await serving(identity)
        (key,) = await marked(pooled)
        assert key in (await runs_in(engine, nix_settings.store_volume)).values()
        assert await runs_in(engine, "cutor-no-store") == {}
        await client.cancel(identity)
        await cleaned(client, identity)

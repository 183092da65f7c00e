"""Containers that a runner makes ahead: each serves one submission, seen by its name; what dies is replaced; none is left."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from cutor import Client
from cutor.containers.engine import Engine
from cutor.containers.host_config import served_submission, used_environment
from cutor.model.limits import MIB
from cutor.nix.settings import NixSettings
from tests.bare_stack import User
from tests.integration.live_submissions import PATIENCE_S, cleaned, document
from tests.integration.test_killed_roles import process_of
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


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory, nix_settings: NixSettings) -> Iterator[User]:
    """A stack whose runner has a pool; its uids and port are its own."""
    user = User(tmp_path_factory.mktemp("pooled"))
    config = user.home / "config.toml"
    config.write_text(CONFIG + section(nix_settings))
    started = user.up("--config", str(config), roles=("builder", "runner", "projector"))
    assert started.returncode == 0, started.stderr
    try:
        yield user
        assert user.down().returncode == 0
        assert asyncio.run(containers(user)) == []
    finally:
        user.down()


async def containers(user: User) -> list[tuple[str, str | None, str | None]]:
    """Return the runner's containers: id, the submission that each serves, the key of its environment."""
    async with Engine.connect() as engine:
        found = [one for one in await engine.list(user.stack.instance) if one.labels["cutor.role"] == "runner"]
    return [(one.id, served_submission(one.name, one.labels), used_environment(one.name, one.labels)) for one in found]


async def ready(user: User, least: int = 2) -> set[str]:
    """Return the ids of containers that stand ready, once there are so many."""
    found = await until(user, lambda all_of_them: sum(serves is None for _, serves, _ in all_of_them) >= least)
    return {one for one, serves, _ in found if serves is None}


Found = list[tuple[str, str | None, str | None]]


async def until(user: User, holds: Callable[[Found], bool]) -> Found:
    end = time.monotonic() + PATIENCE_S
    while not holds(found := await containers(user)):
        assert time.monotonic() < end, found
        await asyncio.sleep(0.05)
    return found


async def serving(user: User, identity: str) -> tuple[str, str | None]:
    """Return the container that serves a submission, and the key by which a collection sees its environment in use."""
    found = await until(user, lambda all_of_them: any(serves == f"default/{identity}" for _, serves, _ in all_of_them))
    return next((one, key) for one, serves, key in found if serves == f"default/{identity}")


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
            container, key = await serving(pooled, identity)
            assert container in standing
            assert container not in used
            used.append(container)
            await client.cancel(identity)
            ended = await cleaned(client, identity)
            assert ended.environment is not None
            assert ended.environment.key == key
            assert container not in {one for one, _, _ in await containers(pooled)}
        standing = await ready(pooled)
        assert not standing & set(used)


async def test_limits_are_each_submissions_own(pooled: User) -> None:
    """Less than containers are made with, and more; other numbers of processes in compile and run."""
    needs = "exec python3 -c 'print(len(bytearray({} << 20)))'"
    async with client_of(pooled) as client:
        for run, limits, outcome in (
            (needs.format(100), {"run": {"memory_bytes": 64 * MIB}}, "MLE"),
            (needs.format(40), {"run": {"memory_bytes": 64 * MIB}}, "OK"),
            (needs.format(600), {"run": {"memory_bytes": 768 * MIB}}, "OK"),
        ):
            await ready(pooled)
            more = {"files": {"cutor-compile.sh": "echo compiled > made"}, "limits": limits}
            ended = await client.result((await client.submit(document(run, **more))).id, wait=True, timeout_s=PATIENCE_S)
            assert [stage.outcome for stage in ended.run] == [outcome], ended
            assert ended.attempts.runner == 1


async def test_what_dies_while_it_waits_is_replaced_and_costs_no_submission_anything(pooled: User) -> None:
    async with client_of(pooled) as client, Engine.connect() as engine:
        dead = await ready(pooled)
        await asyncio.gather(*(engine.remove(one) for one in dead))
        ended = await client.result((await client.submit(document("echo alive"))).id, wait=True, timeout_s=PATIENCE_S)
        assert (ended.outcome, ended.attempts.runner) == ("OK", 1), ended
        assert not await ready(pooled) & dead


async def test_more_at_once_than_stand_ready_are_all_served(pooled: User) -> None:
    async with client_of(pooled) as client:
        identities = [(await client.submit(document(f"echo {number}"))).id for number in range(8)]
        most = 0
        for identity in identities:
            ended = await client.result(identity, wait=True, timeout_s=PATIENCE_S)
            assert ended.outcome == "OK"
            most = max(most, len(await containers(pooled)))
        assert most <= 2 + 3 + 2, "slots, the pool at its largest, and those of them that are being removed"


async def test_a_runner_that_is_killed_leaves_no_container_and_its_submission_ends(pooled: User) -> None:
    async with client_of(pooled) as client:
        standing = await ready(pooled)
        identity = (await client.submit(endless())).id
        container, _ = await serving(pooled, identity)
        pid = process_of("runner", pooled.stack.data)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        again, _ = await serving_anew(pooled, identity, container)
        assert again not in standing
        await client.cancel(identity)
        ended = await cleaned(client, identity)
        assert (ended.status, ended.attempts.runner) == ("CANCELLED", 2)
        await ready(pooled)
        left = {one for one, _, _ in await containers(pooled)}
        assert not left & (standing | {container}), "those of its former life"


async def serving_anew(user: User, identity: str, former: str) -> tuple[str, str | None]:
    wanted = f"default/{identity}"
    found = await until(user, lambda now: any(serves == wanted and one != former for one, serves, _ in now))
    return next((one, key) for one, serves, key in found if serves == wanted and one != former)

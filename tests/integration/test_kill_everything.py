"""SIGKILL of a whole stack at once, again and again, while submissions come: what was acknowledged is there, and ends once.

Supervisor, server and every role die in the same moment, and containers are left as they are. The embedded default is enough
for that: what a server has written survives its death, though not a power failure (docs/explanation/durability.md).
"""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cutor import Client, CutorError
from cutor.bus.connection import Bus
from cutor.stack.lock import is_free, read_holder
from tests.bare_stack import User
from tests.containers import container_ids
from tests.fault.history import EVENTS, History
from tests.fault.invariants import Expected, check, check_ids
from tests.fault.views import differences
from tests.ports import free_port
from tests.processes import descendants, kill

KILLS = 3
SEED = 20
PATIENCE_S = 240.0
RUN = {
    "files": [
        {"name": "shell.nix", "content": "{ pkgs ? import <nixpkgs> { } }: pkgs.mkShell { }"},
        {"name": "cutor-run.sh", "content": "sleep 0.2; cat"},
    ],
    "test_cases": [{"input": f"{number}\n", "expected_output": f"{number}\n"} for number in range(3)],
}
MAX_LEASES = 3 + KILLS
ENDED = Expected(runs=("OK",) * 3, max_leases=MAX_LEASES)


def kill_all(user: User) -> int:
    """SIGKILL every process of a stack, stopped first so that none sees another one die; returns how many there were."""
    holder = read_holder(user.stack.data / "lock")
    assert holder is not None
    pids = [holder.pid, *descendants(holder.pid)]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            kill(pid, number)
    return len(pids)


def containers(user: User) -> list[str]:
    """Every container of the stack, running or not, and every mark of an environment."""
    mine = f"label=cutor={user.stack.instance}"
    volumes = ["docker", "volume", "ls", "-q", "--filter", mine]
    return container_ids(mine) + subprocess.run(volumes, capture_output=True, text=True, check=True).stdout.split()


async def until(true: Callable[[], bool]) -> None:
    """Return when it is so, or patience is over: the test then looks at it."""
    deadline = time.monotonic() + PATIENCE_S
    while not true() and time.monotonic() < deadline:
        await asyncio.sleep(0.05)


async def more_than(before: int, acknowledged: list[str], loading: asyncio.Task[None]) -> None:
    await until(lambda: len(acknowledged) > before or loading.done())


async def hand_in(server: str, acknowledged: list[str], failures: list[str], stop: asyncio.Event) -> None:
    """Submit, one after the other; one that was not acknowledged is handed in again under its id until it is."""
    for number in itertools.count():
        identity = f"s{number}"
        while not stop.is_set():
            try:
                async with Client(server) as client:
                    await client.submit(RUN, id=identity)
                    acknowledged.append(identity)
                    break
            except CutorError as error:
                failures.append(str(error))
                await asyncio.sleep(0.1)
        if stop.is_set():
            return
        await asyncio.sleep(0.4)


async def start(user: User, port: int) -> None:
    started = await asyncio.to_thread(user.up, "--port", str(port), roles=["builder", "runner", "projector"])
    assert started.returncode == 0, started.stderr


@pytest.mark.timeout(600)
async def test_what_was_acknowledged_ends_once_however_often_everything_is_killed(user: User) -> None:
    moments, port = random.Random(SEED), free_port("127.0.0.1")
    acknowledged: list[str] = []
    failures: list[str] = []
    stop = asyncio.Event()
    configuration = Path(user.stack.environment["XDG_CONFIG_HOME"]) / "cutor" / "config.toml"
    configuration.parent.mkdir(parents=True)
    configuration.write_text(f"max_leases = {MAX_LEASES}\n")  # on a slow machine each kill takes one of the same work
    await start(user, port)
    loading = asyncio.create_task(hand_in(user.stack.server, acknowledged, failures, stop))
    await until(lambda: len(acknowledged) > 0)
    for kills in range(KILLS):
        await asyncio.sleep(moments.uniform(0.5, 4.0))
        assert kill_all(user) >= 5, "supervisor, server, three roles"
        await until(lambda: is_free(user.stack.data / "lock"))
        before, known = len(acknowledged), set(containers(user))
        await start(user, port)
        assert not known & set(containers(user)), "what the dead life left was removed"
        await more_than(before, acknowledged, loading)
        assert len(acknowledged) > before, (kills, failures[-3:])
    stop.set()
    await loading
    async with Bus.connect(user.stack.server, name="test") as bus:
        await check_ended(bus, acknowledged)
        assert await differences(bus, user.stack.data / "projections.duckdb") == []
    assert (await asyncio.to_thread(user.down)).returncode == 0
    assert containers(user) == []


async def check_ended(bus: Bus, acknowledged: list[str]) -> None:
    """Every one of them comes to one end, to the right one, and leaves no event twice."""
    history = History()

    async def follow() -> None:
        async for stored in bus.read(EVENTS, follow=True):
            await history.take(stored)

    following = asyncio.create_task(follow())
    try:
        assert await history.until_done(acknowledged, timeout_s=PATIENCE_S) == []
    finally:
        following.cancel()
    assert {identity: found for identity in acknowledged if (found := check(history.entries[identity], ENDED))} == {}
    assert check_ids(history.message_ids) == []
    assert len(acknowledged) > KILLS

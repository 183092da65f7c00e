"""A runner that has work and is killed or stopped, on a real stack: its next life takes the work up, or cleans up, at once."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cutor import Client
from cutor.bus.topology import default_text
from cutor.bus.topology_promises import HEARTBEAT_S
from cutor.model.events import Cleaned, Leased
from cutor.model.subjects import Address
from tests.bare_stack import User
from tests.integration.live_submissions import cleaned
from tests.integration.test_killed_processes import PATIENCE_S, SLOW_RUN, leased, until
from tests.processes import outermost, pids
from tests.served import containers

ENDLESS_RUN = SLOW_RUN | {
    "files": [
        {"name": "shell.nix", "content": "{ pkgs ? import <nixpkgs> { } }: pkgs.mkShell { }"},
        {"name": "cutor-run.sh", "content": "sleep 100"},
    ],
    "limits": {"run": {"wall_time_ms": 110_000}},
}


def process_of(role: str, data: Path) -> int | None:
    """Return the pid of a stack's role process."""
    return next(iter(outermost(pids(command=f"\0{role}\0--data\0{data}\0".encode()))), None)


@asynccontextmanager
async def stack_with(user: User, *roles: str) -> AsyncIterator[Client]:
    """A stack that lets nothing finish at its shutdown, and in which no lease runs out by itself while a test lasts."""
    config, streams = user.home / "config.toml", user.home / "streams.yaml"
    streams.write_text(default_text().replace("ack_wait: 30s", "ack_wait: 10m"))
    config.write_text(f'shutdown_grace_s = 0\n[server]\nstreams = "{streams}"\n')
    started = await asyncio.to_thread(user.up, "--config", str(config), roles=roles)
    assert started.returncode == 0, started.stderr
    async with Client(user.stack.server) as client:
        yield client


async def running(client: Client, user: User, document: dict[str, object]) -> tuple[str, int]:
    """Hand in, wait until the runner's container is there; return the id and the runner's pid."""
    receipt = await client.submit(document)
    await leased(client, receipt.id)
    await until(lambda: containers(receipt.id))
    pid = process_of("runner", user.stack.data)
    assert pid is not None
    return receipt.id, pid


async def runner_leases(client: Client, identity: str) -> list[float]:
    """Return when a runner took a lease, by the stream's own times."""
    entries = await client.journal.entries(Address("default", identity))
    found = [one for one in entries if isinstance(one.message, Leased) and one.message.lease.role == "runner"]
    return [one.stored.time_ns / 1e9 for one in found]


async def test_work_of_a_killed_runner_is_taken_up_before_its_lease_has_run_out(user: User) -> None:
    async with stack_with(user, "builder", "runner") as client:
        identity, pid = await running(client, user, SLOW_RUN)
        os.kill(pid, signal.SIGKILL)
        killed_at = time.time()
        result = await cleaned(client, identity)
        assert (result.outcome, result.attempts.runner) == ("OK", 2)
        leases = await runner_leases(client, identity)
        assert await asyncio.to_thread(containers, identity) == []
    after_s = leases[1] - killed_at
    print(f"the second lease came {after_s:.1f} s after the kill")
    in_hand = user.stack.data / "in-hand" / "runner"
    await until(lambda: not any(in_hand.iterdir()))


async def test_a_submission_that_was_cancelled_while_its_runner_died_is_cleaned_by_the_next_life(user: User) -> None:
    async with stack_with(user, "builder", "runner") as client:
        identity, pid = await running(client, user, ENDLESS_RUN)
        os.kill(pid, signal.SIGSTOP)
        assert await client.cancel(identity)
        os.kill(pid, signal.SIGKILL)
        await cleaned(client, identity)
        assert await asyncio.to_thread(containers, identity) == []
        entries = await client.journal.entries(Address("default", identity))
    (said,) = [one.message for one in entries if isinstance(one.message, Cleaned)]
    assert said.by == "sweep"
    kinds = [one.stored.subject.rpartition(".")[2] for one in entries]
    assert kinds == ["submitted", "leased", "cache-built", "leased", "cancelled", "cleaned"]


@pytest.mark.parametrize("stands_still", [False, True])
async def test_a_runner_removes_its_container_once_another_has_its_lease(user: User, stands_still: bool) -> None:
    """The lease is taken by hand, as by a worker of another host: while the runner works, or while it is stopped."""
    async with stack_with(user, "builder", "runner") as client:
        identity, pid = await running(client, user, ENDLESS_RUN)
        address = Address("default", identity)
        if stands_still:
            os.kill(pid, signal.SIGSTOP)
        state = await client.journal.known(address)
        assert state.lease is not None
        other = Leased(lease=type(state.lease)(role="runner", worker="elsewhere", token="elsewhere", number=2))
        await client.journal.settle(state, lambda _state: other)
        if stands_still:
            await asyncio.sleep(HEARTBEAT_S + 2)
            assert containers(identity) != []
            os.kill(pid, signal.SIGCONT)
        could_know_at = time.monotonic()
        await until(lambda: containers(identity) == [])
        print(f"the container was gone {time.monotonic() - could_know_at:.2f} s after the runner could know")
        state = await client.journal.known(address)
        assert (state.lease, state.status, state.strays) == (other.lease, "DEPENDENCIES_INSTALLED", 0)
        assert process_of("runner", user.stack.data) == pid, "the role goes on"
        assert await client.cancel(identity)


async def test_what_down_hands_back_is_taken_up_when_the_stack_is_up_again(user: User) -> None:
    """The server ends and begins again in between: it must have the hand-back on disk."""
    async with stack_with(user, "builder", "runner") as client:
        identity, _ = await running(client, user, ENDLESS_RUN)
    down_at = time.time()
    assert (await asyncio.to_thread(user.down)).returncode == 0
    async with stack_with(user, "builder", "runner") as client:
        async with asyncio.timeout(PATIENCE_S):
            while len(leases := await runner_leases(client, identity)) < 2:
                await asyncio.sleep(0.1)
        after_s = leases[1] - down_at
        print(f"the second lease came {after_s:.1f} s after `cutor down` was asked for")
        assert await client.cancel(identity)
        await cleaned(client, identity)

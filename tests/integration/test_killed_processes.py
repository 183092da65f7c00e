"""SIGKILL of what no attack reaches: the supervisor while it has work, and the process of one query."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cutor import Client
from cutor.bus.connection import Bus
from cutor.projections.errors import QueryError
from cutor.projections.query_client import query
from cutor.stack.lock import is_free, read_holder
from tests.bare_stack import User
from tests.integration.projecting import projector
from tests.nats_server import OwnServer

PATIENCE_S = 60.0
ENDLESS = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r"
SLOW_RUN = {
    "files": [
        {"name": "shell.nix", "content": "{ pkgs ? import <nixpkgs> { } }: pkgs.mkShell { }"},
        {"name": "cutor-run.sh", "content": "sleep 2; echo done"},
    ],
    "test_cases": [{"expected_output": "done\n"}],
}


async def until(true: Callable[[], object]) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.05)


def runs_a_query(pid: str) -> bool:
    """Tell whether a process runs a projector's queries; one that has ended does not."""
    try:
        return b"query_worker.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def query_processes() -> list[int]:
    """Return the pids of the processes that run the queries of a projector in this process."""
    found = []
    for task in Path(f"/proc/{os.getpid()}/task").iterdir():
        with contextlib.suppress(OSError):  # the thread has ended
            found += [int(pid) for pid in (task / "children").read_text().split() if runs_a_query(pid)]
    return found


async def test_who_asked_is_told_of_a_killed_query_and_the_next_is_answered(
    own_server: OwnServer, own_bus: Bus, tmp_path: Path
) -> None:
    async with projector(own_server.url, tmp_path / "views.duckdb"):
        asked = asyncio.create_task(query(own_bus, ENDLESS, timeout_s=PATIENCE_S))
        await until(query_processes)
        for pid in query_processes():
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(QueryError, match="the query was stopped"):
            await asked
        assert (await query(own_bus, "SELECT 6 * 7")).rows == [[42]]
        assert query_processes() == []


async def leased(client: Client, identity: str) -> None:
    """Return once a runner works on a submission."""
    async for update in client.watch(identity):
        if update.kind == "leased" and update.what.startswith("runner"):
            return


@pytest.mark.timeout(300)  # the dead runner's lease runs out first
async def test_a_submission_outlives_a_killed_supervisor_and_ends_after_the_next_start(user: User) -> None:
    lock, roles = user.stack.data / "lock", ["builder", "runner"]
    assert (await asyncio.to_thread(user.up, roles=roles)).returncode == 0
    async with Client(user.stack.server) as client:
        receipt = await client.submit(SLOW_RUN)
        await leased(client, receipt.id)
        supervisor = read_holder(lock)
    assert supervisor is not None
    os.kill(supervisor.pid, signal.SIGKILL)
    await until(lambda: is_free(lock))
    assert (await asyncio.to_thread(user.up, roles=roles)).returncode == 0
    async with Client(user.stack.server) as client:
        result = await client.result(receipt.id, wait=True, timeout_s=120)
    assert (result.outcome, [stage.outcome for stage in result.run]) == ("OK", ["OK"])
    assert result.attempts.runner == 2

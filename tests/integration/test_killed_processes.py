"""SIGKILL of what no attack reaches: the supervisor while it has work, and the process of one query."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cutor import Client
from cutor.bus.connection import Bus
from cutor.projections.errors import QueryError, QueryTimeout, QueryUnavailable
from cutor.projections.queries.client import query
from cutor.stack.lock import is_free, read_holder
from tests.bare_stack import User
from tests.integration.projecting import projector
from tests.nats_server import OwnServer
from tests.processes import command_of, descendants, kill, name_of

PATIENCE_S = 180.0
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


def processes(name: str) -> list[int]:
    """Return the pids of those of this process's projector that have a name; ``query`` is one that runs a question."""
    return [pid for pid in descendants(os.getpid()) if name_of(pid) == name]


@pytest.mark.parametrize("name", ["query", "query-views", "query-start"])
async def test_who_asked_is_told_of_a_killed_query_and_the_next_is_answered(
    own_server: OwnServer, own_bus: Bus, tmp_path: Path, name: str
) -> None:
    async with projector(own_server.url, tmp_path / "views.duckdb"):
        asked = asyncio.create_task(query(own_bus, ENDLESS, timeout_s=PATIENCE_S))
        await until(lambda: processes("query"))
        assert [kill(pid) for pid in processes(name)]
        with pytest.raises(QueryError, match="the query was stopped"):
            await asked
        assert (await query(own_bus, "SELECT 6 * 7")).rows == [[42]]
        await until(lambda: not processes("query"))


async def test_a_killed_query_service_comes_back_and_leaves_no_process(
    own_server: OwnServer, own_bus: Bus, tmp_path: Path
) -> None:
    async with projector(own_server.url, tmp_path / "views" / "views.duckdb"):
        asked = asyncio.create_task(query(own_bus, ENDLESS, timeout_s=PATIENCE_S))
        await until(lambda: processes("query"))
        [service] = [pid for pid in descendants(os.getpid()) if any("queries.process" in word for word in command_of(pid))]
        former = [service, *descendants(service)]
        assert len(former) == len(["the service", "query-start", "query-views", "query"])
        kill(service)
        await until(lambda: not any(map(command_of, former)))
        asked.cancel()
        await answered(own_bus)
    assert sorted(path.name for path in (tmp_path / "views").iterdir()) == ["views.duckdb", "views.duckdb.lock"]


async def answered(bus: Bus) -> None:
    """Return once questions are answered; one that went to the dead service, before the server knew, is in vain."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            assert (await query(bus, "SELECT 6 * 7", 1.0)).rows == [[42]]
        except (QueryUnavailable, QueryTimeout):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        else:
            return


async def leased(client: Client, identity: str) -> None:
    """Return once a runner works on a submission."""
    async for update in client.watch(identity):
        if update.kind == "leased" and update.what.startswith("runner"):
            return


async def test_a_submission_outlives_a_killed_supervisor_and_ends_after_the_next_start(user: User) -> None:
    lock, roles = user.stack.data / "lock", ["builder", "runner"]
    assert (await asyncio.to_thread(user.up, roles=roles)).returncode == 0
    async with Client(user.stack.server) as client:
        receipt = await client.submit(SLOW_RUN)
        await leased(client, receipt.id)
        supervisor = read_holder(lock)
    assert supervisor is not None
    kill(supervisor.pid)
    await until(lambda: is_free(lock))
    assert (await asyncio.to_thread(user.up, roles=roles)).returncode == 0
    async with Client(user.stack.server) as client:
        result = await client.result(receipt.id, wait=True, timeout_s=240)
    assert (result.outcome, [stage.outcome for stage in result.run]) == ("OK", ["OK"])
    assert result.attempts.runner == 2

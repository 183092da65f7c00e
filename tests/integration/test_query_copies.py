"""Copies of the views for queries, with processes that hold them which die."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from cutor.cli.checks.answers import judge
from cutor.projections.queries import executors
from cutor.projections.queries.copies import ATTEMPTS, Copies
from cutor.projections.queries.executors import Executors, ExecutorsGone, Holder
from cutor.projections.queries.link import LINE_BYTES, Held, Hold, Link
from cutor.projections.store import Store

DIES = """
import os, socket
control = socket.socket(fileno=0)
while True:
    packet, descriptors, _, _ = socket.recv_fds(control, 65536, 1)
    if not packet:
        break
    with socket.socket(fileno=descriptors[0]) as holder:
        holder.sendall(b'{"as_of": []}')
"""
"""Starts processes that open a copy, say so, and are gone."""


CONFINED = """
import sys
sys.path.insert(0, sys.argv.pop())
import executor

def refused(directory):
    raise PermissionError

executor.os.chroot = refused
executor.CLONE_NEWUSER = -1
executor.main()
"""
"""Where the kernel allows neither."""


@pytest.mark.parametrize("allowed", [True, False], ids=["allowed", "not allowed"])
async def test_a_holder_says_whether_it_is_shut_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: bool) -> None:
    """And a question sees the path of the copy where it is not."""
    database, program = tmp_path / "views.duckdb", tmp_path / "confined.py"
    Store.open(database).close()
    if not allowed:
        program.write_text(CONFINED.replace("sys.argv.pop()", repr(str(executors._PROGRAM.parent))))
        monkeypatch.setattr(executors, "_PROGRAM", program)
    started = Executors.start()
    try:
        holder = await started.hold(database, 0)
        assert holder.is_shut_in is allowed
        answer = await holder.ask("SELECT path FROM duckdb_databases() WHERE path IS NOT NULL", {}, rows=1, time_s=60)
        [[path]] = json.loads(answer)["rows"]
        assert (judge(path) is None) is allowed
        holder.retire()
    finally:
        started.end()


@asynccontextmanager
async def copied(database: Path, held: Callable[[], Held]) -> AsyncIterator[Copies]:
    """Copies of a file of views, made beside a projector that lets its log be copied as ``held`` says."""
    ours, theirs = socket.socketpair()
    link = Link(*await asyncio.open_connection(sock=ours, limit=LINE_BYTES))
    projector = Link(*await asyncio.open_connection(sock=theirs, limit=LINE_BYTES))

    async def hold() -> None:
        while True:
            if isinstance(await projector.hear(), Hold):
                await projector.send(held())

    holding = asyncio.create_task(hold())
    copies = Copies(link, database)
    try:
        async with asyncio.timeout(180):
            yield copies
    finally:
        holding.cancel()
        await copies.close()
        link.close()
        projector.close()


ROWS: Final = 300_000


@pytest.mark.parametrize("at_once", [False, True], ids=["later", "in the same tick of the clock"])
@pytest.mark.parametrize("reused", [False, True], ids=["behind the file's end", "in its gaps"])
async def test_a_copy_has_what_a_large_commit_wrote_past_the_log(tmp_path: Path, reused: bool, at_once: bool) -> None:
    """DuckDB writes whole groups of rows to the file itself, before the next checkpoint, and names their blocks in the log."""
    database = tmp_path / "views.duckdb"
    store = Store.open(database)
    change = store._connection.execute
    versions = itertools.count(1)

    def held() -> Held:
        wal_bytes = store.begin_copy()
        store.end_copy()  # nothing is committed while this copy is made
        return Held(version=(0, next(versions)), inode=database.stat().st_ino, wal_bytes=wal_bytes)

    if reused:
        change(f"CREATE TABLE gone AS SELECT hash(i) AS number FROM range({ROWS}) AS _(i)")
        change("CHECKPOINT")
        change("DROP TABLE gone")
        change("CHECKPOINT")
    changed_ns = time.time_ns() if at_once else 10**18
    os.utime(database, ns=(changed_ns, changed_ns))
    async with copied(database, held) as copies:
        await copies.current(0.0)
        change(f"CREATE TABLE large AS SELECT hash(i + 1) AS number FROM range({ROWS}) AS _(i)")
        if at_once:
            os.utime(database, ns=(changed_ns, changed_ns))
        holder = await copies.current(0.0)
        question = "SELECT count(*), sum(number)::VARCHAR FROM large"
        answer = await holder.ask(question, {}, rows=1, time_s=60)
        assert json.loads(answer)["rows"] == [list(change(question).fetchall()[0])]
    store.close()


async def test_a_copy_whose_holder_always_dies_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, database = tmp_path / "dies.py", tmp_path / "views.duckdb"
    program.write_text(DIES)
    monkeypatch.setattr(executors, "_PROGRAM", program)
    hold_copy = Executors.hold

    async def hold_and_die(self: Executors, snapshot: Path, views_bytes: int) -> Holder:
        holder = await hold_copy(self, snapshot, views_bytes)
        while holder.alive:
            await asyncio.sleep(0.01)
        return holder

    monkeypatch.setattr(Executors, "hold", hold_and_die)
    Store.open(database).close()
    holds = 0

    def held() -> Held:
        nonlocal holds
        holds += 1
        return Held(inode=database.stat().st_ino)

    async with copied(database, held) as copies:
        with pytest.raises(ExecutorsGone, match="dies again and again"):
            await copies.current(0.0)
        assert holds == ATTEMPTS

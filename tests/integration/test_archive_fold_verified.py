"""Verifying a sealed fold finds what is wrong with it, and nothing else: no log beside it, no full disk, nobody else's work."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import threading
from pathlib import Path

import duckdb
import pytest

from cutor.projections.archive import fold_verification
from cutor.projections.archive.fold_copy import checked
from cutor.projections.archive.fold_verification import verify_fold
from cutor.projections.archive.place import sha256_of
from cutor.projections.archive.sealed_fold import SealedFold
from cutor.projections.errors import ViewsUnwritable
from cutor.projections.rebuilds.compare import Compared
from tests.integration.test_archive import seal_all
from tests.integration.test_archive_fold import EVERYTHING, Folded, folded, sealed

__all__ = ["folded", "sealed"]


async def test_a_log_beside_it_puts_nothing_right(folded: Folded) -> None:
    path = folded.path
    with duckdb.connect(path) as connection:
        connection.execute("CREATE TABLE kept AS SELECT sequence, worker FROM events WHERE worker IS NOT NULL")
        connection.execute("UPDATE events SET worker = 'x' WHERE worker IS NOT NULL")
    connection = duckdb.connect(path)
    connection.execute("PRAGMA disable_checkpoint_on_shutdown")
    connection.execute("SET checkpoint_threshold = '1TB'")
    connection.execute("UPDATE events SET worker = kept.worker FROM kept WHERE kept.sequence = events.sequence")
    connection.execute("DROP TABLE kept")
    connection.close()
    wal = path.with_name(f"{path.name}.wal")
    assert wal.exists()
    folded.write(sha256=sha256_of(path), file_bytes=path.stat().st_size)
    foreign = f"{wal}: it is none of cutor's files; remove it"
    assert (await verify_fold(folded.archive)).faults == [foreign]
    scratch = folded.directory / "scratch"
    scratch.mkdir()
    found = await verify_fold(folded.archive, scratch)
    assert [len(found.faults), foreign in found.faults] == [2, True]
    assert wal.exists()


async def test_one_that_is_brought_on_meanwhile_is_no_fault(folded: Folded, monkeypatch: pytest.MonkeyPatch) -> None:
    await seal_all(folded.bus, folded.archive, EVERYTHING)

    async def brought_on(path: Path, fold: SealedFold) -> None:
        monkeypatch.undo()
        await folded.seal()
        await checked(path, fold)

    before = folded.fold()
    monkeypatch.setattr(fold_verification, "checked", brought_on)
    found = await verify_fold(folded.archive)
    assert found.faults == []
    assert found.fold == folded.fold() != before


async def test_no_room_is_no_fault_and_who_interrupts_ends_it(folded: Folded, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = folded.directory / "scratch"
    scratch.mkdir()
    usage = shutil.disk_usage(scratch)
    with monkeypatch.context() as small:
        small.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
        with pytest.raises(ViewsUnwritable, match="verifying the fold wants"):
            await verify_fold(folded.archive, scratch)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as small:
        small.setattr(os, "write", full)
        with pytest.raises(ViewsUnwritable, match="No space left"):
            await verify_fold(folded.archive, scratch)
    began, loop, stopped = asyncio.Event(), asyncio.get_running_loop(), threading.Event()

    def endless(_: Compared) -> object:
        loop.call_soon_threadsafe(began.set)
        assert stopped.wait(180)
        raise duckdb.InterruptException

    monkeypatch.setattr(Compared, "stop", lambda _: stopped.set())
    monkeypatch.setattr(Compared, "compare", endless)
    work = asyncio.create_task(verify_fold(folded.archive, scratch))
    await began.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert stopped.is_set()

"""Views that are made anew: beside a file that goes on answering, in its place, and never half."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from cutor.bus.connection import Bus
from cutor.bus.service import NobodyServes
from cutor.projections.errors import ProjectorBusy, RebuildFailed, ViewsUnwritable
from cutor.projections.folds import batches, tail
from cutor.projections.folds.batch import Batch
from cutor.projections.queries.client import query
from cutor.projections.rebuilds.client import order_rebuild
from cutor.projections.rebuilds.orders import RebuildReport
from cutor.projections.rebuilds.rebuild import FreshViews, Progress, Rebuilt, rebuild, rebuild_in_place
from cutor.projections.rebuilds.service import RebuildService
from cutor.projections.views_file import check_room, draft_of, held
from cutor.projections.views_paths import wal_path
from cutor.projections.writer import Writer
from tests.full_disk import no_file_longer_than
from tests.integration.projecting import FINISHED, happen, happen_to_many, projector, until
from tests.integration.test_projections_projector import VIEWS, differences
from tests.nats_server import OwnServer

MANY = 40


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*.duckdb*"))


async def test_a_rebuilt_file_equals_the_one_that_followed(own_server: OwnServer, own_bus: Bus, tmp_path: Path) -> None:
    followed, rebuilt, part = (tmp_path / f"{name}.duckdb" for name in ("followed", "rebuilt", "part"))
    async with projector(own_server.url, followed):
        await happen_to_many(own_bus, MANY, "r")
        await own_bus.publish("cutor.ev.default.r1.leased", b"\xff not an event")
        count = MANY * len(FINISHED) + 1
        await until(own_bus, "SELECT max(sequence) FROM events", count)
    told: list[Progress] = []
    done = await rebuild(own_bus, rebuilt, tell=told.append)
    assert differences(followed, rebuilt) == dict.fromkeys((*VIEWS, "checkpoint"), 0)
    assert (done.positions, done.messages) == ({"EVENTS": count, "ENVIRONMENTS": 0}, count)
    assert (told[-1].sequence, told[-1].last, told[-1].messages) == (count, count, count)
    done = await rebuild(own_bus, part, until={"EVENTS": 10, "ENVIRONMENTS": 0})
    assert done.positions == {"EVENTS": 10, "ENVIRONMENTS": 0}
    assert names(tmp_path) == ["followed.duckdb", "followed.duckdb.lock", "part.duckdb", "rebuilt.duckdb"]


async def test_a_projector_that_is_far_behind_catches_up_in_bulk(
    own_server: OwnServer, own_bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cutor.projections.projector.BULK_FROM", 100)
    behind, rebuilt = tmp_path / "behind.duckdb", tmp_path / "rebuilt.duckdb"
    await happen_to_many(own_bus, MANY, "b")
    await own_bus.publish("cutor.ev.default.b1.leased", b"\xff not an event")
    async with projector(own_server.url, behind):
        last = await happen(own_bus, "later", *FINISHED)
        await until(own_bus, "SELECT max(sequence) FROM events", last)
    await rebuild(own_bus, rebuilt)
    assert differences(behind, rebuilt) == dict.fromkeys((*VIEWS, "checkpoint"), 0)


async def test_a_rebuild_that_cannot_be_is_one_line_and_leaves_nothing(own_bus: Bus, tmp_path: Path) -> None:
    await happen(own_bus, "only", *FINISHED)
    with pytest.raises(RebuildFailed, match="EVENTS ends at 7, before the 99"):
        await rebuild(own_bus, tmp_path / "past.duckdb", until={"EVENTS": 99})
    there = tmp_path / "there.duckdb"
    there.write_text("mine")
    with pytest.raises(RebuildFailed, match="there is a file already"):
        await rebuild(own_bus, there)
    assert there.read_text() == "mine"

    class Interrupted(Exception):
        pass

    def interrupt(_: Progress) -> None:
        raise Interrupted

    def lose(_: Progress) -> None:
        (tmp_path / "lost.duckdb").unlink()

    with pytest.raises(RebuildFailed, match="the file was removed or replaced"):
        await rebuild(own_bus, tmp_path / "lost.duckdb", tell=lose)

    with pytest.raises(Interrupted):
        await rebuild(own_bus, tmp_path / "interrupted.duckdb", tell=interrupt)
    assert names(tmp_path) == ["there.duckdb"]


async def test_a_long_stream_is_read_while_the_file_is_made(
    own_bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "FED_FROM", 10)
    await happen_to_many(own_bus, MANY, "r")
    make, read, comes, breaks = Writer.make, tail.read_batches, asyncio.Event(), OSError("no file")

    async def reading(*span: Any) -> AsyncIterator[Batch]:
        async with aclosing(read(*span)) as found:
            async for batch in found:
                comes.set()
                yield batch

    async def make_once_it_comes(writer: Writer) -> None:
        async with asyncio.timeout(60):
            await comes.wait()
        await make(writer)

    async def break_once_it_comes(writer: Writer) -> None:
        await make_once_it_comes(writer)
        raise breaks

    monkeypatch.setattr(tail, "read_batches", reading)
    monkeypatch.setattr(Writer, "make", make_once_it_comes)
    done = await rebuild(own_bus, tmp_path / "whole.duckdb")
    assert done.messages == MANY * len(FINISHED)
    comes.clear()
    monkeypatch.setattr(Writer, "make", break_once_it_comes)
    with pytest.raises(OSError, match="no file"):
        await rebuild(own_bus, tmp_path / "broken.duckdb")
    assert [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("read ")] == []
    assert names(tmp_path) == ["whole.duckdb"]


async def test_without_a_projector_the_file_itself_is_made_anew(own_bus: Bus, tmp_path: Path) -> None:
    path = tmp_path / "views.duckdb"
    path.write_bytes(b"damaged")
    await happen(own_bus, "only", *FINISHED)
    with pytest.raises(NobodyServes):
        await order_rebuild(own_bus, lambda _: None)
    with held(path), pytest.raises(ProjectorBusy):
        await rebuild_in_place(own_bus, path)
    assert path.read_bytes() == b"damaged"
    done = await rebuild_in_place(own_bus, path)
    assert done.messages == len(FINISHED)
    assert names(tmp_path) == ["views.duckdb", "views.duckdb.lock"]


async def test_a_living_projector_swaps_while_events_come_and_answers_all_the_time(
    own_server: OwnServer, own_bus: Bus, tmp_path: Path
) -> None:
    """No answer has less than one before it, none fails, and in the end the file is that of a projector that never rebuilt."""
    path, untouched = tmp_path / "views.duckdb", tmp_path / "untouched.duckdb"
    await happen_to_many(own_bus, MANY, "before")
    async with projector(own_server.url, path):
        await until(own_bus, "SELECT count(*) FROM events", MANY * len(FINISHED))
        inode = path.stat().st_ino
        counts: list[int] = []

        async def ask() -> None:
            while True:
                counts.append((await query(own_bus, "SELECT count(*) FROM events")).rows[0][0])

        asking = asyncio.create_task(ask())
        happening = asyncio.create_task(happen_to_many(own_bus, MANY, "during"))
        reports: list[RebuildReport] = []
        done = await order_rebuild(own_bus, reports.append)
        await happening
        await until(own_bus, "SELECT count(*) FROM events", 2 * MANY * len(FINISHED))
        assert not asking.done() or asking.result()
        asking.cancel()
        assert counts == sorted(counts)
        assert done.state == "done"
        assert done.positions["EVENTS"] >= MANY * len(FINISHED)
        assert path.stat().st_ino != inode
    await rebuild(own_bus, untouched)
    assert differences(path, untouched) == dict.fromkeys((*VIEWS, "checkpoint"), 0)
    assert names(tmp_path) == ["untouched.duckdb", "views.duckdb", "views.duckdb.lock"]


async def test_new_views_that_cannot_be_put_in_place_cost_nothing(own_bus: Bus, tmp_path: Path) -> None:
    """The old file is open again, and is that which was; what was made is removed."""
    path = tmp_path / "views.duckdb"
    await happen(own_bus, "only", *FINISHED)
    await rebuild_in_place(own_bus, path)
    inode, writer, reached = path.stat().st_ino, Writer(path), False
    await writer.open()
    try:
        async with FreshViews.making(own_bus, draft_of(path)) as fresh:
            await fresh.fold_to({"EVENTS": 3})
            await fresh.finish()
            with pytest.raises(RebuildFailed, match="the old ones stay"):
                await writer.replace_by(tmp_path / "not there")
            assert (writer.checkpoint("EVENTS").sequence, path.stat().st_ino) == (len(FINISHED), inode)
            await writer.note_wait("EVENTS", None)
            reached = True
            raise RebuildFailed("as who swaps is told")
    except RebuildFailed:
        pass
    finally:
        await writer.close()
    assert reached
    assert names(tmp_path) == ["views.duckdb", "views.duckdb.lock"]


async def test_one_that_is_called_off_or_forgotten_leaves_nothing(
    own_bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has come as far as the swap, and waits there: until then nothing has touched the old file."""
    await happen(own_bus, "only", *FINISHED)
    at_the_swap = asyncio.Event()

    async def swap(fresh: FreshViews) -> Rebuilt:
        assert fresh.path.exists()
        at_the_swap.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with RebuildService(own_bus, tmp_path / "views.duckdb", swap):
        ordered = asyncio.create_task(order_rebuild(own_bus, lambda _: None))
        await at_the_swap.wait()
        with pytest.raises(RebuildFailed, match="already"):
            await order_rebuild(own_bus, lambda _: None)
        ordered.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ordered
        assert names(tmp_path) == []
        monkeypatch.setattr("cutor.projections.rebuilds.service.PATIENCE_S", 0.1)
        with pytest.raises(RebuildFailed, match="does not answer any more"):
            await order_rebuild(own_bus, lambda _: None)
        assert names(tmp_path) == []
        monkeypatch.undo()
        ordered = asyncio.create_task(order_rebuild(own_bus, lambda _: None))
        at_the_swap.clear()
        await at_the_swap.wait()
    assert names(tmp_path) == []
    with pytest.raises(RebuildFailed, match="does not answer any more"):
        await ordered


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Writer]:
    writer = Writer(path)
    try:
        await writer.open()
        yield writer
    finally:
        await writer.close()


async def test_a_full_disk_costs_no_views(own_bus: Bus, tmp_path: Path) -> None:
    """Where nothing can be made, a commit cannot be written, or worked into the file; and where the old file is opened."""
    path = tmp_path / "views.duckdb"
    await happen_to_many(own_bus, MANY, "f")
    await rebuild_in_place(own_bus, path)
    whole = path.stat().st_ino
    for size_bytes in (1000, 30_000, 300_000, 700_000):
        with no_file_longer_than(size_bytes), pytest.raises((ViewsUnwritable, RebuildFailed)):
            await rebuild_in_place(own_bus, path)
        assert names(tmp_path) == ["views.duckdb", "views.duckdb.lock"]
        assert path.stat().st_ino == whole
    killed = tmp_path / "killed.duckdb"
    async with opened(path) as writer:
        with no_file_longer_than(0), pytest.raises(ViewsUnwritable):
            await writer.note_wait("EVENTS", "not noted")
    async with opened(path) as writer:
        await writer.note_wait("EVENTS", "noted")
        for one, other in ((path, killed), (wal_path(path), wal_path(killed))):
            shutil.copyfile(one, other)
    with no_file_longer_than(0), suppress(ViewsUnwritable):
        async with opened(killed):
            pass
    async with opened(killed) as writer:
        assert (writer.checkpoint("EVENTS").sequence, writer.waits_for("EVENTS")) == (MANY * len(FINISHED), "noted")
    assert names(tmp_path) == ["killed.duckdb", "views.duckdb", "views.duckdb.lock"]


async def test_a_rebuild_wants_room_for_the_views_once_more(tmp_path: Path) -> None:
    path = tmp_path / "views.duckdb"
    path.touch()
    os.truncate(path, shutil.disk_usage(tmp_path).total)
    with pytest.raises(RebuildFailed, match="make room there"):
        check_room(path)

"""The writer's log: worked in beside commits, bounded beside a copy, and what hinders it is told."""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from cutor.bus.bulk.columns import Columns
from cutor.model.subjects import EVENTS
from cutor.projections.errors import ViewsRejected, ViewsUnwritable
from cutor.projections.folds.batches import batch_of
from cutor.projections.store import Store
from cutor.projections.views_paths import wal_path
from cutor.projections.writer import Writer
from tests.bench.lives import Made, lives
from tests.integration.projecting import PATIENCE_S

SHORT_BYTES = 4096
"""A bound that a few commits reach."""


@pytest.fixture
async def writer(tmp_path: Path) -> AsyncIterator[Writer]:
    writer = Writer(tmp_path / "views.duckdb")
    await writer.open()
    yield writer
    await writer.close()


def log_bytes(writer: Writer) -> int:
    path = wal_path(writer.path)
    return path.stat().st_size if path.exists() else 0


def by_messages(writer: Writer, messages: list[Made]) -> asyncio.Task[None]:
    return asyncio.create_task(writer.apply(EVENTS, messages))


def by_batch(writer: Writer, messages: list[Made]) -> asyncio.Task[None]:
    return asyncio.create_task(writer.apply_batch(EVENTS, batch_of(EVENTS, Columns.of(messages))))


async def finished(task: asyncio.Task[None]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await task


@pytest.mark.parametrize("commit", [by_messages, by_batch])
async def test_who_writes_waits_for_a_copy_once_the_log_is_at_its_bound(
    writer: Writer, commit: Callable[[Writer, list[Made]], asyncio.Task[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    messages, longest_bytes = [*lives(400)], log_bytes(writer) + 20_000
    monkeypatch.setattr("cutor.projections.writer.LONGEST_LOG_BYTES", longest_bytes)
    async with writer.copying():
        await finished(commit(writer, messages[:1]))
        waits = commit(writer, messages[1:300])
        while writer.checkpoint(EVENTS).sequence < 300:
            await writer.settle()
        done, _ = await asyncio.wait([waits], timeout=0.1)
        assert not done, "it waits for the copy"
        assert log_bytes(writer) > longest_bytes
    await finished(waits)
    assert log_bytes(writer) <= longest_bytes
    await finished(commit(writer, messages[300:]))


async def test_a_short_log_lets_commits_go_on_beside_a_copy(writer: Writer) -> None:
    async with writer.copying():
        await finished(by_messages(writer, [*lives(300)]))
    assert writer.checkpoint(EVENTS).sequence == 300


class Held:
    """Keeps `Store.work_in_beside` under way until it is let go; then it does its work, or fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()
        self.error: Exception | None = None
        self.times = 0
        original = Store.work_in_beside

        def work_in_beside(store: Store) -> None:
            self.times += 1
            self.begun.set()
            assert self.go.wait(PATIENCE_S)
            if self.error is not None:
                raise self.error
            original(store)

        monkeypatch.setattr(Store, "work_in_beside", work_in_beside)
        monkeypatch.setattr("cutor.projections.write_ahead_log.LOG_BYTES", SHORT_BYTES)


async def test_the_log_is_worked_in_once_at_a_time_while_commits_go_on(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    held, messages = Held(monkeypatch), [*lives(300)]
    await finished(by_messages(writer, messages[:200]))
    assert await asyncio.to_thread(held.begun.wait, PATIENCE_S)
    for message in messages[200:]:
        await finished(by_messages(writer, [message]))
    assert held.times == 1
    copy = asyncio.create_task(writer.steady_version())
    done, _ = await asyncio.wait([copy], timeout=0.05)
    assert not done, "a copy waits for it"
    held.go.set()
    async with asyncio.timeout(PATIENCE_S):
        assert await copy == writer.version
    assert not wal_path(writer.path).exists() or log_bytes(writer) < 100 * SHORT_BYTES
    assert writer.checkpoint(EVENTS).sequence == 300


async def test_what_hinders_it_is_told_to_who_writes_next(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    held, messages = Held(monkeypatch), [*lives(202)]
    held.error = ViewsUnwritable("the disk is full")
    held.go.set()
    await finished(by_messages(writer, messages[:200]))
    while writer._working_in is not None and not writer._working_in.done():
        await asyncio.wait([writer._working_in])
    with pytest.raises(ViewsUnwritable, match="the disk is full"):
        await finished(by_messages(writer, messages[200:201]))
    assert writer.checkpoint(EVENTS).sequence == 201, "what was to be written is"
    held.error = None
    await finished(by_messages(writer, messages[201:]))


async def test_what_hindered_it_in_a_file_that_is_made_anew_hinders_nobody(
    writer: Writer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    held, messages = Held(monkeypatch), [*lives(200)]
    held.error = ViewsRejected("the file is damaged")
    held.go.set()
    await finished(by_messages(writer, messages))
    while writer._working_in is not None and not writer._working_in.done():
        await asyncio.wait([writer._working_in])
    held.error = None
    await writer.give_up(keep=False)
    await writer.open()
    await finished(by_messages(writer, messages))
    assert caplog.text.count("the file is damaged") == 1


async def test_it_is_not_begun_while_somebody_copies(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    held, messages = Held(monkeypatch), [*lives(201)]
    held.go.set()
    async with writer.copying():
        await finished(by_messages(writer, messages[:200]))
        assert not held.times
    await finished(by_messages(writer, messages[200:]))
    async with asyncio.timeout(PATIENCE_S):
        await writer.steady_version()
    assert held.times == 1


def groups(store: Store) -> int:
    """Return in how many groups DuckDB keeps the rows of events."""
    [(count,)] = store._connection.execute("SELECT count(DISTINCT row_group_id) FROM pragma_storage_info('events')").fetchall()
    return int(count)


async def test_groups_are_merged_however_many_commits_go_on(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that is under way as it begins would make a checkpoint that merges nothing of it."""
    store, messages, original, threads = writer._open_store(), lives(100_000), Store.merge, list[str]()

    def merge(store: Store) -> None:
        threads.append(threading.current_thread().name)
        original(store)

    monkeypatch.setattr(Store, "merge", merge)
    assert store._log is not None
    for _ in range(3):
        store._log._merges_at_s = math.inf
        for _ in range(4):
            await writer._call(lambda: store.apply(EVENTS, [*itertools.islice(messages, 100)]))
            await writer._call(store.work_in_beside)
        before = await writer._call(lambda: groups(store))
        monkeypatch.setattr("cutor.projections.write_ahead_log.COMMITS", 30)
        store._log._merges_at_s = 0.0
        async with asyncio.timeout(PATIENCE_S):
            while store.is_merging_due():
                await writer.apply(EVENTS, [*itertools.islice(messages, 40)])
        assert await writer._call(lambda: groups(store)) < before
        await writer.steady_version()
    assert threads == [await writer._call(lambda: threading.current_thread().name)] * 3


async def test_what_comes_in_bulk_leaves_no_long_log(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)
    held.go.set()
    await finished(by_batch(writer, [*lives(200)]))
    async with asyncio.timeout(PATIENCE_S):
        await writer.steady_version()
    assert held.times == 1

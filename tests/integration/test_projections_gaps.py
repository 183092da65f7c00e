"""Messages that a stream should hold and does not. Only a stream that lets itself be edited can be made to lack some."""

from __future__ import annotations

import asyncio
import logging
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from cutor import projections
from cutor.bus import connection
from cutor.bus.bulk.columns import Columns
from cutor.bus.bulk.following import as_it_comes
from cutor.bus.bulk.reader import Wanted
from cutor.bus.connection import Bus
from cutor.bus.embedded import find_binary
from cutor.bus.errors import BusUnreachable
from cutor.bus.topology import apply, default_text, parse
from cutor.bus.topology_diff import Topology
from cutor.cli.checks.serving import check_projector
from cutor.model.codec import encode
from cutor.model.environments import EnvironmentRemoved
from cutor.model.subjects import ENVIRONMENTS, EVENTS, environment_subject
from cutor.projections import rereading
from cutor.projections.errors import RebuildFailed
from cutor.projections.folds import tail
from cutor.projections.folds.batch import Batch
from cutor.projections.folds.batches import batch_of, read_batches
from cutor.projections.queries.client import query
from cutor.projections.rebuilds.client import order_rebuild
from cutor.projections.rebuilds.rebuild import FreshViews, rebuild
from cutor.projections.status import read_status
from tests.integration.projecting import FINISHED, PATIENCE_S, happen, projector, until
from tests.integration.test_projections_projector import VIEWS, differences
from tests.ports import free_port

GAPS = "SELECT from_sequence, to_sequence FROM gaps WHERE stream = 'EVENTS' ORDER BY ALL"
FORGIVING = {"deny_delete": False, "deny_purge": False}


class Server(NamedTuple):
    """A server's address, with the bus of the test on it."""

    url: str
    bus: Bus


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A server whose stream EVENTS may be edited: not cutor's own, which lets nobody do that."""
    port = free_port("127.0.0.1")
    configuration = tmp_path / "nats.conf"
    configuration.write_text(f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{tmp_path}" }}\nmax_payload: 8388608\n')
    process = await asyncio.create_subprocess_exec(find_binary(), "-c", configuration, stderr=subprocess.DEVNULL)
    try:
        url = f"nats://127.0.0.1:{port}"
        async with await connected(url) as bus:
            await apply(bus, forgiving())
            yield Server(url, bus)
    finally:
        process.terminate()
        await process.wait()


async def connected(url: str) -> AbstractAsyncContextManager[Bus]:
    """Return a connection to a server that is starting."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                async with Bus.connect(url, name="start"):
                    return Bus.connect(url, name="test")
            except BusUnreachable:
                await asyncio.sleep(0.02)


def forgiving() -> Topology:
    """Return cutor's streams, with one that may be edited."""
    wanted = parse(default_text(), ["default"])
    streams = [one if one.name != EVENTS else replace(one, config={**one.config, **FORGIVING}) for one in wanted.streams]
    return replace(wanted, streams=tuple(streams))


@pytest.fixture
def bus(server: Server) -> Bus:
    return server.bus


async def lose(bus: Bus, *sequences: int) -> None:
    for sequence in sequences:
        await bus.api.call("loss", f"STREAM.MSG.DELETE.{EVENTS}", {"seq": sequence})


def told(caplog: pytest.LogCaptureFixture, words: str) -> int:
    return sum(words in record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR)


async def test_a_gap_that_is_there_from_the_beginning_is_noted_and_told_once(
    server: Server, bus: Bus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "views.duckdb"
    for name in ("one", "two"):
        await happen(bus, name, *FINISHED)
    await lose(bus, 3, 9, 10)
    async with projector(server.url, path):
        await until(bus, "SELECT max(sequence) FROM events", 2 * len(FINISHED))
        assert (await query(bus, GAPS)).rows == [[3, 3], [9, 10]]
    assert told(caplog, "EVENTS lacks 3, 9 to 10") == 1
    async with projector(server.url, path):  # one that goes on behind it says nothing of it
        last = await happen(bus, "three", *FINISHED)
        await until(bus, "SELECT max(sequence) FROM events", last)
    assert told(caplog, "EVENTS lacks") == 1
    assert told(caplog, "made anew") == 0


@pytest.fixture
def careless(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have the first reading in bulk leave out what its stream has; return what the readings began with."""
    begun: list[int] = []

    async def reading(bus: Bus, stream: str, first: int, last: int, fed_from: int | None = None) -> AsyncGenerator[Batch, None]:
        async with aclosing(read_batches(bus, stream, first, last, fed_from)) as batches:
            async for batch in batches:
                if stream == EVENTS and not begun:
                    begun.append(first)
                    yield batch_of(stream, batch.columns.part(0, 4))
                    yield batch_of(stream, batch.columns.part(6, len(batch)))
                    raise AssertionError("a reading goes on that left something out")
                if stream == EVENTS:
                    begun.append(first)
                yield batch

    for user in (projections.projector, tail):
        monkeypatch.setattr(user, "read_batches", reading)
    monkeypatch.setattr(projections.projector, "BULK_FROM", 1)
    return begun


async def test_what_a_reading_leaves_out_is_read_again(
    server: Server, bus: Bus, tmp_path: Path, careless: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """By a rebuild, and by a projector that begins; the gap of the stream itself is one all the same."""
    for name in ("one", "two"):
        last = await happen(bus, name, *FINISHED)
    await lose(bus, 9)
    left_out = "reading EVENTS left out 5 to 6, and the stream has 5"
    await rebuild(bus, tmp_path / "rebuilt.duckdb")
    assert careless == [1, 5]
    assert told(caplog, left_out) == 1
    careless.clear()
    async with projector(server.url, tmp_path / "views.duckdb"):
        await until(bus, "SELECT max(sequence) FROM events", last)
        assert (await query(bus, "SELECT count(*) FROM events")).rows == [[last - 1]]
        assert (await query(bus, GAPS)).rows == [[9, 9]]
    assert careless == [1, 5]
    assert told(caplog, left_out) == 2
    same = differences(tmp_path / "views.duckdb", tmp_path / "rebuilt.duckdb")
    assert same == dict.fromkeys((*VIEWS, "checkpoint"), 0)


class Careless:
    """Following that leaves out all but the last message of what comes behind a sequence of one stream, until it is mended."""

    def __init__(self, stream: str, behind: int) -> None:
        self.mended = asyncio.Event()
        self._stream = stream
        self._behind = behind

    async def read(self, wanted: Wanted) -> AsyncGenerator[Columns, None]:
        async with aclosing(as_it_comes(wanted)) as parts:
            async for columns in parts:
                if wanted.stream != self._stream or self.mended.is_set() or columns.last <= self._behind:
                    yield columns
                elif columns.last > self._behind + 1:
                    yield columns.part(len(columns) - 1, len(columns))


def careless_following(monkeypatch: pytest.MonkeyPatch, stream: str, *, behind: int, pause_s: float) -> Careless:
    careless = Careless(stream, behind)
    monkeypatch.setattr(rereading, "FIRST_PAUSE_S", pause_s)
    monkeypatch.setattr(rereading, "LONGEST_PAUSE_S", pause_s)
    monkeypatch.setattr(connection, "as_it_comes", careless.read)
    return careless


async def test_that_it_is_left_out_again_and_again_is_seen(
    server: Server, bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The views say so, and no more once a reading has brought it."""
    careless = careless_following(monkeypatch, EVENTS, behind=len(FINISHED), pause_s=0.02)
    at = await happen(bus, "one", *FINISHED)
    async with projector(server.url, tmp_path / "views.duckdb"):
        await until(bus, "SELECT max(sequence) FROM events", at)
        last = await happen(bus, "two", *FINISHED)
        left = rf"^reading EVENTS left out {at + 1}.*: it is read again from there; \d+ readings in a row have$"
        await until(bus, f"SELECT regexp_matches(waits_for, '{left}') FROM checkpoint WHERE stream = 'EVENTS'", True)
        [events, _] = (await read_status(bus)).streams
        assert events.waits_for is not None
        assert events.behind == len(FINISHED)
        finding = await check_projector(bus)
        assert finding.verdict == "fail"
        assert "archive" not in finding.remedy
        careless.mended.set()
        await until(bus, "SELECT max(sequence) FROM events", last)
        await until(bus, "SELECT count(waits_for) FROM checkpoint", 0)


async def test_what_is_left_out_from_the_beginning_keeps_nobody_from_serving(
    server: Server, bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers say that the views are not whole."""
    careless = careless_following(monkeypatch, EVENTS, behind=0, pause_s=0.02)
    last = await happen(bus, "one", *FINISHED)
    async with projector(server.url, tmp_path / "views.duckdb"):
        assert (await query(bus, "SELECT count(waits_for) FROM checkpoint")).rows == [[1]]
        careless.mended.set()
        await until(bus, "SELECT max(sequence) FROM events", last)


async def test_views_that_are_removed_while_something_is_left_out_are_made_anew(
    server: Server, bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    careless = careless_following(monkeypatch, EVENTS, behind=len(FINISHED), pause_s=0.02)
    at = await happen(bus, "one", *FINISHED)
    async with projector(server.url, tmp_path / "views.duckdb"):
        await until(bus, "SELECT max(sequence) FROM events", at)
        last = await happen(bus, "two", *FINISHED)
        await until(bus, "SELECT count(waits_for) FROM checkpoint", 1)
        (tmp_path / "views.duckdb").unlink()
        async with asyncio.timeout(PATIENCE_S):
            while not told(caplog, "the file was removed or replaced while it was written; the views are made anew"):
                await asyncio.sleep(0.02)
        careless.mended.set()
        await until(bus, "SELECT max(sequence) FROM events", last)


@pytest.mark.parametrize("way", ["rebuilt", "made anew"])
async def test_what_readings_left_out_is_forgotten_once_other_views_lack_nothing(
    server: Server, bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """By a rebuild, which reads in another way, or as the stream lost it: nothing comes that would be folded."""
    monkeypatch.setattr(projections.projector, "COMPARE_S", 0.02)
    careless_following(monkeypatch, EVENTS, behind=len(FINISHED), pause_s=0.02)
    at = await happen(bus, "one", *FINISHED)
    async with projector(server.url, tmp_path / "views.duckdb"):
        await until(bus, "SELECT max(sequence) FROM events", at)
        last = await happen(bus, "two", *FINISHED)
        await until(bus, "SELECT count(waits_for) FROM checkpoint", 1)
        if way == "rebuilt":
            await order_rebuild(bus, lambda _: None)
            await until(bus, "SELECT max(sequence) FROM events", last)
        else:
            await bus.api.call("loss", f"STREAM.PURGE.{EVENTS}", {})
            await until(bus, "SELECT count(*) FROM events", 0)
        await until(bus, "SELECT count(waits_for) FROM checkpoint", 0)


async def test_a_stream_that_is_left_alone_for_a_while_keeps_the_other_from_nothing(
    server: Server, bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor the file from being looked at."""
    careless_following(monkeypatch, ENVIRONMENTS, behind=0, pause_s=600.0)
    async with projector(server.url, tmp_path / "views.duckdb"):
        for _ in range(2):
            await bus.publish(environment_subject("ab" * 32), encode(EnvironmentRemoved(key="ab" * 32, reason="old")))
        async with asyncio.timeout(PATIENCE_S):
            while not told(caplog, "reading ENVIRONMENTS left out 1"):
                await asyncio.sleep(0.02)
        last = await happen(bus, "one", *FINISHED)
        await until(bus, "SELECT max(sequence) FROM events", last)
        (tmp_path / "views.duckdb").unlink()
        await until(bus, "SELECT max(sequence) FROM events", last)
        async with asyncio.timeout(PATIENCE_S):
            while not told(caplog, "the views are made anew"):
                await asyncio.sleep(0.02)


async def test_what_following_leaves_out_is_read_again(
    server: Server, bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The views are not made anew for that: the stream has it."""
    path, other = tmp_path / "views.duckdb", tmp_path / "other.duckdb"
    left: list[int] = []

    async def careless(wanted: Wanted) -> AsyncGenerator[Columns, None]:
        async with aclosing(as_it_comes(wanted)) as parts:
            async for columns in parts:
                if wanted.stream == EVENTS and columns.last > len(FINISHED) and not left:
                    left.append(columns.sequences[0])
                    await happen(bus, "three", *FINISHED)
                    continue
                yield columns

    monkeypatch.setattr(connection, "as_it_comes", careless)
    await happen(bus, "one", *FINISHED)
    async with projector(server.url, path):
        await until(bus, "SELECT count(*) FROM events", len(FINISHED))
        await happen(bus, "two", *FINISHED)
        await until(bus, "SELECT count(*) FROM events", 3 * len(FINISHED))
    assert told(caplog, f"reading EVENTS left out {left[0]}") == 1
    assert told(caplog, "made anew") == 0
    await rebuild(bus, other)
    assert differences(path, other) == dict.fromkeys((*VIEWS, "checkpoint"), 0)


async def test_an_idle_stream_that_lost_what_was_folded_has_the_views_made_anew(
    server: Server, bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing comes that would tell."""
    monkeypatch.setattr(projections.projector, "COMPARE_S", 0.02)
    last = await happen(bus, "one", *FINISHED)
    async with projector(server.url, tmp_path / "views.duckdb"):
        await until(bus, "SELECT max(sequence) FROM events", last)
        await lose(bus, last)
        await until(bus, "SELECT max(sequence) FROM events", last - 1)
    assert (
        told(caplog, f"EVENTS has no message at {last} any more, and the views have come to it; the views are made anew") == 1
    )


async def test_one_that_is_met_while_following_has_the_views_made_anew_and_no_more_than_once(
    server: Server, bus: Bus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, other = tmp_path / "views.duckdb", tmp_path / "other.duckdb"
    await happen(bus, "one", *FINISHED)
    async with projector(server.url, path):
        await until(bus, "SELECT count(*) FROM events", len(FINISHED))
    first = await happen(bus, "two", *FINISHED[:1])
    await lose(bus, first)
    async with projector(server.url, path):
        last = await happen(bus, "three", *FINISHED)
        await until(bus, "SELECT max(sequence) FROM events", last)
        await until(bus, "SELECT count(*) FROM gaps", 1)
        assert (await query(bus, GAPS)).rows == [[first, first]]
    assert told(caplog, f"EVENTS lacks {first}: nobody can have deleted that; the views are made anew") == 1
    assert told(caplog, f"EVENTS lacks {first}, which its server has lost") == 1
    await rebuild(bus, other)
    assert differences(path, other) == dict.fromkeys((*VIEWS, "checkpoint"), 0)


async def test_a_stream_of_which_nothing_is_left_does_not_keep_the_projector_from_serving(
    server: Server, bus: Bus, tmp_path: Path
) -> None:
    last = await happen(bus, "one", *FINISHED)
    await bus.api.call("retention", f"STREAM.PURGE.{EVENTS}", {"seq": last + 1})
    async with projector(server.url, tmp_path / "views.duckdb"):
        await happen(bus, "two", *FINISHED)
        await until(bus, "SELECT count(*) FROM events", len(FINISHED))


async def test_what_limits_took_is_no_gap(server: Server, bus: Bus, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await happen(bus, "one", *FINISHED)
    last = await happen(bus, "two", *FINISHED)
    await bus.api.call("retention", f"STREAM.PURGE.{EVENTS}", {"seq": len(FINISHED) + 1})
    async with projector(server.url, tmp_path / "views.duckdb"):
        await until(bus, "SELECT max(sequence) FROM events", last)
        assert (await query(bus, GAPS)).rows == []
    assert told(caplog, "") == 0


@pytest.mark.parametrize(
    ("left", "said"), [(2, "EVENTS begins at 13 by now"), (0, "EVENTS begins at 15 by now"), (None, "EVENTS was made anew")]
)
async def test_a_rebuild_of_a_stream_that_lets_go_fails(bus: Bus, tmp_path: Path, left: int | None, said: str) -> None:
    """Of some messages, of all, or of itself: shorter views are never called whole."""
    await happen(bus, "one", *FINISHED)
    last = await happen(bus, "two", *FINISHED)

    async def fold_in_two_steps() -> None:
        async with FreshViews.making(bus, tmp_path / "views.duckdb") as fresh:
            await fresh.fold_to({EVENTS: 5})
            if left is None:
                await bus.api.call("test", f"STREAM.DELETE.{EVENTS}")
                await apply(bus, forgiving())
                await happen(bus, "other", *FINISHED)
                await happen(bus, "another", *FINISHED)
            else:
                await bus.api.call("test", f"STREAM.PURGE.{EVENTS}", {"keep": left} if left else {})
            await fresh.fold_to({EVENTS: last})

    with pytest.raises(RebuildFailed, match=said):
        await fold_in_two_steps()
    assert not (tmp_path / "views.duckdb").exists()


async def test_a_rebuild_folds_what_there_is_of_a_stream_that_lacks_its_last_message(bus: Bus, tmp_path: Path) -> None:
    last = await happen(bus, "one", *FINISHED)
    await bus.api.call("loss", f"STREAM.MSG.DELETE.{EVENTS}", {"seq": last, "no_erase": True})
    done = await rebuild(bus, tmp_path / "views.duckdb")
    assert done.positions[EVENTS] == last - 1

"""The projector on a real server: events become views, once each, through kills, deleted files and changed streams."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import duckdb
import pytest

from cutor import projections
from cutor.bus import connection
from cutor.bus.bulk.columns import Columns
from cutor.bus.bulk.following import as_it_comes
from cutor.bus.bulk.reader import Wanted
from cutor.bus.bulk.wire import WireFailed
from cutor.bus.connection import Bus
from cutor.journal.environments import Environments
from cutor.model.content import pack
from cutor.model.environments import EnvironmentBuilt, EnvironmentRemoved, Programs
from cutor.model.subjects import EVENTS
from cutor.projections import pace
from cutor.projections.cpu_pressure import CpuPressure
from cutor.projections.errors import ProjectorBusy
from cutor.projections.folds.batch import Batch
from cutor.projections.folds.batches import read_batches
from cutor.projections.queries.client import query
from cutor.projections.settings import ProjectorSettings
from tests.integration.projecting import FINISHED, PATIENCE_S, copy_of_the_views, happen, happen_to_many, projector, until
from tests.nats_server import OwnServer
from tests.unit.histories import RUNNING

RESTS_MS = 10 * int(PATIENCE_S * 1000)
VIEWS = ("events", "submissions", "stages", "environments", "environment_events", "dead_letters", "gaps")


@asynccontextmanager
async def projector_process(server: str, database: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A projector as a process that may be killed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.integration.projector_process", server, str(database), stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def differences(one: Path, other: Path) -> dict[str, int]:
    """Rows of each view that the two files do not share, by EXCEPT both ways."""
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{one}' AS one (READ_ONLY)")
        connection.execute(f"ATTACH '{other}' AS other (READ_ONLY)")
        found = {}
        for view in (*VIEWS, "checkpoint"):
            left, right = f"SELECT * FROM one.{view}", f"SELECT * FROM other.{view}"
            sql = f"SELECT count(*) FROM (({left} EXCEPT ALL {right}) UNION ALL ({right} EXCEPT ALL {left}))"
            [(found[view],)] = connection.execute(sql).fetchall()
        return found


async def test_events_become_views(own_server: OwnServer, own_bus: Bus, tmp_path: Path) -> None:
    await happen(own_bus, "before", *FINISHED)
    async with projector(own_server.url, tmp_path / "data" / "views.duckdb"):
        last = await happen(own_bus, "after", *RUNNING)
        await own_bus.publish("cutor.ev.default.after.leased", b"\xff not an event")
        await until(own_bus, "SELECT max(sequence) FROM events", last + 1)
        answer = await query(own_bus, "SELECT id, status, outcome, test_cases_passed, strays FROM submissions ORDER BY id")
        assert answer.rows == [
            ["after", "DEPENDENCIES_INSTALLED", None, 0, 1],
            ["before", "FINISHED", "WRONG_ANSWER", 1, 0],
        ]
        assert [column.name for column in answer.columns] == ["id", "status", "outcome", "test_cases_passed", "strays"]
        answer = await query(own_bus, "SELECT stage, test_case, outcome FROM stages WHERE id = 'before' ORDER BY ALL")
        assert answer.rows == [["dependencies", None, "OK"], ["run", 0, "OK"], ["run", 1, "WA"]]
        answer = await query(own_bus, "SELECT undecodable FROM checkpoint WHERE stream = 'EVENTS'")
        assert answer.rows == [[1]]
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["views.duckdb", "views.duckdb.lock"]


async def test_environments_come_from_both_streams(own_server: OwnServer, own_bus: Bus, tmp_path: Path) -> None:
    environments = Environments(own_bus)
    built = EnvironmentBuilt(
        key="k1",
        derivation="/nix/store/x.drv",
        closure=("/nix/store/a", "/nix/store/b"),
        closure_bytes=300,
        variables=pack(b""),
        programs=Programs(bash="b", sh="s", env="e"),
        worker="w",
    )
    async with projector(own_server.url, tmp_path / "views.duckdb"):
        await environments.append_built(built)
        await happen(own_bus, "uses", *FINISHED)
        row = "SELECT derivation, closure_paths, closure_bytes, builds, uses, hits, removed FROM environments"
        await until(own_bus, "SELECT uses FROM environments WHERE builds = 1", 1)
        assert (await query(own_bus, row)).rows == [["/nix/store/x.drv", 2, 300, 1, 1, 0, False]]
        await environments.append_removed(EnvironmentRemoved(key="k1", reason="collected"), "gc")
        await until(own_bus, "SELECT removal_reason FROM environments WHERE removed", "collected")


async def test_a_killed_projector_goes_on_where_it_was(own_server: OwnServer, own_bus: Bus, tmp_path: Path) -> None:
    """Killed over and over while events come in, it folds every one of them in exactly once."""
    database, untouched = tmp_path / "killed.duckdb", tmp_path / "untouched.duckdb"
    events = asyncio.create_task(happen_to_many(own_bus, 400, "k"))
    for _ in range(4):
        async with projector_process(own_server.url, database) as process:
            assert process.stdout is not None
            assert await asyncio.wait_for(process.stdout.readline(), PATIENCE_S) == b"ready\n"
            await asyncio.sleep(random.uniform(0.05, 0.4))
            process.send_signal(signal.SIGKILL)
    await events
    for path in (database, untouched):
        async with projector(own_server.url, path):
            await until(own_bus, "SELECT count(*) FROM events", 400 * len(FINISHED))
    assert differences(database, untouched) == dict.fromkeys((*VIEWS, "checkpoint"), 0)


async def test_a_deleted_file_is_made_anew_and_equals_the_old_one(own_server: OwnServer, own_bus: Bus, tmp_path: Path) -> None:
    database, old = tmp_path / "views.duckdb", tmp_path / "old.duckdb"
    await happen_to_many(own_bus, 60, "d")
    async with projector(own_server.url, database):
        await until(own_bus, "SELECT count(*) FROM events", 60 * len(FINISHED))
        copy_of_the_views(database, old)
        database.unlink()
        await happen(own_bus, "later", *RUNNING)
        await until(own_bus, "SELECT count(*) FROM events", 60 * len(FINISHED) + len(RUNNING))
    with duckdb.connect(database) as connection:  # what came later aside, the files are equal
        connection.execute("DELETE FROM events WHERE id = 'later'")
        connection.execute("DELETE FROM stages WHERE id = 'later'")
        connection.execute("DELETE FROM folds.settled WHERE id = 'later'")
        connection.execute("DELETE FROM folds.moving WHERE id = 'later'")
        connection.execute(f"DELETE FROM folds.builds WHERE sequence > {60 * len(FINISHED)}")
        connection.execute("CHECKPOINT")
    assert {view: count for view, count in differences(database, old).items() if view != "checkpoint"} == dict.fromkeys(
        VIEWS, 0
    )


async def test_a_file_that_does_not_fit_the_stream_is_made_anew(
    own_server: OwnServer, own_bus: Bus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Past the stream's end; of another stream; of other rules; no database at all."""
    database = tmp_path / "views.duckdb"
    await happen(own_bus, "only", *FINISHED)
    count = len(FINISHED)
    damages = {
        "UPDATE events SET sequence = 99 WHERE sequence = 7": "ends at 7, before the 99",
        "UPDATE events SET message_id = 'x' WHERE sequence = 7": "holds another message at 7",
        "UPDATE folds.rules SET digest = 'x'": "the rules of another version",
    }
    async with projector(own_server.url, database):
        await until(own_bus, "SELECT count(*) FROM events", count)
    for damage, reason in damages.items():
        with duckdb.connect(database) as connection:
            connection.execute(damage)
            connection.execute("DELETE FROM stages")
        caplog.clear()
        async with projector(own_server.url, database):
            await until(own_bus, "SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM stages)", count + 3)
        assert reason in caplog.text
        assert (tmp_path / "views.duckdb.aside").exists()
    database.write_bytes(b"no database" * 1000)
    caplog.clear()
    async with projector(own_server.url, database):
        await until(own_bus, "SELECT count(*) FROM events", count)
    assert "the file is damaged" in caplog.text


async def test_the_projector_lives_through_a_restart_of_the_server(own_server: OwnServer, own_bus: Bus, tmp_path: Path) -> None:
    async with projector(own_server.url, tmp_path / "views.duckdb"):
        await happen(own_bus, "one", *FINISHED)
        await own_server.kill()
        await own_server.start()
        await happen(own_bus, "two", *FINISHED)
        await until(own_bus, "SELECT count(*) FROM submissions WHERE outcome = 'WRONG_ANSWER'", 2)


async def test_what_a_dead_server_lost_is_not_kept(
    own_server: OwnServer, own_bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The last it sent may be taken when the views have been compared with the server that came after it."""
    last = await happen(own_bus, "s", *RUNNING)
    died = asyncio.Event()

    async def of_a_server_that_dies(wanted: Wanted) -> AsyncGenerator[Columns, None]:
        if wanted.stream == EVENTS and not died.is_set():
            died.set()
            sent = Columns.of([stored async for stored in own_bus.read(EVENTS)])
            sent.message_ids[-1] = "lost"
            yield sent
            raise WireFailed("the server died")
        async with aclosing(as_it_comes(wanted)) as parts:
            async for columns in parts:
                yield columns

    monkeypatch.setattr(connection, "as_it_comes", of_a_server_that_dies)
    lost = "SELECT max(sequence) || ' ' || count(*) FILTER (WHERE message_id = 'lost') FROM events"
    async with projector(own_server.url, tmp_path / "views.duckdb"):
        await until(own_bus, lost, f"{last} 1")
        await own_bus.publish("cutor.ev.default.s.leased", b"{}")
        await until(own_bus, lost, f"{last + 1} 0")
    assert f"holds another message at {last}" in caplog.text


async def test_a_question_has_all_that_has_come_though_commits_rest(
    own_server: OwnServer, own_bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For longer than this test has patience; whoever has asked before has no advantage here."""
    monkeypatch.setattr(pace, "LOOKED_AT_S", 0.0)
    monkeypatch.setattr(CpuPressure, "is_high", lambda _: True)
    async with projector(own_server.url, tmp_path / "views.duckdb", ProjectorSettings(commit_interval_ms=RESTS_MS)):
        for name in ("one", "two", "three"):
            last = await happen(own_bus, name, *FINISHED)
            await until(own_bus, "SELECT max(sequence) FROM events", last)


async def test_one_that_ends_while_commits_rest_has_committed_what_had_come(
    own_server: OwnServer, own_bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened, resting = asyncio.Event(), asyncio.Event()

    async def in_two_pieces(wanted: Wanted) -> AsyncGenerator[Columns, None]:
        assert wanted.pace is not None
        if wanted.stream == EVENTS:
            await happened.wait()
            sent = Columns.of([stored async for stored in own_bus.read(EVENTS)])
            for piece in (sent.part(0, 1), sent.part(1, len(sent))):
                yield piece
                resting.set()
                await wanted.pace.rest(piece)
        await asyncio.Event().wait()

    monkeypatch.setattr(connection, "as_it_comes", in_two_pieces)
    monkeypatch.setattr(CpuPressure, "is_high", lambda _: True)
    async with projector(own_server.url, tmp_path / "views.duckdb", ProjectorSettings(commit_interval_ms=RESTS_MS)):
        last = await happen(own_bus, "s", *FINISHED)
        happened.set()
        async with asyncio.timeout(PATIENCE_S):
            await resting.wait()
    with duckdb.connect(tmp_path / "views.duckdb") as views:
        assert views.execute("SELECT max(sequence) FROM events").fetchall() == [(last,)]


async def test_one_that_falls_far_behind_while_it_follows_goes_on_in_bulk(
    own_server: OwnServer, own_bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has one message at a time, until it sees how far the stream has come meanwhile."""
    begun: list[int] = []

    async def one_by_one(wanted: Wanted) -> AsyncGenerator[Columns, None]:
        async with aclosing(as_it_comes(wanted)) as parts:
            async for columns in parts:
                for at in range(len(columns)):
                    yield columns.part(at, at + 1)

    async def reading(bus: Bus, stream: str, first: int, last: int, fed_from: int | None = None) -> AsyncGenerator[Batch, None]:
        begun.append(first)
        async with aclosing(read_batches(bus, stream, first, last, fed_from)) as batches:
            async for batch in batches:
                yield batch

    monkeypatch.setattr(connection, "as_it_comes", one_by_one)
    monkeypatch.setattr(projections.projector, "read_batches", reading)
    monkeypatch.setattr(projections.projector, "COMPARE_S", 0.02)
    monkeypatch.setattr(projections.projector, "BULK_FROM", 10)
    async with projector(own_server.url, tmp_path / "views.duckdb"):
        await happen_to_many(own_bus, 200, "m")
        await until(own_bus, "SELECT count(*) FROM events", 200 * len(FINISHED))
    assert begun
    assert begun[0] > 1


async def test_a_second_projector_on_the_same_file_is_turned_away(own_server: OwnServer, tmp_path: Path) -> None:
    async with projector(own_server.url, tmp_path / "views.duckdb"):
        with pytest.raises(ProjectorBusy, match="another projector writes this file") as caught:
            async with projector(own_server.url, tmp_path / "views.duckdb"):
                pass
        assert "\n" not in str(caught.value)


async def test_a_view_is_there_soon(own_server: OwnServer, own_bus: Bus, tmp_path: Path) -> None:
    """An idle projector does not wait for more to come."""
    async with projector(own_server.url, tmp_path / "views.duckdb"):
        last = await happen(own_bus, "one", *FINISHED)
        await until(own_bus, f"SELECT sequence FROM checkpoint WHERE stream = '{EVENTS}'", last)

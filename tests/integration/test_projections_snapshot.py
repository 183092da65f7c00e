"""The views as a file: taken away by who asks, and published on a schedule."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import duckdb
import pytest

from cutor.bus.connection import Bus
from cutor.bus.embedded import EmbeddedServer
from cutor.projections.errors import QueryUnavailable, SnapshotFailed
from cutor.projections.exports.client import fetch_snapshot
from cutor.projections.exports.exports import STORAGE_VERSION
from cutor.projections.exports.service import AT_ONCE
from cutor.projections.queries.client import query
from cutor.projections.schema import SQL
from cutor.projections.settings import ProjectorSettings
from tests.integration.projecting import FINISHED, PATIENCE_S, happen, happen_to_many, projector, until
from tests.nats_server import OwnServer

LARGE = 300
"""Submissions whose views take more than one piece on the wire."""


@pytest.fixture
async def served(own_server: OwnServer, own_bus: Bus, tmp_path: Path) -> AsyncIterator[Bus]:
    """A bus on a server where a projector holds the life of one submission."""
    last = await happen(own_bus, "one", *FINISHED)
    async with projector(own_server.url, tmp_path / "projector" / "views.duckdb"):
        await until(own_bus, "SELECT sequence FROM checkpoint WHERE stream = 'EVENTS'", last)
        yield own_bus


def remains(tmp_path: Path) -> list[str]:
    """Return what is beside the views, but for what belongs there."""
    return sorted({path.name for path in (tmp_path / "projector").glob("*export*")})


def described(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, ...]]:
    """Return every view and column with its comment."""
    return connection.execute(
        "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE schema_name = 'main' AND NOT internal "
        "UNION ALL SELECT view_name, NULL, comment FROM duckdb_views() WHERE NOT internal ORDER BY ALL"
    ).fetchall()


async def test_the_file_holds_what_was_committed_with_all_that_describes_it(served: Bus, tmp_path: Path) -> None:
    await happen_to_many(served, LARGE, "many")
    await until(served, "SELECT count(*) FROM submissions WHERE outcome IS NOT NULL", LARGE + 1)
    told: list[tuple[int, int]] = []
    taken = await fetch_snapshot(served, tmp_path / "taken.duckdb", tell=lambda come, of: told.append((come, of)))
    assert os.stat(tmp_path / "taken.duckdb").st_mode & 0o777 == 0o600  # noqa: PTH116 - nothing else runs here
    assert told[-1] == (taken.size_bytes, taken.size_bytes)
    with duckdb.connect(tmp_path / "taken.duckdb", read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM submissions WHERE outcome IS NOT NULL").fetchall() == [(LARGE + 1,)]
        [(last,)] = connection.execute("SELECT max(sequence) FROM events").fetchall()
        assert taken.as_of["EVENTS"].sequence == last
        names = "SELECT table_name FROM duckdb_columns() WHERE schema_name = 'main' AND NOT internal GROUP BY ALL"
        for (name,) in connection.execute(names).fetchall():
            counted = connection.execute(f"SELECT count(*) FROM {name}").fetchall()
            assert [list(row) for row in counted] == (await query(served, f"SELECT count(*) FROM {name}")).rows, name
        tags = connection.execute("SELECT tags['storage_version'] FROM duckdb_databases() WHERE path IS NOT NULL").fetchall()
        assert tags == [(STORAGE_VERSION + "+",)]
        taken_away = described(connection)
    with duckdb.connect(tmp_path / "projector" / "views.duckdb.snapshot", read_only=True) as connection:
        assert taken_away == described(connection)
    assert remains(tmp_path) == []


def test_views_use_no_function_that_older_clients_lack() -> None:
    """DuckDB before 2.0 keeps no function `if`: a view with it, stored by a newer one, cannot be read there."""
    for script in (SQL / "tables").glob("*.sql"):
        code = "\n".join(line.partition("--")[0] for line in script.read_text().splitlines() if "COMMENT ON" not in line)
        assert " if(" not in code.lower().replace("(if(", "( if("), script.name


async def test_who_has_the_former_file_open_keeps_it(served: Bus, tmp_path: Path) -> None:
    path = tmp_path / "taken.duckdb"
    await fetch_snapshot(served, path)
    with duckdb.connect(path, read_only=True) as former:
        last = await happen(served, "two", *FINISHED)
        await until(served, "SELECT sequence FROM checkpoint WHERE stream = 'EVENTS'", last)
        await fetch_snapshot(served, path)
        assert former.execute("SELECT id FROM submissions").fetchall() == [("one",)]
    with duckdb.connect(path, read_only=True) as newer:
        assert newer.execute("SELECT id FROM submissions ORDER BY id").fetchall() == [("one",), ("two",)]


async def test_a_file_that_was_fetched_is_given_up_at_once(served: Bus, tmp_path: Path) -> None:
    for number in range(AT_ONCE + 1):  # one more than there may be at a time
        await fetch_snapshot(served, tmp_path / f"taken{number}.duckdb")


async def test_a_place_where_no_file_can_be_is_refused_in_one_line(served: Bus, tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    for name, reason in {
        "no/such/file": "is no directory",
        "directory": "something that is no file",
        "link": "something that is no file",
        "pipe": "something that is no file",
        "projector/views.duckdb": "the file of a projector",
    }.items():
        with pytest.raises(SnapshotFailed, match=reason) as refused:
            await fetch_snapshot(served, tmp_path / name)
        assert str(tmp_path / name) in str(refused.value)
        assert "\n" not in str(refused.value)


async def test_who_is_interrupted_leaves_nothing(served: Bus, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    begun = asyncio.Event()
    work = asyncio.create_task(fetch_snapshot(served, tmp_path / "here" / "taken.duckdb", tell=lambda come, of: begun.set()))
    await begun.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert list((tmp_path / "here").iterdir()) == []
    await fetch_snapshot(served, tmp_path / "here" / "taken.duckdb")  # the projector has forgotten the other one
    assert remains(tmp_path) == []


async def test_nobody_there_is_said_at_once(nats_server: EmbeddedServer, bus: Bus, tmp_path: Path) -> None:
    with pytest.raises(QueryUnavailable, match="no projector gives snapshots at nats://"):
        await fetch_snapshot(bus, tmp_path / "taken.duckdb")
    assert not (tmp_path / "taken.duckdb").exists()


async def test_the_views_are_published_on_a_schedule(own_server: OwnServer, own_bus: Bus, tmp_path: Path) -> None:
    target = tmp_path / "published" / "views.duckdb"
    target.parent.mkdir()
    settings = ProjectorSettings(snapshot_interval_s=0.2, snapshot_path=str(target))
    async with projector(own_server.url, tmp_path / "projector" / "views.duckdb", settings):
        await happen(own_bus, "one", *FINISHED)
        deadline = time.monotonic() + PATIENCE_S
        while published(target) != [("one", "FINISHED")]:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
    assert [path.name for path in target.parent.iterdir()] == ["views.duckdb"]
    assert remains(tmp_path) == []


def published(target: Path) -> list[tuple[str, ...]]:
    """Return the submissions of the file that is published; it is whole whenever one looks."""
    if not target.exists():
        return []
    with duckdb.connect(target, read_only=True) as connection:
        return connection.execute("SELECT id, status FROM submissions").fetchall()

"""Views that are made from the archive and the stream's tail are those that are made from the stream."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import duckdb
import pytest

from cutor.bus.connection import Bus
from cutor.journal.replay import line_of
from cutor.model.events import Cancelled
from cutor.model.moments import exact_time
from cutor.projections.archive.decoding import decode_each
from cutor.projections.archive.errors import ArchiveDamaged, MessagesMissing
from cutor.projections.archive.joined import Joined
from cutor.projections.archive.place import Archive
from cutor.projections.archive.sealing import Cut, acknowledge, seal
from cutor.projections.errors import RebuildFailed
from cutor.projections.rebuilds.rebuild import rebuild, rebuild_in_place
from tests import commands
from tests.garbage import SUBJECTS, unreadable
from tests.integration.projecting import happen, happen_to_many, projector, until
from tests.integration.test_archive import SMALL, loose_server, loose_url, seal_all, set_up
from tests.nats_server import OwnServer
from tests.raw_nats import pub, send_raw
from tests.unit.histories import RUNNING

IN_PIECES = Cut(segment_messages=50, settled_s=0.0)


async def fill(bus: Bus, url: str) -> None:
    """Submissions, garbage in their midst, and an environment's events."""
    await happen_to_many(bus, 10, "s")
    await send_raw(url, *(pub(b"cutor.ev.default.g.cancelled", body) for body in unreadable(random.Random(1))))
    await send_raw(url, *(pub(subject, b'{"kind":"cancelled"}') for subject in SUBJECTS))
    await bus.publish("cutor.env.k", b'{"kind":"env-removed"}')
    await happen_to_many(bus, 10, "t")


def differing(one: Path, other: Path) -> list[object]:
    """Return what two files of views differ in, table by table."""
    found: list[object] = []
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{one}' AS one (READ_ONLY)")
        connection.execute(f"ATTACH '{other}' AS other (READ_ONLY)")
        tables = connection.execute(
            "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = 'one' ORDER BY ALL"
        ).fetchall()
        assert len(tables) > 5
        for schema, table in tables:
            for left, right in (("one", "other"), ("other", "one")):
                found += connection.execute(f"FROM {left}.{schema}.{table} EXCEPT ALL FROM {right}.{schema}.{table}").fetchall()
    return found


async def test_they_are_the_same_to_the_row(own_server: OwnServer, own_bus: Bus, tmp_path: Path) -> None:
    await fill(own_bus, own_server.url)
    archive = Archive(tmp_path / "archive")
    await seal_all(own_bus, archive, IN_PIECES)
    joined = await Joined.of(own_bus, "EVENTS", archive)
    assert 0 < joined.sealed < joined.last
    from_stream = await rebuild(own_bus, tmp_path / "stream.duckdb")
    from_archive = await rebuild(own_bus, tmp_path / "archive.duckdb", archive=archive)
    assert from_archive.positions == from_stream.positions
    assert from_archive.messages == from_stream.messages
    assert differing(tmp_path / "stream.duckdb", tmp_path / "archive.duckdb") == []
    await rebuild(own_bus, tmp_path / "half.duckdb", until={"EVENTS": 70}, archive=archive)
    await rebuild(own_bus, tmp_path / "half-stream.duckdb", until={"EVENTS": 70})
    assert differing(tmp_path / "half.duckdb", tmp_path / "half-stream.duckdb") == []


async def test_a_gap_that_was_acknowledged_is_in_the_views_of_the_archive(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    async with loose_server(tmp_path / "nats") as bus:
        last = await happen(bus, "a", RUNNING[0], Cancelled())
        for subject in ("x", "x", "z"):
            await bus.publish(f"cutor.ev.{subject}", b"")
        await set_up(bus, "UPDATE", "EVENTS", discard="old", max_msgs_per_subject=1)
        with archive.held():
            with pytest.raises(MessagesMissing):
                await seal(bus, archive, "EVENTS", SMALL)
            await acknowledge(bus, archive, "EVENTS", last + 1, last + 1)
            await seal(bus, archive, "EVENTS", SMALL)
            await decode_each(archive)
        await rebuild(bus, tmp_path / "stream.duckdb")
        await rebuild(bus, tmp_path / "archive.duckdb", archive=archive)
        assert differing(tmp_path / "stream.duckdb", tmp_path / "archive.duckdb") == []
        with duckdb.connect(str(tmp_path / "archive.duckdb"), read_only=True) as views:
            found = views.execute("SELECT stream, from_sequence, to_sequence FROM gaps").fetchall()
        assert found == [("EVENTS", last + 1, last + 1)]


async def test_a_rebuild_from_a_damaged_archive_is_refused_and_leaves_nothing(own_bus: Bus, tmp_path: Path) -> None:
    await happen_to_many(own_bus, 10, "s")
    archive = Archive(tmp_path / "archive")
    manifest = (await seal_all(own_bus, archive, IN_PIECES))["EVENTS"]
    path = archive.file_of("EVENTS", manifest.segments[0])
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ArchiveDamaged):
        await rebuild(own_bus, tmp_path / "views.duckdb", archive=archive)
    assert not any((tmp_path / f"views.duckdb{end}").exists() for end in ("", ".wal", ".tmp"))


async def test_a_projector_takes_from_the_archive_what_the_stream_let_go_of(tmp_path: Path) -> None:
    archive, database = Archive(tmp_path / "archive"), tmp_path / "views.duckdb"
    async with loose_url(tmp_path / "nats") as url, Bus.connect(url, name="test") as bus:
        await happen_to_many(bus, 3, "s")
        async with projector(url, database, archive=archive.directory):
            await until(bus, "SELECT count(*) FROM submissions WHERE status = 'FINISHED'", 3)
        await happen_to_many(bus, 3, "t")
        await seal_all(bus, archive)
        await happen_to_many(bus, 3, "u")
        await set_up(bus, "UPDATE", "EVENTS", discard="old", max_msgs=30)
        async with projector(url, database, archive=archive.directory):
            await until(bus, "SELECT count(*) FROM submissions WHERE status = 'FINISHED'", 9)
        assert not (tmp_path / "views.duckdb.aside").exists()
        database.unlink()
        async with projector(url, database, archive=archive.directory):
            await until(bus, "SELECT count(*) FROM submissions WHERE status = 'FINISHED'", 9)
        whole = database.read_bytes()
        with pytest.raises(RebuildFailed, match="is that mounted"):
            await rebuild_in_place(bus, database, archive=Archive(tmp_path / "not mounted"))
        assert database.read_bytes() == whole


async def test_a_projector_that_begins_anew_is_ready_where_all_is_sealed(
    own_server: OwnServer, own_bus: Bus, tmp_path: Path
) -> None:
    """As after an upgrade of a stack in which nothing happens: no event comes that would have it look again."""
    await happen_to_many(own_bus, 3, "s")
    archive = Archive(tmp_path / "archive")
    await seal_all(own_bus, archive)
    async with projector(own_server.url, tmp_path / "views.duckdb", archive=archive.directory):
        await until(own_bus, "SELECT count(*) FROM submissions WHERE status = 'FINISHED'", 3)


async def test_a_replay_has_what_the_stream_let_go_of(tmp_path: Path) -> None:
    archive, config, views = Archive(tmp_path / "archive"), tmp_path / "config.toml", tmp_path / "range.duckdb"
    config.write_text(f'[archive]\ndirectory = "{archive.directory}"\n')
    async with loose_url(tmp_path / "nats") as url, Bus.connect(url, name="test") as bus:
        await happen_to_many(bus, 6, "s")
        whole = [one async for one in bus.read("EVENTS")]
        sealed = (await seal_all(bus, archive, Cut(segment_messages=10, settled_s=0.0)))["EVENTS"].last
        await set_up(bus, "UPDATE", "EVENTS", discard="old", max_msgs=len(whole) - sealed + 5)

        async def replay(*args: str) -> bytes:
            command = ["replay", "--server", url, "--config", str(config), *args]
            done = await asyncio.to_thread(commands.run, command, os.environ, timeout_s=60)
            assert done.returncode == 0, done.stderr
            return done.stdout

        assert (await replay()).splitlines(keepends=True) == [line_of(one) for one in whole]
        early, late = whole[3], whole[-2]
        span = await replay("--from", exact_time(early.time_ns), "--to", exact_time(late.time_ns), "--tenant", "default")
        assert span.splitlines(keepends=True) == [line_of(one) for one in whole[3:-1]]
        assert await replay("--tenant", "nobody") == b""
        await replay("--into", str(views), "--as-of", str(sealed - 15))
        with duckdb.connect(views, read_only=True) as connection:
            found = connection.execute("SELECT sequence FROM events ORDER BY ALL").fetchall()
            assert found == [(number,) for number in range(1, sealed - 14)]

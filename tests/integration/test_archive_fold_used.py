"""Views that begin with a sealed fold are those that are made of every event; and where it cannot be gone by, they are, too."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest

from cutor.bus.connection import Bus
from cutor.bus.embedded import find_binary
from cutor.journal import backup
from cutor.journal.replay import Span
from cutor.model.events import Cancelled
from cutor.model.subjects import ENVIRONMENTS, EVENTS
from cutor.projections.archive import beginning, fold_rules
from cutor.projections.archive.errors import MessagesMissing
from cutor.projections.archive.fold_sealing import seal_fold
from cutor.projections.archive.place import Archive, sha256_of
from cutor.projections.archive.sealed_fold import Looked, SealedFold
from cutor.projections.archive.sealing import acknowledge, seal
from cutor.projections.errors import RebuildFailed
from cutor.projections.folds.tail import Tail
from cutor.projections.rebuilds.client import order_rebuild
from cutor.projections.rebuilds.compare import Compared, Difference
from cutor.projections.rebuilds.range_file import fold_range
from cutor.projections.rebuilds.rebuild import Progress, rebuild, rebuild_in_place
from cutor.projections.rebuilds.start import Start
from cutor.projections.role import run_projector
from cutor.projections.views_paths import beside
from tests.integration.projecting import PATIENCE_S, context_of, copy_of_the_views, happen, happen_to_many, projector, until
from tests.integration.test_archive import SMALL, loose_server, loose_url, seal_all, set_up
from tests.integration.test_archive_fold import EVERYTHING, Folded, folded, sealed
from tests.integration.test_archive_views import differing
from tests.ports import free_port
from tests.unit.histories import RUNNING

__all__ = ["folded", "sealed"]


async def from_fold(folded: Folded, *, again: bool = False) -> dict[str, tuple[int, int]]:
    """Make views by the archive; return what of them came from the fold. They must be those of the stream.

    ``again``: which has not gone on since the last time.
    """
    path, of_stream = folded.directory / "of-fold.duckdb", folded.directory / "of-stream.duckdb"
    path.unlink(missing_ok=True)
    done = await rebuild(folded.bus, path, archive=folded.archive)
    if not again:
        of_stream.unlink(missing_ok=True)
        of_all = await rebuild(folded.bus, of_stream)
        assert done[:3] == of_all[:3]
    assert differing(of_stream, path) == []
    return done.from_fold


def difference(one: Path, other: Path) -> Difference | None:
    """Return the first difference, but for in which part of the states one stands, which depends on the batches."""
    scratch = other.with_name("scratch")
    scratch.mkdir(exist_ok=True)
    compared = Compared(other, one, scratch)
    try:
        return compared.compare().difference
    finally:
        compared.close()


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_they_are_the_same_to_the_row(folded: Folded, caplog: pytest.LogCaptureFixture) -> None:
    last = folded.fold().streams[EVENTS].last
    assert await from_fold(folded) == {EVENTS: (1, last)}
    await seal_all(folded.bus, folded.archive, EVERYTHING)
    assert await from_fold(folded) == {EVENTS: (1, last)}
    await happen_to_many(folded.bus, 5, "u")
    await folded.seal()
    wider = await from_fold(folded)
    assert wider[EVENTS][1] > last
    assert wider[ENVIRONMENTS] == (1, 1)
    assert errors(caplog) == []
    there = folded.path.read_bytes()
    assert sha256_of(folded.path) == folded.fold().sha256
    half = await rebuild(
        folded.bus, folded.directory / "half.duckdb", until={EVENTS: 70, ENVIRONMENTS: 1}, archive=folded.archive
    )
    bodies = await rebuild(folded.bus, folded.directory / "bodies.duckdb", archive=folded.archive, from_bodies=True)
    every = await rebuild(folded.bus, folded.directory / "every.duckdb", archive=folded.archive, from_events=True)
    assert half.from_fold == bodies.from_fold == every.from_fold == {}
    assert differing(folded.directory / "every.duckdb", folded.directory / "of-fold.duckdb") == []
    assert folded.path.read_bytes() == there


async def test_a_replay_into_a_file_begins_with_it_where_its_span_does(
    folded: Folded, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    last = folded.fold().streams[EVENTS].last
    for number, span in enumerate((Span(1, last), Span(1, last + 3), Span(2, last + 3), Span(1, last - 1))):
        spans = {EVENTS: span, ENVIRONMENTS: Span(1, 1)}
        one, other = (folded.directory / f"{of}-{number}.duckdb" for of in ("archive", "stream"))
        caplog.clear()
        await fold_range(folded.bus, one, spans, archive=folded.archive)
        assert ("begin with the sealed fold" in caplog.text) == (number < 2)
        await fold_range(folded.bus, other, spans)
        assert differing(one, other) == []


async def test_whatever_is_wrong_with_it_is_told_and_every_event_is_folded(
    folded: Folded, caplog: pytest.LogCaptureFixture
) -> None:
    path, index = folded.path, folded.index.read_bytes()
    whole = path.read_bytes()
    assert await from_fold(folded) != {}
    for damaged in (whole[:9000] + bytes([whole[9000] ^ 1]) + whole[9001:], whole[:-4096], whole + b"x", b""):
        path.write_bytes(damaged)
        caplog.clear()
        assert await from_fold(folded, again=True) == {}
        assert [str(path) in line for line in errors(caplog)] == [True]
    path.unlink()
    other = folded.directory / "other"
    other.write_bytes(whole)
    for put in (lambda: None, lambda: path.symlink_to(other), path.mkdir, lambda: os.mkfifo(path)):
        put()
        caplog.clear()
        assert await from_fold(folded, again=True) == {}
        assert [str(path) in line for line in errors(caplog)] == [True]
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
    path.write_bytes(whole)
    folded.index.write_bytes(index.replace(b'"messages": 1', b'"messages": 2'))
    caplog.clear()
    assert await from_fold(folded, again=True) == {}
    assert ["is not what was written" in line for line in errors(caplog)] == [True]
    folded.index.write_bytes(index)
    assert await from_fold(folded, again=True) != {}


async def test_a_file_that_holds_other_views_than_the_index_says_is_not_gone_by(
    folded: Folded, caplog: pytest.LogCaptureFixture
) -> None:
    path = folded.path
    assert await from_fold(folded) != {}
    for change in (
        "DELETE FROM events WHERE sequence = (SELECT max(sequence) FROM events)",
        "UPDATE folds.rules SET digest = 'another'",
    ):
        with duckdb.connect(path) as connection:
            connection.execute(change)
        folded.write(sha256=sha256_of(path), file_bytes=path.stat().st_size)
        caplog.clear()
        assert await from_fold(folded, again=True) == {}
        assert [str(path) in line for line in errors(caplog)] == [True]


async def test_a_file_that_brings_code_is_not_gone_by(folded: Folded, caplog: pytest.LogCaptureFixture) -> None:
    """Its hash and where it stands are right; nothing of that code is run."""
    secret, path, database = folded.directory / "secret", folded.path, folded.directory / "views.duckdb"
    whole = path.read_bytes()
    secret.write_text("secret")
    assert await from_fold(folded) != {}
    for change in (
        "CREATE OR REPLACE VIEW dead_letters AS SELECT 'EVENTS' AS stream, 7 AS sequence, content AS reason FROM {secret}",
        "CREATE OR REPLACE VIEW checkpoint AS SELECT c.* FROM ({checkpoint}) AS c, (SELECT count(*) FROM {secret})",
        "CREATE MACRO utc(nanoseconds) AS (SELECT max(content) FROM {secret})",
    ):
        path.write_bytes(whole)
        with duckdb.connect(path) as connection:
            [(view,)] = connection.execute("SELECT sql FROM duckdb_views() WHERE view_name = 'checkpoint'").fetchall()
            checkpoint = view.partition(" AS ")[2].rstrip(";\n")
            connection.execute(change.format(secret=f"read_text('{secret}')", checkpoint=checkpoint))
        folded.write(sha256=sha256_of(path), file_bytes=path.stat().st_size)
        os.utime(secret, (1, 1))
        caplog.clear()
        assert await from_fold(folded, again=True) == {}
        assert [": every event is folded in its place" in line for line in errors(caplog)] == [True]
        assert secret.stat().st_atime == 1
    async with projector(folded.url, database, archive=folded.archive.directory):
        assert "every event is folded in place of the sealed fold" in caplog.text
    assert secret.stat().st_atime == 1
    assert difference(folded.directory / "of-stream.duckdb", database) is None


async def test_a_fold_by_other_rules_is_not_gone_by(
    folded: Folded, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fold_rules, "_RULES", "0" * 64)
    assert await from_fold(folded) == {}
    assert ["another version of cutor" in line for line in errors(caplog)] == [True]


async def test_one_that_took_its_place_before_it_was_copied_is_begun_with(
    folded: Folded, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Between the look at the index and the copy, the fold is brought on."""
    put, brought_on = beginning.Beginning.put, asyncio.Event()

    async def put_later(self: beginning.Beginning, *args: object) -> None:
        if not brought_on.is_set():
            brought_on.set()
            await folded.seal()
            assert not self.path.exists()
        await put(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(beginning.Beginning, "put", put_later)
    first = folded.fold()
    await seal_all(folded.bus, folded.archive, EVERYTHING)
    assert await from_fold(folded) == {EVENTS: (1, folded.fold().streams[EVENTS].last), ENVIRONMENTS: (1, 1)}
    assert folded.fold() != first
    caplog.set_level(logging.INFO)
    await happen_to_many(folded.bus, 3, "u")
    await seal_all(folded.bus, folded.archive, EVERYTHING)
    brought_on.clear()
    async with projector(folded.url, folded.directory / "views.duckdb", archive=folded.archive.directory):
        assert f"the views begin with the sealed fold of {folded.fold().named()}" in caplog.text
    assert errors(caplog) == []


async def test_a_projector_that_is_stopped_while_it_copies_does_not_wait_for_that(
    folded: Folded, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ready, stop = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def put(*_: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(beginning.Beginning, "put", put)
    database = folded.directory / "views" / "views.duckdb"
    context = context_of(folded.url, database, ready=ready, stop=stop, archive=folded.archive.directory)
    async with asyncio.timeout(PATIENCE_S):
        task = asyncio.create_task(run_projector(context))
        await begun.wait()
        stop.set()
        await task
    assert not ready.is_set()
    assert not beside(database, "fold").exists()


async def test_without_room_for_a_copy_every_event_is_folded(
    folded: Folded, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    free = folded.fold().file_bytes - 1
    with monkeypatch.context() as patched:
        patched.setattr("cutor.projections.archive.beginning.shutil.disk_usage", lambda _: SimpleNamespace(free=free))
        assert await from_fold(folded) == {}
    [line] = errors(caplog)
    assert "are free, and a copy of the sealed fold wants" in line


async def test_a_rebuild_of_one_stream_alone_begins_with_it(folded: Folded) -> None:
    await seal_all(folded.bus, folded.archive, EVERYTHING)
    manifest = folded.archive.manifest(EVENTS)
    assert manifest is not None
    path, told = folded.directory / "views.duckdb", list[Progress]()
    done = await rebuild(folded.bus, path, tell=told.append, until={EVENTS: manifest.last}, archive=folded.archive)
    part = folded.fold().streams[EVENTS]
    assert done.from_fold == {EVENTS: (1, part.last)}
    assert (done.messages, told[-1].messages) == (manifest.last, manifest.last - part.last)


async def test_a_stream_that_has_lost_the_end_of_the_fold_has_every_event_folded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sealed behind that, the stream has: only the fold's own end tells, by which views are compared with it."""
    archive, database = Archive(tmp_path / "archive"), tmp_path / "views.duckdb"
    async with loose_url(tmp_path / "nats") as url, Bus.connect(url, name="test") as bus:
        await happen(bus, "a", RUNNING[0], Cancelled())
        await bus.publish("cutor.ev.x", b"")
        await seal_all(bus, archive)
        with archive.held():
            fold = (await seal_fold(archive)).fold
        assert fold is not None
        await bus.publish("cutor.ev.y", b"")
        await seal_all(bus, archive)
        await bus.publish("cutor.ev.x", b"")
        await set_up(bus, "UPDATE", "EVENTS", discard="old", max_msgs_per_subject=1)
        done = await rebuild(bus, tmp_path / "rebuilt.duckdb", archive=archive)
        assert done.from_fold == {}
        assert f"EVENTS has not the message at {fold.streams[EVENTS].last}" in caplog.text

        async def believed(_: Bus, found: SealedFold, *__: object) -> Looked:
            return Looked(found)

        caplog.set_level(logging.INFO)
        monkeypatch.setattr(beginning, "_judged", believed)
        async with projector(url, database, archive=archive.directory):
            pass
        assert caplog.text.count("the views begin with the sealed fold") == 1
        assert caplog.text.count("the views are made anew") == 1
        assert difference(tmp_path / "rebuilt.duckdb", database) is None


@asynccontextmanager
async def permissive_server(directory: Path) -> AsyncIterator[Bus]:
    """A bus on a server without streams that lets anybody delete some."""
    port = str(free_port("127.0.0.1"))
    arguments = ("-a", "127.0.0.1", "-p", port, "-js", "-sd", str(directory), "-l", str(directory.with_suffix(".log")))
    process = await asyncio.create_subprocess_exec(find_binary(), *arguments)
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", int(port))
                    writer.close()
                    break
                await asyncio.sleep(0.02)
        async with Bus.connect(f"nats://127.0.0.1:{port}", name="test") as bus:
            yield bus
    finally:
        process.kill()
        await process.wait()


async def test_a_stream_that_was_made_anew_while_its_tail_was_read_ends_the_rebuild(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, copy, put = Archive(tmp_path / "archive"), tmp_path / "backup", beginning.Beginning.put
    async with loose_server(tmp_path / "nats") as bus:
        await happen_to_many(bus, 3, "s")
        await seal_all(bus, archive)
        with archive.held():
            await seal_fold(archive)
        made = await backup.make(bus, copy)
    async with permissive_server(tmp_path / "other") as bus:
        await backup.restore(bus, copy, made)
        await happen_to_many(bus, 1, "lost")

        tails: list[Tail] = []
        read_ahead = Start._read_ahead

        def noting(self: Start, *args: object) -> None:
            read_ahead(self, *args)  # type: ignore[arg-type]
            tails.extend(self._tails.values())

        async def put_later(self: beginning.Beginning, *args: object) -> None:
            await asyncio.wait([tail._first for tail in tails])
            for stream in made.streams:
                await bus.api.call(stream.name, f"STREAM.DELETE.{stream.name}", {})
            await backup.restore(bus, copy, made)
            await happen_to_many(bus, 1, "other")
            await put(self, *args)  # type: ignore[arg-type]

        monkeypatch.setattr(Start, "_read_ahead", noting)
        monkeypatch.setattr(beginning.Beginning, "put", put_later)
        with pytest.raises(RebuildFailed, match="EVENTS was made anew while it was read"):
            await rebuild(bus, tmp_path / "views.duckdb", archive=archive)


async def test_a_rebuild_that_is_called_off_while_it_copies_leaves_nothing(
    folded: Folded, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, path = asyncio.Event(), folded.directory / "views" / "views.duckdb"
    path.parent.mkdir()
    monkeypatch.setattr("cutor.projections.archive.fold_copy.PIECE_BYTES", 4096)
    work = asyncio.create_task(rebuild(folded.bus, path, tell=lambda _: begun.set(), archive=folded.archive))
    await begun.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert list(path.parent.iterdir()) == []


async def test_what_was_acknowledged_as_missing_and_is_there_again_has_every_event_folded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive(tmp_path / "archive")
    async with loose_server(tmp_path / "nats") as bus:
        last = await happen(bus, "a", RUNNING[0], Cancelled())
        for subject in ("x", "x", "z"):
            await bus.publish(f"cutor.ev.{subject}", b"")
        await bus.publish("cutor.env.k", b'{"kind":"env-removed"}')
        await set_up(bus, "UPDATE", "EVENTS", discard="old", max_msgs_per_subject=1)
        with archive.held():
            with pytest.raises(MessagesMissing):
                await seal(bus, archive, EVENTS, SMALL)
            first = (await seal_fold(archive)).fold
            await acknowledge(bus, archive, EVENTS, last + 1, last + 1)
        assert (await rebuild(bus, tmp_path / "early.duckdb", archive=archive)).from_fold == {EVENTS: (1, last)}
        with archive.held():
            await seal(bus, archive, EVENTS, SMALL)
        assert (await rebuild(bus, tmp_path / "between.duckdb", archive=archive)).from_fold == {EVENTS: (1, last)}
        with archive.held():
            assert (await seal_fold(archive)).fold != first
        await rebuild(bus, tmp_path / "stream.duckdb")
        done = await rebuild(bus, tmp_path / "late.duckdb", archive=archive)
        assert done.from_fold == {EVENTS: (1, last + 3)}
        for name in ("early", "between", "late"):
            assert differing(tmp_path / "stream.duckdb", tmp_path / f"{name}.duckdb") == []
        with duckdb.connect(str(tmp_path / "late.duckdb"), read_only=True) as views:
            found = views.execute("SELECT stream, from_sequence, to_sequence FROM gaps").fetchall()
        assert found == [(EVENTS, last + 1, last + 1)]

        async def nothing_missing(*_: object) -> list[object]:
            return []

        with monkeypatch.context() as patched:
            patched.setattr("cutor.projections.archive.joined.Joined.missing", nothing_missing)
            caplog.clear()
            assert await beginning.find(bus, archive) is None
        assert f"some of {last + 1} to {last + 1} again" in caplog.text


async def test_a_projector_whose_file_is_lost_begins_with_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also where the stream has let go of what is in it; its dead letters are those that are there already."""
    archive, database = Archive(tmp_path / "archive"), tmp_path / "views.duckdb"
    caplog.set_level(logging.INFO)
    async with loose_url(tmp_path / "nats") as url, Bus.connect(url, name="test") as bus:
        await happen_to_many(bus, 3, "s")
        await bus.publish("cutor.ev.default.g.cancelled", b"no event")
        await seal_all(bus, archive)
        await happen_to_many(bus, 3, "t")
        await rebuild(bus, tmp_path / "stream.duckdb")
        await set_up(bus, "UPDATE", "EVENTS", discard="old", max_msgs=30)
        with archive.held():
            fold = (await seal_fold(archive)).fold
        assert fold is not None
        (tmp_path / "views.duckdb.fold").write_bytes(b"left by a former life")
        async with projector(url, database, archive=archive.directory):
            await until(bus, "SELECT count(*) FROM submissions WHERE status = 'FINISHED'", 6)
            await until(bus, "SELECT count(*) FROM dead_letters", 1)
            assert f"the views begin with the sealed fold of {fold.named()}" in caplog.text
            copy_of_the_views(database, tmp_path / "copy.duckdb")
            done = await order_rebuild(bus, lambda _: None)
            assert done.from_fold == {EVENTS: (1, fold.streams[EVENTS].last)}
            assert (await order_rebuild(bus, lambda _: None, from_events=True)).from_fold == {}
        with duckdb.connect(tmp_path / "copy.duckdb"):
            pass
        for views in ("copy.duckdb", "views.duckdb"):
            assert difference(tmp_path / "stream.duckdb", tmp_path / views) is None
        assert not (tmp_path / "views.duckdb.fold").exists()
        assert not (tmp_path / "views.duckdb.aside").exists()
        assert (await rebuild_in_place(bus, database, archive=archive)).from_fold == done.from_fold
        database.unlink()
        path = archive.directory / "fold" / fold.file_name
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        async with projector(url, database, archive=archive.directory):
            await until(bus, "SELECT count(*) FROM submissions WHERE status = 'FINISHED'", 6)
        assert "every event is folded in place of the sealed fold" in caplog.text
        assert difference(tmp_path / "stream.duckdb", database) is None


async def test_the_tail_is_read_while_the_fold_is_copied(folded: Folded, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the same tail: what is sealed behind the fold is folded in before it."""
    begun: list[int] = []
    read_ahead = Start._read_ahead

    def noting(self: Start, *args: object) -> None:
        read_ahead(self, *args)  # type: ignore[arg-type]
        begun.extend(tail.span[0] for tail in self._tails.values())

    monkeypatch.setattr(Start, "_read_ahead", noting)
    await happen_to_many(folded.bus, 5, "u")
    await seal_all(folded.bus, folded.archive)
    manifest = folded.archive.manifest(EVENTS)
    assert manifest is not None
    await happen_to_many(folded.bus, 1, "v")
    assert await from_fold(folded) == {EVENTS: (1, folded.fold().streams[EVENTS].last)}
    assert manifest.last + 1 in begun

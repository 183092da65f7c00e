"""A projector whose views need what only the archive has, while that cannot be used: it waits, says so, and comes right."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from cutor.bus.connection import Bus
from cutor.cli.checks.archive import check_archive
from cutor.cli.checks.serving import check_projector
from cutor.projections.archive.errors import MessagesMissing
from cutor.projections.archive.manifest import Manifest
from cutor.projections.archive.place import MANIFEST, Archive
from cutor.projections.archive.sealing import Cut
from cutor.projections.format import to_text
from cutor.projections.queries.client import query
from cutor.projections.rebuilds.rebuild import Progress, rebuild
from cutor.projections.settings import ArchiveSettings
from tests import commands
from tests.integration.projecting import happen_to_many, projector, until
from tests.integration.test_archive import loose_url, seal_all, set_up

FINISHED = "SELECT count(*) FROM submissions WHERE status = 'FINISHED'"
WAITS = "SELECT waits_for IS NOT NULL FROM checkpoint WHERE stream = 'EVENTS'"
IN_PIECES = Cut(segment_messages=20, settled_s=0.0)
KEPT = 24
"""Messages that the stream has not let go of: those of the last 3 submissions, and what is not sealed of the others."""


class Expired(NamedTuple):
    """A server whose EVENTS begins late, and the archive that has what came before."""

    url: str
    bus: Bus
    archive: Archive
    manifest: Manifest


@pytest.fixture
async def expired(tmp_path: Path) -> AsyncIterator[Expired]:
    archive = Archive(tmp_path / "archive")
    async with loose_url(tmp_path / "nats") as url, Bus.connect(url, name="test") as bus:
        await happen_to_many(bus, 9, "s")
        manifest = (await seal_all(bus, archive, IN_PIECES))["EVENTS"]
        await happen_to_many(bus, 3, "t")
        await let_go(bus)
        yield Expired(url, bus, archive, manifest)


async def let_go(bus: Bus) -> None:
    """Have the stream let go of all but its newest messages, once."""
    await set_up(bus, "UPDATE", "EVENTS", discard="old", max_msgs=KEPT)
    await set_up(bus, "UPDATE", "EVENTS", discard="old", max_msgs=-1)


def told(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    found = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    return [message for message in found if text in message]


async def test_views_without_their_archive_stay_empty_and_come_right_by_themselves(
    expired: Expired, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Views of the tail alone would look whole."""
    monkeypatch.setattr("cutor.projections.sealed_past.FIRST_PAUSE_S", 0.1)
    away = tmp_path / "away"
    expired.archive.directory.rename(away)
    async with projector(expired.url, tmp_path / "views.duckdb", archive=expired.archive.directory):
        await until(expired.bus, WAITS, True)
        answer = await query(expired.bus, "SELECT count(*) FROM events")
        assert answer.rows == [[0]]
        assert "is that mounted?" in to_text(answer)
        found = await check_projector(expired.bus)
        assert (found.verdict, "its views are not whole: EVENTS begins at" in found.detail) == ("fail", True)
        assert len(told(caplog, "is that mounted?")) == 1
        away.rename(expired.archive.directory)
        await until(expired.bus, FINISHED, 12)
        await until(expired.bus, WAITS, False)
        assert (await check_projector(expired.bus)).verdict == "ok"
    assert not (tmp_path / "views.duckdb.aside").exists()


async def test_a_damaged_segment_is_waited_for_and_nothing_is_lost(
    expired: Expired, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of them: what is before it is in the views, and stays there; what was set aside before is kept."""
    monkeypatch.setattr("cutor.projections.sealed_past.FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr("cutor.projections.sealed_past.LONGEST_PAUSE_S", 0.02)
    database, aside = tmp_path / "views.duckdb", tmp_path / "views.duckdb.aside"
    aside.write_bytes(b"of before")
    segment = expired.archive.file_of("EVENTS", expired.manifest.segments[1])
    sealed = segment.read_bytes()
    segment.write_bytes(sealed[:-1] + b"x")
    reached = expired.manifest.segments[0].last
    async with projector(expired.url, database, archive=expired.archive.directory):
        await until(expired.bus, WAITS, True)
        inode = database.stat().st_ino
        await happen_to_many(expired.bus, 2, "u")
        await until(expired.bus, "SELECT max(sequence) FROM events", reached)
        [message] = told(caplog, "SHA-256")
        assert str(segment) in message
        assert f"go on from {reached}" in message
        segment.write_bytes(sealed)
        await until(expired.bus, FINISHED, 14)
        assert database.stat().st_ino == inode
    assert aside.read_bytes() == b"of before"
    assert told(caplog, "made anew") == []


async def test_views_that_were_whole_stay_so_where_the_archive_goes_away(
    expired: Expired, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They need nothing of it; those that fell behind what the stream has let go of keep what they have."""
    database = tmp_path / "views.duckdb"
    async with projector(expired.url, database, archive=expired.archive.directory):
        await until(expired.bus, FINISHED, 12)
    expired.archive.directory.rename(tmp_path / "away")
    async with projector(expired.url, database, archive=expired.archive.directory):
        await happen_to_many(expired.bus, 1, "u")
        await until(expired.bus, FINISHED, 13)
    await happen_to_many(expired.bus, 4, "v")
    await let_go(expired.bus)
    async with projector(expired.url, database, archive=expired.archive.directory):
        await until(expired.bus, WAITS, True)
        assert (await query(expired.bus, FINISHED)).rows == [[13]]
    assert told(caplog, "made anew") == []


async def test_status_of_views_that_wait_is_not_0(expired: Expired, tmp_path: Path) -> None:
    (expired.archive.directory / "EVENTS" / MANIFEST).write_text("{")
    async with projector(expired.url, tmp_path / "views.duckdb", archive=expired.archive.directory):
        await until(expired.bus, WAITS, True)
        command = ["projections", "status", "--server", expired.url, "--json"]
        said = await asyncio.to_thread(commands.run, command, os.environ, timeout_s=240)
        assert said.returncode == 1
        events = json.loads(said.stdout)["streams"][0]
        assert (events["checkpoint"], events["behind"]) == (0, 84)
        assert "EVENTS begins at" in events["waits_for"]


def meanwhile(url: str, work: Callable[[Bus], Awaitable[object]]) -> Callable[[Progress], None]:
    """Do something at the first word of how far a rebuild is, before that goes on."""
    began: list[Progress] = []

    async def do() -> None:
        async with Bus.connect(url, name="meanwhile") as bus:
            await work(bus)

    def tell(progress: Progress) -> None:
        if not began:
            began.append(progress)
            thread = threading.Thread(target=asyncio.run, args=(do(),))
            thread.start()
            thread.join()

    return tell


async def test_what_expires_while_a_rebuild_reads_is_taken_from_the_archive(expired: Expired, tmp_path: Path) -> None:
    async def seal_and_let_go(bus: Bus) -> None:
        await seal_all(bus, expired.archive, IN_PIECES)
        await let_go(bus)

    await happen_to_many(expired.bus, 20, "u")
    tell = meanwhile(expired.url, seal_and_let_go)
    done = await rebuild(expired.bus, tmp_path / "views.duckdb", tell=tell, archive=expired.archive)
    assert done.messages == done.positions["EVENTS"] == 32 * 7


async def test_a_rebuild_fails_where_what_expires_meanwhile_is_nowhere(expired: Expired, tmp_path: Path) -> None:
    await happen_to_many(expired.bus, 20, "u")
    with pytest.raises(MessagesMissing, match="61 to"):
        await rebuild(expired.bus, tmp_path / "a.duckdb", tell=meanwhile(expired.url, let_go), archive=expired.archive)
    assert not (tmp_path / "a.duckdb").exists()


async def test_views_that_begin_late_for_want_of_an_archive_are_told_of(
    expired: Expired, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = int((await expired.bus.stream_info("EVENTS"))["state"]["first_seq"])
    async with projector(expired.url, tmp_path / "views.duckdb"):
        await until(expired.bus, "SELECT min(sequence) FROM events", first)
    said = f"EVENTS begins at {first}, and no archive is configured"
    assert [one.levelname for one in caplog.records if said in one.getMessage()] == ["WARNING"]
    [found] = [one async for one in check_archive(expired.bus, ArchiveSettings())]
    assert (found.verdict, said in found.detail) == ("warn", True)


async def test_views_made_anew_that_begin_late_say_so_wherever_they_are_made(
    expired: Expired, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = int((await expired.bus.stream_info("EVENTS"))["state"]["first_seq"])
    said, begins = f"the views of EVENTS begin at {first}: what came before was neither in the stream nor in", {"EVENTS": first}

    async def cutor(*args: str) -> str:
        command = ["projections", *args, "--server", expired.url]
        done = await asyncio.to_thread(commands.run, command, os.environ, timeout_s=240)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    data = ("--data", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    assert json.loads(await cutor("rebuild", *data, "--json"))["begins"] == begins, "no projector runs"
    assert f"note: folded anew, {said}" in await cutor("verify", *data)
    assert json.loads(await cutor("verify", *data, "--json"))["begins"] == begins
    async with projector(expired.url, tmp_path / "views.duckdb"):
        await until(expired.bus, "SELECT min(sequence) FROM events", first)
        assert f"note: {said}" in await cutor("rebuild")
        assert [one.levelname for one in caplog.records if said in one.getMessage()] == ["WARNING"]
        assert f"note: {said}" in await cutor("status")
        assert [one["begins"] for one in json.loads(await cutor("status", "--json"))["streams"]] == [first, None]
    whole = await rebuild(expired.bus, tmp_path / "whole.duckdb", archive=expired.archive)
    part = await rebuild(expired.bus, tmp_path / "part.duckdb")
    assert (whole.begins, part.begins) == ({}, begins)
    command = ["projections", "verify", "--database", str(tmp_path / "whole.duckdb"), "--server", expired.url]
    more = await asyncio.to_thread(commands.run, command, os.environ, timeout_s=240)
    assert (more.returncode, more.stderr) == (1, b"")
    differs, note = more.stdout.decode().splitlines()
    assert "; it may be what came before: name the archive that has it by [archive] directory" in differs
    assert note.startswith(f"note: folded anew, {said}")

"""Retention on a real server: what goes is sealed, the same in both, and of submissions that have ended; nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cutor.bus.connection import Bus
from cutor.bus.embedded import EmbeddedServer, free_port
from cutor.bus.retention_mark import MARK
from cutor.bus.topology import apply, default_text, parse
from cutor.cli.archive_checks import check_archive
from cutor.config import ArchiveSettings, Config
from cutor.projections.archive.archiver import run_archiver
from cutor.projections.archive.errors import ArchiveForeign
from cutor.projections.archive.joined import Joined
from cutor.projections.archive.manifest import VERSION, Manifest
from cutor.projections.archive.place import Archive
from cutor.projections.archive.retention import RetentionRefused, expire, plan, withdraw
from cutor.projections.archive.segment_file import SegmentWriter
from cutor.projections.rebuild import rebuild
from cutor.roles.context import RoleContext
from tests.integration.projecting import FINISHED, happen, happen_to_many
from tests.integration.test_archive import held, seal_all
from tests.integration.test_archive_views import IN_PIECES, differing
from tests.nats_server import TENANTS
from tests.unit.histories import RUNNING

WANTED = parse(default_text().replace("duplicate_window: 5m", "duplicate_window: 100ms"), TENANTS)
AGE_S = 0.3
MARGIN_S = 0.2


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    """A server of this test alone."""
    server = await EmbeddedServer.start(tmp_path / "nats", port=free_port("127.0.0.1"))
    async with server:
        yield server.url


@pytest.fixture
async def brief(url: str) -> AsyncIterator[Bus]:
    """A bus on that server, whose duplicate window is short, so that a short age is one that it takes."""
    async with Bus.connect(url, name="test") as bus:
        await apply(bus, WANTED)
        yield bus


async def settings(bus: Bus) -> tuple[int, str | None]:
    config = (await bus.stream_info("EVENTS"))["config"]
    return int(config.get("max_age", 0)), (config.get("metadata") or {}).get(MARK)


async def first(bus: Bus) -> int:
    return int((await bus.stream_info("EVENTS"))["state"]["first_seq"])


async def old(bus: Bus) -> None:
    """Wait until all that is there is of the age, by the server's clock, which is what counts here."""
    newest = await bus.last("EVENTS", "cutor.ev.>", consistent=True)
    assert newest
    while (await Joined.of(bus, "EVENTS", None)).now_ns < newest.time_ns + int(AGE_S * 1.5e9):
        await asyncio.sleep(0.02)


async def test_what_is_old_and_sealed_goes_and_the_limit_with_it(brief: Bus, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    await happen_to_many(brief, 10, "s")
    whole = await rebuild(brief, tmp_path / "whole.duckdb")
    last = (await seal_all(brief, archive))["EVENTS"].last
    await old(brief)
    young = await happen(brief, "young", *FINISHED)
    expiry = await plan(brief, archive, AGE_S, margin_s=MARGIN_S)
    assert (expiry.first, expiry.last, expiry.held_by) == (1, last, None)
    assert await expire(brief, expiry) == last + 1
    assert await settings(brief) == (0, None)
    assert [row[0] for row in await held(brief, "EVENTS")] == list(range(last + 1, young + 1))
    again = await rebuild(brief, tmp_path / "again.duckdb", until=whole.positions, archive=archive)
    assert again.positions == whole.positions
    assert differing(tmp_path / "whole.duckdb", tmp_path / "again.duckdb") == []
    assert (await seal_all(brief, archive))["EVENTS"].last == young


async def test_nothing_goes_that_is_not_sealed(brief: Bus, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    await happen_to_many(brief, 10, "s")
    await old(brief)
    expiry = await plan(brief, archive, AGE_S, margin_s=MARGIN_S)
    assert (expiry.messages, expiry.held_by) == (0, "what comes after 0 is not sealed")
    assert await expire(brief, expiry) == 1
    sealed = (await seal_all(brief, archive, IN_PIECES))["EVENTS"].last
    expiry = await plan(brief, archive, AGE_S, margin_s=MARGIN_S)
    assert expiry.last <= sealed
    assert expiry.held_by == f"what comes after {sealed} is not sealed"


async def test_nothing_goes_before_an_archive_that_begins_later(brief: Bus, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    await happen_to_many(brief, 3, "s")
    created = (await brief.stream_info("EVENTS"))["created"]
    with archive.held(), archive.draft("EVENTS") as draft, SegmentWriter("EVENTS") as writer:
        writer.add([one async for one in brief.read("EVENTS", from_sequence=5)])
        archive.put_in_place(draft, writer.write(draft), Manifest(version=VERSION, stream="EVENTS", created=created))
    await old(brief)
    assert (await plan(brief, archive, AGE_S, margin_s=MARGIN_S)).messages == 0


async def test_a_submission_that_has_not_ended_keeps_all_that_comes_after_its_beginning(brief: Bus, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    before = await happen(brief, "ended", *FINISHED)
    await old(brief)
    last = await happen(brief, "runs", *RUNNING)
    await happen_to_many(brief, 3, "s")
    await brief.publish("cutor.ev.default.runs.finished", b'{"kind":"finished","outcome":"OK"}')  # of nobody's lease
    await seal_all(brief, archive)
    await old(brief)
    expiry = await plan(brief, archive, AGE_S, margin_s=MARGIN_S)
    assert (expiry.last, expiry.held_by) == (before, f"the submission default/runs has not ended, and began with {before + 1}")
    assert await expire(brief, expiry) == before + 1
    newest = await brief.last("EVENTS", "cutor.ev.default.runs.>")
    assert newest
    await happen(brief, "runs", *FINISHED[len(RUNNING) :], after=newest.sequence)
    expiry = await plan(brief, archive, AGE_S, margin_s=MARGIN_S)
    assert expiry.last > last, "its end is in the stream, though it is not sealed yet"


async def test_what_differs_from_the_archive_stays(brief: Bus, tmp_path: Path) -> None:
    """The hashes of this archive are right: it was made of something else."""
    archive = Archive(tmp_path / "archive")
    await happen_to_many(brief, 3, "s")
    created = (await brief.stream_info("EVENTS"))["created"]
    messages = [one async for one in brief.read("EVENTS")]
    messages[4] = type(messages[4])(**{**{f: getattr(messages[4], f) for f in messages[4].__struct_fields__}, "body": b"{}"})
    with archive.held(), archive.draft("EVENTS") as draft, SegmentWriter("EVENTS") as writer:
        writer.add(messages)
        archive.put_in_place(draft, writer.write(draft), Manifest(version=VERSION, stream="EVENTS", created=created))
    await old(brief)
    with pytest.raises(ArchiveForeign, match="nothing is let go of"):
        await plan(brief, archive, AGE_S, margin_s=MARGIN_S)


async def test_what_stays_is_younger_by_a_margin(brief: Bus, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    await happen_to_many(brief, 3, "s")
    await seal_all(brief, archive)
    await old(brief)
    await happen(brief, "young", *FINISHED)
    expiry = await plan(brief, archive, AGE_S, margin_s=3600)
    assert expiry.messages == 0, "all of it is within an hour before what stays"


async def test_a_limit_that_was_left_is_taken_back(brief: Bus, tmp_path: Path) -> None:
    config = (await brief.stream_info("EVENTS"))["config"]
    left = {**config, "max_age": 3600 * 10**9, "metadata": {MARK: "7"}}
    await brief.api.call("EVENTS", "STREAM.UPDATE.EVENTS", left)
    assert await settings(brief) == (3600 * 10**9, "7")
    assert [change.fields[0].field for change in await apply(brief, WANTED)] == ["max_age"], "`cutor up` mends it, too"
    await brief.api.call("EVENTS", "STREAM.UPDATE.EVENTS", left)
    assert await withdraw(brief)
    assert await settings(brief) == (0, None)
    assert not await withdraw(brief)


async def test_an_archiver_takes_it_back_at_its_start(url: str, brief: Bus, tmp_path: Path) -> None:
    config = (await brief.stream_info("EVENTS"))["config"]
    await brief.api.call("EVENTS", "STREAM.UPDATE.EVENTS", {**config, "max_age": 3600 * 10**9, "metadata": {MARK: "7"}})
    ready, stop = asyncio.Event(), asyncio.Event()
    archiver = Config(archive=ArchiveSettings(directory=str(tmp_path / "archive"), retain_days=1))
    context = RoleContext(server=url, instance="test", worker="a", config=archiver, ready=ready.set, stop=stop)
    work = asyncio.create_task(run_archiver(context))
    await ready.wait()
    while (await settings(brief))[1] is not None:
        await asyncio.sleep(0.02)
    stop.set()
    await work
    with Archive(tmp_path / "archive").held():
        assert await settings(brief) == (0, None)


async def test_a_limit_of_the_deployers_own_is_not_touched(brief: Bus, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    await happen_to_many(brief, 3, "s")
    await seal_all(brief, archive)
    await old(brief)
    expiry = await plan(brief, archive, AGE_S, margin_s=MARGIN_S)
    config = (await brief.stream_info("EVENTS"))["config"]
    await brief.api.call("EVENTS", "STREAM.UPDATE.EVENTS", {**config, "max_age": 3600 * 10**9})
    with pytest.raises(RetentionRefused, match="max_age of its own"):
        await expire(brief, expiry)
    assert (await settings(brief))[0] == 3600 * 10**9
    assert await first(brief) == 1


async def test_doctor_tells_of_the_archive_and_of_a_limit_that_was_left(brief: Bus, tmp_path: Path) -> None:
    directory = tmp_path / "archive"
    archive = ArchiveSettings(directory=str(directory))
    assert [(one.what, one.verdict) async for one in check_archive(brief, archive)] == [("archive", "warn")]
    await happen_to_many(brief, 3, "s")
    await seal_all(brief, Archive(directory))
    assert [(one.what, one.verdict) async for one in check_archive(brief, archive)] == [("archive", "ok")]
    config = (await brief.stream_info("EVENTS"))["config"]
    await brief.api.call("EVENTS", "STREAM.UPDATE.EVENTS", {**config, "max_age": 3600 * 10**9, "metadata": {MARK: "7"}})
    (directory / "EVENTS" / "manifest.json").write_text("{}")
    found = [(one.what, one.verdict) async for one in check_archive(brief, archive)]
    assert found == [("retention", "warn"), ("archive", "fail")]

"""Retention on a real server: what goes is sealed, the same in both, and of submissions that have ended; nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cutor.bus.address import with_user
from cutor.bus.connection import Bus
from cutor.bus.embedded import EmbeddedServer
from cutor.bus.errors import BusUnreachable, NotPermitted
from cutor.bus.letting_go import PurgeDenied, let_go
from cutor.bus.server_file import RETENTION_USER, USER
from cutor.bus.topology import apply, default_text, parse
from cutor.cli.checks.archive import check_archive
from cutor.journal import backup
from cutor.journal.errors import SubmissionConflict
from cutor.journal.journal import Journal
from cutor.projections.archive.errors import ArchiveDamaged, ArchiveForeign, GapRefused
from cutor.projections.archive.joined import Joined
from cutor.projections.archive.manifest import VERSION, Manifest
from cutor.projections.archive.place import ASIDE, Archive
from cutor.projections.archive.retention import Expiry, Retention, RetentionRefused, expire, plan
from cutor.projections.archive.sealing import acknowledge
from cutor.projections.archive.segment_file import SegmentWriter
from cutor.projections.archive.verification import verify
from cutor.projections.rebuilds.rebuild import rebuild
from cutor.projections.settings import ArchiveSettings
from tests.fault.proxy import Proxy
from tests.integration.projecting import FINISHED, happen, happen_to_many
from tests.integration.test_archive import held, seal_all
from tests.integration.test_archive_views import IN_PIECES, differing
from tests.nats_server import TENANTS
from tests.ports import free_port
from tests.scripted_roles import request
from tests.unit.histories import RUNNING

WANTED = parse(default_text().replace("duplicate_window: 5m", "duplicate_window: 100ms"), TENANTS)
AGE_S = 0.3
LONG_S = 3.0
"""An age that what has just happened is not of, on a busy machine too."""


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


async def first(bus: Bus) -> int:
    return int((await bus.stream_info("EVENTS"))["state"]["first_seq"])


async def old(bus: Bus, age_s: float = AGE_S) -> None:
    """Wait until all that is there is of an age, by the server's clock, which is what counts here."""
    newest = await bus.last("EVENTS", "cutor.ev.>", consistent=True)
    assert newest
    while (await Joined.of(bus, "EVENTS", None)).now_ns < newest.time_ns + int(age_s * 1.1e9):
        await asyncio.sleep(0.02)


async def test_what_is_old_and_sealed_goes(url: str, brief: Bus, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    await happen_to_many(brief, 10, "s")
    whole = await rebuild(brief, tmp_path / "whole.duckdb")
    last = (await seal_all(brief, archive))["EVENTS"].last
    await old(brief, LONG_S)
    young = await happen(brief, "young", *FINISHED)
    expiry = await plan(brief, archive, LONG_S)
    assert (expiry.first, expiry.last, expiry.held_by) == (1, last - 1, None), "by the last one it is known again"
    assert await expire(url, brief, archive, expiry) == last
    assert not (await brief.stream_info("EVENTS"))["config"].get("max_age"), "no limit stands"
    assert [row[0] for row in await held(brief, "EVENTS")] == list(range(last, young + 1))
    again = await rebuild(brief, tmp_path / "again.duckdb", until=whole.positions, archive=archive)
    assert again.positions == whole.positions
    assert differing(tmp_path / "whole.duckdb", tmp_path / "again.duckdb") == []
    assert (await seal_all(brief, archive))["EVENTS"].last == young


async def test_nothing_goes_that_is_not_sealed(url: str, brief: Bus, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    await happen_to_many(brief, 10, "s")
    await old(brief)
    expiry = await plan(brief, archive, AGE_S)
    assert (expiry.messages, expiry.held_by) == (0, "what comes after 0 is not sealed")
    assert await expire(url, brief, archive, expiry) == 1
    sealed = (await seal_all(brief, archive, IN_PIECES))["EVENTS"].last
    expiry = await plan(brief, archive, AGE_S)
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
    assert (await plan(brief, archive, AGE_S)).messages == 0


async def test_a_submission_that_has_not_ended_keeps_all_that_comes_after_its_beginning(
    url: str, brief: Bus, tmp_path: Path
) -> None:
    archive = Archive(tmp_path / "archive")
    before = await happen(brief, "ended", *FINISHED)
    await old(brief)
    last = await happen(brief, "runs", *RUNNING)
    await happen_to_many(brief, 3, "s")
    await brief.publish("cutor.ev.default.runs.finished", b'{"kind":"finished","outcome":"OK"}')  # of nobody's lease
    await seal_all(brief, archive)
    await old(brief)
    expiry = await plan(brief, archive, AGE_S)
    assert (expiry.last, expiry.held_by) == (before, f"the submission default/runs has not ended, and began with {before + 1}")
    assert await expire(url, brief, archive, expiry) == before + 1
    newest = await brief.last("EVENTS", "cutor.ev.default.runs.>")
    assert newest
    await happen(brief, "runs", *FINISHED[len(RUNNING) :], after=newest.sequence)
    expiry = await plan(brief, archive, AGE_S)
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
        await plan(brief, archive, AGE_S)


async def test_what_is_unsealed_stays_however_late_the_server_lets_go(url: str, brief: Bus, tmp_path: Path) -> None:
    """An order that was given before others were appended, and repeated after: it takes what was planned, and no more."""
    archive = Archive(tmp_path / "archive")
    await happen_to_many(brief, 3, "s")
    last = (await seal_all(brief, archive))["EVENTS"].last
    await old(brief)
    expiry = await plan(brief, archive, AGE_S)
    young = await happen(brief, "young", *FINISHED)
    await old(brief)
    for _ in range(2):
        await let_go(url, "EVENTS", expiry.last + 1, created=await created(brief))
        assert await first(brief) == last
    assert [row[0] for row in await held(brief, "EVENTS")] == list(range(last, young + 1))


async def test_a_purge_is_not_repeated_over_another_connection(url: str, brief: Bus) -> None:
    """Behind that may be another server, or a stream that was made anew: whoever wants it looks first."""
    await happen_to_many(brief, 2, "s")
    async with Proxy(int(url.rpartition(":")[2])) as proxy:
        trap = proxy.cut_within(rb"STREAM\.PURGE")
        with pytest.raises(BusUnreachable):
            await let_go(proxy.url(url), "EVENTS", 3, created=await created(brief))
        assert trap.sprung.is_set()
    assert await first(brief) == 1


async def created(bus: Bus) -> str:
    return str((await bus.stream_info("EVENTS"))["created"])


async def test_another_stream_at_the_same_address_keeps_what_it_has(url: str, brief: Bus) -> None:
    await happen_to_many(brief, 2, "s")
    last = int((await brief.stream_info("EVENTS"))["state"]["last_seq"])
    for before, made in ((last, "2020-01-01T00:00:00Z"), (last + 2, await created(brief))):
        with pytest.raises(PurgeDenied, match="not the stream any more"):
            await let_go(url, "EVENTS", before, created=made)
    assert await first(brief) == 1


@pytest.mark.parametrize("before", [-1, 0, 1])
async def test_what_the_server_would_take_for_everything_is_not_asked_for(url: str, brief: Bus, before: int) -> None:
    await happen_to_many(brief, 1, "s")
    with pytest.raises(ValueError, match="one of everything"):
        await let_go(url, "EVENTS", before, created=await created(brief))
    assert await first(brief) == 1


async def test_the_users_of_a_stack_purge_nothing_by_mistake(url: str, brief: Bus) -> None:
    await happen_to_many(brief, 1, "s")
    for subject in ("STREAM.PURGE.EVENTS", "STREAM.DELETE.EVENTS"):
        with pytest.raises(NotPermitted):
            await brief.api.call("mistake", subject, {"seq": 3})
    async with Bus.connect(with_user(url, USER, RETENTION_USER), name="test") as bus:
        for subject in ("STREAM.PURGE.ENVIRONMENTS", "STREAM.DELETE.EVENTS", "STREAM.UPDATE.EVENTS"):
            with pytest.raises(NotPermitted):
                await bus.api.call("mistake", subject, {"seq": 3})
        with pytest.raises(NotPermitted):
            await happen(bus, "x", *FINISHED)
    assert await first(brief) == 1


async def test_a_stream_that_was_made_with_deny_purge_works_and_is_told_of(url: str, brief: Bus, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    await happen_to_many(brief, 3, "s")
    await seal_all(brief, archive)
    await old(brief)
    config = (await brief.stream_info("EVENTS"))["config"]
    await brief.api.call("EVENTS", "STREAM.UPDATE.EVENTS", {**config, "deny_purge": True})
    assert await apply(brief, WANTED) == [], "NATS cannot take it back"
    told: list[int] = []
    with pytest.raises(PurgeDenied, match="was made with deny_purge"):
        await plan(brief, archive, AGE_S, tell=lambda at, _: told.append(at))
    assert told == [], "before all is compared"
    with pytest.raises(PurgeDenied, match="was made with deny_purge"):
        await let_go(url, "EVENTS", 3, created=await created(brief))
    assert await first(brief) == 1
    archive_settings = ArchiveSettings(directory=str(archive.directory), retain_days=1)
    assert [one.what async for one in check_archive(brief, archive_settings) if one.verdict == "warn"] == ["retention"]


async def test_a_backup_that_is_restored_may_let_go(url: str, brief: Bus, tmp_path: Path) -> None:
    await happen_to_many(brief, 3, "s")
    config = (await brief.stream_info("EVENTS"))["config"]
    await brief.api.call("EVENTS", "STREAM.UPDATE.EVENTS", {**config, "deny_purge": True})
    await backup.make(brief, tmp_path / "backup")
    server = await EmbeddedServer.start(tmp_path / "other", port=free_port("127.0.0.1"))
    async with server, Bus.connect(server.url, name="test") as bus:
        await backup.restore(bus, tmp_path / "backup", backup.read(tmp_path / "backup"))
        await let_go(server.url, "EVENTS", 3, created=await created(bus))
        assert await first(bus) == 3


async def test_what_a_submission_holds_is_compared_once(brief: Bus, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    await happen_to_many(brief, 2, "s")
    began = await happen(brief, "runs", RUNNING[0])
    await happen_to_many(brief, 2, "t")
    sealed = (await seal_all(brief, archive))["EVENTS"].last
    await old(brief)
    retention, told = Retention(brief, archive), []

    async def planned() -> Expiry:
        told.clear()
        return await retention.plan(AGE_S, tell=lambda at, _: told.append(at))

    held_by = f"the submission default/runs has not ended, and began with {began}"
    assert await planned() == Expiry(1, began - 1, held_by)
    assert told[-1] == sealed - 1
    assert await planned() == Expiry(1, began - 1, held_by)
    assert told == [], "nothing of it is read again"
    file = min((archive.directory / "EVENTS").glob("*.parquet"))
    raw = file.read_bytes()
    file.write_bytes(raw[:-1] + b"x")
    with pytest.raises(ArchiveDamaged):
        await expire("nats://nobody", brief, archive, await planned())
    file.write_bytes(raw)
    await happen(brief, "runs", *FINISHED[1:], after=began)
    assert await planned() == Expiry(1, sealed - 1, None)
    assert told == [], "its end is looked up, nothing else"


async def test_a_limit_of_the_deployers_own_is_not_touched(url: str, brief: Bus, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    await happen_to_many(brief, 3, "s")
    await seal_all(brief, archive)
    await old(brief)
    config = (await brief.stream_info("EVENTS"))["config"]
    await brief.api.call("EVENTS", "STREAM.UPDATE.EVENTS", {**config, "max_age": 3600 * 10**9})
    with pytest.raises(RetentionRefused, match="max_age of its own"):
        await plan(brief, archive, AGE_S)
    assert await first(brief) == 1


async def test_a_backup_of_what_retention_left_goes_on_with_its_archive(url: str, brief: Bus, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    await happen_to_many(brief, 3, "s")
    await seal_all(brief, archive)
    await old(brief)
    await expire(url, brief, archive, await plan(brief, archive, AGE_S))
    assert (await plan(brief, archive, AGE_S)).messages == 0, "all has gone that may"
    await backup.make(brief, tmp_path / "backup")
    server = await EmbeddedServer.start(tmp_path / "other", port=free_port("127.0.0.1"))
    async with server, Bus.connect(server.url, name="test") as bus:
        await backup.restore(bus, tmp_path / "backup", backup.read(tmp_path / "backup"))
        assert (await Joined.of(bus, "EVENTS", archive)).first == 1
        last = await happen(bus, "later", *FINISHED)
        assert (await seal_all(bus, archive))["EVENTS"].last == last


async def test_what_was_acknowledged_as_missing_and_is_there_again_stays(brief: Bus, tmp_path: Path) -> None:
    """A copy of the stream that leads again had lost nothing, or a backup of before was restored."""
    archive = Archive(tmp_path / "archive")
    await happen_to_many(brief, 3, "s")
    messages = [one async for one in brief.read("EVENTS")]
    manifest = Manifest(version=VERSION, stream="EVENTS", created=await created(brief))
    for part in (messages[:5], messages[7:]):
        manifest = manifest.with_gap(7) if manifest.segments else manifest
        with archive.held(), archive.draft("EVENTS") as draft, SegmentWriter("EVENTS") as writer:
            writer.add(part)
            manifest = archive.put_in_place(draft, writer.write(draft), manifest)
    await old(brief)
    with pytest.raises(ArchiveForeign, match="EVENTS has message 6 again"):
        await plan(brief, archive, AGE_S)
    joined = await Joined.of(brief, "EVENTS", archive)
    assert [one.sequence async for some in joined.read_batches() for one in some] == [one.sequence for one in messages]
    await rebuild(brief, tmp_path / "sealed.duckdb", archive=archive)
    await rebuild(brief, tmp_path / "stream.duckdb")
    assert differing(tmp_path / "sealed.duckdb", tmp_path / "stream.duckdb") == [], "views are made of it, too"


async def test_a_gap_is_not_acknowledged_where_a_file_has_what_is_missing(url: str, brief: Bus, tmp_path: Path) -> None:
    """The manifest is that of an old copy: the file that it does not name is the only place that has these events."""
    archive = Archive(tmp_path / "archive")
    await happen_to_many(brief, 1, "s")
    before = (await seal_all(brief, archive))["EVENTS"].last
    path = archive.directory / "EVENTS" / "manifest.json"
    old_manifest = path.read_bytes()
    await happen_to_many(brief, 1, "t")
    last = (await seal_all(brief, archive))["EVENTS"].last
    newest = path.read_bytes()
    await let_go(url, "EVENTS", last, created=await created(brief))
    path.write_bytes(old_manifest)
    for _ in range(2):
        with archive.held(), pytest.raises(GapRefused, match=f"it has messages of {before + 1} to {last - 1}: the manifest is"):
            await acknowledge(brief, archive, "EVENTS", before + 1, last - 1)
    [aside] = path.parent.glob(f"*{ASIDE}")
    path.write_bytes(newest)
    aside.rename(aside.with_suffix(""))
    assert (await verify(archive, "EVENTS", brief)).faults == []


async def test_an_id_whose_beginning_is_gone_is_told_apart_from_one_that_is_taken(url: str, brief: Bus) -> None:
    await happen(brief, "x", *FINISHED)
    journal = Journal(brief)
    with pytest.raises(SubmissionConflict, match="is taken by a submission with another body"):
        await journal.submit(request("x"))
    await let_go(url, "EVENTS", 3, created=await created(brief))
    with pytest.raises(SubmissionConflict, match="that the stream has let go of, but for its last events"):
        await journal.submit(request("x"))
    await let_go(url, "EVENTS", len(FINISHED) + 1, created=await created(brief))
    assert (await journal.submit(request("x"))).last_sequence > len(FINISHED)


async def test_doctor_tells_of_the_archive_and_of_a_limit_beside_it(brief: Bus, tmp_path: Path) -> None:
    directory = tmp_path / "archive"
    archive = ArchiveSettings(directory=str(directory))
    assert [(one.what, one.verdict) async for one in check_archive(brief, archive)] == [("archive", "warn")]
    await happen_to_many(brief, 3, "s")
    await seal_all(brief, Archive(directory))
    assert [(one.what, one.verdict) async for one in check_archive(brief, archive)] == [("archive", "ok")]
    config = (await brief.stream_info("EVENTS"))["config"]
    await brief.api.call("EVENTS", "STREAM.UPDATE.EVENTS", {**config, "max_age": 3600 * 10**9})
    (directory / "EVENTS" / "manifest.json").write_text("{}")
    found = [(one.what, one.verdict) async for one in check_archive(brief, archive)]
    assert found == [("retention", "warn"), ("archive", "fail")]

"""The archiver as a role: what it tells, what hinders it, and that it shares the archive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cutor.bus.connection import Bus
from cutor.bus.letting_go import let_go
from cutor.config import Config
from cutor.metrics import table
from cutor.model.events import Cancelled
from cutor.process.context import RoleContext
from cutor.process.measures import Measures
from cutor.projections.archive import archiver
from cutor.projections.archive.archiver import Rounds, pause_s, run_archiver
from cutor.projections.archive.belonging import ArchiveElsewhere, check_mark
from cutor.projections.archive.errors import ArchiveBusy, ArchiveUnnamed
from cutor.projections.archive.fold_sealing import standing
from cutor.projections.archive.measuring import Sealed
from cutor.projections.archive.place import Archive
from cutor.projections.archive.sealed_fold import FoldPlace
from cutor.projections.archive.sealing import Cut, acknowledge, seal_each
from cutor.projections.settings import ArchiveSettings
from tests.integration.projecting import FINISHED, happen, happen_to_many
from tests.integration.test_archive import SMALL, loose_url, seal_all, set_up
from tests.nats_server import OwnServer
from tests.unit.histories import RUNNING


def context_of(url: str, archive: Archive | None) -> RoleContext:
    settings = ArchiveSettings(directory=str(archive.directory) if archive else None, interval_s=1)
    return RoleContext(url, "test", "a", Config(archive=settings), lambda: None, asyncio.Event())


@asynccontextmanager
async def archiving(context: RoleContext) -> AsyncIterator[None]:
    """An archiver as a task of this process."""
    task = asyncio.create_task(run_archiver(context))
    try:
        yield
    finally:
        context.stop.set()
        await task


async def told(context: RoleContext, metric: table.Metric, wanted: float, *labels: str) -> None:
    """Wait until a metric has a value, past what is sampled at the most once a second."""
    async with asyncio.timeout(180):
        while (await context.measures.sampled()).numbers(metric).get(labels) != wanted:
            await asyncio.sleep(0.05)


async def test_it_tells_how_far_it_is_and_what_hinders_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of that is younger than ten minutes: what is not sealed is behind."""
    monkeypatch.setattr(archiver, "AGAIN_S", 0.05)
    archive = Archive(tmp_path / "archive")
    async with loose_url(tmp_path / "nats") as url, Bus.connect(url, name="test") as bus:
        last = await happen(bus, "a", RUNNING[0], Cancelled())
        await seal_all(bus, archive)
        for subject in ("x", "x", "z"):
            await bus.publish(f"cutor.ev.{subject}", b"")
        context = context_of(url, archive)
        async with archiving(context):
            await told(context, table.SEALED, last, "EVENTS")
            await told(context, table.UNSEALED, 3, "EVENTS")
            await told(context, table.TROUBLES, 0)
            await told(context, table.FOLDED, last)
            numbers = (await context.measures.sampled()).numbers
            assert numbers(table.ARCHIVE_BYTES)["EVENTS",] > 0
            assert numbers(table.FOLD_BYTES)[()] > 0
            assert 0 < numbers(table.ARCHIVE_FREE)[()] <= numbers(table.ARCHIVE_SIZE)[()]
            assert numbers(table.UNSEALED_AGE)["EVENTS",] > 0
            assert numbers(table.ROUND_AT)[()] > 0
            assert numbers(table.CONNECTED)[()] == 1
            await set_up(bus, "UPDATE", "EVENTS", discard="old", max_msgs=1)
            await told(context, table.TROUBLES, 1)
            async with asyncio.timeout(180):
                while not await acknowledged(bus, archive, last + 1, last + 2):
                    await asyncio.sleep(0.01)
            await told(context, table.MISSING, 2, "EVENTS")
            await told(context, table.UNSEALED, 1, "EVENTS")
            await told(context, table.TROUBLES, 0)
        assert context.measures.tally.numbers(table.ARCHIVE_FREE) == {}, "nobody knows it any more"


async def acknowledged(bus: Bus, archive: Archive, first: int, last: int) -> bool:
    try:
        with archive.held():
            await acknowledge(bus, archive, "EVENTS", first, last)
    except ArchiveBusy:
        return False
    return True


async def test_a_manifest_that_is_cut_in_half_hinders_no_other_stream(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    async with loose_url(tmp_path / "nats") as url, Bus.connect(url, name="test") as bus:
        await happen(bus, "a", *FINISHED)
        await seal_all(bus, archive)
        await bus.publish("cutor.body.abc.0", b"body")
        path = archive.directory / "EVENTS" / "manifest.json"
        whole = path.read_bytes()
        for size in (0, 1, len(whole) // 2, len(whole) - 3):
            path.write_bytes(whole[:size])
            with archive.held():
                sealed, hindered = await seal_each(bus, archive, SMALL)
            assert (sealed["BODIES"].last, [*hindered]) == (1, ["EVENTS"])
            assert f"{path}: not the manifest of an archive" in str(hindered["EVENTS"])
            assert path.read_bytes() == whole[:size], "nothing is written over it"
        path.write_bytes(whole)
        context = context_of(url, archive)
        async with archiving(context):
            await told(context, table.TROUBLES, 0)


async def test_a_start_that_cannot_work_ends_in_one_line(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    with pytest.raises(ArchiveUnnamed):
        await run_archiver(context_of("nats://127.0.0.1:1", None))
    with archive.held(), pytest.raises(ArchiveBusy):
        await run_archiver(context_of("nats://127.0.0.1:1", archive))


@pytest.mark.parametrize(
    ("failed", "interval_s", "wanted"), [(0, 600, 600), (1, 600, 10), (2, 600, 20), (9, 600, 600), (1, 5, 5)]
)
def test_what_hinders_it_for_long_is_tried_less_often(failed: int, interval_s: float, wanted: float) -> None:
    assert pause_s(failed, interval_s) == wanted


def rounds(url: str, bus: Bus, directory: Path) -> Rounds:
    settings = ArchiveSettings(directory=str(directory), retain_days=1)
    return Rounds(url, bus, Archive(directory), settings, Sealed(Measures()))


async def test_a_disk_that_is_not_mounted_is_no_archive_that_has_yet_to_begin(own_server: OwnServer, tmp_path: Path) -> None:
    """What is sealed beneath the mount point is out of sight once the disk is back, and what went for it is lost."""
    url, directory = own_server.url, tmp_path / "archive"
    async with Bus.connect(url, name="test") as bus:
        await happen(bus, "a", *FINISHED)
        assert await rounds(url, bus, directory).one() == ()
        await seal_all(bus, Archive(directory))
        directory.rename(tmp_path / "disk")
        directory.mkdir()
        [said] = await rounds(url, bus, directory).one()
        assert said.startswith(f"{directory}: this is not the archive that this stack has there: is its disk mounted?")
        assert "on another host, take another path here" in said
        assert said.endswith("the archiver of any other one under this path then does nothing more")
        assert [one.name for one in directory.iterdir()] == ["lock"], "nothing is sealed there"
        (directory / "lock").unlink()
        directory.rmdir()
        (tmp_path / "disk").rename(directory)
        assert await rounds(url, bus, directory).one() == ()
        with Archive(other := tmp_path / "other").held():
            await check_mark(bus, Archive(other))
        (other / "mark").unlink()
        with Archive(other).held():
            with pytest.raises(ArchiveElsewhere):
                await check_mark(bus, Archive(other))
            await check_mark(bus, Archive(other), begin=True)
            await check_mark(bus, Archive(other))


async def test_an_archive_does_not_begin_in_silence_where_a_stream_has_let_go_of_its_beginning(
    own_server: OwnServer, tmp_path: Path
) -> None:
    """As one that an earlier cutor sealed, which gave no mark to it."""
    url, archive = own_server.url, Archive(tmp_path / "archive")
    async with Bus.connect(url, name="test") as bus:
        await happen(bus, "a", *FINISHED)
        await seal_all(bus, archive)
        await let_go(url, "EVENTS", 3, created=(await bus.stream_info("EVENTS"))["created"])
        assert archive.mark() is None
        assert await rounds(url, bus, archive.directory).one() == (), "it is taken for what it is"
        assert archive.mark() is not None
        [said] = await rounds(url, bus, tmp_path / "new").one()
        assert "EVENTS begins at 3, and nothing of it is sealed there: is the disk of its archive mounted?" in said


async def test_what_hinders_decoding_is_told_by_the_round_and_the_rest_is_decoded(
    own_server: OwnServer, tmp_path: Path
) -> None:
    url, archive = own_server.url, Archive(tmp_path / "archive")
    async with Bus.connect(url, name="test") as bus:
        await happen_to_many(bus, 5, "s")
        segments = (await seal_all(bus, archive))["EVENTS"].segments
        damaged = archive.file_of("EVENTS", segments[-1])
        damaged.write_bytes(damaged.read_bytes() + b"x")
        [said] = await rounds(url, bus, archive.directory).one()
        assert said.startswith(f"{damaged}: it has ")
        assert len([*damaged.parent.glob("decoded/*.incoming_stages.parquet")]) == len(segments) - 1 > 0


async def test_a_round_brings_the_fold_on_where_much_is_sealed_behind_it(
    own_server: OwnServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, archive = own_server.url, Archive(tmp_path / "archive")
    async with Bus.connect(url, name="test") as bus:
        work = rounds(url, bus, archive.directory)
        await happen_to_many(bus, 7, "s")
        await seal_all(bus, archive)
        assert await work.one() == ()
        first = standing(archive)
        assert first.messages == first.sealed == 7 * len(FINISHED)
        left = FoldPlace(archive).directory / f"{0:020}-{0:020}.duckdb"
        left.write_bytes(b"what an archiver that was killed did not come to remove")
        assert await work.one() == ()
        assert not left.exists()
        for name, brought_on in (("t", False), ("u", True)):
            await happen(bus, name, RUNNING[0], Cancelled())
            await seal_all(bus, archive)
            assert await work.one() == ()
            assert (standing(archive).fold != first.fold) == brought_on
        assert standing(archive).messages == standing(archive).sealed > first.sealed
        await happen_to_many(bus, 3, "v")
        ahead = (await seal_all(bus, archive, Cut(segment_messages=10, age_s=0.0, settled_s=0.0)))["EVENTS"].segments[-3:-1]
        monkeypatch.setattr(archiver, "FOLDING_S", 0.0)
        for segment in ahead:
            assert standing(archive).messages == segment.first - 1
            assert await work.one() == ()
            assert standing(archive).messages == segment.last, "a segment a round"
        monkeypatch.undo()
        [views] = FoldPlace(archive).directory.glob("*.duckdb")
        views.write_bytes(b"")
        await happen_to_many(bus, 5, "w")
        await seal_all(bus, archive)
        assert await work.one() == ()
        assert standing(archive).messages == standing(archive).sealed
        [views] = FoldPlace(archive).directory.glob("*.duckdb")
        whole = views.read_bytes()
        views.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert await rounds(url, bus, archive.directory).one() == ()
        assert views.read_bytes() != whole[:-1] + bytes([whole[-1] ^ 1]), "who begins looks at it"
        assert standing(archive).messages == standing(archive).sealed


async def test_what_hinders_the_fold_is_said_once_and_hinders_no_round(
    own_server: OwnServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url, archive = own_server.url, Archive(tmp_path / "archive")
    async with Bus.connect(url, name="test") as bus:
        await happen_to_many(bus, 3, "s")
        await seal_all(bus, archive)
        FoldPlace(archive).directory.symlink_to(tmp_path)
        work = rounds(url, bus, archive.directory)
        assert [await work.one(), await work.one()] == [(), ()]
        assert caplog.text.count("it is a link") == 1
        FoldPlace(archive).directory.unlink()
        index = archive.directory / "EVENTS" / "decoded" / ".draft"
        index.parent.rename(tmp_path / "decoded")
        index.parent.symlink_to(tmp_path / "decoded")
        assert ["it is a link" in trouble for trouble in await work.one()] == [True]
        assert standing(archive).messages == standing(archive).sealed > 0, "it needs nothing that is decoded"

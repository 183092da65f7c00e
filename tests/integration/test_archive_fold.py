"""A fold that is sealed is what the bodies say, is known again, and is never changed: it is made, brought on, and removed."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import duckdb
import msgspec
import pytest

from cutor.bus.connection import Bus
from cutor.model.subjects import ENVIRONMENTS, EVENTS
from cutor.projections.archive import fold_rules
from cutor.projections.archive.errors import ArchiveFull, ArchiveUnusable, CodeChanged
from cutor.projections.archive.fold_sealing import Progress, seal_fold, standing
from cutor.projections.archive.fold_verification import verify_fold
from cutor.projections.archive.manifest import Manifest
from cutor.projections.archive.place import RESERVE_BYTES, Archive, sha256_of
from cutor.projections.archive.room import make_room
from cutor.projections.archive.sealed_fold import FoldPlace, Looked, SealedFold
from cutor.projections.archive.sealing import Cut
from cutor.projections.rebuilds.rebuild import rebuild
from tests.integration.projecting import happen_to_many
from tests.integration.test_archive import seal_all
from tests.integration.test_archive_views import IN_PIECES, differing, fill
from tests.nats_server import OwnServer, server_in

EVERYTHING = Cut(segment_messages=50, age_s=0.0, settled_s=0.0)


class Folded(NamedTuple):
    """An archive of a stream, with a fold of all that is sealed."""

    url: str
    bus: Bus
    archive: Archive
    directory: Path

    @property
    def place(self) -> FoldPlace:
        return FoldPlace(self.archive)

    @property
    def index(self) -> Path:
        return self.place.directory / "index.json"

    def look(self) -> Looked:
        return self.place.look({stream: self.archive.manifest(stream) for stream in (EVENTS, ENVIRONMENTS)})

    def fold(self) -> SealedFold:
        fold = self.look().fold
        assert fold is not None
        return fold

    @property
    def path(self) -> Path:
        return self.place.path_of(self.fold())

    def files(self) -> list[str]:
        return sorted(path.name for path in self.place.directory.iterdir())

    async def seal(self) -> Progress:
        with self.archive.held():
            return await seal_fold(self.archive)

    async def faults(self) -> list[str]:
        """Return what verifying finds: at a glance, and of all rows; what it finds at a glance it finds then, too."""
        scratch = self.directory / "scratch"
        scratch.mkdir()
        at_a_glance, thorough = await verify_fold(self.archive), await verify_fold(self.archive, scratch)
        for path in scratch.iterdir():
            path.unlink()
        scratch.rmdir()
        assert at_a_glance.faults in ([], thorough.faults)
        return thorough.faults

    def write(self, **changes: object) -> None:
        """Have the index say something else, with a digest that is right."""
        document = msgspec.json.decode(self.index.read_bytes())
        fold = msgspec.convert(document["fold"] | changes, SealedFold).sealed()
        self.index.write_bytes(msgspec.json.encode(document | {"fold": msgspec.to_builtins(fold)}))


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a server, an archive of its streams, and the fold of that: made once, and each test has a copy."""
    home = tmp_path_factory.mktemp("sealed")

    async def make() -> None:
        async with server_in(home / "nats") as own, Bus.connect(own.url, name="test") as bus:
            await fill(bus, own.url)
            archive = Archive(home / "archive")
            await seal_all(bus, archive, IN_PIECES)
            done = await Folded(own.url, bus, archive, home).seal()
            assert done.messages == done.sealed > 100

    asyncio.run(make())
    return home


@pytest.fixture
async def folded(sealed: Path, tmp_path: Path) -> AsyncIterator[Folded]:
    shutil.copytree(sealed, tmp_path, dirs_exist_ok=True)
    own = OwnServer(tmp_path / "nats")
    await own.start()
    try:
        async with Bus.connect(own.url, name="test") as bus:
            yield Folded(own.url, bus, Archive(tmp_path / "archive"), tmp_path)
    finally:
        assert own.server
        await own.server.stop()


async def test_it_is_the_views_of_what_is_sealed_and_is_brought_on(folded: Folded) -> None:
    events = folded.fold().streams[EVENTS]
    assert (events.first, events.last, events.messages) == (1, events.last, events.last)
    assert folded.fold().streams[ENVIRONMENTS].last == 0
    first = folded.path
    await rebuild(folded.bus, folded.directory / "stream.duckdb", until={EVENTS: events.last})
    assert differing(folded.directory / "stream.duckdb", first) == []
    assert await folded.faults() == []
    assert folded.files() == [first.name, "index.json"]
    assert [path.stat().st_mode & 0o077 for path in folded.place.directory.iterdir()] == [0, 0]

    await seal_all(folded.bus, folded.archive, EVERYTHING)
    assert standing(folded.archive).messages < standing(folded.archive).sealed
    before = first.read_bytes()
    os.link(first, folded.directory / "kept")
    done = await folded.seal()
    assert done.messages == done.sealed
    assert (folded.directory / "kept").read_bytes() == before
    await rebuild(folded.bus, folded.directory / "all.duckdb")
    assert differing(folded.directory / "all.duckdb", folded.path) == []
    assert folded.files() == [folded.path.name, "index.json"]
    assert folded.fold().streams[ENVIRONMENTS].last == 1
    assert await folded.faults() == []
    there = folded.index.stat()
    assert (await folded.seal()).fold == folded.fold()
    assert folded.index.stat() == there


async def test_it_ends_where_it_is_told_to_and_goes_on_there(folded: Folded) -> None:
    folded.place.remove()
    assert folded.files() == []
    goes_on = iter([True, False])
    with folded.archive.held():
        half = await seal_fold(folded.archive, goes_on=lambda: next(goes_on))
    assert 0 < half.messages < half.sealed
    assert half.is_due
    assert await folded.faults() == []
    done = await folded.seal()
    assert done.messages == done.sealed
    assert not done.is_due
    assert await folded.faults() == []


async def test_an_archive_of_which_nothing_is_sealed_has_none(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    with archive.held():
        assert await seal_fold(archive) == Progress(None, 0, 0)
    assert (await verify_fold(archive)).faults == []
    assert not FoldPlace(archive).directory.exists()


async def test_a_file_that_is_not_what_it_was_is_found_and_made_anew(folded: Folded) -> None:
    """Each time, whatever was wrong with it before."""
    for damage in ("a byte", "half of it", "more", "gone", "a link", "a directory", "a pipe"):
        path, other = folded.path, folded.directory / damage
        whole = path.read_bytes()
        path.rename(other)
        do_damage(damage, path, other, whole)
        [fault] = await folded.faults()
        assert str(path) in fault, damage
        await happen_to_many(folded.bus, 1, damage.replace(" ", "-"))
        await seal_all(folded.bus, folded.archive, EVERYTHING)
        done = await folded.seal()
        assert done.messages == done.sealed, damage
        assert (await verify_fold(folded.archive)).faults == [], damage
        assert other.read_bytes() == whole, damage
    assert await folded.faults() == []


def do_damage(damage: str, path: Path, other: Path, whole: bytes) -> None:
    """Put something else where the file was that is ``whole``, and is at ``other`` now."""
    match damage:
        case "a byte":
            path.write_bytes(whole[:9000] + bytes([whole[9000] ^ 1]) + whole[9001:])
        case "half of it":
            path.write_bytes(whole[: len(whole) // 2])
        case "more":
            path.write_bytes(whole + b"x")
        case "a link":
            path.symlink_to(other)
        case "a directory":
            path.mkdir()
        case "a pipe":
            os.mkfifo(path)


async def test_what_the_index_says_is_gone_by_only_where_it_is_right(folded: Folded) -> None:
    right = folded.index.read_bytes()
    folded.index.write_bytes(right.replace(b'"messages": 1', b'"messages": 2'))
    assert "is not what was written" in str(folded.look().fault)
    part = msgspec.to_builtins(folded_part := msgspec.json.decode(right)["fold"]["streams"][EVENTS])
    for changed in (
        {"link": "0" * 64},
        {"messages": 1},
        {"missing": [[3, 4]]},
        {"fingerprint": "0" * 64},
        {"last": folded_part["last"] - 1},
        {"last": 10**9},
    ):
        folded.index.write_bytes(right)
        folded.write(streams={EVENTS: part | changed, ENVIRONMENTS: {}})
        assert "not of what is sealed" in str(folded.look().fault), changed
    for changes in ({"mark": "0" * 32}, {"streams": {EVENTS: part}}, {"streams": {}}):
        folded.index.write_bytes(right)
        folded.write(**changes)
        assert "not of what is sealed" in str(folded.look().fault), changes
    for rubbish in (b"", b"{", b"[" * 100_000, b'{"version": 1, "fold": {}}', b"\xff"):
        folded.index.write_bytes(rubbish)
        assert "no index of a fold" in str(folded.look().fault), rubbish[:9]
    folded.index.write_bytes(b'{"version": 0}')
    assert folded.look() == Looked()
    folded.index.unlink()
    folded.index.symlink_to(folded.directory / "elsewhere")
    assert str(folded.index) in str(folded.look().fault)
    done = await folded.seal()
    assert done.messages == done.sealed
    assert await folded.faults() == []
    assert not (folded.directory / "elsewhere").exists()


async def test_a_fold_that_was_made_up_is_found_by_verifying_all(folded: Folded) -> None:
    path = folded.path
    with duckdb.connect(path) as connection:
        connection.execute("UPDATE events SET worker = 'x' WHERE worker IS NOT NULL")
    folded.write(sha256=sha256_of(path), file_bytes=path.stat().st_size)
    assert (await verify_fold(folded.archive)).faults == []
    assert ["is not what the bodies say" in fault for fault in await folded.faults()] == [True]
    with duckdb.connect(path) as connection:
        connection.execute("DELETE FROM events WHERE sequence = (SELECT max(sequence) FROM events)")
    folded.write(sha256=sha256_of(path), file_bytes=path.stat().st_size)
    assert ["is not the fold of EVENTS 1 to" in fault for fault in await folded.faults()] == [True]


async def test_other_rules_make_another_one(folded: Folded, monkeypatch: pytest.MonkeyPatch) -> None:
    before = folded.files()
    monkeypatch.setattr(fold_rules, "_RULES", "0" * 64)
    assert (folded.look().fold, folded.look().fault) == (None, None)
    assert "another version of cutor" in str(folded.look().outdated)
    assert await folded.faults() == []
    done = await folded.seal()
    assert done.messages == done.sealed
    assert len(folded.files()) == 2
    assert not {*before} & {*folded.files()} - {"index.json"}
    assert await folded.faults() == []


async def test_another_code_on_disk_neither_folds_nor_is_a_fold_believed(
    folded: Folded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold_rules, "_CODE", {})
    assert "restart" in str(folded.look().outdated)
    with pytest.raises(CodeChanged, match="restart"):
        await folded.seal()


async def test_the_archive_of_another_stream_and_one_that_was_restored(folded: Folded) -> None:
    manifest = folded.archive.manifest(EVENTS)
    assert manifest is not None
    with folded.archive.held():
        folded.archive.write_manifest(manifest.of_stream("2020-01-01T00:00:00Z"))
        assert folded.look().fold is not None
        one, *others = manifest.segments
        other = Manifest(version=1, stream=EVENTS, created="x").with_segment(msgspec.structs.replace(one, sha256="0" * 64))
        for segment in others:
            other = other.with_segment(segment)
        folded.archive.write_manifest(other)
    assert "not of what is sealed" in str(folded.look().fault)


async def test_what_a_former_life_left_is_removed(folded: Folded) -> None:
    draft = folded.place.directory / ".draft"
    (draft / "views.duckdb.tmp").mkdir(parents=True)
    (draft / "views.duckdb.tmp" / "x").write_bytes(b"x")
    (folded.place.directory / "index.json.draft").write_bytes(b"x")
    (folded.place.directory / "unnamed.duckdb").write_bytes(b"x")
    await folded.seal()
    assert folded.files() == [folded.path.name, "index.json"]


async def test_who_is_interrupted_leaves_the_fold_as_it_was(folded: Folded) -> None:
    await seal_all(folded.bus, folded.archive, EVERYTHING)
    before = folded.files()
    begun = asyncio.Event()
    with folded.archive.held():
        work = asyncio.create_task(seal_fold(folded.archive, lambda _: begun.set()))
        await begun.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
    assert folded.files() == before
    assert await folded.faults() == []


async def test_a_full_disk_is_met_before_anything_is_written(folded: Folded, monkeypatch: pytest.MonkeyPatch) -> None:
    await seal_all(folded.bus, folded.archive, EVERYTHING)
    before = folded.files()
    monkeypatch.setattr(folded.archive, "free_bytes", lambda: RESERVE_BYTES + 1000)
    with pytest.raises(ArchiveFull, match="sealing a fold of what is sealed wants"):
        await folded.seal()
    assert folded.files() == before


async def test_it_is_the_first_that_gives_way_to_a_segment(
    folded: Folded, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    room_bytes = folded.path.stat().st_size
    there = sorted(folded.archive.directory.glob("*/*.parquet"))

    def free_bytes() -> int:
        return RESERVE_BYTES + room_bytes - folded.place.held_bytes()

    monkeypatch.setattr(folded.archive, "free_bytes", free_bytes)
    with pytest.raises(ArchiveFull, match="the next segment wants"):
        make_room(folded.archive, room_bytes + 1)
    assert folded.look().fold is not None
    await happen_to_many(folded.bus, 1, "u")
    make_room(folded.archive, room_bytes)
    assert folded.files() == []
    assert "the sealed fold gave way" in caplog.text
    assert "what was decoded" not in caplog.text
    assert sorted(folded.archive.directory.glob("*/*.parquet")) == there


@pytest.mark.parametrize("linked", ["fold", "fold/.draft"])
async def test_nothing_is_written_or_removed_through_a_link(tmp_path: Path, linked: str) -> None:
    archive = Archive(tmp_path / "archive")
    link, victim = archive.directory / linked, tmp_path / "victim"
    victim.mkdir()
    (victim / "index.json").write_bytes(b"x")
    link.parent.mkdir(parents=True)
    link.symlink_to(victim)
    place = FoldPlace(archive)
    with pytest.raises(ArchiveUnusable, match=f"{linked}: it is a link"), place.draft():
        pass
    for work in (lambda: place.tidy(None), place.remove):
        with pytest.raises(ArchiveUnusable, match=f"{linked}: it is a link"):
            work()
    assert [path.name for path in victim.iterdir()] == ["index.json"]

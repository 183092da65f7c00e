"""Views that are made from what was decoded of segments are those that are made from the stream, and from the bodies."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import msgspec
import pytest

from cutor.bus.connection import Bus
from cutor.journal.replay import Span
from cutor.model.subjects import ENVIRONMENTS, EVENTS
from cutor.projections.archive import rules, sealed_batch
from cutor.projections.archive.decoded import DIRECTORY, INDEX, Decoded, DecodedPlace
from cutor.projections.archive.decoding import Progress, decode, decode_each
from cutor.projections.archive.errors import ArchiveDamaged, ArchiveFull, ArchiveUnusable, CodeChanged
from cutor.projections.archive.fold_sealing import seal_fold
from cutor.projections.archive.place import MANIFEST, RESERVE_BYTES, Archive, sha256_of
from cutor.projections.archive.room import make_room
from cutor.projections.archive.sealing import STREAMS, Cut
from cutor.projections.archive.verification import verify
from cutor.projections.rebuilds.range_file import fold_range
from cutor.projections.rebuilds.rebuild import rebuild
from tests.integration.projecting import happen_to_many
from tests.integration.test_archive import seal_all
from tests.integration.test_archive_views import IN_PIECES, differing, fill
from tests.nats_server import OwnServer


class Sealed(NamedTuple):
    bus: Bus
    archive: Archive
    from_stream: Path
    directory: Path

    @property
    def index(self) -> Path:
        return self.archive.directory / EVENTS / "decoded" / "index.json"

    def files(self) -> list[str]:
        return sorted(path.name for path in self.index.parent.iterdir())

    async def differing(self, *, from_bodies: bool = False) -> list[object]:
        """Return in what views of the archive differ from those of the stream."""
        path = self.directory / "of-archive.duckdb"
        path.unlink(missing_ok=True)
        await rebuild(self.bus, path, archive=self.archive, from_bodies=from_bodies)
        return differing(self.from_stream, path)

    def write(self, document: Any, *, believed: bool) -> None:
        """Put another index in place of the one that is there; one that is ``believed`` has digests that are right."""
        if believed:
            entries = [msgspec.convert(one, Decoded).sealed() for one in document["segments"]]
            document = {**document, "segments": entries}
        self.index.write_bytes(msgspec.json.encode(document))

    async def decode(self) -> list[Progress]:
        with self.archive.held():
            return await decode_each(self.archive)


@pytest.fixture
async def sealed(own_server: OwnServer, own_bus: Bus, tmp_path: Path) -> Sealed:
    """A stream, its views, and an archive of most of it, in which all is decoded."""
    await fill(own_bus, own_server.url)
    archive = Archive(tmp_path / "archive")
    await seal_all(own_bus, archive, IN_PIECES)
    await rebuild(own_bus, tmp_path / "stream.duckdb")
    found = Sealed(own_bus, archive, tmp_path / "stream.duckdb", tmp_path)
    assert [one.segments > 0 and one.decoded == one.segments for one in await found.decode()] == [True, False]
    await seal_all(own_bus, archive, Cut(segment_messages=50, age_s=0.0, settled_s=0.0))
    return found


async def test_they_are_the_same_to_the_row(sealed: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = sealed.archive.manifest(EVENTS)
    assert manifest is not None
    decoded = DecodedPlace(sealed.archive, EVENTS).usable(manifest.segments)
    assert 0 < len(decoded) < len(manifest.segments)
    assert await sealed.differing() == []
    await sealed.decode()
    monkeypatch.setattr(sealed_batch, "MOST", 7)
    assert await sealed.differing() == []
    spans = {EVENTS: Span(23, 107), ENVIRONMENTS: Span(1, 1)}
    await fold_range(sealed.bus, sealed.directory / "span.duckdb", spans, archive=sealed.archive)
    await fold_range(sealed.bus, sealed.directory / "span-of-stream.duckdb", spans)
    assert differing(sealed.directory / "span.duckdb", sealed.directory / "span-of-stream.duckdb") == []


async def test_what_was_decoded_is_what_is_read_and_verifying_does_not_believe_it(sealed: Sealed) -> None:
    [path] = sealed.index.parent.glob(f"{1:020}-*.incoming_requests.parquet")
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE told AS SELECT * REPLACE ('another' AS digest) FROM '{path}'")
        connection.execute(f"COPY told TO '{path}' (FORMAT parquet)")
    document = msgspec.json.decode(sealed.index.read_bytes())
    document["segments"][0]["files"]["incoming_requests"]["sha256"] = sha256_of(path)
    sealed.write(document, believed=True)
    assert "another" in str(await sealed.differing())
    assert await sealed.differing(from_bodies=True) == []
    found = await verify(sealed.archive, EVENTS, sealed.bus)
    assert found.faults == [f"{path}: it is not what the bodies of {path.name[:41]}.parquet say"]
    with sealed.archive.held():
        await seal_fold(sealed.archive)
    shutil.rmtree(sealed.index.parent)
    assert await sealed.differing() == [], "what is sealed of the views has nothing of it"


async def test_files_that_are_not_what_they_were_are_told_of_and_not_read(
    sealed: Sealed, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, *_ = sorted(sealed.index.parent.glob("*.incoming_stages.parquet"))
    first.write_bytes(first.read_bytes() + b"x")
    second.unlink()
    assert await sealed.differing() == []
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert [str(first) in told[0], str(second) in told[1]] == [True, True]
    faults = (await verify(sealed.archive, EVENTS, None)).faults
    assert [str(first) in faults[0], str(second) in faults[1], len(faults)] == [True, True, 2]


async def test_other_rules_and_half_of_a_life_are_decoded_again(sealed: Sealed, caplog: pytest.LogCaptureFixture) -> None:
    await sealed.decode()
    whole, index = sealed.files(), sealed.index.read_bytes()
    rules = msgspec.json.decode(index)["segments"][0]["rules"]
    sealed.write(msgspec.json.decode(index.replace(rules.encode(), b"0" * 64)), believed=True)
    for name in whole[:-1]:
        (sealed.index.parent / name).rename(sealed.index.parent / name.replace(rules[:16], "0" * 16))
    (sealed.index.parent / ".draft").mkdir()
    (sealed.index.parent / ".draft" / "incoming").write_bytes(b"half")
    (sealed.index.parent / "index.json.draft").write_bytes(b"half")
    assert await sealed.differing() == []
    await sealed.decode()
    assert sealed.files() == whole
    for broken in (b"{", b"[]", b'{"version": 2, "segments": [{}]}'):
        sealed.index.write_bytes(broken)
        assert await sealed.differing() == []
        assert "bodies are read in its place" in caplog.text
        caplog.clear()
    await sealed.decode()
    assert (sealed.files(), sealed.index.read_bytes()) == (whole, index)


async def test_kinds_and_faults_that_were_changed_are_told_of_and_not_gone_by(
    sealed: Sealed, caplog: pytest.LogCaptureFixture
) -> None:
    index = sealed.index.read_bytes()
    for changed in ({"kinds": []}, {"faults": 0}, {"digest": ""}):
        document = msgspec.json.decode(index)
        whole = next(one for one in document["segments"] if one["faults"])
        whole.update(changed)
        said = f"{sealed.index}: what it says of {whole['first']} to {whole['last']} is not what was written"
        sealed.write(document, believed=False)
        caplog.clear()
        assert await sealed.differing() == []
        assert [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR] == [
            f"{said}: the bodies of the segment are read in its place"
        ]
        assert (await verify(sealed.archive, EVENTS, None)).faults == [said]
        if "digest" not in changed:
            sealed.write(document, believed=True)
            assert bool(await sealed.differing()) == ("kinds" in changed)
            name = f"{whole['first']:020}-{whole['last']:020}.parquet"
            said = f"{sealed.index}: kinds and faults are not what the bodies of {name} say"
            assert (await verify(sealed.archive, EVENTS, None)).faults == [said]
    await sealed.decode()
    assert (await verify(sealed.archive, EVENTS, None)).faults == []


async def test_a_full_disk_is_met_before_anything_is_written(sealed: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sealed.files()
    monkeypatch.setattr(sealed.archive, "free_bytes", lambda: 1000)
    events, environments = await sealed.decode()
    assert [type(one) for one in (*events.hindered, *environments.hindered)] == [ArchiveFull, ArchiveFull]
    assert "are free, and decoding 000" in str(events.hindered[0])
    assert sealed.files() == before
    assert await sealed.differing() == []


async def test_what_was_decoded_gives_way_to_a_segment_where_that_is_enough(
    sealed: Sealed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def held_bytes() -> int:
        return sum(path.stat().st_size for path in sealed.archive.directory.glob("*/decoded/*.parquet"))

    room_bytes, before = held_bytes(), sealed.files()
    monkeypatch.setattr(sealed.archive, "free_bytes", lambda: RESERVE_BYTES + room_bytes - held_bytes())
    with pytest.raises(ArchiveFull, match="the next segment wants"):
        make_room(sealed.archive, room_bytes + 1)
    assert sealed.files() == before
    assert await sealed.differing() == []
    await happen_to_many(sealed.bus, 1, "u")
    assert [*(await seal_all(sealed.bus, sealed.archive))] == [*STREAMS]
    assert sealed.files() == []
    assert "what was decoded gave way" in caplog.text


async def test_a_segment_that_is_damaged_hinders_no_other_and_no_other_stream(sealed: Sealed) -> None:
    manifest = sealed.archive.manifest(EVENTS)
    assert manifest is not None
    path = sealed.archive.file_of(EVENTS, manifest.segments[-1])
    whole = path.read_bytes()
    path.write_bytes(whole + b"x")
    for _ in range(2):
        events, environments = await sealed.decode()
        assert (events.decoded, events.segments) == (len(manifest.segments) - 1, len(manifest.segments))
        [error] = events.hindered
        assert isinstance(error, ArchiveDamaged)
        assert str(path) in str(error)
        assert environments.decoded == environments.segments == 1
    (sealed.archive.directory / EVENTS / MANIFEST).write_bytes(b"{")
    (sealed.archive.directory / ENVIRONMENTS / DIRECTORY / INDEX).unlink()
    events, environments = await sealed.decode()
    assert [type(one) for one in events.hindered] == [ArchiveDamaged]
    assert (environments.decoded, environments.hindered) == (1, ())


@pytest.mark.parametrize("linked", ["EVENTS", "EVENTS/decoded", "EVENTS/decoded/.draft"])
async def test_nothing_is_written_or_removed_through_a_link(tmp_path: Path, linked: str) -> None:
    archive = Archive(tmp_path / "archive")
    link, victim = archive.directory / linked, tmp_path / "victim"
    precious = ("precious", "index.json.draft", f"{1:020}-{2:020}.0.incoming.parquet")
    (victim / "decoded" / ".draft").mkdir(parents=True)
    for directory in (victim, victim / "decoded", victim / "decoded" / ".draft"):
        for name in precious:
            (directory / name).write_bytes(b"x")
    link.parent.mkdir(parents=True)
    link.symlink_to(victim)
    before = sorted(victim.rglob("*"))
    place = DecodedPlace(archive, EVENTS)
    with pytest.raises(ArchiveUnusable, match=f"{linked}: it is a link"), place.drafts():
        pass
    for work in (lambda: place.tidy({}), place.remove):
        with pytest.raises(ArchiveUnusable, match=f"{linked}: it is a link"):
            work()
    assert sorted(victim.rglob("*")) == before


async def test_it_ends_where_it_is_told_to_and_goes_on_there(sealed: Sealed) -> None:
    places = iter([True, False])
    for path in sealed.index.parent.iterdir():
        path.unlink()
    with sealed.archive.held():
        assert (await decode(sealed.archive, EVENTS, goes_on=lambda: next(places))).decoded == 1
        half = await sealed.differing()
        done = await decode(sealed.archive, EVENTS)
    assert half == []
    assert done.decoded == done.segments > 2


async def test_another_code_on_disk_neither_decodes_nor_is_what_was_decoded_believed(
    sealed: Sealed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = sealed.files()
    document = msgspec.json.decode(sealed.index.read_bytes())
    document["segments"][0]["files"]["incoming_requests"]["sha256"] = "0" * 64
    monkeypatch.setattr(rules, "_CODE", rules.code_of(sealed.directory))
    with sealed.archive.held(), pytest.raises(CodeChanged, match="restart"):
        await decode(sealed.archive, EVENTS)
    sealed.index.write_bytes(msgspec.json.encode(document))
    caplog.clear()
    assert await sealed.differing() == []
    assert "0" * 64 not in caplog.text
    assert "its SHA-256 differs" not in caplog.text
    assert sealed.files() == before


async def test_an_index_that_cannot_be_read_costs_nothing_that_is_decoded(
    sealed: Sealed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Too many open files, for example."""
    await sealed.decode()
    before, opened = sealed.files(), Path.open

    def fails(path: Path, *args: object, **more: object) -> object:
        if path == sealed.index:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return opened(path, *args, **more)  # type: ignore[call-overload]

    with monkeypatch.context() as failing:
        failing.setattr(Path, "open", fails)
        [of_events, _] = await sealed.decode()
        assert ["it cannot be read" in str(error) for error in of_events.hindered] == [True]
        assert await sealed.differing() == []
        assert "bodies are read in place of what was decoded" in caplog.text
        assert ["it cannot be read" in fault for fault in (await verify(sealed.archive, EVENTS, None)).faults] == [True]
    assert sealed.files() == before
    assert [one.hindered for one in await sealed.decode()] == [(), ()]

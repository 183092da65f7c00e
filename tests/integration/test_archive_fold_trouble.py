"""What is wrong beside a sealed fold costs no fold that is right: disks, links, damaged segments, another cutor."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from pathlib import Path

import duckdb
import pytest

from cutor.model.subjects import EVENTS
from cutor.projections.archive import fold_copy, fold_rules, fold_sealing
from cutor.projections.archive.errors import ArchiveDamaged, ArchiveFull, ArchiveUnusable
from cutor.projections.archive.fold_sealing import seal_fold, standing
from cutor.projections.archive.fold_verification import verify_fold
from cutor.projections.archive.place import RESERVE_BYTES, sha256_of
from cutor.projections.archive.room import make_room
from cutor.projections.archive.sealed_fold import FoldPlace, SealedFold
from tests.integration.projecting import happen_to_many
from tests.integration.test_archive import seal_all
from tests.integration.test_archive_fold import EVERYTHING, Folded, do_damage, folded, sealed

__all__ = ["folded", "sealed"]


@pytest.fixture
async def behind(folded: Folded) -> Folded:
    """A fold that has some sealed behind it."""
    await seal_all(folded.bus, folded.archive, EVERYTHING)
    await happen_to_many(folded.bus, 20, "w")
    await seal_all(folded.bus, folded.archive, EVERYTHING)
    return folded


@pytest.mark.parametrize("call", ["write", "readv"])
async def test_a_disk_that_fails_takes_no_fold_with_it(behind: Folded, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    before = behind.files()

    def fails(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as failing:
        failing.setattr(os, call, fails)
        with pytest.raises(ArchiveUnusable, match=f"{os.strerror(errno.EIO)}: no fold was sealed"):
            await behind.seal()
    assert behind.files() == before
    done = await behind.seal()
    assert done.messages == done.sealed


async def test_one_that_brings_code_is_made_anew_and_none_of_it_is_run(
    behind: Folded, caplog: pytest.LogCaptureFixture
) -> None:
    """What views define is asked for as soon as a file of them is opened to be brought on. The hash is right."""
    secret, path = behind.directory / "secret", behind.path
    secret.write_text("secret")
    with duckdb.connect(path) as connection:
        [(view,)] = connection.execute("SELECT sql FROM duckdb_views() WHERE view_name = 'checkpoint'").fetchall()
        checkpoint = view.partition(" AS ")[2].rstrip(";\n")
        reading = f"SELECT c.* FROM ({checkpoint}) AS c, (SELECT count(*) FROM read_text('{secret}'))"
        connection.execute(f"CREATE OR REPLACE VIEW checkpoint AS {reading}")
    behind.write(sha256=sha256_of(path), file_bytes=path.stat().st_size)
    os.utime(secret, (1, 1))
    done = await behind.seal()
    assert "view main.checkpoint is not defined as in views: a fold is sealed anew" in caplog.text
    assert done.messages == done.sealed
    assert secret.stat().st_atime == 1
    assert await behind.faults() == []


async def test_what_is_folded_before_a_damaged_segment_stays(behind: Folded) -> None:
    manifest = behind.archive.manifest(EVENTS)
    assert manifest is not None
    *_, damaged = manifest.segments
    path = behind.archive.file_of(EVENTS, damaged)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"x")
    assert behind.fold().streams[EVENTS].last < damaged.first - 1
    for _ in range(2):
        with pytest.raises(ArchiveDamaged, match=path.name):
            await behind.seal()
        assert behind.fold().streams[EVENTS].last == damaged.first - 1
        assert behind.files() == [behind.path.name, "index.json"]
    path.write_bytes(whole)
    done = await behind.seal()
    assert done.messages == done.sealed
    assert await behind.faults() == []


async def test_one_of_other_rules_stays_until_another_one_is_in_its_place(
    folded: Folded, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = folded.files()
    monkeypatch.setattr(fold_rules, "_RULES", "0" * 64)
    with monkeypatch.context() as small:
        small.setattr(folded.archive, "free_bytes", lambda: 1000)
        with pytest.raises(ArchiveFull, match="sealing a fold of what is sealed wants"):
            await folded.seal()
    assert folded.files() == before
    manifest = folded.archive.manifest(EVENTS)
    assert manifest is not None
    path = folded.archive.file_of(EVENTS, manifest.segments[0])
    whole = path.read_bytes()
    path.write_bytes(b"")
    with pytest.raises(ArchiveDamaged):
        await folded.seal()
    assert folded.files() == before
    path.write_bytes(whole)
    wants = sum(one.body_bytes + 512 * one.messages for one in manifest.segments)
    wants += max(one.body_bytes for one in manifest.segments)
    monkeypatch.setattr(folded.archive, "free_bytes", lambda: RESERVE_BYTES + wants - folded.place.held_bytes())
    done = await folded.seal()
    assert done.messages == done.sealed
    assert not {*before} & {*folded.files()} - {"index.json"}


async def test_that_of_a_newer_cutor_is_left_alone(folded: Folded) -> None:
    folded.index.write_bytes(b'{"version": 2, "fold": {}}')
    before = folded.files()
    assert (folded.look().fold, folded.look().fault) == (None, None)
    assert "a newer cutor wrote it" in str(folded.look().outdated)
    with pytest.raises(ArchiveUnusable, match="left as it is; update cutor"):
        await folded.seal()
    assert (folded.files(), folded.index.read_bytes()) == (before, b'{"version": 2, "fold": {}}')


async def test_where_nothing_is_behind_it_is_looked_at_and_made_anew(folded: Folded) -> None:
    for damage in ("gone", "a directory", "a byte"):
        path = folded.path
        whole = path.read_bytes()
        path.unlink()
        do_damage(damage, path, path, whole)
        assert (str(path) in str(folded.look().fault)) == (damage != "a byte"), damage
        assert standing(folded.archive).is_due == (damage != "a byte"), damage
        done = await folded.seal()
        assert done.messages == done.sealed, damage
        assert folded.path.is_file(), damage
        assert await folded.faults() == [], damage


async def test_one_that_was_sealed_before_the_archive_had_its_mark_is_good(folded: Folded) -> None:
    folded.write(mark=None)
    with folded.archive.held():
        folded.archive.make_mark()
    assert folded.look().fault is None
    assert await folded.faults() == []


async def test_what_gives_way_is_all_that_is_there(folded: Folded, monkeypatch: pytest.MonkeyPatch) -> None:
    draft = folded.place.directory / ".draft"
    draft.mkdir()
    (draft / "views.duckdb").write_bytes(b"x" * 9_000_000)
    room_bytes = folded.place.held_bytes()
    assert room_bytes > 9_000_000
    monkeypatch.setattr(folded.archive, "free_bytes", lambda: RESERVE_BYTES + room_bytes - folded.place.held_bytes())
    make_room(folded.archive, 9_000_000)
    assert folded.files() == []


async def test_a_link_in_its_place_does_not_hinder_the_next_segment(
    folded: Folded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept = folded.files()
    folded.place.directory.rename(tmp_path / "elsewhere")
    folded.place.directory.symlink_to(tmp_path / "elsewhere")
    monkeypatch.setattr(folded.archive, "free_bytes", lambda: RESERVE_BYTES)
    with pytest.raises(ArchiveFull, match="the next segment wants"):
        make_room(folded.archive, 1000)
    assert folded.files() == kept


@pytest.mark.parametrize(("module", "call"), [(os, "open"), (Path, "lstat")])
async def test_what_cannot_be_read_is_neither_removed_nor_made_anew(
    folded: Folded, monkeypatch: pytest.MonkeyPatch, module: object, call: str
) -> None:
    """Too many open files, for example: that says nothing about what is there."""
    before, read = folded.files(), getattr(module, call)

    def fails(path: str | Path, *args: object, **more: object) -> object:
        if Path(path).parent == folded.place.directory and Path(path).suffix:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return read(path, *args, **more)

    with monkeypatch.context() as failing:
        failing.setattr(module, call, fails)
        assert folded.look().is_unread
        for _ in range(2):
            with pytest.raises(ArchiveUnusable, match=f"it cannot be read: {os.strerror(errno.EMFILE)}: no fold was sealed"):
                await folded.seal()
        folded.place.tidy_up()
        [fault] = (await verify_fold(folded.archive)).faults
        assert "it cannot be read" in fault
    assert folded.files() == before
    assert folded.look().fold is not None


async def test_verifying_tells_of_a_directory_that_cannot_be_read(folded: Folded, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = Path.iterdir

    def fails(path: Path) -> object:
        if path == folded.place.directory:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", fails)
    [fault] = (await verify_fold(folded.archive)).faults
    assert fault == f"{folded.place.directory}: it cannot be read: {os.strerror(errno.EACCES)}"


async def test_a_segment_that_is_damaged_is_found_before_the_fold_is_copied(
    folded: Folded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round has it every minute until somebody puts it right."""
    await seal_all(folded.bus, folded.archive, EVERYTHING)
    manifest, last = folded.archive.manifest(EVENTS), folded.fold().streams[EVENTS].last
    assert manifest is not None
    [damaged] = [one for one in manifest.segments if one.first == last + 1]
    path = folded.archive.file_of(EVENTS, damaged)
    path.write_bytes(path.read_bytes()[:-1] + b"x")

    async def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(fold_sealing, "copied", never)
    with pytest.raises(ArchiveDamaged, match=path.name):
        await folded.seal()


async def test_who_is_interrupted_while_it_takes_its_place_leaves_no_other_one(
    behind: Folded, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, begun, goes_on, loop = FoldPlace.put_in_place, asyncio.Event(), threading.Event(), asyncio.get_running_loop()

    def put_later(self: FoldPlace, draft: Path, fold: SealedFold) -> None:
        loop.call_soon_threadsafe(begun.set)
        goes_on.wait(60)
        put(self, draft, fold)

    monkeypatch.setattr(FoldPlace, "put_in_place", put_later)
    with behind.archive.held():
        work = asyncio.create_task(seal_fold(behind.archive))
        await begun.wait()
        work.cancel()
        goes_on.set()
        with pytest.raises(asyncio.CancelledError):
            await work
    done = standing(behind.archive)
    assert done.messages == done.sealed
    assert behind.files() == [behind.path.name, "index.json"]


async def test_who_is_interrupted_while_a_fold_is_read_does_not_wait_for_its_end(
    folded: Folded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fold can be as large as the views: to read all of it takes a while."""
    read, begun, goes_on, loop = os.readv, asyncio.Event(), threading.Event(), asyncio.get_running_loop()
    pieces: list[int] = []

    def read_later(*args: object) -> int:
        loop.call_soon_threadsafe(begun.set)
        goes_on.wait(60)
        pieces.append(read(*args))  # type: ignore[arg-type]
        return pieces[-1]

    monkeypatch.setattr(fold_copy, "PIECE_BYTES", 4096)
    monkeypatch.setattr(os, "readv", read_later)
    work = asyncio.create_task(folded.seal())
    await begun.wait()
    work.cancel()
    await asyncio.sleep(0)
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert pieces == [4096]
    assert folded.fold().file_bytes > 10 * 4096

"""A file of views is made anew where a block is not what was written, whenever that is met: DuckDB looks when it reads one."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from cutor.bus.connection import Bus
from cutor.model.subjects import EVENTS
from cutor.projections.errors import ViewsRejected
from cutor.projections.store import Store
from cutor.projections.views_file import put_in_place
from cutor.projections.views_paths import wal_paths
from tests.bench.lives import lives
from tests.integration.projecting import FINISHED, happen, happen_to_many, projector, until
from tests.integration.test_projections_log import BLOCK_BYTES, HEADERS_BYTES
from tests.nats_server import OwnServer

HALF = 2500


def without_block(path: Path, whole: bytes, begin: int) -> None:
    """Write a file of which a block never came to the disk."""
    path.write_bytes(whole[:begin] + bytes(BLOCK_BYTES) + whole[begin + BLOCK_BYTES :])
    for wal in wal_paths(path):
        wal.unlink(missing_ok=True)


def met(path: Path, messages: list[object]) -> str:
    """Return when a store that opens a file, and does all that it does, meets what is wrong with it."""
    try:
        store = Store.open(path)
    except ViewsRejected as rejection:
        assert "the file is damaged" in str(rejection)
        return "opening"
    with closing(store):
        for work in (
            lambda: store.apply(EVENTS, messages[:7]),  # type: ignore[arg-type]
            lambda: store.apply(EVENTS, messages[7:]),  # type: ignore[arg-type]
            lambda: store.dead_letters(EVENTS, 0, 9),
            lambda: store.gaps(EVENTS),
            lambda: store.first(EVENTS),
            store.work_in_beside,
            store.merge,
            store.work_all_in,
        ):
            try:
                work()
            except ViewsRejected as rejection:
                assert "the file is damaged" in str(rejection)
                return "working"
    return "nothing"


def test_a_block_that_is_not_what_was_written_is_damage_whenever_it_is_read(tmp_path: Path) -> None:
    path, messages = tmp_path / "views.duckdb", [*lives(2 * HALF)]
    with closing(Store.open(path)) as store:
        store.apply(EVENTS, messages[:HALF])
        store.work_all_in()
    whole = path.read_bytes()
    found: Counter[str] = Counter()
    for begin in range(HEADERS_BYTES, len(whole), BLOCK_BYTES):
        without_block(path, whole, begin)
        found[met(path, messages[HALF:])] += 1
    assert found["opening"] > 0
    assert found["working"] > 0


def test_views_that_are_put_in_place_are_on_the_disk_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit behind that is forced to the disk, and what it rests on would not be: a copy of a sealed fold, for example."""
    path, draft, synced = tmp_path / "views.duckdb", tmp_path / "draft", list[str]()
    draft.write_bytes(b"x")
    fsync, rename = os.fsync, Path.rename

    def noting_fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def noting_rename(one: Path, other: Path) -> Path:
        synced.append("renamed")
        return rename(one, other)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(Path, "rename", noting_rename)
    put_in_place(draft, path)
    assert synced == ["draft", "renamed", tmp_path.name]


async def test_a_projector_makes_views_anew_when_it_meets_such_a_block(
    own_server: OwnServer, own_bus: Bus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database, damaged = tmp_path / "views.duckdb", tmp_path / "damaged.duckdb"
    await happen_to_many(own_bus, 30, "s")
    async with projector(own_server.url, database):
        await until(own_bus, "SELECT count(*) FROM events", 30 * len(FINISHED))
    whole = database.read_bytes()
    more = [*lives(32 * len(FINISHED))][30 * len(FINISHED) :]
    for begin in range(HEADERS_BYTES, len(whole), BLOCK_BYTES):
        without_block(damaged, whole, begin)
        if met(damaged, more) == "working":
            break
    else:
        raise AssertionError
    without_block(database, whole, begin)
    async with projector(own_server.url, database):
        await happen(own_bus, "t", *FINISHED)
        await until(own_bus, "SELECT count(*) FROM events", 31 * len(FINISHED))
    assert "the file is damaged: Corrupt database file" in caplog.text
    assert (tmp_path / "views.duckdb.aside").exists()

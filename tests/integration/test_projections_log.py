"""The write-ahead log of the views is worked in while commits go on, and a kill in the middle of both costs nothing."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import duckdb
import pytest

from cutor.model.subjects import EVENTS
from cutor.projections.errors import ViewsUnwritable
from cutor.projections.rebuilds.verification import copy_of_resting
from cutor.projections.store import Store
from cutor.projections.views_file import open_or_make_anew, set_aside
from cutor.projections.views_paths import wal_paths
from cutor.projections.write_ahead_log import WriteAheadLog
from tests.bench.lives import lives
from tests.full_disk import no_file_longer_than

LIVES = 100_000
BATCH = 3


def commit_and_work_in(path: Path) -> None:
    """Commit batch after batch, and work the log in all the time; tell the last message of each commit."""
    store, messages = Store.open(path), lives(LIVES)

    def work_in() -> None:
        while True:
            store.work_in_beside()
            say("worked in")

    threading.Thread(target=work_in, daemon=True).start()
    while batch := [*itertools.islice(messages, BATCH)]:
        store.apply(EVENTS, batch)
        say(str(batch[-1].sequence))


def say(line: str) -> None:
    """Print a line in one piece: two threads do."""
    os.write(1, f"{line}\n".encode())


@pytest.mark.parametrize("times", [1, 4])
def test_a_kill_while_the_log_is_worked_in_loses_no_commit(times: int, tmp_path: Path) -> None:
    path = tmp_path / "views.duckdb"
    (tmp_path / "scratch").mkdir()
    with subprocess.Popen([sys.executable, "-m", __name__, path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            said = [line.strip() for line in _until(iter(process.stdout), times)]
        finally:
            deadline = time.monotonic() + 30
            while not wal_paths(path)[1].exists() and time.monotonic() < deadline:
                pass  # a log is worked in for some ten milliseconds: a kill in the middle of that is wanted
            process.kill()
        said += [line.strip() for line in process.stdout]
    told = [int(line) for line in said if line.isdecimal()]
    copy = copy_of_resting(path, tmp_path / "scratch")
    with closing(Store.open(path)) as store:
        last = store.checkpoint(EVENTS).sequence
        assert last in {told[-1], told[-1] + BATCH}
        query = "SELECT count(*), max(sequence), bool_and(counts) FROM events"
        assert store._connection.execute(query).fetchall() == [(last, last, True)]
        with closing(Store.open(copy)) as copied:
            assert copied.checkpoint(EVENTS) == store.checkpoint(EVENTS), "all that is committed is in it"
        found = store._connection.execute("SELECT * FROM folds.submissions ORDER BY ALL").fetchall()
    with closing(Store.open(tmp_path / "anew.duckdb")) as anew:
        anew.apply(EVENTS, [*lives(last)])
        assert anew._connection.execute("SELECT * FROM folds.submissions ORDER BY ALL").fetchall() == found


def _until(lines: object, times: int) -> list[str]:
    """Lines until the log was worked in so often, and a few commits more."""
    taken: list[str] = []
    for line in lines:  # type: ignore[attr-defined]
        taken.append(line)
        if taken.count("worked in\n") >= times and sum(one.strip().isdecimal() for one in taken) > 20 * times:
            break
    return taken


def test_what_is_set_aside_keeps_all_its_logs(tmp_path: Path) -> None:
    path, aside = tmp_path / "views.duckdb", tmp_path / "views.duckdb.aside"
    aside.with_name(aside.name + ".wal").write_text("of one before")
    for one in (path, wal_paths(path)[1]):
        one.write_text(one.name)
    set_aside(path)
    assert {one.name: one.read_text() for one in tmp_path.iterdir()} == {
        "views.duckdb.aside": "views.duckdb",
        "views.duckdb.aside.wal.checkpoint": "views.duckdb.wal.checkpoint",
    }


def test_a_log_is_long_by_its_bytes_or_by_its_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Store.open(tmp_path / "views.duckdb")) as store:
        messages = lives(LIVES)
        monkeypatch.setattr("cutor.projections.write_ahead_log.COMMITS", 5)
        for _ in range(4):
            store.apply(EVENTS, [next(messages)])
        assert not store.has_long_log()
        store.apply(EVENTS, [next(messages)])
        assert store.has_long_log()
        store.work_in_beside()
        assert not store.has_long_log()
        monkeypatch.setattr("cutor.projections.write_ahead_log.LOG_BYTES", 20_000)
        store.apply(EVENTS, [next(messages)])
        assert not store.has_long_log()
        store.apply(EVENTS, [*itertools.islice(messages, 50)])
        assert store.has_long_log()


class Clock:
    """Tells what it is set to; each time that it is looked at, so much more has passed."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.step_s = 0.0

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


def groups(store: Store) -> int:
    """Return in how many groups DuckDB keeps the rows of events."""
    [(count,)] = store._connection.execute("SELECT count(DISTINCT row_group_id) FROM pragma_storage_info('events')").fetchall()
    return int(count)


def test_groups_of_rows_are_merged_for_a_small_part_of_the_time(tmp_path: Path) -> None:
    clock, messages = Clock(), lives(LIVES)
    with (
        closing(Store.open(tmp_path / "views.duckdb")) as store,
        closing(WriteAheadLog(store.path, store._connection, clock)) as log,
    ):

        def work_in(step_s: float = 0.0) -> int:
            store.apply(EVENTS, [*itertools.islice(messages, 300)])
            if log.is_merging_due():
                clock.step_s = step_s
                log.merge()
                clock.step_s = 0.0
            else:
                log.work_in()
            return groups(store)

        clock.now_s = 99.0
        assert [work_in() for _ in range(4)] == [1, 2, 3, 4], "what a log held is a group of its own"
        clock.now_s = 101.0
        assert work_in(step_s=2.0) == 1, "2 s of a full one: the next after 500 s"
        clock.now_s = 602.0
        assert work_in() == 2
        clock.now_s = 606.0
        assert work_in(step_s=30.0) == 2, "the two short ones are one"
        clock.now_s += 899.0
        assert work_in() == 3
        clock.now_s += 2.0
        assert work_in() < 4, "however long the last one took"
        found = store._connection.execute("SELECT count(*), max(sequence), bool_and(counts) FROM events").fetchall()
        assert found == [(2700, 2700, True)]


def test_a_merge_that_something_is_in_the_way_of_stays_due(tmp_path: Path) -> None:
    with closing(Store.open(tmp_path / "views.duckdb")) as store, closing(store._connection.cursor()) as other:
        assert store._log is not None
        store._log._merges_at_s = 0.0
        for _ in range(2):
            other.execute("BEGIN; UPDATE folds.waits SET reason = 'of another one'")
            store.merge()
            assert store.is_merging_due()
            other.rollback()
        store.merge()
        assert not store.is_merging_due()


def test_groups_are_merged_where_files_are_closed_or_killed_all_the_time(tmp_path: Path) -> None:
    """Nobody keeps this one open for as long as there is between two full checkpoints."""
    path, killed, messages = tmp_path / "views.duckdb", tmp_path / "killed.duckdb", lives(LIVES)
    with closing(Store.open(path)) as store:
        for _ in range(4):
            store.apply(EVENTS, [*itertools.islice(messages, 100)])
            store.work_in_beside()
        assert groups(store) == 4
        store.apply(EVENTS, [*itertools.islice(messages, 100)])
        for one, other in zip(wal_paths(path), wal_paths(killed), strict=True):
            if one.exists():
                shutil.copyfile(one, other)
        shutil.copyfile(path, killed)
    with closing(Store.open(path)) as store:
        assert groups(store) == 1, "DuckDB makes a full one as it closes"
        assert not store.is_merging_due()
    with closing(Store.open(killed)) as store:
        assert groups(store) > 3
        assert store.is_merging_due()


HEADERS_BYTES, BLOCK_BYTES = 3 * 4096, 256 << 10
"""Of a file of DuckDB's: what is before its blocks, and each of these."""


def test_half_a_block_that_is_written_in_place_makes_the_views_anew_loudly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """DuckDB writes metadata so that tables share: a kill in the middle of that leaves a file that nobody can open."""
    path, torn, messages = tmp_path / "views.duckdb", tmp_path / "torn.duckdb", lives(LIVES)
    with closing(Store.open(path)) as store:
        for _ in range(4):
            store.apply(EVENTS, [*itertools.islice(messages, 300)])
            store.work_in_beside()
        store.apply(EVENTS, [*itertools.islice(messages, 300)])
        before, log = path.read_bytes(), wal_paths(path)[0].read_bytes()
        store.work_in_beside()
        after = path.read_bytes()
    found = set()
    for begin in range(HEADERS_BYTES, len(before), BLOCK_BYTES):
        if before[begin : begin + BLOCK_BYTES] != after[begin : begin + BLOCK_BYTES]:
            middle = begin + BLOCK_BYTES // 2
            torn.write_bytes(before[:begin] + after[begin:middle] + before[middle:])
            wal_paths(torn)[0].write_bytes(log)
            caplog.clear()
            with closing(open_or_make_anew(torn)) as store:
                loudly = "the file is damaged" in caplog.text and "the views are made anew" in caplog.text
                assert store.checkpoint(EVENTS).sequence == (0 if loudly else 1500)
                found.add(loudly)
    assert True in found, "DuckDB writes nothing in place any more: decision 0042 and the page about projections say it does"


@pytest.mark.parametrize("work_in", [Store.work_in_beside, Store.merge])
def test_a_full_disk_is_named_in_the_one_line(work_in: Callable[[Store], None], tmp_path: Path) -> None:
    store, messages = Store.open(tmp_path / "views.duckdb"), lives(LIVES)
    try:
        for _ in range(20):
            store.apply(EVENTS, [*itertools.islice(messages, 200)])
        with (
            no_file_longer_than(store.path.stat().st_size + 4096),
            pytest.raises(ViewsUnwritable, match=r"Could not write file .*: File too large"),
        ):
            work_in(store)
    finally:
        with suppress(duckdb.Error):
            store.close()


def test_states_keep_their_place_while_the_log_is_worked_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def settled() -> int:
        [(count,)] = store._connection.execute("SELECT count(*) FROM folds.settled").fetchall()
        return int(count)

    def meanwhile(log: WriteAheadLog) -> None:
        store.work_in()
        assert settled() == 0, "they would wait for it, and whoever commits with them"

    monkeypatch.setattr("cutor.projections.folds.small_fold.MOVING", 5)
    monkeypatch.setattr(WriteAheadLog, "work_in", meanwhile)
    with closing(Store.open(tmp_path / "views.duckdb")) as store:
        for message in lives(20):
            store.apply(EVENTS, [message])
        store.work_in_beside()
        store.work_in()
        assert settled() > 0


if __name__ == "__main__":
    commit_and_work_in(Path(sys.argv[1]))

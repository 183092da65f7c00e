"""What the fault harness prints, and that what it looks at beside the log can be found wanting."""

from __future__ import annotations

import asyncio
from pathlib import Path

import duckdb
import pytest

from tests.fault import table
from tests.fault.clustered import Appends, Times, longest_pause, lost
from tests.fault.invariants import Finding
from tests.fault.leftovers import files
from tests.fault.rows import Row
from tests.fault.soak import met
from tests.fault.views import compare

BAD = {
    "lost": Row("p.q.before", 1, 5, findings=[("id", Finding("lost", "it has not ended"))]),
    "left": Row("p.q.before", 1, 5, left=["containers: abc"]),
    "views": Row("p.q.before", 1, 5, views=["main.events: 1 rows are kept alone"]),
    "fault": Row("p.q.before", 1, 5, faults=["acknowledged appends paused 12.0 s"]),
    "never passed": Row("p.q.before", 0, 5, reached=False),
}


def test_a_good_row_is_one_line_within_the_width() -> None:
    (line,) = table.lines(Row("builder.container-create.before", 1, 6, seconds=9.3))
    assert len(line) <= table.WIDTH + 1
    assert not line.startswith("!")


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_marked_and_says_why(name: str) -> None:
    first, *rest = table.lines(BAD[name])
    assert first.startswith("!")
    assert any(name in line for line in rest)
    assert not BAD[name].good


def test_the_total_is_the_sum() -> None:
    line = table.total([Row("a", 1, 5, made=7), BAD["lost"], BAD["views"]], 61.0).splitlines()[-1]
    assert line.split()[3:] == ["points", "3", "7", "15", "1", "0", "0", "0", "2/3", "61", "s"]


@pytest.mark.parametrize(("kills", "submissions", "short"), [(100, 500, 0), (99, 500, 1), (100, 499, 1), (0, 0, 2)])
def test_a_run_of_all_points_has_so_many_kills_and_submissions(kills: int, submissions: int, short: int) -> None:
    """Faults that were made otherwise are no kills, however many there were."""
    half = kills // 2, submissions // 2
    rows = [Row("a", *half, made=1000), Row("b", kills - half[0], submissions - half[1])]
    assert len(table.shortfall(rows)) == short


@pytest.mark.parametrize(
    ("at", "since", "until", "pause"),
    [
        ((), 10.0, 25.0, 15.0),  # never again
        ((1.0, 9.0), 10.0, 25.0, 15.0),  # only before
        ((9.0, 12.0, 13.0), 10.0, 14.0, 2.0),
        ((11.0, 12.0), 10.0, 25.0, 13.0),  # they stopped: the pause that is still open counts
        ((11.0, 19.0, 20.0, 40.0), 10.0, 21.0, 8.0),
    ],
)
def test_the_longest_pause_counts_from_the_kill_to_the_look(
    at: tuple[float, ...], since: float, until: float, pause: float
) -> None:
    assert longest_pause(at, since, until) == pause


def test_an_acknowledged_append_that_is_not_where_it_was_acknowledged_is_lost() -> None:
    assert lost({"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3}) == []
    assert [finding.promise for finding in lost({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 4})] == ["lost", "lost"]


def test_a_pause_longer_than_allowed_is_a_fault_of_appends_and_of_roles() -> None:
    assert list(Times([9.9], [0.1], [60.0]).faults()) == []
    assert len(list(Times([10.1, 1.0], [0.1, 11.0], [60.0, 1.0]).faults())) == 2


async def test_a_load_that_fails_is_no_load() -> None:
    async def fails() -> None:
        raise KeyError("what no server says")

    appends = Appends()
    appends.task = asyncio.create_task(fails())
    with pytest.raises(KeyError):
        await appends.more(1, 60)
    assert await Appends().more(1, 0) is not None  # nobody appends: said, not passed over


def test_faults_that_a_submission_met_are_those_of_its_time() -> None:
    spans = [(0.0, 3.0), (10.0, 40.0), (50.0, 53.0)]
    assert [met(spans, *of) for of in ((4.0, 9.0), (2.0, 11.0), (20.0, 30.0), (0.0, float("inf")))] == [0, 2, 1, 3]


def make_file(path: Path, *rows: int, name: str = "one") -> Path:
    with duckdb.connect(path) as opened:
        opened.execute(f"CREATE TABLE {name} (number INTEGER); CREATE VIEW more AS SELECT number + 1 FROM {name}")
        opened.executemany(f"INSERT INTO {name} VALUES ($1)", [[row] for row in rows])
    return path


def test_equal_files_do_not_differ(tmp_path: Path) -> None:
    assert compare(make_file(tmp_path / "a", 1, 2), make_file(tmp_path / "b", 2, 1)) == []


@pytest.mark.parametrize(("kept", "rebuilt"), [((1, 2), (1,)), ((1,), (1, 2)), ((1, 1), (1,)), ((1,), (1, 1))])
def test_rows_that_are_missing_or_there_twice_are_found_in_tables_and_views(
    tmp_path: Path, kept: tuple[int, ...], rebuilt: tuple[int, ...]
) -> None:
    found = compare(make_file(tmp_path / "a", *kept), make_file(tmp_path / "b", *rebuilt))
    assert [line.partition(":")[0] for line in found] == ["main.more", "main.one"]


def test_a_table_that_is_missing_is_found(tmp_path: Path) -> None:
    found = compare(make_file(tmp_path / "a", 1), make_file(tmp_path / "b", 1, name="two"))
    assert found[0] == "tables: ['main.one', 'main.two']"


def test_files_that_a_stack_does_not_keep_are_found(tmp_path: Path) -> None:
    for name in ("lock", "instance", "nats/jetstream/1.blk", "log/runner.log", "projections.duckdb.wal"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list(files(tmp_path)) == []
    for name in ("in-hand/runner/17", ".config.toml.0a1b2c3d", "projections.duckdb.snapshot.draft"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert sorted(files(tmp_path)) == [".config.toml.0a1b2c3d", "in-hand/runner/17", "projections.duckdb.snapshot.draft"]

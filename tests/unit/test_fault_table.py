"""What the fault harness prints, and that what it looks at beside the log can be found wanting."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from tests.fault import table
from tests.fault.campaign import Row
from tests.fault.invariants import Finding
from tests.fault.leftovers import files
from tests.fault.views import compare

BAD = {
    "lost": Row("p.q.before", 1, 5, findings=[("id", Finding("lost", "it has not ended"))]),
    "left": Row("p.q.before", 1, 5, left=["containers: abc"]),
    "views": Row("p.q.before", 1, 5, views=["main.events: 1 rows are kept alone"]),
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
    line = table.total([Row("a", 1, 5), BAD["lost"], BAD["views"]], 61.0).splitlines()[-1]
    assert line.split()[3:] == ["points", "3", "15", "1", "0", "0", "0", "2/3", "61", "s"]


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

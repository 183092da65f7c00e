"""Two files of views are compared row by row, and the first difference is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from cutor.projections.rebuilds import compare
from cutor.projections.rebuilds.compare import Compared, Comparison, Difference
from tests.unit.histories import RUNNING, finished, ran
from tests.unit.views import Views

LONG = "x" * 10_000


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two files of the same history: what is used, and what was folded from scratch."""
    for name in ("used", "folded"):
        directory = tmp_path_factory.getbasetemp() / name
        directory.mkdir()
        views = Views(directory)
        views.happen(*RUNNING, ran(0, "OK", "WA"), finished("WRONG_ANSWER"))
        views.store.close()
    return tuple(tmp_path_factory.getbasetemp() / name / "views.duckdb" for name in ("used", "folded"))  # type: ignore[return-value]


@pytest.fixture
def changed(files: tuple[Path, Path], tmp_path: Path) -> Iterator[tuple[duckdb.DuckDBPyConnection, Path, Path]]:
    """A copy of the used file, open for who changes it; the copy; and the other file."""
    path = tmp_path / "used.duckdb"
    path.write_bytes(files[0].read_bytes())
    with duckdb.connect(path) as connection:
        yield connection, path, files[1]


def compared(used: Path, folded: Path) -> Comparison:
    both = Compared(used, folded, used.parent)
    try:
        return both.compare()
    finally:
        both.close()


def test_equal_files_have_no_difference_and_every_row_is_counted(files: tuple[Path, Path]) -> None:
    told: list[tuple[str, int, int]] = []
    both = Compared(*files, files[0].parent)
    found = both.compare(lambda *how_far: told.append(how_far))
    both.close()
    assert found.difference is None
    assert (found.rows["main.events"], found.rows["main.stages"], found.rows["folds.submissions"]) == (6, 3, 1)
    assert "folds.rules" not in found.rows
    assert told[-1][1] == told[-1][2] == sum(found.rows.values())


SECOND_RUN = {"sequence": "5", "stage": "run", "test_case": "1"}
BUILD = {"sequence": "3", "stage": "dependencies", "test_case": None}
FAR = "INSERT INTO events BY NAME SELECT * REPLACE (9000000000000 AS sequence) FROM events LIMIT 1"
OWN = {"tenant": "default", "id": "s1"}
VIEW = "DROP VIEW queue; CREATE VIEW queue AS SELECT 1 AS role"


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ("UPDATE stages SET outcome = 'OK' WHERE test_case = 1", ("main.stages", SECOND_RUN, "outcome", "OK", "WA")),
        ("UPDATE stages SET exit_code = 7 WHERE sequence = 3", ("main.stages", BUILD, "exit_code", "7", "0")),
        ("DELETE FROM events WHERE sequence IN (3, 4)", ("main.events", {"sequence": "3"}, None, "0", "1")),
        (FAR, ("main.events", {"sequence": "9000000000000"}, None, "1", "0")),
        ("INSERT INTO folds.ends FROM folds.ends", ("folds.ends", {"sequence": "6"}, None, "2", "1")),
        (
            "UPDATE folds.moving SET numbers = list_concat(numbers[:11], [NULL], numbers[13:])::BIGINT[14]",
            ("folds.submissions", OWN, "ended", None, "6"),
        ),
        (VIEW, ("main.queue", {}, "definition", 'CREATE VIEW queue AS SELECT 1 AS "role";', None)),
    ],
)
def test_the_first_difference_is_named(
    changed: tuple[duckdb.DuckDBPyConnection, Path, Path],
    change: str,
    difference: tuple[str, dict[str, str | None], str | None, str | None, str | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the slices."""
    connection, used, folded = changed
    connection.execute(change)
    connection.close()
    for slice_of in (50_000, 2):
        monkeypatch.setattr(compare, "SLICE", slice_of)
        found = compared(used, folded).difference
        assert found is not None
        assert found[:4] == difference[:4]
        assert difference[4] in (None, found.folded)


def test_of_long_values_the_part_is_shown_where_they_differ(changed: tuple[duckdb.DuckDBPyConnection, Path, Path]) -> None:
    connection, used, folded = changed
    connection.execute(f'UPDATE events SET body = replace(body, \'"digest":"d1"\', \'"digest":"{LONG}"\') WHERE sequence = 1')
    connection.close()
    found = compared(used, folded).difference
    assert isinstance(found, Difference)
    assert found.column == "body"
    assert found.used is not None
    assert found.folded is not None
    assert len(found.used) <= compare.SHOWN_CHARACTERS + 2
    assert '"digest":"xxx' in found.used
    assert '"digest":"d1"' in found.folded

"""Views are compared with what the streams say: those of a projector that lives, of one that rests, and those of a file."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import duckdb
import pytest

from cutor.bus.connection import Bus
from cutor.projections.errors import ProjectorBusy
from cutor.projections.exports.client import fetch_snapshot
from cutor.projections.rebuilds.compare import Difference
from cutor.projections.rebuilds.rebuild import tell_nobody
from cutor.projections.rebuilds.verification import Verified, VerifyFailed, copy_of_resting, verify
from tests.integration.projecting import FINISHED, happen, happen_to_many, projector, until
from tests.nats_server import OwnServer

MANY = 30
COUNT = MANY * len(FINISHED) + 1
"""All messages: whole lives, and one that is no event."""


@pytest.fixture
async def followed(own_server: OwnServer, own_bus: Bus, tmp_path: Path) -> AsyncIterator[Path]:
    """The file of a projector that lives, and has seen lives in several commits and something that is no event."""
    path = tmp_path / "views.duckdb"
    async with projector(own_server.url, path):
        await happen_to_many(own_bus, MANY, "v")
        await own_bus.publish("cutor.ev.default.v1.leased", b"\xff not an event")
        await until(own_bus, "SELECT max(sequence) FROM events", COUNT)
        yield path


async def verified(bus: Bus, used: Path, scratch: Path, told: list[tuple[str, int, int]] | None = None) -> Verified:
    with tempfile.TemporaryDirectory(dir=scratch) as made:
        return await verify(
            bus, used, Path(made), tell=tell_nobody, tell_compared=lambda *far: None if told is None else told.append(far)
        )


async def test_a_living_projector_has_what_the_streams_say(followed: Path, own_bus: Bus, tmp_path: Path) -> None:
    taken = tmp_path / "taken.duckdb"
    await fetch_snapshot(own_bus, taken)
    last = await happen(own_bus, "later", *FINISHED)  # what came behind the snapshot is no difference
    told: list[tuple[str, int, int]] = []
    done = await verified(own_bus, taken, tmp_path, told)
    assert done.comparison.difference is None
    assert (done.positions, done.messages) == ({"EVENTS": COUNT, "ENVIRONMENTS": 0}, COUNT)
    assert last > COUNT
    rows = done.comparison.rows
    assert (rows["main.events"], rows["folds.submissions"]) == (COUNT, MANY)
    assert told[-1][1] == told[-1][2] == sum(rows.values())
    with pytest.raises(ProjectorBusy):
        copy_of_resting(followed, tmp_path)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ("UPDATE stages SET cpu_time_ms = 99 WHERE id = 'v7' AND test_case = 1", ("main.stages", "cpu_time_ms", "99")),
        ("DELETE FROM stages WHERE id = 'v7' AND test_case = 1", ("main.stages", None, "0")),
        ("UPDATE events SET body = '{}' WHERE sequence = 5", ("main.events", "body", "{}")),
        ("CREATE OR REPLACE VIEW queue AS SELECT 1 AS waiting", ("main.queue", "definition", None)),
        (f"UPDATE events SET sequence = 9999 WHERE sequence = {COUNT}", ("main.checkpoint", "sequence", "9999")),
    ],
)
async def test_what_was_changed_is_named(
    change: str, difference: tuple[str, str | None, str | None], followed: Path, own_bus: Bus, tmp_path: Path
) -> None:
    taken = tmp_path / "taken.duckdb"
    await fetch_snapshot(own_bus, taken)
    with duckdb.connect(taken) as connection:
        connection.execute(change)
    found = (await verified(own_bus, taken, tmp_path)).comparison.difference
    assert isinstance(found, Difference)
    table, column, used = difference
    assert (found.table, found.column) == (table, column)
    assert used is None or found.used == used
    assert found.used != found.folded


async def test_a_resting_file_is_read_with_its_log_and_left_as_it_is(
    own_server: OwnServer, own_bus: Bus, tmp_path: Path
) -> None:
    path = tmp_path / "views.duckdb"
    async with projector(own_server.url, path):
        last = await happen(own_bus, "one", *FINISHED)
        await until(own_bus, "SELECT max(sequence) FROM events", last)
    before = path.read_bytes()
    directory = tmp_path / "copied"
    directory.mkdir()
    copy = copy_of_resting(path, directory)
    done = await verified(own_bus, copy, tmp_path)
    assert (done.comparison.difference, done.positions["EVENTS"]) == (None, last)
    assert path.read_bytes() == before


async def test_what_is_no_file_of_views_is_one_line(own_bus: Bus, tmp_path: Path) -> None:
    with pytest.raises(VerifyFailed, match="no projector answers, and there is no file"):
        copy_of_resting(tmp_path / "none.duckdb", tmp_path)
    (tmp_path / "text").write_text("not a database")
    with pytest.raises(VerifyFailed, match="cannot be read as views"):
        await verified(own_bus, tmp_path / "text", tmp_path)
    with duckdb.connect(tmp_path / "other.duckdb") as connection:
        connection.execute("CREATE TABLE mine AS SELECT 1 AS one")
    with pytest.raises(VerifyFailed, match="cannot be read as views"):
        await verified(own_bus, tmp_path / "other.duckdb", tmp_path)

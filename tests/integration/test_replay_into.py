"""A range of the log as a file of views: equal to a fold of exactly its messages, and nothing left where it is not made."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest

from cutor.bus.connection import Bus
from cutor.bus.message import Stored
from cutor.journal.replay import Span
from cutor.model.moments import exact_time
from cutor.model.subjects import ENVIRONMENTS, EVENTS
from cutor.projections.errors import ProjectorBusy
from cutor.projections.rebuilds.range_file import FileExists, fold_range
from cutor.projections.schema import TABLES
from cutor.projections.store import Store
from cutor.projections.views_file import held
from tests import commands
from tests.bare_stack import one_line
from tests.integration.projecting import happen_to_many
from tests.nats_server import OwnServer, apply_streams

GOLDEN = Path(__file__).parents[1] / "golden"


class Log:
    """A server whose streams hold the lives of submissions, interleaved, and of environments between them."""

    def __init__(self, directory: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._own = OwnServer(directory)
        self._loop.run_until_complete(self._own.start())
        self.url = self._own.url
        self._loop.run_until_complete(self._fill())

    async def _fill(self) -> None:
        await apply_streams(self.url)
        async with Bus.connect(self.url, name="test") as bus:
            for turn in range(4):
                await happen_to_many(bus, 5, f"s{turn}-")
                await bus.publish(f"cutor.env.{'k' * 63}{turn}", (GOLDEN / "env-built.v1.json").read_bytes())
                await bus.publish("cutor.ev.default.stray.finished", b"no event")
            self.events = [stored async for stored in bus.read(EVENTS)]
            self.environments = [stored async for stored in bus.read(ENVIRONMENTS)]

    def stop(self) -> None:
        self._loop.run_until_complete(self._own.kill())
        self._loop.close()

    def replay(self, *args: str) -> subprocess.CompletedProcess[str]:
        return commands.decoded(commands.run(["replay", "--server", self.url, *args], os.environ, timeout_s=240))


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Log]:
    log = Log(tmp_path_factory.mktemp("log"))
    yield log
    log.stop()


def folded(path: Path, events: Sequence[Stored], environments: Sequence[Stored]) -> Path:
    """Fold messages as a projector does, one at a time; returns the file."""
    store = Store.open(path)
    for stream, messages in ((EVENTS, events), (ENVIRONMENTS, environments)):
        for message in messages:
            store.apply(stream, [message])
    store.close()
    return path


def assert_equal(one: Path, other: Path) -> None:
    """Compare all views of two files, both ways."""
    with duckdb.connect() as connection:
        for name, path in (("one", one), ("other", other)):
            connection.execute(f"ATTACH '{path}' AS {name} (READ_ONLY)")
        for view in (*TABLES, "environment_events"):
            for left, right in (("one", "other"), ("other", "one")):
                sql = f"SELECT * FROM {left}.{view} EXCEPT ALL SELECT * FROM {right}.{view}"
                assert connection.execute(sql).fetchall() == [], (view, left)


def values(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(path, read_only=True) as connection:
        return connection.execute(sql).fetchall()


@pytest.mark.parametrize("by", ["sequence", "time"])
def test_the_views_as_of_any_moment_are_the_fold_up_to_it(log: Log, tmp_path: Path, by: str) -> None:
    for number, moment in enumerate([log.events[-1], *random.sample(log.events, 2)]):
        then = tmp_path / f"{number}.duckdb"
        at = str(moment.sequence) if by == "sequence" else exact_time(moment.time_ns)
        done = log.replay("--into", str(then), "--as-of", at)
        assert done.returncode == 0, done.stderr
        before = [one for one in log.environments if one.time_ns <= moment.time_ns]
        assert_equal(then, folded(tmp_path / f"{number}.wanted", log.events[: moment.sequence], before))


def test_views_as_of_a_moment_before_the_log_are_empty_and_that_is_said(log: Log, tmp_path: Path) -> None:
    done = log.replay("--into", str(tmp_path / "then.duckdb"), "--as-of", "2001-01-01")
    assert done.returncode == 0
    assert done.stderr == "cutor: note: the log has nothing from then or before: these views are empty\n"
    done = log.replay("--into", str(tmp_path / "first.duckdb"), "--as-of", "1")
    assert "note: the log has nothing" not in done.stderr


def test_the_whole_log_is_a_file_that_a_projector_goes_on_with(log: Log, tmp_path: Path) -> None:
    file = tmp_path / "all.duckdb"
    done = log.replay("--into", str(file), "--json")
    document = json.loads(done.stdout)
    assert [part["messages"] for part in document["streams"]] == [len(log.events), len(log.environments)]
    assert document["begun_before"] == {"submissions": 1, "messages": 4}, "the strays of a stranger"
    assert values(file, "SELECT stream, first_sequence, last_sequence FROM replayed ORDER BY ALL DESC") == [
        (EVENTS, 1, len(log.events)),
        (ENVIRONMENTS, 1, len(log.environments)),
    ]
    assert file.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.duckdb"]
    store = Store.open(file)
    assert store.checkpoint(EVENTS).sequence == len(log.events)
    store.close()


def test_a_range_that_begins_within_lives_has_strays_and_says_so(log: Log, tmp_path: Path) -> None:
    begin = 30
    file = tmp_path / "part.duckdb"
    done = log.replay("--into", str(file), "--from", str(begin), "--to", "100")
    assert done.returncode == 0, done.stderr
    before = [one for one in log.environments if one.time_ns <= log.events[99].time_ns]
    assert_equal(file, folded(tmp_path / "wanted", log.events[begin - 1 : 100], before))
    submitted = {one.subject.split(".")[3] for one in log.events[begin - 1 : 100] if one.subject.endswith(".submitted")}
    assert {name for (name,) in values(file, "SELECT id FROM submissions")} == submitted
    [(strays,)] = values(file, "SELECT count(*) FROM events WHERE NOT counts")
    assert strays
    assert f"note: {strays} messages of " in done.stdout
    store_rejects(file)


def store_rejects(file: Path) -> None:
    """Check that no projector takes a part for the whole."""
    with pytest.raises(Exception, match="rules of another version"):
        Store.open(file)


def test_what_is_there_is_replaced_with_force_alone(log: Log, tmp_path: Path) -> None:
    file = tmp_path / "views.duckdb"
    file.write_text("mine")
    (tmp_path / "views.duckdb.wal").write_text("mine, too")
    line = one_line(log.replay("--into", str(file)), 2)
    assert "replace it with --force" in line
    assert file.read_text() == "mine"
    assert log.replay("--into", str(file), "--force", "--to", "3").returncode == 0
    assert values(file, "SELECT count(*) FROM events") == [(3,)]
    assert [path.name for path in tmp_path.iterdir()] == ["views.duckdb"]


def test_the_file_of_a_living_projector_is_not_replaced(log: Log, tmp_path: Path) -> None:
    file = tmp_path / "views.duckdb"
    file.write_text("the projector's")

    async def act() -> None:
        async with Bus.connect(log.url, name="test") as bus:
            await fold_range(bus, file, {EVENTS: Span(1, 2)}, force=True)

    with held(file), pytest.raises(ProjectorBusy):
        asyncio.run(act())
    assert file.read_text() == "the projector's"


def test_somebody_else_makes_the_file_meanwhile(log: Log, tmp_path: Path) -> None:
    file = tmp_path / "views.duckdb"

    async def act() -> None:
        async with Bus.connect(log.url, name="test") as bus:
            await fold_range(bus, file, {EVENTS: Span(1, 2)}, tell=lambda _: file.touch())

    with pytest.raises(FileExists):
        asyncio.run(act())
    assert [path.name for path in tmp_path.iterdir()] == ["views.duckdb"]
    assert file.stat().st_size == 0


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing(log: Log, tmp_path: Path, end: signal.Signals) -> None:
    """The signal comes while the draft is being written: its directory is there."""
    command = [sys.executable, "-m", "cutor", "replay", "--server", log.url, "--into", str(tmp_path / "views.duckdb")]
    for _ in range(20):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and not any(tmp_path.iterdir()):
            os.sched_yield()
        process.send_signal(end)
        _, said = process.communicate(timeout=180)
        left = [path.name for path in tmp_path.iterdir()]
        if process.returncode == 130:
            assert left == []
            assert said.endswith(f"cutor: interrupted: {tmp_path / 'views.duckdb'} was not written\n")
            return
        (tmp_path / "views.duckdb").unlink()  # it was done before the signal came
    pytest.fail("it was never interrupted")


@pytest.mark.parametrize(
    "args",
    [
        ("--as-of", "1"),
        ("--force",),
        ("--into", "x", "--tenant", "a"),
        ("--into", "x", "--stream", EVENTS),
        ("--into", "x", "--as-of", "1", "--from", "1"),
        ("--into", "x", "--as-of", "1", "--to", "1"),
        ("--into", "x", "--as-of", "1000000"),
        ("--into", "x", "--as-of", "2100-01-01"),
        ("--into", "x", "--from", "5", "--to", "4"),
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_refused(log: Log, tmp_path: Path, args: tuple[str, ...]) -> None:
    one_line(log.replay(*(str(tmp_path / "x") if arg == "x" else arg for arg in args)), 2)
    assert list(tmp_path.iterdir()) == []


def test_a_place_where_no_file_can_be_is_refused(log: Log, tmp_path: Path) -> None:
    assert "is no directory" in one_line(log.replay("--into", str(tmp_path / "none" / "x")), 3)
    assert "is a directory" in one_line(log.replay("--into", str(tmp_path), "--force"), 2)


def test_an_empty_log_gives_empty_views(tmp_path: Path) -> None:
    async def act() -> str:
        await own.start()
        await apply_streams(own.url)
        return own.url

    own, loop = OwnServer(tmp_path / "nats"), asyncio.new_event_loop()
    try:
        url = loop.run_until_complete(act())
        command = [sys.executable, "-m", "cutor", "replay", "--server", url, "--into", str(tmp_path / "x")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
        assert done.returncode == 0, done.stderr
        assert values(tmp_path / "x", "SELECT count(*) FROM submissions") == [(0,)]
    finally:
        loop.run_until_complete(own.kill())
        loop.close()

"""A stream that holds two versions of its events: whatever reads it makes of it what it makes of the new version alone.

The cutor that knows both is `tests.second_version`, in processes of its own: projector, rebuild, archive, replay, verify,
report, re-judging, builder and runner. What its views are held against was folded from the same messages, each in the new
version.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

from cutor.bus.connection import Bus
from cutor.bus.message import Stored
from cutor.journal.replay import line_of
from cutor.journal.stack_policy import publish_policy
from cutor.model.codec import encode
from cutor.model.environments import EnvironmentPinned, EnvironmentRemoved, EnvironmentUnpinned
from cutor.model.events import CacheLost, Cancelled, Cleaned, Compiled, Event, Finished, Interrupted, Parked, Submitted, kind_of
from cutor.model.limits import Policy
from cutor.model.subjects import ENVIRONMENTS, EVENTS, Address, event_subject
from tests import second_version
from tests.integration.projecting import FINISHED, PATIENCE_S, until
from tests.nats_server import OwnServer, apply_streams
from tests.unit.histories import BUILT, COMPILING, OK, REQUEST, RUNNING, cache_built, finished, lease, leased, ran

GOLDEN = Path(__file__).parents[1] / "golden"
KEY = "8b1a9953c4611296a827abf8c47804d7f3a1b2c3d4e5f60718293a4b5c6d7e8f"
CLEANED = Cleaned(worker="w", by="worker")
LIVES: tuple[tuple[Event, ...], ...] = (
    FINISHED,
    (Submitted(request=COMPILING, digest="d"), *RUNNING[1:], Compiled(lease=lease("runner"), stage=OK), ran(0, "OK"), CLEANED),
    (*RUNNING, ran(0, "OK"), leased("runner", 2), ran(0, "RE", number=2), finished("RUN_ERROR", number=2), CLEANED),
    (*RUNNING, CacheLost(lease=lease("runner"), key="k1", missing="/nix/store/x"), leased("builder", 2), cache_built(2)),
    (*RUNNING, Cancelled(), Cleaned(worker="w", by="worker", interrupted=Interrupted(stage="run", stages=(OK,)))),
    (*BUILT[:2], Finished(lease=lease("builder"), outcome="DEPENDENCY_ERROR", dependencies=OK), CLEANED),
    (*RUNNING, ran(0, "OK"), Parked(role="runner", message="the disk is full", stage="run"), CLEANED),
    (*RUNNING, leased("runner", 2), ran(0, "OK", number=1), finished("OK", number=1)),
)
ENVIRONMENT_EVENTS = (
    (GOLDEN / "env-built.v1.json").read_bytes(),
    *(
        encode(one)
        for one in (EnvironmentPinned(key=KEY), EnvironmentPinned(key=KEY), EnvironmentUnpinned(key=KEY, pin_sequence=2))
    ),
    encode(EnvironmentRemoved(key=KEY, reason="r")),
    (GOLDEN / "env-built.v1.private.json").read_bytes(),
)
NOT_AS_WRITTEN = "EXCLUDE (version, body, raw)"
"""What an event's row says of how it was written; all else is the same whatever the version."""


def lives(prefix: str) -> Iterator[tuple[str, bytes]]:
    """Yield subjects and bodies of today: each life three times, interleaved, in the same order within each."""
    rng = random.Random(prefix)
    waiting = {Address("default", f"{prefix}{number}"): list(LIVES[number % len(LIVES)]) for number in range(3 * len(LIVES))}
    while waiting:
        address = rng.choice(list(waiting))
        event = waiting[address].pop(0)
        yield event_subject(address, kind_of(event)), encode(event)
        if not waiting[address]:
            del waiting[address]
    yield "cutor.ev.default.stray.finished", b"no event"
    yield "cutor.ev.default.stray.finished", b'{"kind":"finished","version":3}'


class Log:
    """A server with both versions in its streams, a projector's views of them, and what is sealed of the first half."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data, self.archive = directory / "projector", directory / "archive"
        self.config = directory / "config.toml"
        self.config.write_text(f'[archive]\ndirectory = "{self.archive}"\n')
        self._loop = asyncio.new_event_loop()
        self._own = OwnServer(directory / "nats")
        self._rng = random.Random(1)
        self.run(self._own.start())
        self.url = self._own.url
        self.run(apply_streams(self.url))
        with self.projector():
            self.run(self._fill())
        self.views = self.data / "projections.duckdb"
        self.wanted = directory / "wanted.duckdb"
        self.fold_new(self.wanted, {EVENTS: self.events, ENVIRONMENTS: self.environments})

    def run(self, work: Any) -> Any:
        return self._loop.run_until_complete(work)

    def stop(self) -> None:
        self.run(self._own.kill())
        self._loop.close()

    async def _fill(self) -> None:
        async with Bus.connect(self.url, name="test") as bus:
            await until(bus, "SELECT 1", 1)
            await publish_policy(bus, Policy(versions={"submitted": 2}))
            *before, last = ENVIRONMENT_EVENTS
            for body in (*map(second_version.older, before), second_version.newer(last)):
                await bus.publish(f"cutor.env.{KEY}", body)
            await self._publish(bus, "a")
            self.second("archive", "seal", "--all", "--directory", str(self.archive))
            await self._publish(bus, "b")
            self.events = [stored async for stored in bus.read(EVENTS)]
            self.environments = [stored async for stored in bus.read(ENVIRONMENTS)]
            at = f"SELECT max(sequence) = {self.events[-1].sequence} FROM checkpoint WHERE stream = 'EVENTS'"
            await until(bus, at, True)

    async def _publish(self, bus: Bus, prefix: str) -> None:
        for subject, body in lives(prefix):
            await bus.publish(subject, self.either(body) if body.startswith(b'{"kind":"') and b'"version":1' in body else body)

    def either(self, body: bytes) -> bytes:
        """Return a body in one of the two versions."""
        version = self._rng.randrange(3)
        return second_version.newer(body) if version == 2 else second_version.older(body, numbered=version == 1)

    def fold_new(self, views: Path, streams: dict[str, list[Stored]]) -> None:
        """Fold messages, each in the new version, into a file of views."""
        pickled = self.directory / "messages"
        new = {stream: [_renewed(one) for one in messages] for stream, messages in streams.items()}
        pickled.write_bytes(pickle.dumps(new))
        self.second("fold", str(pickled), str(views), "")

    @contextmanager
    def projector(self) -> Iterator[None]:
        """A projector that knows both versions, on this log."""
        command = [sys.executable, "-m", "tests.second_version", "projector", "--server", self.url, "--data", str(self.data)]
        with subprocess.Popen(command) as process:
            try:
                yield
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(PATIENCE_S)

    def second(self, *args: str, code: int = 0) -> bytes:
        """Run a command of the cutor that knows both versions."""
        server = [] if args[0] in {"fold", "judge"} else ["--server", self.url, "--config", str(self.config)]
        command = [sys.executable, "-m", "tests.second_version", *filter(None, args), *server]
        done = subprocess.run(command, capture_output=True, timeout=180, check=False)
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stdout


def _renewed(stored: Stored) -> Stored:
    """Return a message in the new version, if it is an event of either."""
    return Stored(
        stored.stream, stored.sequence, stored.subject, stored.time_ns, stored.message_id, {}, _renewed_body(stored.body)
    )


def _renewed_body(body: bytes) -> bytes:
    try:
        document = json.loads(body)
    except ValueError:
        return body
    if document.get("version", 1) > 1 or document["kind"] not in second_version.UPCASTERS:
        return body
    return json.dumps(second_version.UPCASTERS[document["kind"]](document) | {"version": 2}).encode()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Log]:
    log = Log(tmp_path_factory.mktemp("log"))
    yield log
    log.stop()


def assert_equal(views: Path, wanted: Path) -> None:
    """Check that all tables and views have the same rows, but for what tells how an event was written."""
    with duckdb.connect() as connection:
        for name, path in (("views", views), ("wanted", wanted)):
            connection.execute(f"ATTACH '{path}' AS {name} (READ_ONLY)")
        found = connection.execute(
            "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = 'wanted' "
            "UNION ALL SELECT schema_name, view_name FROM duckdb_views() WHERE database_name = 'wanted' AND NOT internal"
        ).fetchall()
        assert len(found) > 15
        for schema, view in sorted(found):
            if view in {"moving", "settled"}:
                continue  # a submission's state is in one or the other; the view `folds.submissions` is of both
            left_out = {
                "events": NOT_AS_WRITTEN,
                "environment_events": "EXCLUDE (body, raw)",
                "checkpoint": "EXCLUDE (fingerprint)",
            }.get(view, "")
            rows = [f"SELECT * {left_out} FROM {name}.{schema}.{view}" for name in ("views", "wanted")]
            for left, right in (rows, rows[::-1]):
                sql = f"{left} EXCEPT ALL {right}"
                assert connection.execute(sql).fetchall() == [], (view, left)


def test_golden_bodies_of_the_first_version_are_read(log: Log) -> None:
    done = subprocess.run([sys.executable, "-m", "tests.second_version", "golden"], capture_output=True, check=True)
    assert int(done.stdout) == len(second_version.UPCASTERS)


def test_what_a_projector_followed_is_the_same(log: Log) -> None:
    assert_equal(log.views, log.wanted)
    with duckdb.connect(log.views, read_only=True) as connection:
        found = connection.execute("SELECT version, count(*) > 20 FROM events WHERE counts GROUP BY version ORDER BY version")
        assert found.fetchall() == [(1, True), (2, True)]
        kept = connection.execute("SELECT body::VARCHAR FROM events WHERE body IS NOT NULL ORDER BY sequence").fetchall()
    assert [body for (body,) in kept] == [one.body.decode() for one in log.events if one.body.startswith(b"{")]


@pytest.mark.parametrize("source", ["the stream", "the archive and the stream's tail"])
def test_a_rebuild_is_the_same(log: Log, tmp_path: Path, source: str) -> None:
    arguments = ["projections", "rebuild", "--data", str(tmp_path)]
    if source == "the stream":
        log.config.rename(aside := log.directory / "aside.toml")
        log.config.write_text("")
    try:
        log.second(*arguments)
    finally:
        if source == "the stream":
            aside.rename(log.config)
    assert_equal(tmp_path / "projections.duckdb", log.wanted)


def test_lines_of_a_replay_are_what_was_written(log: Log) -> None:
    for stream, messages in ((EVENTS, log.events), (ENVIRONMENTS, log.environments)):
        assert log.second("replay", "--stream", stream).splitlines(keepends=True) == [line_of(one) for one in messages]


def test_a_replay_into_a_file_is_the_same(log: Log, tmp_path: Path) -> None:
    log.second("replay", "--into", str(tmp_path / "all.duckdb"))
    moment = log.events[len(log.events) * 2 // 3]
    log.second("replay", "--into", str(tmp_path / "then.duckdb"), "--as-of", str(moment.sequence))
    assert_equal(tmp_path / "all.duckdb", log.wanted)
    before = [one for one in log.environments if one.time_ns <= moment.time_ns]
    log.fold_new(tmp_path / "wanted.duckdb", {EVENTS: log.events[: moment.sequence], ENVIRONMENTS: before})
    assert_equal(tmp_path / "then.duckdb", tmp_path / "wanted.duckdb")


def test_verify_finds_no_difference(log: Log) -> None:
    assert json.loads(log.second("projections", "verify", "--database", str(log.views), "--json"))["equal"] is True


def test_a_report_is_the_same(log: Log, tmp_path: Path) -> None:
    pages = []
    for number, database in enumerate((log.views, log.wanted)):
        page = tmp_path / f"{number}.html"
        log.second("report", "--database", str(database), "--output", str(page), "--until", "2100-01-01")
        pages.append(page.read_text().replace(str(database), "FILE"))
    differing = [(one, other) for one, other in zip(*(page.splitlines() for page in pages), strict=True) if one != other]
    assert all("made at" in one or "UTC" in one for one, _ in differing), differing
    assert len(differing) <= 1


def test_roles_go_on_with_what_was_submitted_in_the_first_version(log: Log) -> None:
    address = Address("default", "handed-in-before")
    body = second_version.older(encode(Submitted(request=REQUEST, digest="d")))

    async def act() -> list[bytes]:
        async with Bus.connect(log.url, name="test") as bus:
            await bus.publish(event_subject(address, "submitted"), body)
            told = await asyncio.to_thread(log.second, "judge", log.url, address.id)
            kinds = ["submitted", "leased", "cache-built", "leased", "ran", "finished", "cleaned"]
            assert json.loads(told) == ["OK", 0, kinds]
            return [stored.body async for stored in bus.read(EVENTS, filter=f"cutor.ev.default.{address.id}.>")]

    first, *others = log.run(act())
    assert first == body
    assert {msgspec.json.decode(one)["version"] for one in others} == {2}


def test_a_submission_of_the_first_version_is_judged_again(log: Log) -> None:
    """What it hands in is written in the second; the request is the same."""
    address = Address("default", "a0")
    [first] = [one for one in log.events if one.subject == event_subject(address, "submitted")]
    told = json.loads(log.second("rejudge", address.id, "--name", "n", "--yes", "--json"))

    async def again() -> bytes:
        async with Bus.connect(log.url, name="test") as bus:
            stored = await bus.last(EVENTS, event_subject(Address("default", "a0-rejudge-n"), "submitted"))
            assert stored is not None
            return stored.body

    new, old = msgspec.json.decode(log.run(again())), msgspec.json.decode(_renewed_body(first.body))
    assert (new["version"], new["caused_by"]) == (2, address.id), told
    assert new["request"].pop("labels") == old["request"].pop("labels") | {"rejudge": "n"}
    assert new["request"] == old["request"]

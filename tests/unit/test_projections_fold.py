"""The fold in SQL, by example: given these events, the views say this. `tests/property` compares it with the pure fold."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from cutor.logs import JsonFormatter
from cutor.model.codec import encode
from cutor.model.content import pack
from cutor.model.environments import EnvironmentBuilt, EnvironmentEvent, EnvironmentRemoved, Programs
from cutor.model.events import (
    CacheLost,
    Cancelled,
    Cleaned,
    Compiled,
    Finished,
    Interrupted,
    Parked,
    Ran,
    Stage,
    Submitted,
    output,
)
from cutor.model.limits import StageKind
from cutor.model.subjects import ENVIRONMENTS, EVENTS, Address
from cutor.projections import schema
from cutor.projections.errors import ViewsRejected
from cutor.projections.folds import readings, rows, small_fold
from cutor.projections.folds.small_batch import read_plain
from cutor.projections.schema import Statement
from cutor.projections.store import Store
from tests.unit.histories import ADDRESS, BUILT, COMPILING, OK, RUNNING, SUBMITTED, cache_built, finished, lease, leased, ran
from tests.unit.views import Views, Written, written

COMPILED = Compiled(lease=lease("runner"), stage=OK)


@pytest.fixture(params=["small batches", "in SQL"])
def views(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Views]:
    views = Views(tmp_path)
    if request.param == "in SQL":
        views.store.small = 0
    yield views
    views.store.close()


def stages(views: Views) -> list[tuple[object, ...]]:
    return views.query("SELECT stage, attempt, test_case, outcome, is_current FROM stages ORDER BY sequence, stage, test_case")


def test_given_a_whole_life_then_every_part_of_it_is_there(views: Views) -> None:
    views.happen(*RUNNING, COMPILED, ran(0, "OK", "WA"), finished("WRONG_ANSWER"), Cleaned(worker="w", by="worker"))
    row = views.one("SELECT * FROM submissions")
    assert (row["status"], row["outcome"], row["environment_key"], row["worker"]) == ("FINISHED", "WRONG_ANSWER", "k1", "w")
    assert (row["test_cases"], row["test_cases_run"], row["test_cases_passed"]) == (2, 2, 1)
    assert (row["first_sequence"], row["last_sequence"], row["strays"]) == (1, 8, 0)
    assert row["labels"] == {"course": "a"}
    assert stages(views) == [
        ("dependencies", 1, None, "OK", True),
        ("compile", 1, None, "OK", True),
        ("run", 1, 0, "OK", True),
        ("run", 1, 1, "WA", True),
    ]
    kinds = ["submitted", "leased", "cache-built", "leased", "compiled", "ran", "finished", "cleaned"]
    assert views.query("SELECT kind, counts, role, lease_number FROM events ORDER BY sequence")[1] == (
        "leased",
        True,
        "builder",
        1,
    )
    assert [kind for (kind,) in views.query("SELECT kind FROM events ORDER BY sequence")] == kinds


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_given_a_second_lease_then_the_first_attempt_is_not_current(views: Views, batch: int) -> None:
    views.happen(*RUNNING, COMPILED, ran(0, "OK"), leased("runner", 2), ran(0, "RE", number=2), batch=batch)
    assert stages(views) == [
        ("dependencies", 1, None, "OK", True),
        ("compile", 1, None, "OK", False),
        ("run", 1, 0, "OK", False),
        ("run", 2, 0, "RE", True),
    ]
    assert views.query("SELECT status, runner_attempts, test_cases_run, test_cases_passed FROM submissions") == [
        ("DEPENDENCIES_INSTALLED", 2, 1, 0)
    ]


@pytest.mark.parametrize("batch", [1, 100])
def test_given_a_lost_environment_then_nothing_of_before_is_current(views: Views, batch: int) -> None:
    lost = CacheLost(lease=lease("runner"), key="k1", missing="/nix/store/x")
    views.happen(*RUNNING, ran(0, "OK"), lost, batch=batch)
    assert {current for *_, current in stages(views)} == {False}
    assert views.query("SELECT status, environment_key, environment_losses FROM submissions") == [("SUBMITTED", None, 1)]
    views.happen(leased("builder", 2), cache_built(2), batch=batch)
    assert stages(views)[-1] == ("dependencies", 2, None, "OK", True)


def test_given_a_late_worker_then_its_events_are_rows_and_change_nothing(views: Views) -> None:
    views.happen(*RUNNING, leased("runner", 2), ran(0, "OK", number=1), Finished(lease=lease("runner", 1), outcome="OK"))
    assert views.query("SELECT counts FROM events ORDER BY sequence")[-2:] == [(False,), (False,)]
    assert views.query("SELECT status, strays, last_sequence FROM submissions") == [("DEPENDENCIES_INSTALLED", 2, 7)]
    assert [stage for stage, *_ in stages(views)] == ["dependencies"]


def test_given_a_parked_submission_then_the_stage_it_stopped_at_is_a_fault(views: Views) -> None:
    views.happen(*RUNNING, ran(0, "OK"), Parked(role="runner", message="the disk is full", stage="run"))
    found = views.query("SELECT test_case, name, outcome, message FROM stages WHERE stage = 'run' ORDER BY test_case")
    assert found == [(0, None, "OK", None), (1, "two", "XX", "the disk is full")]


def test_given_a_cancelled_submission_then_the_rest_is_skipped(views: Views) -> None:
    views.happen(*BUILT, Cancelled(reason="enough"))
    assert stages(views)[1:] == [("run", 0, 0, "SKIPPED", True), ("run", 0, 1, "SKIPPED", True)]
    assert views.query("SELECT outcome, message FROM submissions") == [("CANCELLED", "enough")]


STOPPED = Stage(outcome="CANCELLED", wall_time_ms=5)


def told(stage: StageKind, *stages: Stage, index: int = 0) -> Cleaned:
    return Cleaned(worker="w", by="worker", interrupted=Interrupted(stage=stage, stages=stages, index=index))


@pytest.mark.parametrize("batch", [1, 100])
def test_given_what_a_cancel_interrupted_then_it_takes_the_place_of_what_the_end_made_up(views: Views, batch: int) -> None:
    views.happen(*RUNNING, Cancelled(), told("run", OK, STOPPED), batch=batch)
    assert stages(views)[1:] == [("run", 1, 0, "OK", True), ("run", 1, 1, "CANCELLED", True)]
    assert views.query("SELECT test_cases_run, test_cases_passed, strays FROM submissions") == [(2, 1, 0)]
    assert views.query("SELECT wall_time_ms, worker FROM stages WHERE test_case = 1") == [(5, "w")]
    compiling = Address("default", "s2")
    views.happen(Submitted(request=COMPILING, digest="d"), *RUNNING[1:], address=compiling)
    views.happen(Cancelled(), told("compile", STOPPED), address=compiling, batch=batch)
    found = views.query("SELECT stage, outcome FROM stages WHERE id = 's2' ORDER BY stage, test_case")
    assert found == [("compile", "CANCELLED"), ("dependencies", "OK"), ("run", "SKIPPED"), ("run", "SKIPPED")]


@pytest.mark.parametrize("batch", [1, 100])
def test_given_stages_that_do_not_come_next_then_they_are_left_aside(views: Views, batch: int) -> None:
    views.happen(*RUNNING, Cancelled(), told("run", STOPPED, index=1), batch=batch)
    assert stages(views)[1:] == [("run", 1, 0, "CANCELLED", True), ("run", 1, 1, "SKIPPED", True)]
    assert views.query("SELECT strays, cleaned_at IS NULL FROM submissions") == [(0, False)]


def test_given_a_failed_build_then_its_stage_is_current(views: Views) -> None:
    failed = Stage(outcome="RE", exit_code=1)
    views.happen(*BUILT[:2], Finished(lease=lease("builder"), outcome="DEPENDENCY_ERROR", dependencies=failed))
    assert stages(views)[0] == ("dependencies", 1, None, "RE", True)


def test_given_what_nobody_can_read_then_it_is_a_row_and_a_stray(views: Views) -> None:
    views.happen(*BUILT)
    bodies = [b"\xff", b'{"kind": "from-the-future"}', b"", b'{"kind": "ran", "stages": 1}', b"[" * 100_000]
    views.apply([Written(10 + n, "cutor.ev.default.s1.ran", body) for n, body in enumerate(bodies)])
    views.apply([Written(20, "some.other.subject", b"{}"), Written(21, "cutor.ev.UPPER.s1.ran", encode(ran(0, "OK")))])
    assert views.query("SELECT strays, last_sequence FROM submissions") == [(5, 14)]
    found = views.query(
        "SELECT kind, tenant, counts, fault IS NULL, body IS NULL, raw FROM events WHERE sequence >= 10 ORDER BY ALL"
    )
    assert sorted(row[-1] for row in found if row[-1] is not None) == [b"", b"[" * 100_000, b"\xff"]
    assert {row[2] for row in found} == {False}
    assert views.query("SELECT messages, undecodable FROM checkpoint WHERE stream = 'EVENTS'") == [(10, 7)]


def test_given_a_message_that_breaks_the_fold_then_only_it_is_left_out(
    views: Views, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No body is known to do that; if one does, the projector must not stop at it for ever."""
    views.store.small = 0
    monkeypatch.setattr(caplog.handler, "formatter", JsonFormatter({}))
    [poison] = duckdb.extract_statements("SELECT error('boom') FROM incoming WHERE contains(body, 'poison') AND fault IS NULL")
    views.store._statements(EVENTS).insert(0, (Statement("", frozenset(), finds=False), poison))
    views.happen(*BUILT, Cancelled(reason="poison"), leased("runner"), ran(0, "OK"))
    assert views.query("SELECT sequence, fault FROM events WHERE NOT counts") == [
        (4, "cannot be folded: Invalid Input Error: boom")
    ]
    assert views.query("SELECT status, test_cases_run, strays FROM submissions") == [("DEPENDENCIES_INSTALLED", 1, 1)]
    assert views.store.checkpoint(EVENTS).sequence == 6
    [said] = [document for document in map(json.loads, caplog.text.splitlines()) if "boom" in document["message"]]
    assert "EVENTS 4 (cutor.ev.default.s1.cancelled): Invalid Input Error: boom" in said["message"]
    assert (said["submission"], said["event"], said["sequence"]) == ("s1", "cancelled", 4)


def test_a_number_that_no_column_holds_costs_no_fold_that_fails(views: Views, caplog: pytest.LogCaptureFixture) -> None:
    """What a flood of them would cost each batch: an append that fails, and all that memory has of submissions."""
    views.happen(*RUNNING)
    views.happen(ran(0, "OK"), address=Address("default", "s2"))
    known = len(views.store._small._standings)
    large = Stage(outcome="OK", wall_time_ms=1 << 63)
    views.happen(Compiled(lease=lease("runner"), stage=large), address=Address("default", "s3"))
    assert "folded in SQL" not in caplog.text
    assert len(views.store._small._standings) == known
    views.happen(Ran(lease=lease("runner"), index=0, stages=(large,)))
    assert views.query("SELECT outcome, wall_time_ms FROM stages WHERE stage = 'run'") == [("OK", None)]


def test_a_long_number_in_what_a_program_printed_is_text() -> None:
    """Nothing of it makes a small batch a costly one."""
    printed = Stage(outcome="OK", stdout=output(b'":9223372036854775808', 21))
    message = written(1, ADDRESS, Ran(lease=lease("runner"), index=0, stages=(printed,)))
    assert read_plain([message]) is not None
    assert read_plain([written(1, ADDRESS, ran(0, "OK", number=1 << 63))]) is None
    assert read_plain([written(1, ADDRESS, ran(0, "OK", number=(1 << 63) - 1))]) is not None
    assert read_plain([written(1, ADDRESS, ran(0, "OK", number=-(1 << 63) - 1))]) is None


def test_what_may_have_letters_is_known_and_nothing_else_is(views: Views) -> None:
    """The projector asks for letters after such a batch alone: the question takes as long as a commit."""
    views.happen(*RUNNING)
    clean = views.store.doubtful(EVENTS)
    views.happen(ran(1, "OK"))
    assert (clean, views.store.doubtful(EVENTS)) == (0 if views.store.small else 4, 5)
    views.happen(ran(0, "OK"))
    assert views.store.doubtful(EVENTS) == (5 if views.store.small else 6)


def environment_event(sequence: int, event: EnvironmentEvent) -> Written:
    return Written(sequence, f"cutor.env.{event.key}", encode(event))


def test_given_environments_then_uses_and_builds_meet(views: Views) -> None:
    built = EnvironmentBuilt(
        key="k1",
        derivation="/nix/store/x.drv",
        closure=("a", "b"),
        closure_bytes=7,
        variables=pack(b""),
        programs=Programs(bash="b", sh="s", env="e"),
        worker="w",
    )
    removed = EnvironmentRemoved(key="k1", reason="collected")
    views.apply([environment_event(1, built), Written(2, "cutor.env.k1", b"\xff")], stream=ENVIRONMENTS)
    views.happen(*BUILT)
    views.happen(*BUILT, address=Address("default", "s2"))
    row = "SELECT key, closure_paths, closure_bytes, builds, uses, hits, removed, removal_reason FROM environments"
    assert views.query(row) == [("k1", 2, 7, 1, 2, 0, False, None)]
    views.apply([environment_event(3, removed)], stream=ENVIRONMENTS)
    assert views.query(row) == [("k1", 2, 7, 1, 2, 0, True, "collected")]
    views.apply([environment_event(4, built)], stream=ENVIRONMENTS)
    assert views.query(row) == [("k1", 2, 7, 2, 2, 0, False, None)]


def test_views_and_checkpoint_commit_together_or_not_at_all(views: Views) -> None:
    views.happen(*RUNNING)
    views.store._connection.execute("DROP INDEX folds.settled_id")
    for column, table in (("numbers", "folds.moving"), ("losses", "folds.settled")):  # they are written behind `events`
        views.store._connection.execute(f"ALTER TABLE {table} RENAME {column} TO others")
    with pytest.raises(duckdb.Error):
        views.happen(ran(0, "OK"))
    for column, table in (("numbers", "folds.moving"), ("losses", "folds.settled")):
        views.store._connection.execute(f"ALTER TABLE {table} RENAME others TO {column}")
    assert views.query("SELECT count(*) FROM events") == [(4,)]
    assert views.query("SELECT sequence, messages FROM checkpoint WHERE stream = 'EVENTS'") == [(4, 4)]
    assert views.query("SELECT test_cases_run FROM submissions") == [(0,)]
    assert views.store.checkpoint(EVENTS).sequence == 4
    views.sequence = 4
    views.happen(ran(0, "OK"))
    assert views.query("SELECT test_cases_run FROM submissions") == [(1,)]


def test_a_file_that_is_opened_again_knows_its_last_message(tmp_path: Path) -> None:
    """Whatever that is: its fingerprint is made from the row that it became."""
    views = Views(tmp_path)
    last = [
        written(1, ADDRESS, SUBMITTED),
        Written(2, "cutor.ev.default.s1.cancelled", '{"kind":"cancelled", "reason":"spaces, and ü\\u0000"}'.encode()),
        Written(3, "some.other.subject", b"\xff\x00"),
        Written(4, "cutor.ev.default.s1.ran", b""),
        Written(5, "cutor.ev.default.s1.ran", b"[" * 100_000),
    ]
    last[0].message_id = None
    for message in last:
        views.apply([message])
        assert views.store._read_checkpoints()[EVENTS] == (message.sequence, rows.fingerprint(message))
        assert views.store.checkpoint(EVENTS) == (message.sequence, rows.fingerprint(message))
    views.store.close()


def test_an_older_version_of_an_event_is_folded_as_todays(views: Views, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row keeps the body as it was written; what the views make of it is the upcast document."""
    monkeypatch.setattr(readings, "read_message", lambda subject, body: SUBMITTED)
    views.apply([Written(1, "cutor.ev.default.s1.submitted", b'{"kind":"submitted","version":0,"old":true}')])
    assert views.query("SELECT digest, labels FROM submissions") == [("d1", {"course": "a"})]
    assert views.query("SELECT version, body FROM events") == [(0, '{"kind":"submitted","version":0,"old":true}')]


def test_a_first_message_that_no_reader_of_json_takes_is_a_submission_that_can_be_rejected(views: Views) -> None:
    views.apply([Written(1, "cutor.ev.default.s1.submitted", b"\xef\xbb\xbf{}")])
    assert views.query("SELECT status, test_cases FROM submissions") == [("SUBMITTED", 0)]
    assert views.query("SELECT raw, body, fault IS NULL FROM events") == [(b"\xef\xbb\xbf{}", None, False)]


def test_of_two_fields_of_one_name_views_and_fold_take_the_same(views: Views) -> None:
    views.happen(*BUILT)
    views.apply([Written(9, "cutor.ev.default.s1.cancelled", b'{"kind":"cancelled","reason":"a","reason":"b"}')])
    assert views.query("SELECT message FROM submissions") == [("b",)]


def test_every_column_is_documented(views: Views) -> None:
    undocumented = views.query(
        "SELECT table_name, column_name FROM duckdb_columns() WHERE schema_name = 'main' AND database_name != 'temp' "
        "AND NOT internal AND comment IS NULL"
    )
    assert undocumented == []


def test_a_file_of_other_rules_is_not_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store.open(tmp_path / "views.duckdb").close()
    monkeypatch.setattr(schema, "rules_digest", lambda: "others")
    with pytest.raises(ViewsRejected, match="rules of another version"):
        Store.open(tmp_path / "views.duckdb")


def test_the_fingerprint_tells_messages_apart() -> None:
    message = Written(1, "a", b"bc")
    others = [Written(2, "a", b"bc"), Written(1, "ab", b"c"), Written(1, "a", b"bd"), Written(1, "a", b"bc", time_ns=5)]
    marks = {rows.fingerprint(one) for one in [message, *others]}
    assert len(marks) == 5
    assert rows.fingerprint(Written(1, "a", b"bc")) == rows.fingerprint(message)


def test_given_what_has_no_place_then_the_view_says_why(views: Views) -> None:
    """What is read and counts is none of it; neither is a reason made up where the body could not be read."""
    views.happen(finished(), *RUNNING, leased("builder", 2), leased("runner", 3), ran(1, "OK"), SUBMITTED)
    views.sequence += 1
    views.apply([Written(views.sequence, "cutor.ev.default.s1.ran", b"\xff")])
    assert views.query("SELECT sequence, stream, subject, reason FROM dead_letters ORDER BY sequence") == [
        (1, "EVENTS", "cutor.ev.default.s1.finished", "finished before submitted"),
        (6, "EVENTS", "cutor.ev.default.s1.leased", "leased(builder) where the submission is DEPENDENCIES_INSTALLED"),
        (7, "EVENTS", "cutor.ev.default.s1.leased", "leased(runner) of a lease that is not the newest, or out of its order"),
        (8, "EVENTS", "cutor.ev.default.s1.ran", "ran of a lease that is not the newest, or out of its order"),
        (9, "EVENTS", "cutor.ev.default.s1.submitted", "submitted where the submission is DEPENDENCIES_INSTALLED"),
        (10, "EVENTS", "cutor.ev.default.s1.ran", "not UTF-8"),
    ]
    assert views.query("SELECT stray FROM events WHERE fault IS NOT NULL OR counts") == [(None,)] * 5


def test_given_an_environment_under_another_key_then_it_is_none(views: Views) -> None:
    removed = encode(EnvironmentRemoved(key="k1", reason="r"))
    messages = [Written(n, subject, removed) for n, subject in enumerate(("cutor.env.k1", "cutor.env.k2", "cutor.env.k1.x"), 1)]
    views.apply(messages, stream=ENVIRONMENTS)
    assert views.query("SELECT stream, sequence, reason FROM dead_letters ORDER BY sequence") == [
        ("ENVIRONMENTS", 2, "an event of another environment, 'k1'"),
        ("ENVIRONMENTS", 3, "not the subject of an environment"),
    ]
    assert views.query("SELECT key FROM environments") == [("k1",)]


def test_large_histories_are_not_read_again_for_a_small_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of small events whose submissions are large, in a file that was just opened, is folded in SQL."""
    monkeypatch.setattr("cutor.projections.folds.small_fold.READ_AT_MOST_BYTES", 100)
    views = Views(tmp_path)
    views.happen(SUBMITTED)
    views.store._small.reset()
    read: list[object] = []
    monkeypatch.setattr("cutor.projections.folds.standing.Standing.take", lambda *taken: read.append(taken))
    views.happen(leased("builder"))
    assert read == []
    assert views.query("SELECT builder_attempts FROM submissions") == [(1,)]
    views.store.close()


@pytest.mark.parametrize("failing", range(5))
def test_a_crash_while_states_are_worked_in_leaves_the_views_as_they_were(
    failing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, between and behind its statements: none of them is in the file without the others."""
    views = Views(tmp_path)
    for name in ("s1", "s2", "s3"):
        views.happen(*RUNNING, address=Address("default", name))
    with views.store._transaction():
        views.store._small.settle()
    views.happen(ran(0, "OK"))
    views.happen(*RUNNING[:2], address=Address("default", "s4"))
    everything = "SELECT * FROM folds.submissions ORDER BY ALL"
    before, parts = views.query(everything), views.query("SELECT * FROM folds.settled ORDER BY ALL")
    statements = list(schema.settle_statements())
    assert len(statements) == 4
    statements.insert(failing, "SELECT error('boom')")
    with monkeypatch.context() as broken:
        broken.setattr(schema, "settle_statements", lambda: statements)
        broken.setattr(small_fold, "MOVING", 1)
        with pytest.raises(duckdb.Error, match="boom"):
            views.store.work_in()
    killed = tmp_path / "killed"
    killed.mkdir()
    for left in tmp_path.glob("views.duckdb*"):
        shutil.copy(left, killed)
    with closing(Store.open(killed / "views.duckdb")) as opened:
        assert opened._connection.execute(everything).fetchall() == before
        assert opened._connection.execute("SELECT * FROM folds.settled ORDER BY ALL").fetchall() == parts
    assert views.query(everything) == before
    views.happen(ran(1, "OK"))
    monkeypatch.setattr(small_fold, "MOVING", 1)
    before = views.query(everything)
    views.store.work_in()
    assert (views.query(everything), views.query("SELECT count(*) FROM folds.moving")) == (before, [(0,)])
    views.store.close()

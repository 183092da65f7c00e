"""The views of what was judged again: which submissions stand beside each other, and what differs."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from cutor.model.events import Event, Ran, Stage, Submitted
from cutor.model.subjects import Address
from tests.unit.histories import RUNNING, SUBMITTED, finished, lease, leased
from tests.unit.views import Views

OLD, NEW = Address("default", "old"), Address("default", "new")
AGAIN = msgspec.structs.replace(
    SUBMITTED, caused_by="old", request=msgspec.structs.replace(SUBMITTED.request, labels={"rejudge": 'it\'s "so"', "a": "b"})
)
MOST = 2**63 - 1


@pytest.fixture
def views(tmp_path: Path) -> Views:
    return Views(tmp_path)


def life(first: Submitted, *stages: Stage) -> tuple[Event, ...]:
    passed = all(stage.outcome == "OK" for stage in stages)
    runs = Ran(lease=lease("runner"), index=0, stages=stages)
    return (first, *RUNNING[1:], runs, finished("OK" if passed else "WRONG_ANSWER"))


def ok(cpu_ms: int, memory_bytes: int | None) -> Stage:
    return Stage(outcome="OK", exit_code=0, cpu_time_ms=cpu_ms, wall_time_ms=2 * cpu_ms, memory_peak_bytes=memory_bytes)


def wrong(cpu_ms: int, memory_bytes: int) -> Stage:
    return msgspec.structs.replace(ok(cpu_ms, memory_bytes), outcome="WA")


def test_old_and_new_stand_side_by_side(views: Views) -> None:
    views.happen(*life(SUBMITTED, ok(10, 100), wrong(20, 200)), address=OLD)
    views.happen(*life(AGAIN, ok(11, 90), ok(25, 150)), address=NEW)
    row = views.one("SELECT * EXCLUDE (submitted_at_before, submitted_at, finished_at) FROM rejudgements")
    assert row == {
        "name": 'it\'s "so"',
        "tenant": "default",
        "id": "old",
        "rejudged_id": "new",
        "outcome_before": "WRONG_ANSWER",
        "outcome": "OK",
        "changed": True,
        "test_cases_passed_before": 1,
        "test_cases_passed": 2,
        "environment_changed": False,
        "dependencies_difference": {"cpu_time_ms": None, "wall_time_ms": None, "memory_peak_bytes": None},
        "compile_difference": None,
        "run_difference": {"cpu_time_ms": 6, "wall_time_ms": 12, "memory_peak_bytes": -50},
    }
    assert views.query(
        "SELECT test_case, outcome_before, outcome, changed, cpu_time_ms_difference, memory_peak_bytes_difference "
        "FROM rejudged_stages WHERE stage = 'run' ORDER BY test_case"
    ) == [(0, "OK", "OK", False, 1, -10), (1, "WA", "OK", True, 5, -50)]
    [(before, submitted, ended)] = views.query("SELECT submitted_at_before, submitted_at, finished_at FROM rejudgements")
    assert before < submitted < ended


def test_what_runs_still_has_not_changed_yet(views: Views) -> None:
    views.happen(*life(SUBMITTED, ok(1, None)), address=OLD)
    views.happen(AGAIN, leased("builder"), address=NEW)
    assert views.query("SELECT outcome_before, outcome, changed, run_difference FROM rejudgements") == [
        ("OK", None, None, None)
    ]


def test_a_cause_that_nobody_knows_or_of_another_tenant_is_none(views: Views) -> None:
    views.happen(*life(AGAIN, ok(1, 1)), address=NEW)
    views.happen(*life(SUBMITTED, ok(1, 1)), address=Address("other", "old"))
    assert views.query("FROM rejudgements") == []
    assert views.query("FROM rejudged_stages") == []


def test_numbers_that_no_column_holds_stop_no_question(views: Views) -> None:
    views.happen(*life(SUBMITTED, ok(-MOST // 2, -MOST), ok(-MOST // 2, 1)), address=OLD)
    views.happen(*life(AGAIN, ok(MOST // 2, MOST), ok(MOST // 2, MOST)), address=NEW)
    [(run,)] = views.query("SELECT run_difference FROM rejudgements")
    assert run["cpu_time_ms"] is None
    found = views.query("SELECT memory_peak_bytes_difference FROM rejudged_stages WHERE stage = 'run' ORDER BY test_case")
    assert found == [(None,), (MOST - 1,)]

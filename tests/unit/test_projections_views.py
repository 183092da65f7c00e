"""The views about attempts, workers, test cases, times and numbers, by example: given these events, they say this."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from cutor.model.codec import encode
from cutor.model.events import (
    CacheBuilt,
    CacheLost,
    Cancelled,
    Cleaned,
    Compiled,
    Event,
    Finished,
    Lease,
    Leased,
    Parked,
    Ran,
    Rejected,
    Role,
    Stage,
    Submitted,
    kind_of,
)
from cutor.model.subjects import Address, event_subject
from tests.unit.histories import COMPILING, ENVIRONMENT, OK, REQUEST, SUBMITTED
from tests.unit.views import Views, Written

NOON_NS = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()) * 1_000_000_000
SECOND_NS = 1_000_000_000


@pytest.fixture
def views(tmp_path: Path) -> Iterator[Views]:
    views = Views(tmp_path)
    yield views
    views.store.close()


def given(views: Views, identity: str, *events: tuple[float, Event]) -> None:
    """Events of a submission, each at so many seconds after noon."""
    messages = []
    for second, event in events:
        views.sequence += 1
        subject = event_subject(Address("default", identity), kind_of(event))
        time_ns = NOON_NS + int(second * SECOND_NS)
        messages.append(Written(views.sequence, subject, encode(event), time_ns=time_ns))
    views.apply(messages)


def of(role: Role, number: int = 1, worker: str = "") -> Lease:
    return Lease(role=role, worker=worker or f"{role}-1", token=f"{worker}{number}", number=number)


def clock(second: float) -> str:
    return f"12:{int(second) // 60:02}:{int(second) % 60:02}"


BUILDER, RUNNER = of("builder"), of("runner")
COMPILES = Submitted(request=COMPILING, digest="d")
LIFE: tuple[tuple[float, Event], ...] = (
    (0, COMPILES),
    (1, Leased(lease=BUILDER)),
    (3.5, CacheBuilt(lease=BUILDER, environment=ENVIRONMENT, stage=OK)),
    (4, Leased(lease=RUNNER)),
    (6, Compiled(lease=RUNNER, stage=OK)),
    (7, Ran(lease=RUNNER, index=0, stages=(OK,))),
    (8, Ran(lease=RUNNER, index=1, stages=(OK,))),
    (8.25, Finished(lease=RUNNER, outcome="OK")),
    (9, Cleaned(worker="runner-1", by="worker")),
)
ATTEMPTS = "SELECT id, role, attempt, worker, ended_as, duration_ms, strays FROM attempts ORDER BY began_sequence"
LATENCIES = "SELECT * EXCLUDE (tenant, id) FROM latencies"


def test_given_a_life_without_trouble_then_each_step_is_one_attempt_and_the_parts_add_up(views: Views) -> None:
    given(views, "a", *LIFE)
    assert views.query(ATTEMPTS) == [
        ("a", "builder", 1, "builder-1", "done", 2500, 0),
        ("a", "runner", 1, "runner-1", "done", 4250, 0),
    ]
    assert views.query("SELECT strftime(began_at, '%X'), strftime(ended_at, '%X') FROM attempts WHERE role = 'runner'") == [
        ("12:00:04", "12:00:08")
    ]
    assert views.query("SELECT began_sequence, ended_sequence FROM attempts ORDER BY ALL") == [(2, 3), (4, 8)]
    [latencies] = views.query(LATENCIES)
    assert latencies == (1000, 2500, 500, 2000, 2250, 8250, 750)
    assert sum(latencies[:5]) == latencies[5]


def test_given_lost_leases_then_each_attempt_is_a_row_and_latencies_are_of_the_one_that_counts(views: Views) -> None:
    """The first runner comes back after the second has the lease: what it says is a stray of its attempt."""
    lost, next_one = of("runner", 1, "runner-1"), of("runner", 2, "runner-2")
    given(
        views,
        "a",
        *LIFE[:5],
        (36, Leased(lease=next_one)),
        (37, Ran(lease=lost, index=0, stages=(OK,))),
        (37, Finished(lease=lost, outcome="OK")),
        (38, Compiled(lease=next_one, stage=OK)),
        (39, Finished(lease=next_one, outcome="COMPILE_ERROR")),
    )
    assert views.query(ATTEMPTS)[1:] == [
        ("a", "runner", 1, "runner-1", "superseded", 32_000, 2),
        ("a", "runner", 2, "runner-2", "done", 3000, 0),
    ]
    assert views.query(LATENCIES) == [(1000, 2500, 500, 2000, 1000, 39_000, None)]


def test_given_every_kind_of_end_then_the_attempt_says_which(views: Views) -> None:
    failed = Finished(lease=BUILDER, outcome="DEPENDENCY_ERROR", dependencies=Stage(outcome="RE"))
    given(views, "failed", *LIFE[:2], (2, failed))
    given(views, "rejected", *LIFE[:2], (2, Rejected(lease=BUILDER, message="no")))
    given(views, "cancelled", *LIFE[:4], (5, Cancelled()), (6, Cleaned(worker="runner-1", by="worker")))
    given(views, "parked", *LIFE[:2], (2, Parked(role="builder", message="enough")))
    given(views, "lost", *LIFE[:4], (5, CacheLost(lease=RUNNER, key="k1", missing="x")))
    given(views, "in-hand", *LIFE[:2])
    given(views, "unseen", *LIFE[:1])
    ends = views.query("SELECT id, role, ended_as FROM attempts ORDER BY began_sequence")
    assert ends == [
        ("failed", "builder", "done"),
        ("rejected", "builder", "rejected"),
        ("cancelled", "builder", "done"),
        ("cancelled", "runner", "cancelled"),
        ("parked", "builder", "parked"),
        ("lost", "builder", "done"),
        ("lost", "runner", "cache-lost"),
        ("in-hand", "builder", None),
    ]
    found = {row[0]: row[1:] for row in views.query("SELECT id, * EXCLUDE (tenant, id) FROM latencies")}
    assert found["failed"] == (1000, 1000, None, None, None, 2000, None)
    assert found["cancelled"] == (1000, 2500, 500, None, None, 5000, 1000)
    assert found["lost"] == (1000, None, None, None, None, None, None)
    assert found["unseen"] == (None,) * 7


def test_given_workers_then_what_each_has_done_and_has_in_hand(views: Views) -> None:
    slow, quick = of("runner", 1, "slow"), of("runner", 2, "quick")
    given(views, "a", *LIFE[:3], (4, Leased(lease=slow)), (34, Leased(lease=quick)), (35, Finished(lease=quick, outcome="OK")))
    given(views, "a", (45, Ran(lease=slow, index=0, stages=(OK,))))
    given(views, "b", *LIFE[:3], (36, Leased(lease=of("runner", 1, "quick"))))
    given(views, "c", *LIFE[:2], (40, Cancelled()))
    given(views, "d", (50, Finished(lease=of("runner", 1, "forged"), outcome="OK")))
    given(views, "d", (50, SUBMITTED), (51, Leased(lease=BUILDER)), (52, Parked(role="builder", message="enough")))
    rows = views.query(
        "SELECT worker, role, strftime(first_seen_at, '%X'), strftime(last_seen_at, '%X'), * EXCLUDE "
        "(worker, role, first_seen_at, last_seen_at) FROM workers ORDER BY ALL"
    )
    assert rows == [
        ("builder-1", "builder", clock(1), clock(51), 4, 2, 1, 0, 2500 + 2500 + 39_000 + 1000),
        ("quick", "runner", clock(34), clock(36), 2, 1, 0, 1, 1000),
        ("slow", "runner", clock(4), clock(4), 1, 0, 1, 0, 30_000),
    ]


def test_given_times_that_are_no_sums_of_doubles_then_what_a_worker_was_busy_is_exact(views: Views) -> None:
    """A sum of DOUBLEs is another one in another order of rows: views that were rebuilt differed in it."""
    for number in range(10):
        given(views, str(number), LIFE[0], (1, Leased(lease=BUILDER)), (1.0001, Cancelled()))
    assert views.query("SELECT busy_ms, (SELECT sum(duration_ms) FROM attempts) <> 1 FROM workers") == [(1, True)]


def test_given_a_request_then_each_of_its_test_cases_is_a_row_from_the_beginning(views: Views) -> None:
    rows = "SELECT test_case, name, outcome, attempt, worker FROM test_cases ORDER BY ALL"
    given(views, "a", *LIFE[:4])
    assert views.query(rows) == [(0, "one", None, None, None), (1, "two", None, None, None)]
    given(views, "a", (6, Ran(lease=RUNNER, index=0, stages=(Stage(outcome="WA"),))))
    assert views.query(rows) == [(0, "one", "WA", 1, "runner-1"), (1, "two", None, None, None)]
    second = of("runner", 2, "runner-2")
    given(views, "a", (36, Leased(lease=second)))
    assert views.query(rows) == [(0, "one", None, None, None), (1, "two", None, None, None)]
    given(views, "a", (37, Compiled(lease=second, stage=OK)))
    given(views, "a", (38, Ran(lease=second, index=0, stages=(OK,))), (39, Cancelled()))
    assert views.query(rows) == [(0, "one", "OK", 2, "runner-2"), (1, "two", "CANCELLED", 2, None)]
    assert views.query("SELECT exit_code FROM test_cases WHERE test_case = 0") == [(0,)]


def test_given_minutes_then_what_happened_in_each(views: Views) -> None:
    given(views, "a", *LIFE)
    given(views, "b", (50, SUBMITTED), (200, Cancelled()))
    given(views, "b", (201, Cancelled()), (201, SUBMITTED))
    given(views, "c", (202, SUBMITTED), (203, Leased(lease=BUILDER)), (204, Rejected(lease=BUILDER, message="no")))
    columns = "strftime(minute, '%X'), events, submitted, finished, ok, cancelled, rejected, parked, wrong_answer"
    assert views.query(f"SELECT {columns} FROM throughput ORDER BY minute") == [
        (clock(0), 10, 2, 1, 1, 0, 0, 0, 0),
        (clock(180), 6, 1, 2, 0, 1, 1, 0, 0),
    ]
    outcomes = "ok + wrong_answer + run_error + compile_error + dependency_error + cancelled + rejected + parked"
    assert views.query(f"SELECT count(*) FROM throughput WHERE finished != {outcomes}") == [(0,)]


def test_given_labels_then_how_the_submissions_of_each_ended(views: Views) -> None:
    def labelled(labels: dict[str, str]) -> Submitted:
        return Submitted(request=msgspec.structs.replace(REQUEST, labels=labels), digest="d")

    given(views, "a", (0, labelled({"course": "x", "task": "1"})), (1, Cancelled()))
    given(views, "b", (0, labelled({"course": "x", "task": "2"})), (1, Cancelled()))
    given(views, "c", (0, labelled({"course": "x"})))
    given(views, "d", (0, labelled({})), (1, Cancelled()))
    assert views.query("FROM outcomes_by_label ORDER BY ALL NULLS LAST") == [
        ("course", "x", "CANCELLED", 2),
        ("course", "x", None, 1),
        ("task", "1", "CANCELLED", 1),
        ("task", "2", "CANCELLED", 1),
    ]


def test_given_submissions_at_every_step_then_the_queue_says_who_waits_for_whom(views: Views) -> None:
    depths = (
        "SELECT role, waiting, strftime(waiting_since, '%X'), in_hand, strftime(in_hand_since, '%X') FROM queue ORDER BY role"
    )
    assert views.query(depths) == [("builder", 0, None, 0, None), ("runner", 0, None, 0, None)]
    given(views, "ended", *LIFE)
    given(views, "waits", (10, SUBMITTED))
    given(views, "waits-too", (11, SUBMITTED))
    given(views, "builds", (12, SUBMITTED), (13, Leased(lease=BUILDER)))
    given(views, "built", *LIFE[:3])
    given(views, "runs", *LIFE[:5], (14, Leased(lease=of("runner", 2, "other"))))
    given(views, "again", *LIFE[:4], (15, CacheLost(lease=RUNNER, key="k1", missing="x")))
    given(views, "never", (16, Leased(lease=BUILDER)))
    assert views.query("SELECT id, role, leased, strftime(since, '%X'), worker, attempt FROM in_progress ORDER BY id") == [
        ("again", "builder", False, clock(15), None, None),
        ("builds", "builder", True, clock(13), "builder-1", 1),
        ("built", "runner", False, clock(3.5), None, None),
        ("runs", "runner", True, clock(14), "other", 2),
        ("waits", "builder", False, clock(10), None, None),
        ("waits-too", "builder", False, clock(11), None, None),
    ]
    assert views.query(depths) == [("builder", 3, clock(10), 1, clock(13)), ("runner", 1, clock(3.5), 1, clock(14))]

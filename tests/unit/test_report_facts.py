"""What a report asks: given these events, these are its facts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from cutor.model.codec import encode
from cutor.model.environments import EnvironmentBuilt
from cutor.model.events import Cancelled, Cleaned, Output, Parked, Ran, Stage, Submitted
from cutor.model.subjects import ENVIRONMENTS, Address, environment_subject
from cutor.report.facts import Facts, OutcomeCount, read_facts
from cutor.report.question import STATEMENTS, Scope, statements
from tests.unit.histories import BUILT, RUNNING, SUBMITTED, cache_built, finished, lease, leased, ran
from tests.unit.test_environments import BUILT as ENVIRONMENT_BUILT
from tests.unit.views import Views, Written, written

ENDED = (*RUNNING, ran(0, "OK", "WA"), finished("WRONG_ANSWER"), Cleaned(worker="w", by="worker"))
"""At the seconds 1 to 7, where it is the first."""
EVERYONE = Scope()


@pytest.fixture
def views(tmp_path: Path) -> Iterator[Views]:
    views = Views(tmp_path)
    yield views
    views.store.close()


def facts(views: Views, scope: Scope = EVERYONE) -> Facts:
    answers = []
    for statement in statements():
        row = views.store._connection.execute(statement, dict(scope.parameters()))
        names = [column[0] for column in row.description]
        [values] = row.fetchall()
        answers.append({name: json.loads(value) for name, value in zip(names, values, strict=True)})
    return read_facts(answers)


def labelled(**labels: str) -> Submitted:
    return msgspec.structs.replace(SUBMITTED, request=msgspec.structs.replace(SUBMITTED.request, labels=labels))


def test_an_empty_stack_has_facts(views: Views) -> None:
    found = facts(views)
    assert (found.totals.submissions, found.totals.first_us, found.throughput, found.latencies) == (0, None, (), ())
    assert [(one.stream, one.sequence) for one in found.moments[0]] == [("ENVIRONMENTS", 0), ("EVENTS", 0)]
    assert len(found.moments) == len(STATEMENTS)


def test_a_life_in_time(views: Views) -> None:
    views.happen(*ENDED)
    found = facts(views)
    totals = found.totals
    assert (totals.submissions, totals.ended, totals.ok, totals.first_us, totals.last_us) == (1, 1, 0, 1_000_000, 6_000_000)
    spans = {one.span: (one.count, one.quantiles_us[0], one.quantiles_us[100]) for one in found.latencies}
    assert spans == {
        "builder": (1, 1_000_000, 1_000_000),
        "runner": (1, 1_000_000, 1_000_000),
        "whole": (1, 5_000_000, 5_000_000),
    }
    assert [(one.begin_s, one.what, one.count) for one in found.throughput] == [(0, "WRONG_ANSWER", 1), (0, "submitted", 1)]
    assert {one.seconds for one in found.throughput} == {60}
    assert [(one.hit, one.number, one.count) for one in found.durations] == [(False, 36, 1)]
    assert [(one.stage, one.outcome, one.count) for one in found.stages] == [
        ("dependencies", "OK", 1),
        ("run", "OK", 1),
        ("run", "WA", 1),
    ]
    assert [(one.role, one.leases, one.lost) for one in found.workers] == [("builder", 1, 0), ("runner", 1, 0)]


def test_what_stages_used_and_what_is_unknown(views: Views) -> None:
    stages = [
        Stage(outcome="OK", cpu_time_ms=10 * n, wall_time_ms=20 * n, stdout=Output(bytes_total=n), memory_peak_bytes=peak)
        for n, peak in ((1, 1000), (2, None), (3, 3000))
    ]
    views.happen(*RUNNING, Ran(lease=lease("runner"), index=0, stages=tuple(stages)), finished())
    [used] = [one for one in facts(views).usage if one.stage == "run"]
    assert (used.count, used.timed, used.weighed) == (3, 3, 2)
    assert (used.cpu_ms, used.wall_ms, used.memory_bytes) == ((20, 30, 30, 30), (40, 60, 60, 60), (1000, 3000, 3000, 3000))
    assert {one.measure: one.value for one in facts(views).notable} == {"time": 5_000_000, "memory": 3000, "output": 6}


def test_leases_are_lost_by_who_had_them(views: Views) -> None:
    views.happen(SUBMITTED, leased("builder"), leased("builder", 2), cache_built(2), leased("runner"), leased("runner", 2))
    parked = Parked(role="runner", message="no more", stage="run")
    views.happen(*RUNNING, parked, address=Address("default", "s2"))
    views.happen(*RUNNING, Cancelled(), address=Address("default", "s3"))
    found = facts(views)
    assert [(one.role, one.leases, one.lost) for one in found.workers] == [("builder", 4, 1), ("runner", 4, 2)]
    assert [(one.id, one.stage, one.message, one.parked) for one in found.parked] == [("s2", "run", "no more", 1)]
    assert {one.outcome: one.count for one in found.outcomes} == {None: 1, "PARKED": 1, "CANCELLED": 1}
    assert [(one.role, one.waiting, one.in_hand) for one in found.unended] == [("runner", 0, 1)]


def test_what_a_stream_lost_is_told(views: Views) -> None:
    views.store._connection.execute("INSERT INTO gaps VALUES ('EVENTS', 3, 7, now(), 0), ('EVENTS', 9, 9, now(), 0)")
    assert [(one.stream, one.messages) for one in facts(views).gaps] == [("EVENTS", 6)]


def test_only_those_that_were_asked_for(views: Views) -> None:
    hostile = "a' OR 1 = 1; DROP TABLE events --\\"
    views.happen(labelled(course="a", week="1"), *ENDED[1:])
    views.happen(labelled(course=hostile), *BUILT[1:], address=Address("lab", "s2"))
    everyone = facts(views)
    assert (everyone.totals.submissions, everyone.totals.tenants) == (2, 2)
    assert {(one.name, one.value, one.submissions) for one in everyone.labels} == {
        ("course", "a", 1),
        ("week", "1", 1),
        ("course", hostile, 1),
    }
    for scope, submissions in (
        (Scope(tenant="lab"), 1),
        (Scope(tenant="l' OR 'a' = 'a"), 0),
        (Scope(labels={"course": hostile}), 1),
        (Scope(labels={"course": "a", "week": "1"}), 1),
        (Scope(labels={"course": "a", "week": "2"}), 0),
        (Scope(labels={hostile: "a"}), 0),
        (Scope(since_ns=2_000_000_000), 1),
        (Scope(until_ns=2_000_000_000), 1),
        (Scope(since_ns=1_000_000_000, until_ns=1_000_000_000), 0),
        (Scope(since_ns=0, until_ns=1 << 62), 2),
    ):
        found = facts(views, scope)
        assert found.totals.submissions == submissions, scope
        assert sum(one.count for one in found.outcomes) == submissions
        assert sum(one.leases for one in found.workers if one.role == "builder") == submissions
    [label] = [one for one in everyone.labels if one.value == hostile]
    assert label.outcomes == (OutcomeCount(outcome=None, count=1),)


def test_environments_with_what_is_known_of_them(views: Views) -> None:
    views.happen(*ENDED)
    built: EnvironmentBuilt = msgspec.structs.replace(ENVIRONMENT_BUILT, key="k1", closure_bytes=5000)
    views.apply([Written(1, environment_subject("k1"), encode(built))], stream=ENVIRONMENTS)
    [found] = facts(views).environments
    assert (found.key, found.uses, found.hits, found.closure_bytes, found.removed) == ("k1", 1, 0, 5000, False)
    assert (found.all_uses, found.all_hits, found.environments) == (1, 0, 1)


def test_messages_that_are_no_events_are_counted(views: Views) -> None:
    views.happen(*ENDED)
    views.apply([Written(8, "cutor.ev.default.s1.ran", b"garbage"), Written(9, "cutor.ev.default.s1.ran", b"garbage")])
    [found] = facts(views).letters
    assert (found.stream, found.count, found.letters) == ("EVENTS", 2, 2)
    assert facts(views, Scope(since_ns=9_000_000_000)).letters[0].count == 1


def test_no_list_is_long(views: Views) -> None:
    addresses = [Address(f"tenant-{number}", f"s{number}") for number in range(40)]
    happened = [(event, address) for address in addresses for event in (labelled(number=address.id), *ENDED[1:])]
    views.apply([written(sequence, address, event) for sequence, (event, address) in enumerate(happened, 1)])
    found = facts(views)
    assert (len(found.labels), found.labels[0].labels) == (16, 40)
    assert (len(found.tenants), found.totals.tenants) == (10, 40)
    assert len(found.notable) == 8

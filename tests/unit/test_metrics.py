"""What appended events say in metrics, how values add up, and that the table keeps the rules of names."""

import re
from collections.abc import Sequence

import msgspec
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from cutor.config import parse
from cutor.metrics import table
from cutor.metrics.exposition import exposed
from cutor.metrics.observing import observed
from cutor.metrics.settings import MetricsSettings
from cutor.metrics.table import METRICS
from cutor.metrics.tally import SERIES_AT_MOST, Observation, Tally
from cutor.model.errors import InvalidPolicy
from cutor.model.events import (
    CacheLost,
    Cancelled,
    Cleaned,
    Compiled,
    Event,
    Finished,
    Interrupted,
    Parked,
    Rejected,
    Stage,
)
from tests.unit.histories import BUILT, OK, RUNNING, SUBMITTED, after, cache_built, finished, lease, leased, ran

MEASURED = Stage(outcome="TLE_WALL", wall_time_ms=1500, cpu_time_ms=20, memory_peak_bytes=4096)


def said(before: Sequence[Event], event: Event) -> dict[str, list[tuple[float, tuple[str, ...]]]]:
    """Return what the last event of a history says, by metric; without the count of events, which all of them say."""
    found: dict[str, list[tuple[float, tuple[str, ...]]]] = {}
    for metric, value, labels in observed(after(*before), event, after(*before, event)):
        found.setdefault(metric.name, []).append((value, labels))
    assert len(found.pop("cutor_events_appended_total")) == 1
    return found


def test_a_first_lease_tells_how_long_the_step_waited() -> None:
    assert said([SUBMITTED], leased("builder")) == {
        "cutor_leases_total": [(1, ("builder",))],
        "cutor_lease_wait_seconds": [(1.0, ("builder", "default"))],
    }


def test_a_lease_after_a_dead_workers_says_nothing_of_the_queue() -> None:
    assert said([SUBMITTED, leased("builder")], leased("builder", 2)) == {"cutor_leases_total": [(1, ("builder",))]}


def test_a_hit_and_a_build_are_told_apart() -> None:
    built = cache_built()
    hit = msgspec.structs.replace(built, environment=msgspec.structs.replace(built.environment, hit=True))
    assert said(BUILT[:2], built) == {"cutor_environment_builds_total": [(1, ("ok",))]}
    assert said(BUILT[:2], hit) == {"cutor_environment_hits_total": [(1, ())]}


def test_a_failed_build_is_one_and_ends_its_submission() -> None:
    failed = Finished(lease=lease("builder"), outcome="DEPENDENCY_ERROR", dependencies=MEASURED)
    assert said(BUILT[:2], failed) == {
        "cutor_environment_builds_total": [(1, ("failed",))],
        "cutor_stage_wall_time_seconds": [(1.5, ("dependencies", "TLE_WALL"))],
        "cutor_stage_cpu_time_seconds": [(0.02, ("dependencies",))],
        "cutor_stage_memory_peak_bytes": [(4096, ("dependencies",))],
        "cutor_kills_total": [(1, ("dependencies", "TLE_WALL"))],
        "cutor_submissions_finished_total": [(1, ("default", "DEPENDENCY_ERROR"))],
        "cutor_submission_duration_seconds": [(2.0, ("DEPENDENCY_ERROR",))],
    }


def test_every_test_case_of_one_event_counts_and_what_was_not_measured_does_not() -> None:
    two = msgspec.structs.replace(ran(0), stages=(msgspec.structs.replace(OK, wall_time_ms=10), MEASURED))
    found = said(RUNNING, two)
    assert found["cutor_stage_wall_time_seconds"] == [(0.01, ("run", "OK")), (1.5, ("run", "TLE_WALL"))]
    assert found["cutor_kills_total"] == [(1, ("run", "TLE_WALL"))]
    assert said(RUNNING, ran(0, "WA")) == {}


def test_a_compile_stage_is_one() -> None:
    compiled = Compiled(lease=lease("runner"), stage=msgspec.structs.replace(OK, wall_time_ms=10))
    assert said(RUNNING, compiled) == {"cutor_stage_wall_time_seconds": [(0.01, ("compile", "OK"))]}


@pytest.mark.parametrize(
    ("before", "event", "outcome"),
    [
        (RUNNING, finished(), "OK"),
        (RUNNING, Parked(role="runner", message="no"), "PARKED"),
        (BUILT[:2], Rejected(lease=lease("builder"), message="no"), "REJECTED"),
    ],
)
def test_every_end_that_a_role_appends_counts(before: Sequence[Event], event: Event, outcome: str) -> None:
    found = said(before, event)
    assert found["cutor_submissions_finished_total"] == [(1, ("default", outcome))]
    assert found["cutor_submission_duration_seconds"] == [(float(len(before)), (outcome,))]


def test_a_cancelled_submission_counts_once_when_a_role_cleans_it() -> None:
    stopped = Interrupted(stage="run", stages=(Stage(outcome="CANCELLED", wall_time_ms=100),))
    cleaned = Cleaned(worker="w", by="worker", interrupted=stopped)
    assert said((*RUNNING, Cancelled()), cleaned) == {
        "cutor_submissions_finished_total": [(1, ("default", "CANCELLED"))],
        "cutor_stage_wall_time_seconds": [(0.1, ("run", "CANCELLED"))],
        "cutor_kills_total": [(1, ("run", "CANCELLED"))],
    }
    assert said((*RUNNING, finished()), Cleaned(worker="w", by="worker")) == {}


def test_a_lost_environment_counts() -> None:
    lost = CacheLost(lease=lease("runner"), key="k1", missing="/nix/store/x")
    assert said(RUNNING, lost) == {"cutor_environments_lost_total": [(1, ())]}


# -- the tally -----------------------------------------------------------------------------------------------------------


def test_values_add_up_by_kind() -> None:
    tally = Tally()
    tally.take([Observation(table.LEASES, labels=("runner",)), Observation(table.LEASES, 2, ("runner",))])
    tally.take([Observation(table.READY, 1), Observation(table.READY, 0)])
    tally.take(Observation(table.COMMIT, value, ("EVENTS",)) for value in (0.001, 0.002, 5000.0))
    assert tally.numbers(table.LEASES) == {("runner",): 3}
    assert tally.numbers(table.READY) == {(): 0}
    spread = tally.spreads(table.COMMIT)["EVENTS",]
    assert (spread.counts[:2], spread.counts[-1], spread.number, spread.total) == ((1, 1), 1, 3, 5000.003)


def test_a_metric_has_a_bounded_number_of_series() -> None:
    tally = Tally()
    for number in range(SERIES_AT_MOST + 5):
        tally.take([Observation(table.LEASES, labels=(f"role{number}",)), Observation(table.COMMIT, 1, (f"{number}",))])
    tally.take([Observation(table.LEASES, labels=("role0",))])
    assert len(tally.numbers(table.LEASES)) == len(tally.spreads(table.COMMIT)) == SERIES_AT_MOST
    assert tally.numbers(table.LEASES)["role0",] == 2


# -- names and exposition ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_follow_the_rules_of_prometheus(metric: table.Metric) -> None:
    assert re.fullmatch(r"cutor_[a-z_]+", metric.name)
    assert (metric.kind == "counter") == metric.name.endswith("_total")
    assert (metric.kind == "histogram") == bool(metric.buckets)
    assert sorted(metric.buckets) == list(metric.buckets)
    assert not re.search(r"_(ms|milliseconds|kb|mb|count)\b", metric.name)
    assert not {"id", "submission", "worker", "message", "le"} & {*metric.labels}


@pytest.mark.parametrize("role", ["builder", "runner", "projector", "archiver"])
def test_what_is_exposed_is_read_by_the_reference_parser(role: str) -> None:
    tally = Tally()
    for metric in METRICS:
        hostile = ('a"b\\c\nd',) * len(metric.labels)
        tally.take([Observation(metric, 2.5 if metric.kind == "histogram" else 3, hostile)])
    families = {family.name: family for family in text_string_to_metric_families(exposed(tally, role).decode())}
    wanted = [metric for metric in METRICS if role in metric.roles]
    assert {metric.name.removesuffix("_total") for metric in wanted} <= {*families}
    assert not {m.name.removesuffix("_total") for m in METRICS if role not in m.roles} & {*families}
    for metric in wanted:
        family = families[metric.name.removesuffix("_total")]
        assert (family.type, family.unit) == (metric.kind, metric.unit)
        assert all(sample.labels[label] == 'a"b\\c\nd' for sample in family.samples for label in metric.labels)
    assert "process_resident_memory_bytes" in families


# -- configuration -------------------------------------------------------------------------------------------------------


def test_metrics_are_on_and_for_this_host_alone_unless_configured() -> None:
    assert (MetricsSettings().enabled, MetricsSettings().listen) == (True, "127.0.0.1")
    configured = parse(b'[metrics]\nlisten = "::"\nrunner_port = 9464\n', "c").metrics
    assert (configured.port("runner"), configured.port("builder")) == (9464, 0)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('listen = "metrics.example.org"', "is no address such as"),
        ("runner_port = 9000\nbuilder_port = 9000", "two roles have the same port"),
        ("archiver_port = 9000\nprojector_port = 9000", "two roles have the same port"),
        ("runner_port = 70000", r"metrics\.runner_port"),
    ],
)
def test_what_cannot_work_is_refused(text: str, complaint: str) -> None:
    from cutor.config import InvalidConfig

    with pytest.raises((InvalidPolicy, InvalidConfig), match=complaint):
        parse(f"[metrics]\n{text}\n".encode(), "c")

"""What roles tell of themselves, what is made of it over time, and how `cutor top` draws that."""

from __future__ import annotations

import json

import msgspec
import pytest
from rich.console import Console

from cutor.cli.top_document import Looked, Shown, ShownQueue, document
from cutor.cli.top_frame import frame
from cutor.metrics import table
from cutor.metrics.heard import GONE_S, STALE_S, WINDOW_S, WORKERS_AT_MOST, Heard, quantile, submissions
from cutor.metrics.statistics import DOCUMENT_BYTES, ENTRIES_AT_MOST, Statistics, read, statistics_of, subject_of
from cutor.metrics.table import SECONDS
from cutor.metrics.tally import Observation, Tally

HOSTILE = "w\x1b[2J\x07\u202e[bold red]x[/]\n"


def told(worker: str = "w", **more: object) -> Statistics:
    document = {"role": "runner", "worker": worker, "instance": "i", "version": "1", "started_ms": 5, "ready": True} | more
    return msgspec.convert(document, Statistics)


def notice(statistics: Statistics) -> tuple[str, bytes]:
    return subject_of(statistics.role, statistics.worker), msgspec.json.encode(statistics)


def heard(*samples: tuple[float, Statistics], began_s: float = 0.0) -> Heard:
    found = Heard(began_s)
    for at_s, statistics in samples:
        found.take(*notice(statistics), at_s)
    return found


def drawn(shown: Shown, columns: int = 80, rows: int = 24) -> list[str]:
    console = Console(width=columns, height=rows, force_terminal=False, color_system=None)
    with console.capture() as captured:
        console.print(frame(shown, columns, rows, keys="q ends", clock="12:00:00"))
    return captured.get().splitlines()


# -- the document --------------------------------------------------------------------------------------------------------


def test_a_document_says_what_the_tally_does_and_is_read_again() -> None:
    tally = Tally()
    tally.take(
        [
            Observation(table.SLOTS, 3, ("busy",)),
            Observation(table.SLOTS, 1, ("free",)),
            Observation(table.IN_HAND, 7, ("waiting",)),
            Observation(table.LEASES, 5, ("runner",)),
            Observation(table.FINISHED, 2, ("a", "OK")),
            Observation(table.FINISHED, 3, ("b", "OK")),
            Observation(table.DURATION, 0.002, ("OK",)),
            Observation(table.DURATION, 9000, ("RUN_ERROR",)),
            Observation(table.SEQUENCE, 12, ("EVENTS",)),
        ]
    )
    document = statistics_of(tally, role="runner", worker="a.b", instance="i", started_ms=1, ready=True)
    assert (document.slots, document.busy, document.waiting, document.leases) == (4, 3, 7, 5)
    assert document.submissions == {"OK": 5}
    assert (document.durations[1], document.durations[-1], sum(document.durations)) == (1, 1, 2)
    assert document.waits == ()
    assert document.sequences == {"EVENTS": 12}
    assert read(*notice(document)) == document
    assert subject_of("runner", "a.b") == "cutor.stats.runner.a_b"


@pytest.mark.parametrize(
    ("subject", "body"),
    [
        ("cutor.stats.runner.w", b""),
        ("cutor.stats.runner.w", b"[" * 5000),
        ("cutor.stats.runner.w", b"\xff\xfe"),
        ("cutor.stats.builder.w", msgspec.json.encode(told())),
        ("cutor.stats.runner.other", msgspec.json.encode(told())),
        ("cutor.stats.runner.w", msgspec.json.encode(told()) + b" " * DOCUMENT_BYTES),
        ("cutor.stats.runner.w", msgspec.json.encode(told()).replace(b'"slots":0', b'"slots":-1')),
        ("cutor.stats.runner.w", msgspec.json.encode(told()).replace(b'"slots":0', b'"slots":1e300')),
        ("cutor.stats.runner.w", msgspec.json.encode(told(submissions={str(n): 1 for n in range(ENTRIES_AT_MOST + 1)}))),
        ("cutor.stats.runner.w", msgspec.json.encode(told()).replace(b'"worker":"w"', b'"worker":"' + b"w" * 200 + b'"')),
    ],
)
def test_what_is_no_document_is_counted_and_nothing_else(subject: str, body: bytes) -> None:
    found = Heard(0)
    found.take(subject, body, 1)
    assert (found.unreadable, found.workers(1)) == (1, [])


# -- over time -----------------------------------------------------------------------------------------------------------


def test_rates_are_differences_within_the_window() -> None:
    found = heard((0, told(submissions={"OK": 100})), (10, told(submissions={"OK": 120, "PARKED": 10})))
    assert found.rate(submissions, 10) == 3.0
    assert found.outcomes() == {"OK": 20, "PARKED": 10}


def test_a_worker_that_began_anew_counts_from_nothing() -> None:
    found = heard((0, told(leases=100)), (5, told(leases=4, started_ms=6)), (10, told(leases=9, started_ms=6)))
    assert found.rate(lambda one: one.leases, 10) == pytest.approx(0.9)


def test_a_forged_counter_that_goes_backwards_takes_nothing_away() -> None:
    found = heard((0, told(leases=100)), (5, told(leases=4)), (10, told(leases=14)))
    assert found.rate(lambda one: one.leases, 10) == 1.0


def test_what_is_older_than_the_window_counts_no_more() -> None:
    samples = [(float(at), told(submissions={"OK": 10 if at else 0})) for at in range(int(2 * WINDOW_S))]
    assert heard(*samples).rate(submissions, 2 * WINDOW_S) == 0


def test_a_silent_worker_is_stale_and_then_gone() -> None:
    found = heard((0, told("a")), (GONE_S - 1, told("b")))
    assert [(one.told.worker, one.stale) for one in found.workers(STALE_S)] == [("a", True), ("b", False)]
    assert [one.told.worker for one in found.workers(GONE_S)] == ["b"]
    assert found.silent_s(GONE_S + 2) == 3


def test_no_flood_fills_memory() -> None:
    found = Heard(0)
    for number in range(20_000):
        found.take(*notice(told(leases=number)), number / 1000)
    assert len(found._samples["cutor.stats.runner.w"]) < 100
    assert found.rate(lambda one: one.leases, 20) == pytest.approx(1000, rel=0.1)
    for number in range(WORKERS_AT_MOST + 10):
        found.take(*notice(told(f"w{number}")), 20)
    assert len(found.workers(20)) == WORKERS_AT_MOST
    assert found.left_out == 11


def test_times_are_those_of_the_buckets() -> None:
    zero = [0] * (len(SECONDS) + 1)
    later = [*zero]
    later[4] = 98  # over 10 to 25 ms
    later[-1] = 2
    found = heard((0, told(durations=zero)), (10, told(durations=later)))
    times = found.times(lambda one: one.durations)
    assert times.number == 100
    assert times.p50_s == pytest.approx(0.0177, abs=0.001)
    assert quantile(later, 0.99) == SECONDS[-1]
    assert quantile(zero, 0.5) is None
    late = heard((0, told()), (10, told(durations=later)))
    assert late.times(lambda one: one.durations).number == 100, "a role without any submission tells of none"


def test_the_history_has_the_newest_last() -> None:
    found = heard((50, told()), (52, told(submissions={"OK": 4})), (59, told(submissions={"OK": 5})))
    assert found.history(submissions, 60, 60, 2)[-6:] == [0.0, 4.0, 0.0, 0.0, 0.0, 1.0]


# -- the picture ---------------------------------------------------------------------------------------------------------


def busy(workers: int = 3, tenants: int = 1, name: str = "worker") -> Shown:
    samples = [
        (at, told(f"{name}{number}", slots=4, busy=3, submissions={"OK": 10 * at, "WRONG_ANSWER": at}))
        for number in range(workers)
        for at in (0, 10)
    ]
    queues = tuple(
        ShownQueue(role=role, tenant=f"t{number}", pending=number, unacknowledged=1)
        for number in range(tenants)
        for role in ("builder", "runner")
    )
    looked = Looked(queues=queues, used_bytes=900, limit_bytes=1000, parked=100, parked_more=True, dead_letters=2)
    return document("nats://example.org:4222", heard(*sorted(samples, key=lambda one: one[0])), looked, 10.0)


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (120, 40), (200, 60), (40, 24), (10, 5)])
@pytest.mark.parametrize(("workers", "tenants"), [(0, 0), (3, 1), (200, 64)])
def test_it_fits_the_terminal(columns: int, rows: int, workers: int, tenants: int) -> None:
    lines = drawn(busy(workers, tenants), columns, rows)
    assert all(len(line) <= columns for line in lines)
    if columns >= 80:
        assert lines[0].endswith(" 12:00:00")
        assert len(lines) <= rows
        assert lines[-1].strip() == "q ends"
    if workers == 200 and columns >= 80:
        assert any(line.strip().endswith("more") for line in lines)


def test_it_shows_what_matters() -> None:
    text = "\n".join(drawn(busy()))
    for said in ("3 runners", "t0", "worker0", "3/4", "OK 300", "WRONG_ANSWER 30", "(90%)", "parked 100+", "dead letters 2"):
        assert said in text, text


def test_it_says_over_how_long_it_was_heard() -> None:
    quiet = "\n".join(drawn(document("nats://a:1", heard((0, told())), Looked(), 3.1)))
    assert "none ended in the last 3 s" in quiet
    assert "last 3 s  " in quiet
    assert "none ended in the last minute" in "\n".join(drawn(document("nats://a:1", heard((0, told())), Looked(), 61.0)))
    assert document("nats://a:1", heard(began_s=100.0), Looked(), 104.26).window_s == 4.3
    assert document("nats://a:1", Heard(0), Looked(), 1000.0).window_s == WINDOW_S


def test_nobody_and_a_lost_server_are_said() -> None:
    silent = document("nats://a:1", Heard(0), Looked(), 7.0)
    assert "no roles heard in the last 7 s" in drawn(silent)[0]
    assert "nobody tells of itself: is a builder, runner or projector running?" in "\n".join(drawn(silent))
    lost = document("nats://a:1", Heard(0), Looked(connected=False), 0.0)
    assert "not connected" in drawn(lost)[0]


def test_hostile_names_are_shown_and_obeyed_by_nobody() -> None:
    samples = heard((0, told(HOSTILE, submissions={HOSTILE: 0})), (10, told(HOSTILE, submissions={HOSTILE: 3})))
    samples.take(*notice(told(HOSTILE, role="projector", sequences={HOSTILE: 3})), 10.0)
    queue = ShownQueue(role="builder", tenant=HOSTILE, pending=1, unacknowledged=0)
    shown = document(f"nats://{HOSTILE}", samples, Looked(queues=(queue,)), 10.0)
    lines = drawn(shown, 160, 40)
    assert all(line.isprintable() for line in lines)
    assert r"w\x1b[2J\x07\u202e[bold red]x[/]\n" in "\n".join(lines)


def test_the_document_of_json_is_one() -> None:
    document = json.loads(msgspec.json.encode(busy()))
    assert document["outcomes"] == {"OK": 300, "WRONG_ANSWER": 30}
    assert document["workers"][0]["slots"] == 4

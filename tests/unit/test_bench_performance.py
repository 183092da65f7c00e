"""The pure parts of `make bench`: percentiles, targets, steps of a submission, tables, and the comparison of two runs."""

from __future__ import annotations

import msgspec
import pytest

from cutor.model.events import CacheBuilt, Compiled, EnvironmentRef, Event, Finished, Lease, Leased, Ran, Role, Stage
from tests.bench.kept import encode
from tests.bench.performance import tables
from tests.bench.performance.collected import Collected
from tests.bench.performance.figures import (
    FORMAT,
    PAUSED,
    PYTHON,
    REUSED,
    Measured,
    Memory,
    Run,
    Spread,
    Step,
    Usage,
    What,
    decode,
    percentile,
    spread,
    targets,
)
from tests.bench.performance.producers import Life, life_steps
from tests.bench.performance.usage import BUILDER, PROJECTOR, SERVER, SUPERVISOR, who_is

MS = 1_000_000


def measured(what: What, p50: float, per_second: float, at_once: int = 1, case: str = PYTHON) -> Measured:
    ms = Spread(p50, p50 * 2, p50 * 3, p50 * 4)
    return Measured(what=what, case=case, at_once=at_once, count=100, seconds=100 / per_second, ms=ms)


def run_of(*some: Measured, p50: float = 7.0) -> Run:
    usage = Usage(case=PYTHON, at_once=1, submissions=10, seconds=5, cpus=2, cpu_s={"runner": 0.5, "nats-server": 0.1})
    return Run(
        format=FORMAT,
        origin={"revision": "abc"},
        measured=list(some),
        steps={"steps": [Step("submitted", p50, 9.0)]},
        usage=[usage],
        memory=[Memory("runner", 1, 60.0, 40.0)],
    )


@pytest.mark.parametrize(("per_cent", "found"), [(50, 3.0), (60, 3.0), (61, 4.0), (95, 5.0), (100, 5.0), (0, 1.0)])
def test_a_percentile_is_one_of_the_numbers(per_cent: float, found: float) -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0, 5.0], per_cent) == found


def test_of_a_hundred_times_the_99th_is_not_the_longest() -> None:
    assert spread(map(float, range(100, 0, -1))) == Spread(50.0, 95.0, 99.0, 100.0)


def test_nothing_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="nothing"):
        spread([])


def test_turns_are_gathered() -> None:
    collected = Collected()
    collected.add("nsjail", PYTHON, 1, [10.0, 12.0], 1.0)
    collected.add("cutor", PYTHON, 1, [400.0], 1.0)
    collected.add("nsjail", PYTHON, 1, [11.0, 30.0], 3.0)
    nsjail, cutor = collected.measured()
    assert (nsjail.count, nsjail.seconds, nsjail.per_second) == (4, 4.0, 1.0)
    assert nsjail.ms == Spread(11.0, 30.0, 30.0, 30.0)
    assert (cutor.what, cutor.count) == ("cutor", 1)


def test_targets_stand_beside_their_figures() -> None:
    run = run_of(
        measured("nsjail", 22, 40),
        measured("container, cheapest", 100, 9),
        measured("container, cheapest", 200, 10, at_once=2),
        measured("cutor", 35, 1, case=PAUSED),
        measured("cutor", 50, 6),
        measured("cutor", 60, 8.5, at_once=2),
        measured("fork+exec", 12, 80, case=REUSED),
        measured("cutor", 30, 30, case=REUSED),
        measured("fork+exec", 12, 160, case=REUSED, at_once=2),
        measured("cutor", 30, 120, case=REUSED, at_once=2),
        measured("fork+exec", 12, 180, case=REUSED, at_once=4),
    )
    seen, own, share, rate, of_reuse = targets(run)
    assert (seen.figure, seen.met) == (35, True)
    assert (own.figure, own.met) == (13, True)
    assert share.figure == pytest.approx(0.85)
    assert share.met
    assert rate.met
    assert (of_reuse.figure, of_reuse.met) == (0.75, True), "where most of them end a second"


def test_a_target_just_missed_is_missed() -> None:
    cheapest = measured("container, cheapest", 1, 10)
    cutor = [measured("cutor", 40.1, 1, case=PAUSED), measured("cutor", 1, 7.9)]
    reused = [measured("fork+exec", 12, 100, case=REUSED), measured("cutor", 30, 69, case=REUSED)]
    missed = targets(run_of(measured("nsjail", 25, 40), *cutor, cheapest, *reused))
    assert [one.met for one in missed] == [False] * 5


def test_what_was_not_measured_meets_no_target() -> None:
    assert [(one.figure, one.met) for one in targets(run_of())] == [(None, False)] * 5


def test_two_stacks_of_a_run_stand_in_one() -> None:
    first, second = run_of(measured("cutor", 35, 6)), run_of(measured("cutor", 30, 60, case=REUSED), p50=3.0)
    whole = first.plus(msgspec.structs.replace(second, steps={"reused": second.steps["steps"]}, memory=[]))
    assert whole.measured == [*first.measured, *second.measured]
    assert whole.steps == {"steps": first.steps["steps"], "reused": second.steps["steps"]}
    assert (len(whole.usage), whole.memory) == (2, first.memory)


def test_a_run_is_read_as_it_was_kept() -> None:
    run = run_of(measured("cutor", 35, 6))
    assert decode(encode(run)) == run


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"format": 1}', b"\xff"])
def test_what_is_no_run_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="kept"):
        decode(raw)


def test_a_run_of_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="format"):
        decode(encode(msgspec.structs.replace(run_of(), format=FORMAT + 1)))


def test_a_table_is_aligned() -> None:
    assert tables.table(["a", "long head"], [["first", "1"]]).splitlines() == [
        "| a     | long head |",
        "|-------|----------:|",
        "| first |         1 |",
    ]


@pytest.mark.parametrize(("value", "shown"), [(None, ""), (0.123, "0.12"), (12.34, "12.3"), (1234.5, "1,234"), (0.0, "0.00")])
def test_a_number_has_three_digits(value: float | None, shown: str) -> None:
    assert tables.number(value) == shown


def test_each_way_stands_beside_what_is_below_it() -> None:
    run = run_of(measured("fork+exec", 15, 60), measured("nsjail", 25, 30), measured("cutor", 400, 3))
    cutor = tables.measured_table(run).splitlines()[-1]
    assert [cell.strip() for cell in cutor.split("|")][1:-1] == [
        f"{PYTHON}, 1 at once",
        "cutor",
        *("400", "800", "1,200", "3.00"),
        *("0.05", "0.10", ""),
        "100",
    ]


def test_usage_is_told_a_submission_and_as_a_share_of_all_cpus() -> None:
    assert " 50.0 (5%) |" in tables.usage_table(run_of())


def test_two_turns_are_added_up() -> None:
    usage = run_of().usage[0]
    both = usage.plus(msgspec.structs.replace(usage, cpu_s={"runner": 0.25, "builder": 1.0}))
    assert (both.submissions, both.seconds) == (20, 10)
    assert both.cpu_s == {"runner": 0.75, "nats-server": 0.1, "builder": 1.0}


def test_two_runs_stand_side_by_side() -> None:
    a = run_of(measured("cutor", 400, 3), measured("nsjail", 20, 50))
    b = run_of(measured("cutor", 100, 9), p50=3.5)
    said = [[cell.strip() for cell in line.split("|")[1:-1]] for line in tables.compared(a, b).splitlines()]
    assert [f"{PYTHON}, 1 at once", "cutor", "400", "100", "0.25", "3.00", "9.00", "3.00"] in said
    assert ["submitted", "7.00", "9.00", "3.50", "9.00"] in said
    assert [f"{PYTHON}, 1 at once", "runner", "50.0", "50.0", "1.00"] in said
    assert ["runner", "60.0", "60.0", "1.00"] in said


def test_all_of_a_run_is_told() -> None:
    said = tables.whole(run_of(measured("cutor", 35, 6)))
    assert all(word in said for word in ("revision abc", "cutor", "not measured", "submitted", "runner", "peak RSS"))


def lease(role: Role) -> Lease:
    return Lease(role=role, worker="w", token="t", number=1)


def life(*events: tuple[int, Event], begun: int = 0, seen: int = 100) -> Life:
    return Life(begun * MS, seen * MS, [(at * MS, event) for at, event in events])


BUILT = CacheBuilt(
    lease=lease("builder"), environment=EnvironmentRef(key="k", derivation="d", hit=True), stage=Stage(outcome="OK")
)


def ran(index: int) -> Ran:
    return Ran(lease=lease("runner"), index=index, stages=(Stage(outcome="OK", wall_time_ms=3, cpu_time_ms=2),))


def test_steps_end_with_an_event_each_and_add_up_to_the_whole() -> None:
    one = life(
        (5, Leased(lease=lease("builder"))),
        (7, BUILT),
        (11, Leased(lease=lease("runner"))),
        (40, Compiled(lease=lease("runner"), stage=Stage(outcome="OK", wall_time_ms=20, cpu_time_ms=10))),
        (60, ran(0)),
        (65, ran(1)),
        (72, ran(2)),
        (75, Finished(lease=lease("runner"), outcome="OK")),
        begun=1,
        seen=80,
    )
    found = {step.name: step.p50 for step in life_steps([one])}
    programs = found.pop("of all that, programs running")
    assert found == {
        "leased (builder)": 4,
        "cache-built": 2,
        "leased (runner)": 4,
        "compiled": 29,
        "ran, first results": 20,
        "ran, further results": 12,
        "finished": 3,
        "seen by the client": 5,
    }
    assert list(found)[-3:] == ["ran, further results", "finished", "seen by the client"]
    assert sum(found.values()) == one.took_ms == 79
    assert programs == 29
    assert one.programs_cpu_s() == pytest.approx(0.016)


@pytest.mark.parametrize(
    ("words", "who"),
    [
        (["/x/nats-server", "--config", "/data/nats.conf"], SERVER),
        (["python", "-m", "cutor", "builder", "--data", "/data"], BUILDER),
        (["python", "-m", "cutor", "projector", "--data", "/data"], PROJECTOR),
        (["python", "-m", "cutor", "up", "--data", "/data"], SUPERVISOR),
    ],
)
def test_processes_are_known_by_their_command_lines(words: list[str], who: str) -> None:
    assert who_is("\0".join(words)) == who

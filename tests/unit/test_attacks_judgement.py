"""Judging what became of an attack, and the lines of the table."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cutor.model.events import Output, Signal, Stage
from cutor.model.result import Result
from cutor.model.state import Attempts
from tests.attacks import table
from tests.attacks.attack import Attack, Kill, generated
from tests.attacks.campaign import Verdict, load_attacks
from tests.attacks.judgement import differences, expected, got, repeated
from tests.attacks.neighbours import NEIGHBOURS
from tests.unit.histories import ended

OK = Stage(outcome="OK", exit_code=0, stdout=Output(data="refused\n", bytes_total=8))
MLE = Stage(outcome="MLE", signal=Signal(number=9, name="SIGKILL"), wall_time_ms=20)


def result(**more: Any) -> Result:
    return ended(**{"run": (OK,), "cleaned_at": "2026", **more})


def attack(**more: Any) -> Attack:
    return Attack(what="x", **more)


SKIPPED = Stage(outcome="SKIPPED")
SLOW = Stage(outcome="TLE_CPU", signal=Signal(number=9, name="SIGKILL"), wall_time_ms=20)
FAILED = result(outcome="RUN_ERROR", run=(MLE,))
HOG = attack(outcome=("RUN_ERROR",), run=("MLE",))
IN_TURN = attack(outcome=("RUN_ERROR",), test_cases=({},) * 3, runs=("MLE", ("TLE_CPU", "TLE_WALL"), "OK"))


def test_what_must_be_makes_no_difference() -> None:
    assert differences(attack(has=("refused",), lacks=("REACHED",)), result()) == []
    assert differences(HOG, FAILED) == []
    assert differences(attack(outcome=("COMPILE_ERROR",), compile=("MLE",)), NOT_COMPILED) == []


NOT_COMPILED = result(outcome="COMPILE_ERROR", compile=MLE, run=(SKIPPED,))


@pytest.mark.parametrize(
    ("wanted", "found", "expectation", "outcome"),
    [
        (HOG, FAILED, "run MLE", "run MLE"),
        (attack(), result(), "OK", "OK"),
        (attack(has=("refused",)), result(), 'OK "refused"', 'OK "refused"'),
        (attack(has=("REACHED",)), result(), 'OK "REACHED"', "OK"),
        (attack(says=("a\nb",)), result(), r'OK "a\nb"', "OK"),
        (attack(printed_at_least=8), result(), "OK and 8 bytes", "OK and 8 bytes"),
        (attack(echo=True), result(), "OK and its input", "OK"),
        (attack(test_cases=({"expected_output": "refused"},)), result(), "OK and its output", "OK and its output"),
        (
            IN_TURN,
            result(outcome="RUN_ERROR", run=(MLE, SLOW, OK)),
            "run MLE → TLE_CPU|TLE_WALL → OK",
            "run MLE → TLE_CPU → OK",
        ),
        (attack(outcome=("COMPILE_ERROR",), compile=("RE", "MLE")), NOT_COMPILED, "compile RE|MLE", "compile MLE"),
        (attack(outcome=("OK", "COMPILE_ERROR"), compile=("OK", "MLE")), result(), "OK|compile MLE", "OK"),
        (attack(outcome=("CANCELLED",)), result(outcome="CANCELLED", run=()), "CANCELLED", "CANCELLED"),
        (attack(refused="no"), result(), "refused", "OK"),
    ],
)
def test_what_must_come_and_what_came_are_in_the_same_words(
    wanted: Attack, found: Result, expectation: str, outcome: str
) -> None:
    assert (expected(wanted), got(wanted, found)) == (expectation, outcome)


@pytest.mark.parametrize("second", [SLOW, Stage(outcome="TLE_WALL")])
def test_test_cases_that_end_each_in_its_own_way_make_no_difference(second: Stage) -> None:
    assert differences(IN_TURN, result(outcome="RUN_ERROR", run=(MLE, second, OK))) == []


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ((SLOW, MLE, OK), ["test case 1: TLE_CPU is not MLE", "test case 2: MLE is not TLE_CPU|TLE_WALL"]),
        ((MLE, MLE, OK), ["test case 2: MLE is not TLE_CPU|TLE_WALL"]),
        ((MLE, MLE, MLE), ["test case 2: MLE is not TLE_CPU|TLE_WALL", "test case 3: MLE is not OK"]),
        ((MLE, SLOW), ["2 test cases were reported, not 3"]),
        ((MLE, OK), ["2 test cases were reported, not 3", "test case 2: OK is not TLE_CPU|TLE_WALL"]),
        ((MLE, SLOW, OK, OK), ["4 test cases were reported, not 3"]),
        ((MLE, SLOW, SKIPPED), ["test case 3: SKIPPED is not OK"]),
    ],
)
def test_an_outcome_that_is_swapped_repeated_or_missing_is_a_difference(runs: tuple[Stage, ...], said: list[str]) -> None:
    found = differences(IN_TURN, result(outcome="RUN_ERROR", run=runs))
    assert [line.partition(" (")[0] for line in found] == said


def test_what_follows_from_another_outcome_is_none() -> None:
    stops = msgspec.structs.replace(IN_TURN, stop_on_failure=True)
    assert differences(stops, result(outcome="RUN_ERROR", run=(MLE, SKIPPED, SKIPPED))) == []
    cancelled = attack(outcome=("CANCELLED",), test_cases=({}, {}, {}))
    assert differences(cancelled, result(outcome="CANCELLED", run=(OK, Stage(outcome="CANCELLED")))) == []


@pytest.mark.parametrize(
    ("wanted", "found", "said"),
    [
        (attack(), FAILED, "outcome: RUN_ERROR is not OK"),
        (HOG, result(), "outcome: OK is not RUN_ERROR"),
        (attack(outcome=("RUN_ERROR",), run=("TLE_CPU",)), FAILED, "test case 1: MLE is not TLE_CPU"),
        (attack(has=("REACHED",)), result(), "stdout lacks 'REACHED'"),
        (attack(lacks=("fuse",)), result(), "an output holds 'fuse'"),
        (attack(says=("nothing",)), result(message="else"), "nothing says 'nothing'"),
        (attack(exit_code=1), result(), "exit code: 0 is not 1"),
        (msgspec.structs.replace(HOG, signal=11), FAILED, "signal: 9 is not 11"),
        (msgspec.structs.replace(HOG, within_ms=10), FAILED, "wall time: 20 ms are more than 10 ms"),
        (attack(printed_at_least=9), result(), "printed: 8 bytes are less than 9"),
        (attack(echo=True, input_bytes=8), result(), "stdout is not the input"),
        (attack(), result(cleaned_at=None), "it was not cleaned"),
        (attack(), result(attempts=Attempts(builder=1, runner=2)), "a step was repeated"),
        (attack(), result(run=()), "run: the stage was not reached"),
    ],
)
def test_everything_else_is_a_difference(wanted: Attack, found: Result, said: str) -> None:
    assert any(line.startswith(said) for line in differences(wanted, found)), differences(wanted, found)


def test_what_one_submission_has_from_another_is_not_fresh() -> None:
    first, second = (result(message=None, dependencies=Stage(outcome="RE", message=f"tried at {n}\nbad")) for n in (1, 2))
    tried = attack(says=("tried at",), fresh=True)
    assert repeated(tried, [first, second]) == []
    assert repeated(tried, [first, first]) == ["not fresh: tried at 1"]
    assert repeated(attack(says=("tried at",)), [first, first]) == []


def test_a_kill_may_repeat_a_step() -> None:
    killed = attack(kill=Kill(process="runner", at="leased runner"))
    assert differences(killed, result(attempts=Attempts(builder=1, runner=2))) == []


def test_an_echo_is_compared_as_a_whole() -> None:
    text = generated(500)
    stage = Stage(outcome="OK", exit_code=0, stdout=Output(data=text, bytes_total=500))
    assert differences(attack(echo=True, input_bytes=500), result(run=(stage,))) == []


def test_a_neighbours_verdict() -> None:
    plain = next(neighbour for neighbour in NEIGHBOURS if neighbour.name == "one that fails")
    failed = Stage(outcome="RE", exit_code=3)
    assert plain.changed(result(outcome="RUN_ERROR", run=(failed,))) is None
    assert plain.changed(result()) == "one that fails: OK (OK, OK); must be RUN_ERROR (OK, RE)"


def test_how_neighbours_end_is_said_in_the_words_of_the_table() -> None:
    ends = {neighbour.name: neighbour.ends for neighbour in NEIGHBOURS}
    assert (ends["one that fails"], ends["C that adds"], ends["python that adds"]) == ("run RE", "run OK → WA", "OK")


def test_the_table_fits_its_columns() -> None:
    long = Verdict("n" * 50, "run " + "|".join(["TLE_WALL"] * 5), "compile MLE", 123.4, ("a difference",))
    first, second = table.lines(long)
    assert len(first) <= table.WIDTH == 120
    assert first.startswith("! nnn")
    assert second == "    a difference"
    assert all(len(line) <= 120 for line in table.heading("a pass", 100).splitlines())
    assert len(table.progress(3, 100, 2)) < 80
    assert next(table.lines(Verdict("n", "OK", "OK", 1.0))).startswith("  n ")
    assert "differs" in next(table.lines(Verdict("n", "OK", "OK", 1.0, ("x",))))


@pytest.mark.parametrize(
    ("name", "says"),
    [(attack.name, expected(attack)) for attack in load_attacks()]
    + [(f"beside: {neighbour.name}", f"{neighbour.ends}, 1000 of 1000") for neighbour in NEIGHBOURS],
)
def test_no_name_and_no_outcome_is_cut(name: str, says: str) -> None:
    [line] = table.lines(Verdict(name, says, says, 999.9))
    outcome = says.partition(' "')[0]  # what it prints after that may be longer than the column
    assert len(line) <= table.WIDTH
    assert name in line
    assert line.count(f" {outcome} ") == 2

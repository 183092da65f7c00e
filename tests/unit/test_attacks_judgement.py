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
from tests.attacks.campaign import Verdict
from tests.attacks.judgement import differences, expected, got
from tests.attacks.neighbours import NEIGHBOURS

OK = Stage(outcome="OK", exit_code=0, stdout=Output(data="refused\n", bytes_total=8))
MLE = Stage(outcome="MLE", signal=Signal(number=9, name="SIGKILL"), wall_time_ms=20)


def result(**more: Any) -> Result:
    known: dict[str, Any] = {
        "id": "x",
        "tenant": "default",
        "status": "FINISHED",
        "outcome": "OK",
        "dependencies": Stage(outcome="OK"),
        "compile": None,
        "run": (OK,),
        "environment": None,
        "attempts": Attempts(builder=1, runner=1),
        "caused_by": None,
        "labels": {},
        "submitted_at": "2026",
        "finished_at": "2026",
        "cleaned_at": "2026",
        "message": None,
    }
    return Result(**known | more)


def attack(**more: Any) -> Attack:
    return Attack(what="x", **more)


FAILED = result(outcome="RUN_ERROR", run=(MLE, Stage(outcome="SKIPPED")))
HOG = attack(outcome=("RUN_ERROR",), run=("MLE",))


def test_what_must_be_makes_no_difference() -> None:
    assert differences(attack(has=("refused",), lacks=("REACHED",)), result()) == []
    assert differences(HOG, FAILED) == []
    assert (expected(HOG), got(FAILED)) == ("run MLE", "run MLE")
    assert (expected(attack()), got(result())) == ("OK", "OK")


@pytest.mark.parametrize(
    ("wanted", "found", "said"),
    [
        (attack(), FAILED, "outcome: RUN_ERROR is not OK"),
        (HOG, result(), "outcome: OK is not RUN_ERROR"),
        (attack(outcome=("RUN_ERROR",), run=("TLE_CPU",)), FAILED, "run: MLE is not TLE_CPU"),
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


def test_the_table_fits_80_columns() -> None:
    long = Verdict("n" * 50, "run " + "|".join(["TLE_WALL"] * 4), "compile MLE", 123.4, ("a difference",))
    first, second = table.lines(long)
    assert len(first) <= 80
    assert first.startswith("! nnn")
    assert second == "    a difference"
    assert all(len(line) <= 80 for line in table.heading("a pass", 100).splitlines())
    assert len(table.progress(3, 100, 2)) < 80
    assert next(table.lines(Verdict("n", "OK", "OK", 1.0))).startswith("  n ")
    assert "differs" in next(table.lines(Verdict("n", "OK", "OK", 1.0, ("x",))))

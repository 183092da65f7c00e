"""From a report to a result: the sentence that stands beside each outcome, and what the fields say together."""

from __future__ import annotations

import signal

import pytest

from cutor.model.events import Stage
from cutor.model.limits import DEFAULT_LIMITS, MIB
from cutor.model.outcome import StageReport
from cutor.model.stages import judge, judge_interrupted

LIMIT = DEFAULT_LIMITS.run.default
SENTENCES = [
    ("OK", StageReport(exit_code=0), None),
    ("RE", StageReport(exit_code=3), None),
    ("RE", StageReport(exit_code=128), None),
    (
        "RE",
        StageReport(exit_code=139),
        "a shell ends so where SIGSEGV ended its program; with `exec` ",
    ),
    ("RE", StageReport(exit_code=153), "a shell ends so where SIGXFSZ ended its program"),
    ("RE", StageReport(exit_code=160), None),
    ("SG", StageReport(signal_number=signal.SIGSEGV), None),
    ("FSE", StageReport(signal_number=signal.SIGXFSZ), "wrote a file of more than 16 MiB"),
    ("TLE_WALL", StageReport(killed_by="wall_time"), "took longer than 10000 ms"),
    ("TLE_CPU", StageReport(killed_by="cpu_time"), "used more than 5000 ms of CPU time"),
    ("FSE", StageReport(killed_by="store"), None),
    ("MLE", StageReport(killed_by="store", oom_kills=1), "needed more than 256 MiB of memory"),
    ("MLE", StageReport(exit_code=137, oom_kills=1), "needed more than 256 MiB of memory"),
    ("OLE", StageReport(killed_by="stdout"), "printed more than 1 MiB to stdout"),
    ("OLE", StageReport(killed_by="stderr"), "printed more than 1 MiB to stderr"),
    ("CANCELLED", StageReport(killed_by="cancel"), None),
    ("XX", StageReport(fault="jail-init failed"), "jail-init failed"),
    ("XX", StageReport(), "the jail reported neither an end nor a reason"),
]


@pytest.mark.parametrize(("outcome", "report", "sentence"), SENTENCES)
def test_an_outcome_is_explained_where_its_fields_do_not(outcome: str, report: StageReport, sentence: str | None) -> None:
    stage = judge(report, LIMIT)
    assert stage.outcome == outcome
    assert stage.message is None if sentence is None else str(stage.message).startswith(sentence)


def test_a_wrong_answer_says_so_and_keeps_its_exit_code() -> None:
    stage = judge(StageReport(exit_code=0, stdout=b"41\n"), LIMIT, name="sum", expected_output=b"42")
    assert (stage.outcome, stage.name, stage.exit_code, stage.message) == (
        "WA",
        "sum",
        0,
        "the output differs from the expected one",
    )


def test_what_failed_otherwise_is_no_wrong_answer() -> None:
    assert judge(StageReport(exit_code=1, stdout=b"41\n"), LIMIT, expected_output=b"42").outcome == "RE"


def test_output_that_was_cut_is_marked_with_its_total() -> None:
    stage = judge(StageReport(exit_code=0, stdout=b"x" * 10, stdout_bytes_total=MIB), LIMIT)
    assert (stage.stdout.truncated, stage.stdout.bytes_total, stage.stderr.truncated) == (True, MIB, False)


def test_of_a_stage_that_a_cancel_stopped_everything_is_kept() -> None:
    report = StageReport(killed_by="cancel", cpu_time_ms=1, wall_time_ms=2, stdout=b"begun", stdout_bytes_total=5)
    stage = judge_interrupted(report, LIMIT, name="a", expected_output=b"done")
    assert (stage.outcome, stage.name, stage.stdout.data, stage.limits) == ("CANCELLED", "a", "begun", LIMIT)
    assert (stage.exit_code, stage.cpu_time_ms, stage.wall_time_ms, stage.message) == (None, 1, 2, None)


@pytest.mark.parametrize("report", [None, StageReport(killed_by="cancel", fault="the jail did not end in time"), StageReport()])
def test_of_a_stopped_stage_that_nobody_reports_the_limits_are_known(report: StageReport | None) -> None:
    assert judge_interrupted(report, LIMIT, name="a") == Stage(outcome="CANCELLED", name="a", limits=LIMIT)


def test_a_stage_that_ended_just_before_the_cancel_is_judged_as_any() -> None:
    stage = judge_interrupted(StageReport(exit_code=0, stdout=b"x"), LIMIT, expected_output=b"y")
    assert stage.outcome == "WA"

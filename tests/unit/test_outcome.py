"""Outcomes from facts: their precedence, and the endings that must be told apart."""

import itertools
import signal

import pytest

from cutor.model.outcome import (
    PRECEDENCE,
    STAGE_OUTCOMES,
    SUBMISSION_OUTCOMES,
    StageOutcome,
    StageReport,
    SubmissionOutcome,
    classify,
    same_output,
    signal_name,
    submission_outcome,
)

ENDINGS = [
    ("exit 0", StageReport(exit_code=0), "OK"),
    ("exit 1", StageReport(exit_code=1), "RE"),
    ("exit 139 is no segmentation fault", StageReport(exit_code=139), "RE"),
    ("a segmentation fault", StageReport(signal_number=signal.SIGSEGV), "SG"),
    ("a program that kills itself", StageReport(signal_number=signal.SIGKILL), "SG"),
    ("cutor's own kill", StageReport(signal_number=signal.SIGKILL, killed_by="wall_time"), "TLE_WALL"),
    ("cutor's own kill, no status seen", StageReport(killed_by="cpu_time"), "TLE_CPU"),
    ("the OOM killer's", StageReport(signal_number=signal.SIGKILL, oom_kills=1), "MLE"),
    ("a child that was OOM-killed, and a parent that was ended for it", StageReport(oom_kills=1, killed_by="memory"), "MLE"),
    ("a child that was OOM-killed, and a parent that carried on", StageReport(exit_code=0, oom_kills=1), "MLE"),
    ("the file size signal", StageReport(signal_number=signal.SIGXFSZ), "FSE"),
    ("too much added to the store", StageReport(killed_by="store"), "FSE"),
    ("too much stdout", StageReport(killed_by="stdout"), "OLE"),
    ("too much stderr", StageReport(killed_by="stderr"), "OLE"),
    ("cancelled", StageReport(killed_by="cancel", oom_kills=1), "CANCELLED"),
    ("a fault of cutor's", StageReport(exit_code=0, fault="no nsjail"), "XX"),
    ("nothing known", StageReport(), "XX"),
]


@pytest.mark.parametrize(("report", "outcome"), [case[1:] for case in ENDINGS], ids=[case[0] for case in ENDINGS])
def test_ending(report: StageReport, outcome: str) -> None:
    assert classify(report) == outcome


def test_precedence_when_everything_happens_at_once() -> None:
    order = ["XX", "CANCELLED", "MLE", "OLE", "FSE", "TLE_CPU", "TLE_WALL", "SG", "RE", "OK"]
    faults, kills, ooms = (None, "fault"), (None, "cancel", "stdout", "stderr", "cpu_time", "wall_time"), (0, 1)
    for fault, killed_by, oom_kills in itertools.product(faults, kills, ooms):
        report = StageReport(signal_number=signal.SIGXFSZ, fault=fault, killed_by=killed_by, oom_kills=oom_kills)
        holding = {"FSE", "SG"}
        holding |= {"XX"} if fault else set()
        holding |= {"MLE"} if oom_kills else set()
        by_kill = {"cancel": "CANCELLED", "stdout": "OLE", "stderr": "OLE", "cpu_time": "TLE_CPU", "wall_time": "TLE_WALL"}
        holding |= {by_kill[killed_by]} if killed_by else set()
        assert classify(report) == min(holding, key=order.index)


def test_text_on_stderr_decides_nothing() -> None:
    assert classify(StageReport(exit_code=0, stderr=b"time limit exceeded\nKilled\nOut of memory")) == "OK"


@pytest.mark.parametrize(
    ("got", "expected", "compare", "same"),
    [
        (b"42\n", b"42", "trailing_whitespace", True),
        (b"42 \t\r\n\n\n", b"42\n", "trailing_whitespace", True),
        (b"a  \nb\n", b"a\nb", "trailing_whitespace", True),
        (b" 42\n", b"42\n", "trailing_whitespace", False),
        (b"4 2", b"42", "trailing_whitespace", False),
        (b"a\n\nb", b"a\nb", "trailing_whitespace", False),
        (b"", b"\n \n", "trailing_whitespace", True),
        (b"42\n", b"42", "exact", False),
        (b"42\n", b"42\n", "exact", True),
        (b"\0\xff", b"\0\xff", "exact", True),
    ],
)
def test_compare(got: bytes, expected: bytes, compare: str, same: bool) -> None:
    assert same_output(got, expected, compare) is same  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("runs", "outcome"),
    [
        (["OK", "OK"], "OK"),
        (["OK", "WA", "SKIPPED"], "WRONG_ANSWER"),
        (["WA", "RE"], "WRONG_ANSWER"),
        (["RE", "WA"], "RUN_ERROR"),
        (["OK", "TLE_CPU", "SKIPPED"], "RUN_ERROR"),
    ],
)
def test_the_first_test_case_that_is_not_ok_decides(runs: list[str], outcome: str) -> None:
    assert submission_outcome(runs) == outcome  # type: ignore[arg-type]


def test_signal_names() -> None:
    assert [signal_name(number) for number in (9, 11, 36, 99)] == ["SIGKILL", "SIGSEGV", "SIGRTMIN+2", "SIG99"]


def test_every_outcome_is_described() -> None:
    from typing import get_args

    assert set(STAGE_OUTCOMES) == set(get_args(StageOutcome))
    assert set(SUBMISSION_OUTCOMES) == set(get_args(SubmissionOutcome))


FACTS: dict[str, dict[str, object]] = {
    "XX": {"fault": "the jail is gone"},
    "CANCELLED": {"killed_by": "cancel"},
    "MLE": {"oom_kills": 1},
    "OLE": {"killed_by": "stdout"},
    "FSE": {"signal_number": signal.SIGXFSZ},
    "TLE_CPU": {"killed_by": "cpu_time"},
    "TLE_WALL": {"killed_by": "wall_time"},
    "SG": {"signal_number": signal.SIGSEGV},
    "RE": {"exit_code": 1},
    "OK": {"exit_code": 0},
}
"""What makes each outcome by itself; of two that can hold together, the first in `PRECEDENCE` counts."""


TOGETHER = [
    (first, second)
    for first, second in itertools.combinations([name for name in PRECEDENCE if name in FACTS], 2)
    if not set(FACTS[first]) & set(FACTS[second])
]
"""Pairs whose facts can hold at one time, in the order of `PRECEDENCE`."""


@pytest.mark.parametrize(("first", "second"), TOGETHER)
def test_the_precedence_is_the_one_that_is_documented(first: StageOutcome, second: StageOutcome) -> None:
    assert classify(StageReport(**FACTS[second] | FACTS[first])) == first  # type: ignore[arg-type]

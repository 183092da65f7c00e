"""Outcomes: how a stage and a submission ended, decided from facts alone.

`StageReport` holds what a child container measured: wait status, control group counters, cutor's own kills. `classify` turns
it into one `StageOutcome`, by a precedence: the first that holds. Text that a program printed never decides anything.
"""

from __future__ import annotations

import signal
from typing import Final, Literal

import msgspec

StageOutcome = Literal["OK", "RE", "SG", "TLE_CPU", "TLE_WALL", "MLE", "OLE", "FSE", "WA", "CANCELLED", "SKIPPED", "XX"]
SubmissionOutcome = Literal[
    "OK", "DEPENDENCY_ERROR", "COMPILE_ERROR", "RUN_ERROR", "WRONG_ANSWER", "CANCELLED", "REJECTED", "PARKED"
]
KilledBy = Literal["wall_time", "cpu_time", "memory", "stdout", "stderr", "store", "cancel"]
Compare = Literal["exact", "trailing_whitespace"]

STAGE_OUTCOMES: Final[dict[str, str]] = {
    "OK": "ended with exit code 0 (and the expected output, if one was given)",
    "RE": "ended with another exit code",
    "SG": "was ended by a signal",
    "TLE_CPU": "used more CPU time than its limit",
    "TLE_WALL": "took longer than its wall-time limit",
    "MLE": "needed more memory than its limit: the kernel's OOM killer ended a process of it, or cutor saw it hold more",
    "OLE": "printed more than its stdout or stderr limit",
    "FSE": "was ended by the kernel for writing a file larger than its limit, or (a build) for adding too much to the store",
    "WA": "ended well, but its output differs from the expected one",
    "CANCELLED": "was stopped because the submission was cancelled",
    "SKIPPED": "was not run, because an earlier stage or test case was not OK",
    "XX": "could not be judged, by a fault of cutor's; the step is retried, and only a parked submission shows it",
}
"""Every outcome of a stage with what it says of the program."""

PRECEDENCE: Final[tuple[StageOutcome, ...]] = (
    *("XX", "CANCELLED", "MLE", "OLE", "FSE", "TLE_CPU", "TLE_WALL", "SG", "RE", "WA", "OK"),
)
"""Where several hold of a stage, the first of these is its outcome; `SKIPPED` is none of a stage that began."""

SUBMISSION_OUTCOMES: Final[dict[str, str]] = {
    "OK": "every stage is OK",
    "DEPENDENCY_ERROR": "the environment could not be built; nothing was compiled or run",
    "COMPILE_ERROR": "the compile script was not OK; nothing was run",
    "RUN_ERROR": "the first test case that is not OK is something else than `WA`",
    "WRONG_ANSWER": "the first test case that is not OK is `WA`",
    "CANCELLED": "it was cancelled before it had ended",
    "REJECTED": "its first event breaks the stack's rules; `message` says which",
    "PARKED": "a role's leases were used up, by faults of cutor's or its host's; it can be retried",
}
"""Every outcome of a submission with what it says."""


class StageReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of one stage.

    ``exit_code`` and ``signal_number`` are the program's own wait status as its jail's init saw it, both null where the
    program never ended by itself. ``oom_kills`` counts the kernel's kills in the stage's control group. Output is the kept
    prefix; the totals count every byte that was read. ``fault`` is a failure of cutor's own machinery.
    """

    exit_code: int | None = None
    signal_number: int | None = None
    killed_by: KilledBy | None = None
    oom_kills: int = 0
    cpu_time_ms: int | None = None
    wall_time_ms: int | None = None
    memory_peak_bytes: int | None = None
    stdout: bytes = b""
    stdout_bytes_total: int = 0
    stderr: bytes = b""
    stderr_bytes_total: int = 0
    fault: str | None = None


def classify(report: StageReport) -> StageOutcome:
    """Return the outcome of a stage, leaving the comparison of its output aside.

    Precedence: XX > CANCELLED > MLE > OLE > FSE > TLE_CPU > TLE_WALL > SG > RE > OK. A report that holds neither an exit
    code, nor a signal, nor a kill is XX: nothing is known of the program.
    """
    killed = report.killed_by
    ended = report.exit_code is not None or report.signal_number is not None
    rules: tuple[tuple[bool, StageOutcome], ...] = (
        (report.fault is not None or (not ended and killed is None and report.oom_kills == 0), "XX"),
        (killed == "cancel", "CANCELLED"),
        (report.oom_kills > 0 or killed == "memory", "MLE"),
        (killed in ("stdout", "stderr"), "OLE"),
        (report.signal_number == signal.SIGXFSZ or killed == "store", "FSE"),
        (killed == "cpu_time", "TLE_CPU"),
        (killed == "wall_time", "TLE_WALL"),
        (report.signal_number is not None, "SG"),
        (report.exit_code != 0, "RE"),
    )
    return next((outcome for holds, outcome in rules if holds), "OK")


def same_output(got: bytes, expected: bytes, compare: Compare) -> bool:
    """Return whether output matches; ``trailing_whitespace`` ignores white space at the ends of lines and of the whole."""
    if compare == "exact":
        return got == expected
    return _without_trailing_space(got) == _without_trailing_space(expected)


def _without_trailing_space(text: bytes) -> list[bytes]:
    return [line.rstrip() for line in text.rstrip().split(b"\n")]


def signal_name(number: int) -> str:
    """Return ``SIGSEGV`` for 11; ``SIGRTMIN+N`` in the real-time range, ``SIG<number>`` for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - 34}" if 34 < number < 64 else f"SIG{number}"


def submission_outcome(runs: list[StageOutcome]) -> SubmissionOutcome:
    """Return the outcome of a submission whose stages before the runs were OK: the first test case not OK decides."""
    first = next((outcome for outcome in runs if outcome not in ("OK", "SKIPPED")), "OK")
    if first == "OK":
        return "OK"
    return "WRONG_ANSWER" if first == "WA" else "RUN_ERROR"

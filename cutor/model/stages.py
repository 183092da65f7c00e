"""From a stage's report to its result: the outcome, the comparison with the expected output, a sentence for people."""

from __future__ import annotations

from typing import Final

from cutor.model.events import Signal, Stage, output
from cutor.model.limits import Limit
from cutor.model.outcome import Compare, StageOutcome, StageReport, classify, same_output, signal_name
from cutor.model.units import size

_SHELLS_SIGNALS: Final[dict[int | None, int]] = {128 + number: number for number in range(1, 32)}
"""Exit codes of a shell whose program was ended by a signal, and the signal."""
LIMIT_OF_OUTCOME: Final[dict[StageOutcome, tuple[str, str]]] = {
    "TLE_WALL": ("wall_time_ms", "took longer than {} ms"),
    "TLE_CPU": ("cpu_time_ms", "used more than {} ms of CPU time"),
    "MLE": ("memory_bytes", "needed more than {} of memory"),
    "FSE": ("file_size_bytes", "wrote a file of more than {}"),
}


def judge(
    report: StageReport,
    limits: Limit,
    *,
    name: str | None = None,
    expected_output: bytes | None = None,
    compare: Compare = "trailing_whitespace",
) -> Stage:
    """Return the result of a stage. Outputs stand in it whole; storing large ones apart is the journal's business."""
    outcome = classify(report)
    if outcome == "OK" and expected_output is not None and not same_output(report.stdout, expected_output, compare):
        outcome = "WA"
    return Stage(
        outcome=outcome,
        name=name,
        exit_code=report.exit_code,
        signal=_signal(report) if report.exit_code is None else None,
        cpu_time_ms=report.cpu_time_ms,
        wall_time_ms=report.wall_time_ms,
        memory_peak_bytes=report.memory_peak_bytes,
        stdout=output(report.stdout, report.stdout_bytes_total),
        stderr=output(report.stderr, report.stderr_bytes_total),
        limits=limits,
        message=explain(outcome, report, limits),
    )


def judge_interrupted(
    report: StageReport | None,
    limits: Limit,
    *,
    name: str | None = None,
    expected_output: bytes | None = None,
    compare: Compare = "trailing_whitespace",
) -> Stage:
    """Return the result of a stage that a cancel stopped; where no report tells more, all that is known are its limits.

    It may have ended by itself just before: then that is its result.
    """
    if report is None or classify(report) == "XX":
        return Stage(outcome="CANCELLED", name=name, limits=limits)
    return judge(report, limits, name=name, expected_output=expected_output, compare=compare)


def _signal(report: StageReport) -> Signal | None:
    number = report.signal_number
    return None if number is None else Signal(number=number, name=signal_name(number))


def explain(outcome: StageOutcome, report: StageReport, limits: Limit) -> str | None:
    """Return one sentence about an outcome that its other fields don't tell, or None."""
    if outcome == "XX":
        return report.fault or "the jail reported neither an end nor a reason"
    if outcome == "OLE":
        stream = "stderr" if report.killed_by == "stderr" else "stdout"
        return f"printed more than {size(getattr(limits, f'{stream}_bytes'))} to {stream}"
    if outcome == "RE" and report.exit_code in _SHELLS_SIGNALS:
        name = signal_name(_SHELLS_SIGNALS[report.exit_code])
        return f"a shell ends so where {name} ended its program; with `exec` before the program, {name} itself is reported"
    if outcome == "WA":
        return "the output differs from the expected one"
    if outcome in LIMIT_OF_OUTCOME and (outcome, report.killed_by) != ("FSE", "store"):  # a build says itself how much it was
        field, sentence = LIMIT_OF_OUTCOME[outcome]
        limit: int = getattr(limits, field)
        return sentence.format(size(limit) if field.endswith("_bytes") else limit)
    return None

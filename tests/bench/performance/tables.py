"""A run as text: what was measured, the targets, where the time goes, who used CPUs and memory; and two runs compared. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from tests.bench.performance.figures import Measured, Run, Target, Usage, What, targets

Row = Sequence[str]

ABOVE: Final[dict[What, tuple[What, ...]]] = {
    "fork+exec": ("nsjail", "cutor"),
    "nsjail": ("cutor",),
    "container, cheapest": ("container, cutor's", "cutor"),
}
"""What is compared with what is below it."""


def table(head: Row, rows: Iterable[Row], *, words: int = 1) -> str:
    """Return rows below a head in Markdown; the first columns, so many, are words, and the others are numbers."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    rules = ["-" * (width + 2) if column < words else "-" * (width + 1) + ":" for column, width in enumerate(widths)]
    first, *others = ["| " + " | ".join(_aligned(line, widths, words)) + " |" for line in lines]
    return "\n".join([first, "|" + "|".join(rules) + "|", *others])


def _aligned(cells: Row, widths: Sequence[int], words: int) -> Iterator[str]:
    for column, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        yield cell.ljust(width) if column < words else cell.rjust(width)


def number(value: float | None, unit: str = "") -> str:
    """Return a number as short as it means anything: three digits and no more; nothing for None."""
    if value is None:
        return ""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}{unit}"


def whole(run: Run) -> str:
    """Return everything that a run has to tell."""
    parts = [
        ", ".join(f"{name} {value}" for name, value in run.origin.items()),
        measured_table(run),
        targets_table([(None, run)]),
        *(steps_table(name, [run]) for name in run.steps),
        usage_table(run),
        memory_table(run),
    ]
    return "\n\n".join(parts)


def measured_table(run: Run) -> str:
    """Return all that was measured, each beside what is below it: the same at once, a second."""
    rows = [
        [
            f"{one.case}, {one.at_once} at once" if one.at_once else one.case,
            one.what,
            *(number(value) for value in (one.ms.p50, one.ms.p95, one.ms.p99, one.per_second)),
            _share(run, one, "fork+exec"),
            _share(run, one, "nsjail"),
            _share(run, one, "container, cheapest"),
            f"{one.count:,}",
        ]
        for one in run.measured
    ]
    head = ["case", "what", "p50 ms", "p95 ms", "p99 ms", "per second", "÷ fork+exec", "÷ nsjail", "÷ container", "of"]
    return table(head, rows, words=2)


def _share(run: Run, one: Measured, what: What) -> str:
    """Return a rate as a share of a way's that is below it, for the same."""
    if one.what not in ABOVE[what]:
        return ""
    base = run.find(what, one.case, one.at_once)
    return "" if base is None else number(one.per_second / base.per_second)


def targets_table(runs: Sequence[tuple[str | None, Run]]) -> str:
    """Return the targets beside the figures of one run or several, which have names then."""
    columns = [targets(run) for _, run in runs]
    rows = []
    for row in zip(*columns, strict=True):
        first: Target = row[0]
        cells = [number(one.figure, one.unit) if one.figure is not None else "not measured" for one in row]
        rows.append([first.name, f"{first.kind} {first.wanted:g}{first.unit}", *cells, "yes" if row[-1].met else "no"])
    return table(["target", "to be", *(name or "is" for name, _ in runs), "met"], rows, words=2)


def steps_table(of: str, runs: Sequence[Run]) -> str:
    """Return where the time goes, for one run or several; steps that are in one of them alone have empty cells."""
    found = [{step.name: step for step in run.steps.get(of, [])} for run in runs]
    names = dict.fromkeys(name for steps in found for name in steps)
    rows = []
    for name in names:
        some = [steps.get(name) for steps in found]
        rows.append([name, *(number(value) for step in some for value in ((step.p50, step.p95) if step else (None, None)))])
    heads = ["p50 ms", "p95 ms"] if len(runs) == 1 else [f"{which} {per} ms" for which in "AB" for per in ("p50", "p95")]
    return table([of, *heads], rows)


def usage_table(run: Run) -> str:
    """Return who used the CPUs, case by case: milliseconds a submission, and the share of all CPU time that there was."""
    who = dict.fromkeys(name for usage in run.usage for name in usage.cpu_s)
    rows = [[name, *(_used(usage, name) for usage in run.usage)] for name in who]
    return table(["CPU, ms a submission (of all CPUs)", *(_of(usage) for usage in run.usage)], rows)


def _of(usage: Usage) -> str:
    return f"{usage.case}, {usage.at_once} at once" if usage.at_once else usage.case


def _used(usage: Usage, who: str) -> str:
    if (cpu_s := usage.cpu_s.get(who)) is None:
        return ""
    return f"{number(cpu_s * 1000 / usage.submissions)} ({cpu_s / (usage.seconds * usage.cpus):.0%})"


def memory_table(run: Run) -> str:
    """Return what every role held."""
    rows = [[one.who, str(one.processes), number(one.peak_mib), number(one.pss_mib)] for one in run.memory]
    return table(["memory", "processes", "peak RSS, MiB", "PSS in the end, MiB"], rows)


def compared(a: Run, b: Run) -> str:
    """Return two runs side by side, with what B is of A."""
    parts = [
        f"A: {', '.join(f'{name} {value}' for name, value in a.origin.items())}",
        f"B: {', '.join(f'{name} {value}' for name, value in b.origin.items())}",
        table(["case", "what", "p50 ms, A", "B", "B ÷ A", "per second, A", "B", "B ÷ A"], _compared_rows(a, b), words=2),
        targets_table([("A", a), ("B", b)]),
        *(steps_table(name, [a, b]) for name in dict.fromkeys([*a.steps, *b.steps])),
        table(["CPU, ms a submission", "who", "A", "B", "B ÷ A"], _compared_usage(a, b), words=2),
        table(["peak RSS, MiB", "A", "B", "B ÷ A"], _compared_memory(a, b)),
    ]
    return "\n\n".join(parts)


def _compared_rows(a: Run, b: Run) -> Iterator[Row]:
    for one in a.measured:
        other = b.find(one.what, one.case, one.at_once)
        if other is not None:
            of = f"{one.case}, {one.at_once} at once" if one.at_once else one.case
            yield [of, one.what, *_pair(one.ms.p50, other.ms.p50), *_pair(one.per_second, other.per_second)]


def _compared_usage(a: Run, b: Run) -> Iterator[Row]:
    others = {(usage.case, usage.at_once): usage for usage in b.usage}
    for usage in a.usage:
        other = others.get((usage.case, usage.at_once))
        for who, cpu_s in usage.cpu_s.items() if other is not None else ():
            if other is not None and who in other.cpu_s:
                yield [_of(usage), who, *_pair(cpu_s * 1000 / usage.submissions, other.cpu_s[who] * 1000 / other.submissions)]


def _compared_memory(a: Run, b: Run) -> Iterator[Row]:
    others = {one.who: one for one in b.memory}
    for one in a.memory:
        if one.who in others:
            yield [one.who, *_pair(one.peak_mib, others[one.who].peak_mib)]


def _pair(a: float, b: float) -> list[str]:
    return [number(a), number(b), number(b / a) if a else ""]

"""A result as rows of a table. Pure: `render` draws them."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from cutor.model.events import Output, Stage
from cutor.model.limits import STAGE_KINDS, StageKind, of_stage
from cutor.model.result import Result, StageOrStages
from cutor.model.units import counted
from cutor.text import escape

EXCERPT_LINES: Final = 20
"""Lines that are shown of an output; the others are counted."""
LINE_CHARACTERS: Final = 400
"""Of a line that are shown; of a longer one its size is told."""
SKIPPED_ROWS: Final = 10
"""Rows of test cases that were skipped, and have names; those behind them share one."""
UNKNOWN: Final = "\N{EN DASH}"
MIB: Final = 1 << 20
"""Bytes of a MiB."""


class Row(NamedTuple):
    """One line of the table: a stage, or several skipped test cases in one."""

    stage: str
    outcome: str
    ended: str
    cpu_ms: str
    wall_ms: str
    memory: str
    stdout: str
    stderr: str


def rows(result: Result) -> list[Row]:
    """Return the rows of a result in the order of its stages."""
    return [row for kind in STAGE_KINDS for row in _rows(kind, of_stage(result, kind))]


def _rows(kind: StageKind, found: StageOrStages) -> Iterator[Row]:
    if isinstance(found, Stage):
        yield _row(kind, found)
    elif found is not None:
        yield from _numbered(kind, found)


def _numbered(kind: StageKind, stages: Sequence[Stage]) -> Iterator[Row]:
    """Yield a row a test case; of those at the end that were skipped, who has a name has one, and the others share some."""
    ran = len(stages)
    while ran and stages[ran - 1].outcome == "SKIPPED":
        ran -= 1
    for number, stage in enumerate(stages[:ran], 1):
        yield _row(_name(kind, number, stage), stage)
    yield from _skipped(kind, stages, ran)


def _skipped(kind: StageKind, stages: Sequence[Stage], first: int) -> Iterator[Row]:
    """Yield rows of the test cases from ``first`` on, none of which was run; behind `SKIPPED_ROWS` the rest share one."""
    for shown in itertools.count():
        if first >= len(stages):
            return
        last, all_share = first, shown >= SKIPPED_ROWS
        if all_share or not stages[first].name:
            while last + 1 < len(stages) and (all_share or not stages[last + 1].name):
                last += 1
        span = _name(kind, first + 1, stages[first]) if first == last else f"{kind} {first + 1}…{last + 1}"
        yield Row(span, "SKIPPED", "", "", "", "", "", "")
        first = last + 1


def _name(kind: StageKind, number: int, stage: Stage) -> str:
    return f"{kind} {number}" + (f" {escape(stage.name)}" if stage.name else "")


def _row(name: str, stage: Stage) -> Row:
    return Row(
        stage=name,
        outcome=stage.outcome,
        ended=ended(stage),
        cpu_ms=_number(stage.cpu_time_ms),
        wall_ms=_number(stage.wall_time_ms),
        memory=memory(stage.memory_peak_bytes),
        stdout=excerpt(stage.stdout, tail=False),
        stderr=excerpt(stage.stderr, tail=True),
    )


def ended(stage: Stage) -> str:
    """Return ``exit 1`` or ``SIGSEGV``, or nothing where the program did not end by itself."""
    if stage.signal is not None:
        return stage.signal.name
    return "" if stage.exit_code is None else f"exit {stage.exit_code}"


def memory(peak_bytes: int | None) -> str:
    """Return ``12.3 MiB``, or a dash where it was not measured."""
    return UNKNOWN if peak_bytes is None else f"{peak_bytes / MIB:.1f} MiB"


def age(seconds: int) -> str:
    """Return ``12 s``, ``3 min``, ``5 h`` or ``2 d``: the largest unit of which there is one at least."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def excerpt(printed: Output, *, tail: bool) -> str:
    """Return the first lines of an output, or the last ones, every control character visible; what is missing is counted."""
    data = base64.b64decode(printed.data) if printed.encoding == "base64" else printed.data.encode()
    lines = data.rstrip(b"\n").split(b"\n")
    kept = [_line(line) for line in (lines[-EXCERPT_LINES:] if tail else lines[:EXCERPT_LINES])]
    hidden = len(lines) - len(kept)
    missing = [f"{counted(hidden, 'line')} {'above' if tail else 'below'}"] if hidden else []
    missing += ["the rest was not kept"] if printed.truncated else []
    if not missing:
        return "\n".join(kept)
    note = f"… {', '.join(missing)}, {counted(printed.bytes_total, 'byte')} in all"
    return "\n".join([note, *kept] if tail else [*kept, note])


def _line(line: bytes) -> str:
    text = escape(line[: 4 * LINE_CHARACTERS].decode(errors="backslashreplace"), keep="\t").expandtabs()
    return text if len(text) <= LINE_CHARACTERS else f"{text[:LINE_CHARACTERS]}… ({len(line)} bytes in this line)"

"""A result as rows of a table. Pure: `render` draws them."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from cutor.model.events import Output, Stage
from cutor.model.result import Result
from cutor.text import escape

EXCERPT_LINES: Final = 6
EXCERPT_CHARACTERS: Final = 400
_BYTES_SHOWN: Final = 4096
MIB: Final = 1 << 20


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
    stages = [("dependencies", result.dependencies), ("compile", result.compile)]
    known = [_row(name, stage) for name, stage in stages if stage is not None]
    return [*known, *_runs(result.run)]


def _runs(stages: Sequence[Stage]) -> Iterator[Row]:
    """Yield a row a test case; those at the end that were skipped share one."""
    ran = len(stages)
    while ran and stages[ran - 1].outcome == "SKIPPED":
        ran -= 1
    for number, stage in enumerate(stages[:ran], 1):
        yield _row(f"run {number}" + (f" {escape(stage.name)}" if stage.name else ""), stage)
    if ran < len(stages):
        span = f"run {ran + 1}" if ran + 1 == len(stages) else f"run {ran + 1}…{len(stages)}"
        yield Row(span, "SKIPPED", "", "", "", "", "", "")


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
    """Return ``12.3 MiB``, or nothing where it is not known."""
    return "" if peak_bytes is None else f"{peak_bytes / MIB:.1f} MiB"


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def excerpt(output: Output, *, tail: bool) -> str:
    """Return the first lines of an output, or the last ones, with every control character visible."""
    data = base64.b64decode(output.data) if output.encoding == "base64" else output.data.encode()
    shown = data[-_BYTES_SHOWN:] if tail else data[:_BYTES_SHOWN]
    text = shown.decode(errors="backslashreplace")
    lines = [escape(line, keep="\t").expandtabs() for line in text.rstrip("\n").split("\n")]
    kept = lines[-EXCERPT_LINES:] if tail else lines[:EXCERPT_LINES]
    joined = "\n".join(kept)
    cut = joined[-EXCERPT_CHARACTERS:] if tail else joined[:EXCERPT_CHARACTERS]
    if output.truncated or len(shown) < len(data) or len(kept) < len(lines) or len(cut) < len(joined):
        total = f"({output.bytes_total} bytes)"
        return f"{total} …{cut}" if tail else f"{cut}… {total}"
    return cut

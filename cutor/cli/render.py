"""Results and lists as tables for people. Whatever users wrote goes in as plain text, never as markup."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Final, Literal

from rich import box
from rich.console import Console
from rich.containers import Lines
from rich.table import Table
from rich.text import Text

from cutor.cli.nix_log import told_once
from cutor.cli.rows import Row, age, rows
from cutor.model.result import Result, stages_of
from cutor.text import escape, width

_RIGHT: Final = frozenset({"cpu_ms", "wall_ms", "memory"})
_HEADINGS: Final = {"cpu_ms": "cpu ms", "wall_ms": "wall ms"}
_MEASURED: Final = ("stage", "outcome", "ended", "cpu_ms", "wall_ms", "memory")
_PLAIN_WIDTH: Final = 160
"""Columns of a table that goes to no terminal: to a file or a pipe."""


def console() -> Console:
    """Return a console on stdout; where that is no terminal, wide and without colours."""
    plain = Console(highlight=False, markup=False, emoji=False)
    return plain if plain.is_terminal else Console(width=_PLAIN_WIDTH, highlight=False, markup=False, emoji=False)


def print_result(result: Result, doing: str | None = None, *, now: datetime | None = None, shown: Collection[str] = ()) -> None:
    """Print a result: what it is, a row a stage, what there is to say. ``doing``: what it waits for, where it has not ended.

    ``shown`` are lines of Nix's that the terminal has: they are not printed on it again.
    """
    out = console()
    result = told_once(result, shown if out.is_terminal else ())
    out.print(_headline(result, doing))
    out.print(Text(_times(result, now or datetime.now(UTC)), style="dim"))
    if result.environment is not None:
        how = "was there already" if result.environment.hit else "built for this submission"
        out.print(Text(f"environment {result.environment.key[:12]}, {how}", style="dim"))
    stages = rows(result)
    if stages:
        _print_stages(out, stages)
    for row in stages:
        _print_outputs(out, row)
    for note in _notes(result):
        _print_indented(out, note)


def _headline(result: Result, doing: str | None) -> Text:
    line = Text(f"{result.tenant}/{result.id} ", style="bold")
    if result.outcome is None:
        return line.append(result.status, style="cyan").append(f": {doing}" if doing else "", style="not bold")
    return line.append(result.outcome, style=_style(result.outcome))


def _times(result: Result, now: datetime) -> str:
    """Return when it was submitted and, in the word of its status, when it ended; how long ago, where it has not."""
    submitted = f"submitted {_second(result.submitted_at)}"
    if result.finished_at is not None:
        return f"{submitted}, {result.status.lower()} {_second(result.finished_at)}"
    age_s = (now - datetime.fromisoformat(result.submitted_at)).total_seconds()
    return f"{submitted}, {age(max(0, int(age_s)))} ago"


def _second(time: str) -> str:
    return f"{time[:19]}Z" if time else "at an unknown time"


def _print_stages(out: Console, stages: Iterable[Row]) -> None:
    """Print the table of what was measured; it fits 80 columns, so outputs stand below it."""
    headings = {name: _HEADINGS.get(name, name) for name in _MEASURED}
    if not out.is_terminal:
        lines = [[getattr(row, name) for name in headings] for row in stages]
        print_lines(out, [*headings.values()], lines, right=[headings[name] for name in _RIGHT])
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in _MEASURED:
        side: Literal["left", "right"] = "right" if name in _RIGHT else "left"
        table.add_column(headings[name], justify=side, overflow="fold", no_wrap=name != "stage")
    for row in stages:
        cells = row._asdict()
        table.add_row(*(Text(cells[name], style=_style(row.outcome) if name == "outcome" else "") for name in _MEASURED))
    out.print(table)


def _print_outputs(out: Console, row: Row) -> None:
    for name, excerpt in (("stdout", row.stdout), ("stderr", row.stderr)):
        if excerpt:
            out.print(Text(f"{row.stage}, {name}:", style="dim"))
            _print_indented(out, excerpt, first="    ")


def _print_indented(out: Console, text: str, *, first: str = "", indent: str = "    ") -> None:
    """Print what users or their programs wrote so that no line of it starts where lines of cutor's do, however long it is."""
    if out.is_terminal:
        lines = Text(text, overflow="fold").wrap(out, max(10, out.width - len(indent)))
    else:
        lines = Lines(Text(line) for line in text.split("\n"))
    for number, line in enumerate(lines):
        out.print(Text(indent if number else first).append(line), soft_wrap=True)


def _notes(result: Result) -> Iterable[str]:
    """Yield the messages of stages, each with its stage, and the submission's own where no stage says the same."""
    said = [(name, stage.message) for name, stage in stages_of(result) if stage.message and stage.outcome != "OK"]
    if result.message and result.message not in (message for _, message in said):
        yield escape(result.message, keep="\n")
    for name, message in said:
        yield f"{name}: {escape(message, keep=chr(10))}"


def _style(outcome: str) -> str:
    return {"OK": "green", "SKIPPED": "dim"}.get(outcome, "red")


def print_table(headings: Sequence[str], lines: Iterable[Sequence[str]], *, right: Sequence[str], fold: str) -> None:
    """Print lines under headings; cells may hold what users wrote. On a terminal only the column ``fold`` takes several lines.

    Where a terminal is too narrow all the same, what is cut off in another column leaves an ellipsis. Elsewhere see
    `print_lines`.
    """
    out, escaped = console(), ([escape(cell) for cell in cells] for cells in lines)
    if not out.is_terminal:
        print_lines(out, headings, escaped, right=right)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading in headings:
        side: Literal["left", "right"] = "right" if heading in right else "left"
        folds = heading == fold
        table.add_column(heading, justify=side, overflow="fold" if folds else "ellipsis", no_wrap=not folds)
    for cells in escaped:
        table.add_row(*map(Text, cells))
    out.print(table)


def print_lines(out: Console, headings: Sequence[str], lines: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Print a table for other programs: a row is one line, however long, and ends with its last character."""
    table = [headings, *lines]
    columns = [max(map(width, column)) for column in zip(*table, strict=True)]
    for cells in table:
        padded = []
        for heading, cell, wide in zip(headings, cells, columns, strict=True):
            blank = " " * (wide - width(cell))
            padded.append(blank + cell if heading in right else cell + blank)
        out.print(Text("  ".join(padded).rstrip()), soft_wrap=True)

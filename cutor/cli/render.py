"""Results and lists as tables for people. Whatever users wrote goes in as plain text, never as markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cutor.cli.rows import Row, rows
from cutor.model.result import Result
from cutor.text import escape

_RIGHT: Final = frozenset({"cpu_ms", "wall_ms", "memory"})
_HEADINGS: Final = {"cpu_ms": "cpu ms", "wall_ms": "wall ms"}
_MEASURED: Final = ("stage", "outcome", "ended", "cpu_ms", "wall_ms", "memory")
_PLAIN_WIDTH: Final = 160


def console() -> Console:
    """Return a console on stdout; where that is no terminal, wide and without colours."""
    plain = Console(highlight=False, markup=False, emoji=False)
    return plain if plain.is_terminal else Console(width=_PLAIN_WIDTH, highlight=False, markup=False, emoji=False)


def print_result(result: Result) -> None:
    """Print a result: what it is, a row a stage, and what there is to say."""
    out = console()
    out.print(_headline(result))
    if result.environment is not None:
        how = "was there already" if result.environment.hit else "built for this submission"
        out.print(Text(f"environment {result.environment.key[:12]}, {how}", style="dim"))
    stages = rows(result)
    out.print(_stages(stages))
    for row in stages:
        _print_outputs(out, row)
    for note in _notes(result):
        out.print(Text(note))


def _headline(result: Result) -> Text:
    line = Text(f"{result.tenant}/{result.id} ", style="bold")
    if result.outcome is None:
        return line.append(result.status, style="cyan")
    return line.append(result.outcome, style=_style(result.outcome))


def _stages(stages: Iterable[Row]) -> Table:
    """Return the table of what was measured; it fits 80 columns, so outputs stand below it."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in _MEASURED:
        side: Literal["left", "right"] = "right" if name in _RIGHT else "left"
        table.add_column(_HEADINGS.get(name, name), justify=side, overflow="fold", no_wrap=name != "stage")
    for row in stages:
        cells = row._asdict()
        table.add_row(*(Text(cells[name], style=_style(row.outcome) if name == "outcome" else "") for name in _MEASURED))
    return table


def _print_outputs(out: Console, row: Row) -> None:
    for name, excerpt in (("stdout", row.stdout), ("stderr", row.stderr)):
        if excerpt:
            out.print(Text(f"{row.stage}, {name}:", style="dim"))
            out.print(Text(excerpt), soft_wrap=True)


def _notes(result: Result) -> Iterable[str]:
    """Yield the messages of stages, each with its stage, and the submission's own where no stage says the same."""
    named = [("dependencies", result.dependencies), ("compile", result.compile)]
    named += [(f"run {number}", stage) for number, stage in enumerate(result.run, 1)]
    said = [(name, stage.message) for name, stage in named if stage is not None and stage.message and stage.outcome != "OK"]
    if result.message and result.message not in (message for _, message in said):
        yield escape(result.message, keep="\n")
    for name, message in said:
        yield f"{name}: {escape(message, keep=chr(10))}"


def _style(outcome: str) -> str:
    return {"OK": "green", "SKIPPED": "dim"}.get(outcome, "red")


def print_table(headings: Sequence[str], lines: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Print lines under headings; cells may hold what users wrote."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for cells in lines:
        table.add_row(*(Text(escape(cell)) for cell in cells))
    console().print(table)

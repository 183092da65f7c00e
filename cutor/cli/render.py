"""Results and lists as tables for people. Whatever users wrote goes in as plain text, never as markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cutor.cli.rows import Row, rows
from cutor.model.result import Result
from cutor.text import escape

_RIGHT: Final = frozenset({"cpu_ms", "wall_ms", "memory"})
_HEADINGS: Final = {"cpu_ms": "cpu ms", "wall_ms": "wall ms"}
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
    out.print(_stages(result))
    for note in _notes(result):
        out.print(Text(note))


def _headline(result: Result) -> Text:
    line = Text(f"{result.tenant}/{result.id} ", style="bold")
    if result.outcome is None:
        return line.append(result.status, style="cyan")
    return line.append(result.outcome, style=_style(result.outcome))


def _stages(result: Result) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in Row._fields:
        folds = name in ("stdout", "stderr", "stage")
        table.add_column(
            _HEADINGS.get(name, name), justify="right" if name in _RIGHT else "left", overflow="fold", no_wrap=not folds
        )
    for row in rows(result):
        cells = row._asdict()
        table.add_row(*(Text(cells[name], style=_style(row.outcome) if name == "outcome" else "") for name in Row._fields))
    return table


def _notes(result: Result) -> Iterable[str]:
    """Yield the messages of submission and stages, each once."""
    stages = [result.dependencies, result.compile, *result.run]
    messages = [result.message, *(stage.message for stage in stages if stage is not None and stage.outcome != "OK")]
    return (escape(message, keep="\n") for message in dict.fromkeys(messages) if message)


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

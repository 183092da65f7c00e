"""Limits and bounds as tables for people: every limit of every stage as default / maximum, in units that people read."""

from __future__ import annotations

from typing import Final, Literal

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cutor.cli.render import print_lines
from cutor.model.limits import LIMIT_WORDS, STAGE_KINDS, Bounds, LimitPolicies, Policy, StageKind, of_stage
from cutor.model.units import size, span

Source = Literal["stack", "configuration"]

BOUND_WORDS: Final[dict[str, str]] = {
    "request_bytes": "contents, names, arguments and labels of a request",
    "files": "files of a request",
    "file_name_bytes": "name of a file, with its directories",
    "test_cases": "test cases of a request",
    "test_case_name_bytes": "name of a test case",
    "args": "arguments of a test case",
    "arg_bytes": "arguments of a test case together",
    "labels": "labels of a request",
    "label_bytes": "key and value of a label",
    "submission_wall_time_ms": "wall time of compile and runs together",
}
TITLES: Final[dict[Source, str]] = {
    "stack": "Limits that the stack publishes, default / maximum:",
    "configuration": "Limits of the configuration, default / maximum (no stack publishes any):",
}


class ShownLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits and bounds that hold, and whose they are: those that the stack publishes, else those of the configuration."""

    source: Source
    stages: LimitPolicies
    bounds: Bounds


def shown_limits(source: Source, policy: Policy) -> ShownLimits:
    """Return what is to be shown of a policy."""
    return ShownLimits(source=source, stages=policy.limits, bounds=policy.bounds)


def value_text(name: str, value: int) -> str:
    """Return a limit or bound for people; its name has the unit: ``wall_time_ms`` 120000 is ``2 min``."""
    if name.endswith("_ms"):
        return span(value)
    return size(value) if name.endswith("_bytes") else str(value)


def limit_rows(stages: LimitPolicies) -> list[list[str]]:
    """Return a row for each limit: its name, then default / maximum of every stage kind."""
    return [[words, *(_pair(stages, kind, name) for kind in STAGE_KINDS)] for name, words in LIMIT_WORDS.items()]


def _pair(stages: LimitPolicies, kind: StageKind, name: str) -> str:
    stage = of_stage(stages, kind)
    return f"{value_text(name, getattr(stage.default, name))} / {value_text(name, getattr(stage.maximum, name))}"


def bound_rows(bounds: Bounds) -> list[list[str]]:
    """Return a row for each bound: what it bounds, and the most that there may be."""
    return [[words, value_text(name, getattr(bounds, name))] for name, words in BOUND_WORDS.items()]


def print_limits(out: Console, shown: ShownLimits) -> None:
    """Print both tables; they fit 80 columns."""
    _print_table(out, TITLES[shown.source], ["", *STAGE_KINDS], limit_rows(shown.stages))
    _print_table(out, "Bounds of a request and its submission:", ["", "at the most"], bound_rows(shown.bounds))


def _print_table(out: Console, title: str, headings: list[str], rows: list[list[str]]) -> None:
    out.print()
    out.print(Text(title))
    if not out.is_terminal:
        print_lines(out, headings, rows, right=headings[1:])
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    out.print(table)

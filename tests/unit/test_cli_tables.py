"""Tables for other programs: a row is one line, whole, however long, and nothing follows its last character."""

from __future__ import annotations

import pytest
from rich.console import Console

from cutor.cli import render
from cutor.cli.events import Line, _print_lines
from cutor.cli.render import print_table

LONG = "x" * 400


def line(sequence: int, what: str) -> Line:
    time = "2026-01-31T12:00:00.123456Z"
    return Line(sequence=sequence, time=time, tenant="default", id="s1", kind="ran", what=what, event=None)


def test_events_are_one_line_each_where_they_are_piped(capsys: pytest.CaptureFixture[str]) -> None:
    _print_lines([line(7, LONG), line(12, "b")], with_id=True)
    assert capsys.readouterr().out.splitlines() == [
        "sequence  2026-01-31    submission  kind  what",
        f"       7  12:00:00.123  s1          ran   {LONG}",
        "      12  12:00:00.123  s1          ran   b",
    ]


def test_columns_stand_under_each_other_whatever_users_wrote(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name", "size"], [("日本", "1 B"), ("[red]\x1b[2J\nb", ""), ("é", "20 B")], right=["size"], fold="name")
    assert capsys.readouterr().out.splitlines() == [
        "name             size",
        "日本              1 B",
        "[red]\\x1b[2J\\nb",
        "é                20 B",
    ]


def test_a_terminal_folds_one_column_as_before(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Console(force_terminal=True, width=40, highlight=False, markup=False, emoji=False, color_system=None)
    monkeypatch.setattr(render, "console", lambda: terminal)
    print_table(["name", "what"], [("one", LONG)], right=[], fold="what")
    rows = [row for row in capsys.readouterr().out.splitlines() if "x" in row]
    assert len(rows) > 400 // 40
    assert sum(row.count("x") for row in rows) == 400

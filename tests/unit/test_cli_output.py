"""The line that a terminal shows while a command waits: one line, whatever it is told, and out of the way of what stays."""

import io
from types import SimpleNamespace

import pytest

from cutor.cli.output import NARROW_COLUMNS, StatusLine

CLEAR = "\r\x1b[K"


class Terminal(io.StringIO):
    """A terminal that keeps what it was sent, and does not say how wide it is."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError("no descriptor")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    made = Terminal()
    monkeypatch.setattr("cutor.cli.output.sys", SimpleNamespace(stderr=made, stdout=io.StringIO()))
    return made


def test_it_is_written_over_and_gone_in_the_end(terminal: Terminal) -> None:
    with StatusLine() as line:
        line.show("one")
        line.show("one")
        line.show("two")
    assert terminal.getvalue() == f"{CLEAR}one{CLEAR}two{CLEAR}"


def test_it_is_cut_and_obeys_nothing(terminal: Terminal) -> None:
    with StatusLine() as line:
        line.show("\x1b[2J" + "x" * 500)
        shown = terminal.getvalue().removeprefix(CLEAR)
    assert shown.startswith("\\x1b[2Jx")
    assert len(shown) == NARROW_COLUMNS - 1


def test_lines_above_stay_and_it_comes_back(terminal: Terminal) -> None:
    with StatusLine() as line:
        line.show("doing")
        line.above(["a\x07", "b"], "2")
    assert terminal.getvalue() == f"{CLEAR}doing{CLEAR}\x1b[2ma\\x07\x1b[0m\n\x1b[2mb\x1b[0m\n{CLEAR}doing{CLEAR}"


def test_it_is_away_while_something_else_is_printed(terminal: Terminal) -> None:
    with StatusLine() as line:
        line.show("doing")
        with line.aside():
            terminal.write("event\n")
    assert terminal.getvalue() == f"{CLEAR}doing{CLEAR}event\n{CLEAR}doing{CLEAR}"


def test_what_is_no_terminal_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = io.StringIO()
    monkeypatch.setattr("cutor.cli.output.sys", SimpleNamespace(stderr=made, stdout=io.StringIO()))
    with StatusLine() as line:
        line.show("doing")
        line.above(["a"])
        with line.aside():
            pass
    assert made.getvalue() == ""

"""What commands print: documents on stdout, progress on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self

import click
import msgspec

from cutor.errors import DONE, NOT_OK, REFUSED
from cutor.model.result import Result
from cutor.text import cut, escape

NARROW_COLUMNS: Final = 80
"""Columns of a terminal that does not say how wide it is."""

_CLEAR_LINE: Final = "\r\x1b[K"


def print_json(document: Any) -> None:
    """Print one JSON document."""
    click.echo(msgspec.json.encode(document))


def exit_code_of_outcome(result: Result) -> int:
    """Return the exit code of a command that shows a result: 0 OK or not ended yet, 1 not OK, 2 REJECTED."""
    if result.outcome in (None, "OK"):
        return DONE
    return REFUSED if result.outcome == "REJECTED" else NOT_OK


class StatusLine:
    """One line on stderr that is written over and over, and gone in the end; nothing where stderr is no terminal."""

    def __init__(self) -> None:
        self.terminal = sys.stderr.isatty()
        self._shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._shown:
            self._write("")

    def show(self, text: str) -> None:
        """Replace the line; it is cut where it would not be one."""
        if self.terminal and text != self._shown:
            self._shown = text
            self._write(cut(escape(text), _columns() - 1))

    def above(self, lines: Iterable[str], style: str = "") -> None:
        """Print lines that stay, above this one; ``style`` are the numbers of a terminal's code for how they look."""
        if not self.terminal:
            return
        begin, end = (f"\x1b[{style}m", "\x1b[0m") if style else ("", "")
        sys.stderr.write("".join([_CLEAR_LINE, *(f"{begin}{escape(line)}{end}\n" for line in lines)]))
        sys.stderr.flush()
        self._shown, shown = "", self._shown
        self.show(shown)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Have the line away while the block prints, on whatever else may be the same terminal."""
        if self._shown:
            self._write("")
        self._shown, shown = "", self._shown
        yield
        sys.stdout.flush()
        self.show(shown)

    def _write(self, text: str) -> None:
        sys.stderr.write(f"{_CLEAR_LINE}{text}")
        sys.stderr.flush()


def _columns() -> int:
    """Return how wide the terminal of stderr is; one that does not say so is taken for a narrow one."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or NARROW_COLUMNS
    except OSError:
        return NARROW_COLUMNS

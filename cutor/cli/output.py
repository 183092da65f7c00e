"""What commands print: documents on stdout, progress on stderr."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Final, Self

import click
import msgspec

from cutor.errors import DONE, NOT_OK, REFUSED
from cutor.model.result import Result
from cutor.text import escape

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
        self._terminal = sys.stderr.isatty()
        self._shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._shown:
            self._write("")

    def show(self, text: str) -> None:
        """Replace the line."""
        if self._terminal and text != self._shown:
            self._shown = text
            self._write(escape(text))

    def _write(self, text: str) -> None:
        sys.stderr.write(f"{_CLEAR_LINE}{text}")
        sys.stderr.flush()

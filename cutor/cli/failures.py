"""From an error to what the user sees: one line and an exit code. What is not cutor's, click's or the system's is a bug."""

from __future__ import annotations

import click

from cutor.errors import REFUSED, UNAVAILABLE, CutorError


def exit_code_of(error: Exception) -> int | None:
    """Return the exit code of an error that is made for users, or None for a bug."""
    if isinstance(error, CutorError):
        return error.exit_code
    if isinstance(error, click.ClickException):
        return REFUSED
    return UNAVAILABLE if isinstance(error, OSError) else None


def line_of(error: Exception) -> str:
    """Return what is wrong, in one line."""
    text = error.format_message() if isinstance(error, click.ClickException) else _text(error)
    if isinstance(error, click.UsageError) and error.ctx is not None:
        text = f"{text.rstrip('.')}; see `{error.ctx.command_path} --help`"
    return " ".join(text.split()) or type(error).__name__


def _text(error: Exception) -> str:
    """Return an error's text; that of the system without its number, with the file in front."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    return str(error)


def bug_line(error: Exception) -> str:
    """Return the line for an error that nobody foresaw."""
    return (
        f"a bug in cutor: {type(error).__name__}: {line_of(error)} (see where with `cutor --traceback …`, and please report it)"
    )

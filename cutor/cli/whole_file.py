"""A file that a command writes: the whole of it, or nothing."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cutor.errors import REFUSED, CutorError


class OutputRefused(CutorError):
    """The file cannot be written where the command line says; the message names the path."""

    exit_code = REFUSED


def check_output(path: Path) -> None:
    """Refuse a path at which no file can be, before there is anything to write. Raises `OutputRefused`."""
    parent = path.absolute().parent
    if path.is_dir():
        raise OutputRefused(f"--output {path}: cannot be written: it is a directory")
    if not parent.is_dir():
        raise OutputRefused(f"--output {path}: cannot be written: {parent} is no directory")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file; one that is there is replaced by it in one step, and whoever reads it has the old one or the new one.

    A link is followed; what is no file (``/dev/null``, a pipe) is written to. Raises `OutputRefused`.
    """
    try:
        target = path.resolve()
        if target.exists() and not target.is_file():
            target.write_bytes(content)
        else:
            _replace(target, content)
    except (OSError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise OutputRefused(f"--output {path}: cannot be written: {why}") from error


def _replace(target: Path, content: bytes) -> None:
    draft = target.with_name(f".{secrets.token_hex(8)}.draft")  # the name of the target may be as long as a name can be
    try:
        with draft.open("xb") as opened:
            opened.write(content)
            if target.exists():
                os.fchmod(opened.fileno(), target.stat().st_mode & 0o777)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)

"""The root of cutor's errors, and the exit codes they stand for. It is beneath everything, the core and the bus included.

An error's message is one plain line for the person in front of the terminal: what is wrong, where, and what to do.

Pure.
"""

from __future__ import annotations

from typing import ClassVar, Final

DONE: Final = 0
"""Done, and the submission's outcome is OK."""
NOT_OK: Final = 1
"""Done, and the submission's outcome is not OK."""
REFUSED: Final = 2
"""Bad usage, an invalid request or configuration, an unknown id, or a REJECTED submission."""
UNAVAILABLE: Final = 3
"""A service cannot be reached, or failed."""
WAITED_TOO_LONG: Final = 4
"""The time that the caller gave ran out; what was started goes on."""

INTERRUPTED: Final = 130
"""Ended by Ctrl-C; what shells give a command that SIGINT ended."""


class CutorError(Exception):
    """Root of all errors that are made for users; the message is one line, ``exit_code`` what a command ends with.

    ``details`` is what a program may want to know apart from the message: it stands beside it in the document of ``--json``.
    """

    exit_code: ClassVar[int] = UNAVAILABLE

    def __init__(self, message: str, *, details: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.details = details or {}


class WaitedTooLong(CutorError):
    """The time that the caller gave ran out; what was started goes on."""

    exit_code = WAITED_TOO_LONG

"""The per-user file by which commands find the stack that was started last: its address with the credential, mode 0600."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from cutor.errors import CutorError
from cutor.stack.data import PRIVATE, write_privately

_FILE_BYTES: Final = 1 << 16


class CurrentStackDamaged(CutorError):
    """The current-stack file cannot be read; the message names it."""


class CurrentStack(msgspec.Struct, frozen=True, kw_only=True):
    """What ``cutor up`` leaves for commands. ``server`` holds the credential: it is never printed."""

    server: str
    data: str
    instance: str


def read(path: Path) -> CurrentStack | None:
    """Return the stack that was started last, or None where none runs. Raises `CurrentStackDamaged`."""
    try:
        with path.open("rb") as opened:
            return msgspec.json.decode(opened.read(_FILE_BYTES), type=CurrentStack)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise CurrentStackDamaged(f"{path} cannot be read: remove it, or start the stack again with `cutor up`") from error


def write(path: Path, stack: CurrentStack) -> None:
    """Make a stack the current one of this user. Raises `CurrentStackDamaged` where that cannot be written."""
    try:
        path.parent.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        write_privately(path, msgspec.json.encode(stack))
    except OSError as error:
        raise CurrentStackDamaged(f"{path} cannot be written: {error.strerror}") from error


def remove(path: Path, instance: str) -> bool:
    """Remove the file if it names this instance; return whether it did. A file that cannot be read is left alone."""
    try:
        known = read(path)
    except CurrentStackDamaged:
        return False
    if known is None or known.instance != instance:
        return False
    path.unlink(missing_ok=True)
    return True

"""The captured variables: read from the block that the capture wrote, and brought into the form that stages get. Pure."""

from __future__ import annotations

from typing import Final

from cutor.nix.inside.shell import END_OF_CAPTURE, MAX_ENTRY_BYTES

Variables = tuple[tuple[bytes, bytes], ...]

MAX_TOTAL_BYTES: Final = 1536 << 10
"""All entries together: Linux takes a quarter of the stack limit (2 MiB of 8), arguments included."""

DROPPED: Final = frozenset({b"PWD", b"OLDPWD", b"SHLVL", b"_", b"NIX_BUILD_SHELL"})
"""What describes the shell that captured, not the environment."""


class CaptureError(ValueError):
    """A capture that gives no environment; the message is for the user."""


def read_capture(block: bytes) -> Variables:
    """Return the variables of a complete capture, sorted by name, without `DROPPED`.

    Raises `CaptureError` where the block does not end with its marker (the hook ended the shell before), or is too large.
    """
    entries = block.split(b"\0")
    if entries[-2:] != [END_OF_CAPTURE, b""]:
        raise CaptureError("the shellHook ended the shell before its variables were captured: it must not call exit or exec")
    found: dict[bytes, bytes] = {}
    for entry in entries[:-2]:
        name, equals, value = entry.partition(b"=")
        if name and equals and name not in DROPPED:
            found.setdefault(name, value)
    check_size(found)
    return tuple(sorted(found.items()))


def check_size(variables: dict[bytes, bytes]) -> None:
    """Raise `CaptureError` for variables that Linux would not pass to a program."""
    total = 0
    for name, value in variables.items():
        size = len(name) + len(value) + 2
        total += size
        if size > MAX_ENTRY_BYTES:
            shown = name[:100].decode(errors="replace")
            raise CaptureError(f"the variable {shown} is {size} bytes: at most {MAX_ENTRY_BYTES} can be passed to a program")
    if total > MAX_TOTAL_BYTES:
        raise CaptureError(f"the variables are {total} bytes together: at most {MAX_TOTAL_BYTES} can be passed to a program")


def search_path(variables: Variables) -> tuple[str, ...]:
    """Return the directories of the captured PATH, in order; names that are not text are left out."""
    value = dict(variables).get(b"PATH", b"")
    return tuple(part.decode() for part in value.split(b":") if part and part.isascii())

"""The store paths of a submission's environment: looked at before anything runs, and again behind each stage."""

from __future__ import annotations

# Importing pathlib costs an init 8 ms:
# ruff: noqa: PTH116, PTH120
import os

from cutor.jail.inside.lean import Final

UNFINISHED: Final = " (it is there, but its time or its owner is not that of a finished store path)"
STORE_TIME_NS: Final = 1_000_000_000
"""When every path of a Nix store was changed last, as Nix has it: a second after the beginning of 1970."""
LOOK_BYTES: Final = 160
"""What is kept of each path of a closure, beside the path itself: two objects, a pair, its place in a list."""


def look_at(closure: bytes) -> tuple[list[tuple[bytes, int]], str | None]:
    """Return these store paths, a line each, with what each one is, and the first that the store does not hold (2 µs a path).

    A path that is being fetched, or whose fetch was refused or cut short, is on the disk and not held: see `identity`.
    """
    looked: list[tuple[bytes, int]] = []
    for path in closure.split(b"\n"):
        if path:
            found = identity(path)
            if found is None:
                return [], path.decode() + (UNFINISHED if os.path.lexists(path) else "")
            looked.append((path, found))
    return looked, None


def vanished(closure: list[tuple[bytes, int]]) -> str | None:
    """Return the first path that is gone, or another than when it was looked at: then a stage may have met it half removed."""
    return next((path.decode() for path, found in closure if identity(path) != found), None)


def identity(path: bytes) -> int | None:
    """Return a number for what is at a store path; None for nothing, and for what is not whole.

    Nothing in the store changes: a new file has a new number. Nix gives a path its time only once all of it is written and its
    digest is the one that was signed; until then it has that of its writing. A builder can give its output that time, but not
    the store's owner, and Nix gives it neither where the builder fails.
    """
    try:
        facts = os.lstat(path)
    except FileNotFoundError:
        return None
    if facts.st_mtime_ns != STORE_TIME_NS or facts.st_uid != _owner_of(os.path.dirname(path)):
        return None
    return hash((facts.st_dev, facts.st_ino, facts.st_ctime_ns))


_owners: Final[dict[bytes, int]] = {}


def _owner_of(store: bytes) -> int:
    """Return whose the store is, and with it all that is finished in it. It is looked at once."""
    if store not in _owners:
        _owners[store] = os.stat(store).st_uid
    return _owners[store]

"""Deleting what no root needs, alone with the store, in turns: builds that wait get a chance between two of them.

A kill at any moment leaves the store sound: roots of a key go at once, and what Nix had not deleted then is there for the next
collection.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from cutor.nix.inside import nix, store
from cutor.nix.inside.inventory import read_contents
from cutor.nix.inside.roots import remove_roots
from cutor.nix.inside.store import BuildsLock, StoreError

TURN_SECONDS: Final = 60.0
"""How long a turn may take: no build that waits for a collection gives up before its own patience (minutes) is at an end."""
PAUSE_SECONDS: Final = 0.5
"""Between two turns of deleting, in which the lock is free: builds that wait for it have it then. A choice."""
COMMAND: Final = (nix.STORE, "--gc", "--option", "keep-derivations", "false", "--option", "keep-outputs", "false")
DELETING: Final = b"deleting '/nix/store/"


class Collected(NamedTuple):
    """What a collection did: keys whose roots it removed, paths that were valid and are gone, their size as archives."""

    keys: list[str]
    paths: int
    nar_bytes: int


def collect(
    choose: Callable[[], Mapping[str, int | None]],
    lock: BuildsLock,
    on_count: Callable[[int], None],
    on_wait: Callable[[], None],
    turn_seconds: float = TURN_SECONDS,
) -> Collected:
    """Remove the roots of some keys (`remove_roots`), and delete what no root needs then. Raises `StoreError`.

    ``choose`` is called once the store is ours, and says which keys; ``on_count`` with the number of paths deleted so far;
    ``on_wait`` where others are at work before that, and not between two turns.
    """
    removed, sizes, begun, on_line = [], {}, False, _counting(on_count)
    while True:
        with lock.alone() if begun else lock.alone(on_wait):
            if not begun:
                removed, begun = remove_roots(choose()), True
                contents = read_contents()
                sizes = dict(zip(contents.paths, contents.nar_bytes, strict=True))
                del contents
            done = nix.watched(COMMAND, b"", on_line, turn_seconds)
        if not done.stopped:
            break
        time.sleep(PAUSE_SECONDS)
    if done.code:
        raise StoreError(f"nix-store --gc failed: {done.said}")
    gone = store.absent(sizes)
    return Collected(removed, len(gone), sum(sizes[path] for path in gone))


def _counting(on_count: Callable[[int], None]) -> Callable[[bytes], None]:
    """Return what counts the lines of Nix's that tell of a path deleted."""
    counted = itertools.count(1)

    def on_line(line: bytes) -> None:
        if line.startswith(DELETING):
            on_count(next(counted))

    return on_line


def free_bytes() -> tuple[int, int]:
    """Return how much is free on the store's volume for who is not root there, and what may be filled, with what is used.

    Space that is kept for root, or beyond a quota, is part of neither, as with df(1).
    """
    facts = os.statvfs(store.STORE)
    return facts.f_bavail * facts.f_frsize, (facts.f_blocks - facts.f_bfree + facts.f_bavail) * facts.f_frsize

"""What must not be left on the host when all submissions have ended, whatever was killed: as for attacks, and a little more."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from tests.attacks.leftovers import Census, Watch, left
from tests.containers import container_ids
from tests.fault.stack import ExtraRole, FaultStack
from tests.files import beneath

ROOTS: Final = Path("/var/lib/docker/volumes/cutor-nix-var/_data/nix/gcroots/cutor")
HALF_MADE: Final = ".half-made-"
PATIENCE_S: Final = 180.0
VIEWS: Final = ("", ".wal", ".lock", ".snapshot", ".snapshot.wal", ".aside", ".aside.wal")
OWN: Final = {"nats", "log", "instance", "place", "lock", "config.toml", "images.json"}


class FaultWatch(Watch):
    """Notes the stack's containers; a census has its files and half-made roots beside what attacks may leave."""

    def __init__(self, stack: FaultStack) -> None:
        super().__init__(stack)
        self._faulted = stack
        self._half_made = set(half_made())

    def census(self) -> Census:
        found = super().census()
        return found._replace(directories=frozenset({*found.directories, *files(self._faulted.data)}))

    def half_made_since(self) -> list[str]:
        """Return the roots that were begun since and not finished: the next build that finds itself alone removes them."""
        end = time.monotonic() + PATIENCE_S
        while (found := set(half_made()) - self._half_made) and time.monotonic() < end:
            time.sleep(0.3)
        return [f"half-made roots: {name}" for name in sorted(found)]

    def left_since(self, before: Census) -> list[str]:
        """Return what stays beyond what was there before, after some patience."""
        end = time.monotonic() + PATIENCE_S
        while (found := left(before, self.census())) and time.monotonic() < end:
            time.sleep(0.3)
        return found


def left_by(extra: ExtraRole) -> list[str]:
    """Return what a role that has ended left, after some patience: processes, containers whatever they do, notes, files."""

    def look() -> list[str]:
        containers = container_ids(f"label=cutor={extra.instance}")
        found = [f"containers of {extra.data.name}: {', '.join(containers)}"] if containers else []
        found += [f"files of {extra.data.name}: {name}" for name in files(extra.data)]
        return [*found, f"processes of {extra.data.name}"] if extra.alive else found

    end = time.monotonic() + PATIENCE_S
    while (found := look()) and time.monotonic() < end:
        time.sleep(0.3)
    return found


def files(data: Path) -> Iterator[str]:
    """Yield every file and directory of a data directory beside those that a stack keeps."""
    kept = OWN | {f"projections.duckdb{ending}" for ending in VIEWS}
    for path in beneath(data):
        first = path.relative_to(data).parts[0]
        if first not in kept and path.is_file():
            yield f"{path.relative_to(data)}"


def roots_of(keys: Iterable[str]) -> list[str]:
    """Return the environments among some whose roots are in the store, after some patience."""
    end = time.monotonic() + PATIENCE_S
    while (found := [key for key in keys if (ROOTS / key).exists()]) and time.monotonic() < end:
        time.sleep(0.3)
    return [f"roots of {key}, which belonged to one submission alone" for key in found]


def half_made() -> Iterator[str]:
    """Yield the roots of Nix that a build has begun and not finished: of any stack of this host, at work or dead."""
    if ROOTS.is_dir():
        yield from (path.name for path in ROOTS.iterdir() if path.name.startswith(HALF_MADE))

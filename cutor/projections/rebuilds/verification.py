"""Whether a file of views is what the streams say: all of it is folded from scratch, and compared.

The file is only read. What is made for it goes to a scratch directory, which needs room for the views once more.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import duckdb

from cutor.bus.connection import Bus
from cutor.errors import CutorError
from cutor.projections import schema
from cutor.projections.archive.place import Archive
from cutor.projections.rebuilds.compare import Compared, Comparison, Difference
from cutor.projections.rebuilds.compare import Tell as TellCompared
from cutor.projections.rebuilds.rebuild import Tell, ends, rebuild
from cutor.projections.session import one_line
from cutor.projections.views_file import held
from cutor.projections.views_paths import wal_paths

T = TypeVar("T")


class VerifyFailed(CutorError):
    """A file cannot be read as views of this cutor: it says nothing about the streams, or cannot be compared."""


class Verified(NamedTuple):
    """What came of it: up to where the file holds each stream, what was folded, the rows compared, and the first difference.

    ``begins``: as of `Rebuilt`.
    """

    positions: dict[str, int]
    messages: int
    body_bytes: int
    folded_s: float
    comparison: Comparison
    begins: dict[str, int]


async def verify(
    bus: Bus, used: Path, scratch: Path, *, tell: Tell, tell_compared: TellCompared, archive: Archive | None = None
) -> Verified:
    """Fold the streams up to where ``used`` holds them, and compare. What ``archive`` has is taken from there: from the bodies.

    Raises `VerifyFailed`, and what `rebuild` raises.
    """
    positions = await asyncio.to_thread(_reading, used, lambda: positions_of(used))
    there = await ends(bus)
    for stream, position in positions.items():
        if position > there[stream]:
            past = Difference("main.checkpoint", {"stream": stream}, "sequence", str(position), str(there[stream]))
            return Verified(positions, 0, 0, 0.0, Comparison({}, past), {})
    folded = scratch / "folded.duckdb"
    done = await rebuild(bus, folded, tell=tell, until=positions, archive=archive, from_bodies=True)
    comparison = await _compare(used, folded, scratch, tell_compared)
    return Verified(positions, done.messages, done.body_bytes, done.took_s, comparison, done.begins)


async def _compare(used: Path, folded: Path, scratch: Path, tell: TellCompared) -> Comparison:
    """Compare in a thread; who is cancelled waits until it has stopped."""
    compared = _reading(used, lambda: Compared(used, folded, scratch))
    return await compared.in_thread(lambda: _reading(used, lambda: compared.compare(tell)))


def positions_of(path: Path) -> dict[str, int]:
    """Return up to where a file of views holds each stream. Raises `VerifyFailed` for one that other rules made."""
    with duckdb.connect(path, read_only=True) as connection:
        if connection.execute("SELECT digest FROM folds.rules").fetchall() != [(schema.rules_digest(),)]:
            raise VerifyFailed(f"{path}: the views were made by the rules of another version of cutor: it makes them anew")
        return dict(connection.execute("SELECT stream, sequence FROM checkpoint").fetchall())


def copy_of_resting(database: Path, scratch: Path) -> Path:
    """Return a copy of the file of a projector that does not run, with what is in its write-ahead logs.

    Raises `ProjectorBusy` where one runs after all, `VerifyFailed` where there is no file.
    """
    copy = scratch / "used.duckdb"
    with held(database):
        if not database.exists():
            raise VerifyFailed(f"{database}: there are no views to verify: no projector answers, and there is no file")
        shutil.copyfile(database, copy)
        for log, of_copy in zip(wal_paths(database), wal_paths(copy), strict=True):
            if log.exists():
                shutil.copyfile(log, of_copy)
    _reading(copy, lambda: duckdb.connect(copy).close())
    return copy


def _reading(path: Path, work: Callable[[], T]) -> T:
    """Do something with a file. Raises `VerifyFailed` for what DuckDB cannot read."""
    try:
        return work()
    except duckdb.Error as error:
        busy = ": a projector writes it; leave --database away" if "lock on file" in str(error) else ""
        raise VerifyFailed(f"{path}: cannot be read as views{busy}: {one_line(error)}") from error

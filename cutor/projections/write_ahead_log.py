"""The write-ahead log of an open file of views: when it is long, and how it is worked into the file while commits go on.

DuckDB (2.0) lets other transactions commit during a checkpoint, but an insert into the table that is just written out waits
until it is. So logs are worked in while they are short: 13 ms, and 2 to 3 µs for each event in it.

A checkpoint leaves the rows of the log as a group of their own, and DuckDB would merge small groups to larger ones whenever it
makes a checkpoint: all rows of these are written anew while inserts wait, 0.4 s where the group gets full. So groups are merged
one at a time, and then not until `MERGING_PART` times as long has passed. Until then they are small, which costs questions next
to nothing, and room in the file: 1.5 MiB for each log.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import duckdb

from cutor.projections.session import writing
from cutor.projections.views_paths import wal_paths

SHORT_BYTES: Final = 4 << 20
LONG_BYTES: Final = 16 << 20
FILE_PART: Final = 64
"""A log is worked in where it is longer than this part of the file, between those two. At 5,000 events/s of 440 bytes the
shorter comes together in 0.8 s. Who asks for the newest copies the file anew after it: of a large file that takes longer."""
COMMITS: Final = 500
COMMITS_PER_MIB: Final = 6
"""Or when it has so many commits, and so many for each MiB of the file: to replay them takes as long as to copy the file anew,
and who asks for the newest waits for the one or the other."""
MERGING_PART: Final = 250
"""Of the time, the merging of groups takes this part at most: what 99 of 100 events wait for is not to be that."""


class WriteAheadLog:
    """The log of one open file; ``connection`` is one of its own, so that it works beside the one that commits."""

    def __init__(self, path: Path, connection: duckdb.DuckDBPyConnection, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._connection = connection
        self._clock = clock
        self._merges_at_s = clock()
        self._merge_at_most(0)

    def size_bytes(self) -> int:
        """Return how long it is, with the second one that DuckDB writes while it works in the first."""
        first, second, _ = wal_paths(self._path)
        return _size_bytes(first) + _size_bytes(second)

    def is_long(self, commits: int) -> bool:
        """Return whether it is to be worked in: with so many commits, or by its size."""
        file_bytes = _size_bytes(self._path)
        if commits >= max(COMMITS, COMMITS_PER_MIB * (file_bytes >> 20)):
            return True
        return self.size_bytes() > min(max(SHORT_BYTES, file_bytes // FILE_PART), LONG_BYTES)

    def work_in(self) -> None:
        """Work it in while commits go on, and merge groups of rows where it is time. Raises `ViewsUnwritable`."""
        began_s = self._clock()
        merges = began_s >= self._merges_at_s
        with writing(self._path):
            if not merges:
                checkpoint(self._connection)
                return
            self._merge_at_most(1)
            try:
                checkpoint(self._connection)
            finally:
                self._merge_at_most(0)
                ended_s = self._clock()
                self._merges_at_s = ended_s + MERGING_PART * (ended_s - began_s)

    def _merge_at_most(self, count: int) -> None:
        """Set how many groups of each table a checkpoint may make of smaller ones; it holds for the open file."""
        self._connection.execute(f"SET max_vacuum_tasks = {count:d}")


def checkpoint(connection: duckdb.DuckDBPyConnection) -> None:
    """Work the log in; where something else of the file is under way that is in its way, the next commit tries again."""
    with suppress(duckdb.TransactionException):
        connection.execute("CHECKPOINT")


def _size_bytes(path: Path) -> int:
    """Of a file, which may be removed by anybody at any time: the next commit notices that."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0

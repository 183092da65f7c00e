"""The write-ahead log of an open file of views: when it is long, and how it is worked into the file while commits go on.

DuckDB (2.0) makes two kinds of checkpoints. A full one also merges small groups of rows to larger ones, and every insert waits
until all of it is done. The other kind leaves groups alone: an insert waits for the table that is just written, and no other.
It makes that kind where another transaction writes, or might: so one is begun here that says so and does nothing.

What a log held becomes groups of its own, which are small. That costs questions next to nothing, and room in the file, 1.5 MiB
for each log; so now and then there is a full checkpoint. All rows of what it merges are written anew, 0.4 s of a full group.
It is begun by the thread that commits, between two commits: a transaction that is open makes it one of the other kind silently.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import duckdb

from cutor.projections.session import writing
from cutor.projections.views_paths import wal_paths

LOG_BYTES: Final = 8 << 20
"""A log is worked in where it is longer than this: 1.5 s of 5,000 events of 440 bytes each."""
COMMITS: Final = 500
"""Commits in a log before it is worked in, however small the file; see `COMMITS_PER_MIB`."""
COMMITS_PER_MIB: Final = 6
"""Or when it has so many commits, and so many for each MiB of the file: to replay them takes as long as to copy the file anew,
and who asks for the newest waits for the one or the other."""
MERGING_PART: Final = 250
"""Of the time, full checkpoints take this part at most: what 99 of 100 events wait for is not to be one of them."""
SHORTEST_PAUSE_S: Final = 100.0
"""And there are as many seconds before each, from the opening on: before it is done nobody knows how long it takes."""
LONGEST_PAUSE_S: Final = 900.0
"""But never more, however long one took: a machine that stood still says nothing of the next one."""
_SEEMS_TO_WRITE: Final = "DELETE FROM folds.rules WHERE FALSE"
"""As long as a transaction lasts that has run this, no checkpoint is a full one."""


class WriteAheadLog:
    """The log of one open file, and two connections of its own to that, so that it works beside the one that commits."""

    def __init__(
        self,
        path: Path,
        connection: duckdb.DuckDBPyConnection,
        clock: Callable[[], float] = time.monotonic,
        *,
        was_left: bool = False,
    ) -> None:
        """Be that of an open file; ``was_left`` says that it had a log when it was opened.

        Then nobody closed it, which would have had DuckDB make a full checkpoint: the first is due at once.
        """
        self._path = path
        self._connection = connection.cursor()
        self._other = connection.cursor()
        self._clock = clock
        self._merges_at_s = clock() + (0.0 if was_left else SHORTEST_PAUSE_S)
        connection.execute("SET max_vacuum_tasks = 1")  # groups of a table that one checkpoint makes of smaller ones

    def close(self) -> None:
        """Close what it has of its own."""
        self._other.close()
        self._connection.close()

    def size_bytes(self) -> int:
        """Return how long it is, with the second one that DuckDB writes while it works in the first."""
        return log_bytes(self._path)

    def is_long(self, commits: int) -> bool:
        """Return whether it is to be worked in: with so many commits, or by its size."""
        if commits >= max(COMMITS, COMMITS_PER_MIB * (_size_bytes(self._path) >> 20)):
            return True
        return self.size_bytes() > LOG_BYTES

    def work_in(self) -> None:
        """Work it in while commits go on, and merge nothing. Raises `ViewsUnwritable`."""
        with writing(self._path), self._seeming_to_write():
            checkpoint(self._connection)

    def is_merging_due(self) -> bool:
        """Return whether a full checkpoint is to work it in, which is to be begun while no transaction is open: see `merge`."""
        return self._clock() >= self._merges_at_s

    def merge(self) -> None:
        """Work it in by a full checkpoint, for the thread that commits; beside a commit it would be none.

        Where it was not made after all it stays due. Raises `ViewsUnwritable`.
        """
        began_s = self._clock()
        with writing(self._path):
            if checkpoint(self._connection):
                ended_s = self._clock()
                pause_s = MERGING_PART * (ended_s - began_s)
                self._merges_at_s = ended_s + min(max(SHORTEST_PAUSE_S, pause_s), LONGEST_PAUSE_S)

    @contextmanager
    def _seeming_to_write(self) -> Iterator[None]:
        self._other.begin()
        try:
            self._other.execute(_SEEMS_TO_WRITE)
            yield
        finally:
            with suppress(duckdb.Error):  # where the checkpoint failed, so does this: what hindered that is told
                self._other.rollback()


def checkpoint(connection: duckdb.DuckDBPyConnection) -> bool:
    """Work the log in; where something else of the file is under way that is in its way, return False: to be tried again."""
    try:
        connection.execute("CHECKPOINT")
    except duckdb.TransactionException:
        return False
    return True


def log_bytes(path: Path) -> int:
    """Return how long the log of a file of views is, open or not, with the second one; 0 where there is none."""
    first, second, _ = wal_paths(path)
    return _size_bytes(first) + _size_bytes(second)


def _size_bytes(path: Path) -> int:
    """Of a file, which may be removed by anybody at any time: the next commit notices that."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0

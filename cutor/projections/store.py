"""The file of the views: one writer, one transaction a batch.

`Store` knows DuckDB and nothing of NATS. A batch's rows, what they change in the views, and the checkpoint that names the last
of them commit together or not at all: a file is always the fold of exactly the messages up to its checkpoint. All of it is
blocking; the projector calls it in a thread, one call at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple, Self

import duckdb

from cutor.bus.bulk.columns import Columns
from cutor.bus.message import Stored
from cutor.model.subjects import EVENTS
from cutor.projections import schema
from cutor.projections.arrow import arrow_of
from cutor.projections.gaps import Gap
from cutor.projections.planning import Planning
from cutor.projections.rows import Message, Row, fingerprint, rows, unfoldable
from cutor.projections.session import connect, one_line, writing
from cutor.projections.sift import messages as messages_of
from cutor.projections.sift import sift
from cutor.projections.small_batch import Plain, read_plain
from cutor.projections.small_fold import MOVING, SMALL, SmallFold, TooMuchToRead
from cutor.projections.views_paths import wal_path

log = logging.getLogger(__name__)

WAL_BYTES: Final = 64 << 20
"""The write-ahead log is worked into the file when it is longer than this."""
FOLD_ERRORS: Final = (duckdb.DataError, duckdb.ProgrammingError)
"""What a message can do to the fold; anything else is a fault of disk, memory or cutor's, and ends the projector."""

_SEALED: Final = "FROM read_parquet($1) WHERE sequence BETWEEN $2 AND $3"
_READY: Final = "sequence, time_ns, subject, message_id, decode(body) AS body"


class Position(NamedTuple):
    """How far the views have come in a stream: the last message folded in (0: none) and its fingerprint (empty: none)."""

    sequence: int
    fingerprint: str


class DeadLetter(NamedTuple):
    """A message that is no event, or one that changed nothing: its sequence, and why."""

    sequence: int
    reason: str


class Store:
    """An open file of views. Make one with `Store.open`."""

    def __init__(self, path: Path, connection: duckdb.DuckDBPyConnection) -> None:
        self.path = path
        self._connection = connection
        self._folds = {
            stream: [(kinds, connection.extract_statements(sql)[0]) for sql, kinds in schema.fold_statements(stream)]
            for stream in schema.FOLDS
        }
        self._planning = Planning(connection)
        self._small = SmallFold(connection, self._planning)
        self.small = SMALL
        """Most messages of a batch that is folded in Python; 0 for tests that want the SQL."""
        self._positions = self._read_positions()
        self._doubtful = dict.fromkeys(self._positions, 0)
        self._waits: dict[str, str | None] = dict(connection.execute("SELECT stream, reason FROM folds.waits").fetchall())
        self.commits = 0
        self._copies = 0

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a file, or make it where there is none.

        Raises `ViewsRejected` for a file that is damaged or folded by other rules, `ViewsUnwritable` where disk or memory are
        full, `ProjectorBusy` where another program has it open.
        """
        connection = connect(path)
        try:
            return cls(path, connection)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Close the file; what is committed is in it."""
        self._connection.close()

    def position(self, stream: str) -> Position:
        """Return how far the views have come in a stream."""
        return self._positions[stream]

    def doubtful(self, stream: str) -> int:
        """Return up to which sequence dead letters may have come since the file was opened; behind it there are none."""
        return self._doubtful[stream]

    def _read_positions(self) -> dict[str, Position]:
        found = self._connection.execute("SELECT stream, sequence, fingerprint FROM checkpoint").fetchall()
        return {stream: Position(sequence, mark) for stream, sequence, mark in found}

    def dead_letters(self, stream: str, after: int, limit: int) -> list[DeadLetter]:
        """Return the first messages of a stream behind a sequence that are no events, or events that changed nothing."""
        found = self._connection.execute(
            "SELECT sequence, reason FROM dead_letters WHERE stream = $1 AND sequence > $2 ORDER BY sequence LIMIT $3",
            [stream, after, limit],
        )
        return [DeadLetter(*row) for row in found.fetchall()]

    def gaps(self, stream: str) -> list[Gap]:
        """Return what a stream is known to lack."""
        found = self._connection.execute(
            "SELECT from_sequence, to_sequence, noticed_ns FROM gaps WHERE stream = $1 ORDER BY ALL", [stream]
        )
        return [Gap(*row) for row in found.fetchall()]

    def note_gaps(self, stream: str, gaps: Sequence[Gap]) -> None:
        """Note that a stream lacks something, and commit. Raises `ViewsUnwritable`."""
        with writing(self.path), self._transaction():
            self._connection.executemany(
                "INSERT INTO gaps VALUES ($1, $2, $3, make_timestamp($4 // 1000), $4)", [(stream, *gap) for gap in gaps]
            )
        self.commits += 1

    def waits_for(self, stream: str) -> str | None:
        """Return what keeps the views of a stream from going on."""
        return self._waits[stream]

    def note_wait(self, stream: str, reason: str | None) -> None:
        """Note what keeps the views of a stream from going on, or that nothing does any more, and commit; likewise."""
        with writing(self.path), self._transaction():
            self._connection.execute("UPDATE folds.waits SET reason = $2 WHERE stream = $1", [stream, reason])
        self._waits[stream] = reason
        self.commits += 1

    def apply(self, stream: str, messages: Sequence[Message]) -> None:
        """Fold messages of a stream in, in its order, and commit. None of them stops the rest: see `unfoldable`.

        Raises `ViewsUnwritable` where the disk is full or memory runs out; nothing of the batch is in the file then.
        """
        with writing(self.path):
            plain = read_plain(messages) if stream == EVENTS and len(messages) <= self.small else None
            if plain is None or not self._commit_small(stream, messages[-1], plain):
                self._fold(stream, messages, rows(stream, messages))

    def apply_columns(self, stream: str, columns: Columns) -> None:
        """Fold messages of a stream in that are in columns, and commit; all as `apply` does it, and for a part of the cost."""
        with writing(self.path):
            try:
                self._commit_columns(stream, columns)
            except FOLD_ERRORS:
                stored = messages_of(stream, columns)
                self._fold(stream, stored, rows(stream, stored))

    def _commit_columns(self, stream: str, columns: Columns) -> None:
        ready, kinds, others = sift(stream, columns)
        [newest] = messages_of(stream, columns.part(len(columns) - 1, len(columns)))
        with self._transaction():
            self._connection.execute(schema.batch_script())
            if ready:
                self._connection.register("arrived", arrow_of(ready))
                try:
                    self._connection.execute("INSERT INTO written BY NAME SELECT * FROM arrived")
                finally:
                    self._connection.unregister("arrived")
            self._append(others)
            self._fold_written(stream, kinds | {row.kind for row in others})
        self._committed(stream, newest)
        self._small.reset()

    def apply_sealed(self, stream: str, path: Path, first: int, last: int) -> None:
        """Fold the messages of a sealed file in, from one sequence to another, and commit; errors as of `apply`.

        Those that are known to be events as they stand (`segment_file`) do not pass through Python.
        """
        with writing(self.path):
            try:
                self._commit_sealed(stream, str(path), first, last)
            except FOLD_ERRORS:
                messages = self._sealed(stream, str(path), first, last)
                self._fold(stream, messages, rows(stream, messages))

    def _commit_sealed(self, stream: str, path: str, first: int, last: int) -> None:
        others = rows(stream, self._sealed(stream, path, first, last, "AND kind IS NULL"))
        [newest] = self._sealed(stream, path, last, last)
        span = [path, first, last]
        kinds = {kind for (kind,) in self._connection.execute(f"SELECT DISTINCT kind {_SEALED}", span).fetchall()}
        with self._transaction():
            self._connection.execute(schema.batch_script())
            self._connection.execute(f"INSERT INTO written BY NAME SELECT {_READY} {_SEALED} AND kind IS NOT NULL", span)
            self._append(others)
            self._fold_written(stream, kinds | {row.kind for row in others})
        self._committed(stream, newest)
        self._small.reset()

    def _sealed(self, stream: str, path: str, first: int, last: int, which: str = "") -> list[Stored]:
        sql = f"SELECT sequence, subject, time_ns, message_id, body {_SEALED} {which} ORDER BY sequence"
        found = self._connection.execute(sql, [path, first, last]).fetchall()
        return [Stored(stream, at, subject, time_ns, identity, {}, body) for at, subject, time_ns, identity, body in found]

    def _fold(self, stream: str, messages: Sequence[Message], batch: Sequence[Row]) -> None:
        """Commit a batch; where the fold refuses it, each half by itself, down to the message that it refuses."""
        try:
            self._commit(stream, messages, batch)
        except FOLD_ERRORS as error:
            if len(batch) == 1:
                log.error("%s %d (%s): %s", stream, messages[0].sequence, messages[0].subject, one_line(error))
                self._commit(stream, messages, [unfoldable(batch[0], one_line(error))])
                return
            middle = len(batch) // 2
            self._fold(stream, messages[:middle], batch[:middle])
            self._fold(stream, messages[middle:], batch[middle:])

    def _commit_small(self, stream: str, last: Message, batch: Sequence[Plain]) -> bool:
        """Commit a small batch; return False where it cannot be folded so, which leaves nothing behind."""
        try:
            with self._transaction():
                all_count = self._small.apply(batch)
        except TooMuchToRead:
            return False
        except FOLD_ERRORS as error:
            log.warning("%s up to %d: folded in SQL: %s", stream, last.sequence, one_line(error))
            return False
        self._committed(stream, last, all_count=all_count)
        return True

    def _commit(self, stream: str, messages: Sequence[Message], batch: Sequence[Row]) -> None:
        with self._transaction():
            self._connection.execute(schema.batch_script())
            self._append(batch)
            self._fold_written(stream, {row.kind for row in batch})
        self._committed(stream, messages[-1])
        self._small.forget(message.subject for message in messages)

    def _append(self, batch: Sequence[Row]) -> None:
        appender = self._connection.appender("written")
        try:
            appender.append_rows(row.columns for row in batch)
            appender.flush()
        except BaseException:
            appender.clear()
            raise

    def _fold_written(self, stream: str, kinds: AbstractSet[str | None]) -> None:
        """Fold what is in ``written``, whose events are of these kinds."""
        self._planning.be_thorough()
        if stream == EVENTS:
            self._small.settle()
        for wanted, statement in self._folds[stream]:
            if not wanted or not wanted.isdisjoint(kinds):
                self._connection.execute(statement)

    def _committed(self, stream: str, last: Message, *, all_count: bool = False) -> None:
        self._positions[stream] = Position(last.sequence, fingerprint(last))
        if not all_count:
            self._doubtful[stream] = last.sequence
        self.commits += 1

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.begin()
        try:
            yield
            self._connection.commit()
        except BaseException:
            with suppress(duckdb.TransactionException, duckdb.FatalException):  # a commit that failed has ended it already
                self._connection.rollback()
            self._small.reset()
            raise

    def work_in(self) -> None:
        """Work the write-ahead log into the file where it has grown long, and nobody copies the file.

        The states of small batches take their place among all others, where there are many of them: each of the steps leaves
        the views as they were, so a crash between two of them does no harm. Raises `ViewsUnwritable` as `apply` does.
        """
        with writing(self.path):
            self._work_in()

    def _work_in(self) -> None:
        self._small.settle(at_least=MOVING)
        wal = wal_path(self.path)
        if not self._copies and wal.exists() and wal.stat().st_size > WAL_BYTES:
            self._connection.execute("CHECKPOINT")

    def begin_copy(self) -> int:
        """Return how many bytes of the write-ahead log hold what is committed; with the file they do, until `end_copy`.

        Commits go on meanwhile: they go behind those bytes, and to blocks that the file's header does not refer to. Only a
        checkpoint writes that header and empties the log, and there is none until then. The file itself is not opened: to close
        it would give up DuckDB's lock on it (fcntl(2)).
        """
        wal = wal_path(self.path)
        size_bytes = wal.stat().st_size if wal.exists() else 0
        self._copies += 1
        return size_bytes

    def end_copy(self) -> None:
        """Say that a copy is done."""
        self._copies -= 1

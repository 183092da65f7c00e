"""The file of the views: one writer, one transaction a batch.

`Store` knows DuckDB and nothing of NATS. A batch's rows, what they change in the views, and the checkpoint that names the last
of them commit together or not at all: a file is always the fold of exactly the messages up to its checkpoint. All of it is
blocking; the projector calls it in a thread, one call at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple, Self

import duckdb

from cutor.bus.bulk.columns import Columns, Message
from cutor.logs import about_message
from cutor.model.subjects import ENVIRONMENTS, EVENTS
from cutor.projections import schema
from cutor.projections.folds.batch import Batch
from cutor.projections.folds.batches import batch_of, unfoldable
from cutor.projections.folds.gaps import Gap
from cutor.projections.folds.planning import Planning
from cutor.projections.folds.rows import fingerprint
from cutor.projections.folds.scans import named
from cutor.projections.folds.small_batch import Plain, read_plain
from cutor.projections.folds.small_fold import SMALL, SmallFold, TooMuchToRead
from cutor.projections.session import Foreign, connect, one_line, reading, writing
from cutor.projections.views_paths import wal_path
from cutor.projections.write_ahead_log import WriteAheadLog, checkpoint, log_bytes

log = logging.getLogger(__name__)

WAL_BYTES: Final = 64 << 20
"""The write-ahead log is worked into the file when it is longer than this; beside commits much earlier: see `WriteAheadLog`."""
UNLOGGED_BYTES: Final = 512 << 20
"""Of a file without a log there is a checkpoint after so many bytes: until then, what fills no group of rows is in memory. The
group that is not full is written anew each time, for 20 µs an event of 7.5 KB at half as many."""
ROW_BYTES: Final = 512
"""What a message takes there beside its body, about."""
FOLD_ERRORS: Final = (duckdb.DataError, duckdb.ProgrammingError)
"""What a message can do to the fold; anything else is a fault of disk, memory or cutor's, and ends the projector."""


class Checkpoint(NamedTuple):
    """How far the views have come in a stream: the last message folded in (0: none) and its fingerprint (empty: none)."""

    sequence: int
    fingerprint: str


class DeadLetter(NamedTuple):
    """A message that is no event, or one that changed nothing: its sequence, and why."""

    sequence: int
    reason: str


class Store:
    """An open file of views. Make one with `Store.open`."""

    def __init__(
        self, path: Path, connection: duckdb.DuckDBPyConnection, *, logged: bool = True, was_left: bool = False
    ) -> None:
        self.path = path
        self._unlogged_bytes = None if logged else 0
        self._connection = connection
        self._folds: dict[str, list[tuple[schema.Statement, duckdb.Statement]]] = {}
        self._planning = Planning(connection)
        self._small = SmallFold(connection, self._planning)
        if logged:
            self._small.prepare()
        self.small = SMALL
        """Most messages of a batch that is folded in Python; 0 for tests that want the SQL."""
        self._checkpoints = self._read_checkpoints()
        self._doubtful = dict.fromkeys(self._checkpoints, 0)
        self._waits: dict[str, str | None] = dict.fromkeys(schema.FOLDS)
        self._waits.update(connection.execute("SELECT stream, reason FROM folds.waits").fetchall())
        self.commits = 0
        self._copies = 0
        self._worked_in = 0
        self._works_in = False
        self._log = WriteAheadLog(path, connection, was_left=was_left) if logged else None

    @classmethod
    def open(cls, path: Path, *, logged: bool = True, foreign: Foreign | None = None) -> Self:
        """Open a file, or make it where there is none; one that is not ``logged`` is whole only after `work_all_in`.

        One that is ``foreign`` is believed no more than `connect` says.

        Raises `ViewsRejected` for a file that is damaged or folded by other rules, `ViewsUnwritable` where disk or memory are
        full, `ProjectorBusy` where another program has it open.
        """
        was_left = log_bytes(path) > 0
        connection = connect(path, logged=logged, foreign=foreign)
        try:
            with reading():
                return cls(path, connection, logged=logged, was_left=was_left)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Close the file; what is committed is in it."""
        if self._log is not None:
            self._log.close()
        self._connection.close()

    def checkpoint(self, stream: str) -> Checkpoint:
        """Return how far the views have come in a stream."""
        return self._checkpoints[stream]

    def doubtful(self, stream: str) -> int:
        """Return up to which sequence dead letters may have come since the file was opened; behind it there are none."""
        return self._doubtful[stream]

    def _read_checkpoints(self) -> dict[str, Checkpoint]:
        found = self._connection.execute("SELECT stream, sequence, fingerprint FROM checkpoint").fetchall()
        return {stream: Checkpoint(*at) for stream, *at in found}

    def first(self, stream: str) -> int | None:
        """Return the first sequence of a stream that is folded in; None where nothing is."""
        table = {EVENTS: "events", ENVIRONMENTS: "environment_events"}[stream]
        with reading():
            [[first]] = self._connection.execute(f"SELECT min(sequence) FROM {table}").fetchall()  # noqa: S608 - one of two tables
        return None if first is None else int(first)

    def dead_letters(self, stream: str, after: int, limit: int) -> list[DeadLetter]:
        """Return the first messages of a stream behind a sequence that are no events, or events that changed nothing."""
        self._planning.be_thorough()
        with reading():
            found = self._connection.execute(
                "SELECT sequence, reason FROM dead_letters WHERE stream = $1 AND sequence > $2 ORDER BY sequence LIMIT $3",
                [stream, after, limit],
            )
            return [DeadLetter(*row) for row in found.fetchall()]

    def gaps(self, stream: str) -> list[Gap]:
        """Return what a stream is known to lack."""
        with reading():
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
                self._fold(stream, batch_of(stream, Columns.of(messages)))

    def apply_batch(self, stream: str, batch: Batch) -> None:
        """Fold messages in that have been read, and commit; all as `apply` does it.

        Raises `RelationUnreadable`, too, where a relation is a file that cannot be read; nothing is committed then.
        """
        with writing(self.path):
            self._fold(stream, batch)

    def _fold(self, stream: str, batch: Batch) -> None:
        """Commit a batch; where the fold refuses it, each half by itself, down to the message that it refuses."""
        try:
            self._commit(stream, batch)
        except FOLD_ERRORS as error:
            columns = batch.columns
            if len(columns) == 1:
                with about_message(columns.subjects[0], columns.sequences[0]):
                    log.error("%s %d (%s): %s", stream, columns.sequences[0], columns.subjects[0], one_line(error))
                self._commit(stream, unfoldable(stream, columns, one_line(error)))
                return
            middle = len(columns) // 2
            self._fold(stream, batch_of(stream, columns.part(0, middle)))
            self._fold(stream, batch_of(stream, columns.part(middle, len(columns))))

    def _commit_small(self, stream: str, last: Message, batch: Sequence[Plain]) -> bool:
        """Commit a small batch; return False where it cannot be folded so, which leaves nothing behind."""
        self._small.prepare()
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

    def _commit(self, stream: str, batch: Batch) -> None:
        with named(self._connection, batch.relations()), self._transaction():
            if stream == EVENTS:
                self._small.settle()
            self._planning.be_literal()
            there = set(batch.kinds)
            for of, statement in self._statements(stream):
                if not of.wanted or not of.wanted.isdisjoint(there):
                    found = self._connection.execute(statement)
                    there |= {name for (name,) in found.fetchall()} if of.finds else set()
        self._committed(stream, batch.last)
        if self._unlogged_bytes is not None:
            self._unlogged_bytes += batch.body_bytes + len(batch) * ROW_BYTES
        if len(batch) > SMALL:
            self._small.reset()
        else:
            self._small.forget(batch.columns.subjects)

    def _statements(self, stream: str) -> list[tuple[schema.Statement, duckdb.Statement]]:
        """Return the statements that fold a batch, parsed."""
        if stream not in self._folds:
            statements = schema.fold_statements(stream)
            self._folds[stream] = [(of, self._connection.extract_statements(of.sql)[0]) for of in statements]
        return self._folds[stream]

    def _committed(self, stream: str, last: Message, *, all_count: bool = False) -> None:
        self._checkpoints[stream] = Checkpoint(last.sequence, fingerprint(last))
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

    def work_in(self, longest_bytes: int | None = None) -> None:
        """Work the write-ahead log into the file where it is longer than that (`WAL_BYTES`), and nobody copies the file.

        Where there is no log, what was committed is written to the file after `UNLOGGED_BYTES`.

        The states of small batches take their place among all others, where there are many of them. Raises `ViewsUnwritable` as
        `apply` does.
        """
        if self._works_in:
            return  # the other thread is at it; and states are updated, which would wait until it is done
        with writing(self.path):
            self._settle()
            if not self._copies and self._is_long(WAL_BYTES if longest_bytes is None else longest_bytes):
                self._worked_in = self.commits
                checkpoint(self._connection)
                if self._unlogged_bytes is not None:
                    self._unlogged_bytes = 0

    def _is_long(self, longest_bytes: int) -> bool:
        if self._unlogged_bytes is not None:
            return self._unlogged_bytes > UNLOGGED_BYTES
        return self.log_bytes() > longest_bytes

    def work_all_in(self) -> None:
        """Have all in the file that was committed. Raises `ViewsUnwritable`: of a file without a log, that is lost then."""
        with writing(self.path):
            self._connection.execute("CHECKPOINT")

    def _settle(self) -> None:
        if self._small.is_full:
            with self._transaction():
                self._small.settle()

    def log_bytes(self) -> int:
        """Return how long the write-ahead log is; 0 where there is none."""
        return self._log.size_bytes() if self._log is not None else 0

    def has_long_log(self) -> bool:
        """Return whether the write-ahead log is to be worked in."""
        return self._log is not None and self._log.is_long(self.commits - self._worked_in)

    def work_in_beside(self) -> None:
        """Work the write-ahead log in while commits go on. For a thread of its own, one at a time, and while nobody copies.

        Raises `ViewsUnwritable` as `apply` does.
        """
        if self._log is None:
            return
        self._works_in = True
        self._worked_in = self.commits
        try:
            self._log.work_in()
        finally:
            self._works_in = False

    def is_merging_due(self) -> bool:
        """Return whether the log is to be worked in by `merge` the next time, and not beside commits."""
        return self._log is not None and self._log.is_merging_due()

    def merge(self) -> None:
        """Work the log in and merge small groups of rows, between two commits and while nobody copies; see `WriteAheadLog`.

        Raises `ViewsUnwritable` as `apply` does.
        """
        if self._log is not None:
            self._worked_in = self.commits
            self._log.merge()

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

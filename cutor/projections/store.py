"""The file of the views: one writer, one transaction a batch.

`Store` knows DuckDB and nothing of NATS. A batch's rows, what they change in the views, and the checkpoint that names the last
of them commit together or not at all: a file is always the fold of exactly the messages up to its checkpoint. All of it is
blocking; the projector calls it in a thread, one call at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple, Self

import duckdb

from cutor.projections import schema
from cutor.projections.errors import ViewsRejected
from cutor.projections.rows import Row, unfoldable

log = logging.getLogger(__name__)

WAL_BYTES: Final = 64 << 20
"""The write-ahead log is worked into the file when it is longer than this."""
NEVER_BYTES: Final = 1 << 60
"""DuckDB is told to leave checkpoints to us: none may happen while the file is being copied."""
FOLD_ERRORS: Final = (duckdb.DataError, duckdb.ProgrammingError)
"""What a message can do to the fold; anything else is a fault of disk, memory or cutor's, and ends the projector."""


class Position(NamedTuple):
    """How far the views have come in a stream: the last message folded in (0: none) and its fingerprint."""

    sequence: int
    fingerprint: str


class Batch(NamedTuple):
    """Rows of one stream in its order, and the position after them. ``time_ns`` is the last message's."""

    stream: str
    rows: Sequence[Row]
    position: Position
    time_ns: int


START: Final = Position(0, "")


class Store:
    """An open file of views. Make one with `Store.open`."""

    def __init__(self, path: Path, connection: duckdb.DuckDBPyConnection) -> None:
        self.path = path
        self._connection = connection
        self._appender = connection.appender("incoming")
        self._folds = {
            stream: [(kinds, connection.extract_statements(sql)[0]) for sql, kinds in schema.fold_statements(stream)]
            for stream in schema.FOLDS
        }
        self._positions = self._read_positions()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a file, or make it where there is none.

        Raises `ViewsRejected` for a file that is damaged or folded by other rules, duckdb.IOException where it cannot be
        written.
        """
        try:
            connection = duckdb.connect(path, config={"autoinstall_known_extensions": False, "python_enable_replacements": False})
        except duckdb.IOException:
            raise
        except duckdb.Error as error:
            raise ViewsRejected(f"the file is damaged: {one_line(error)}") from error
        try:
            _prepare(connection)
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

    def _read_positions(self) -> dict[str, Position]:
        found = self._connection.execute("SELECT stream, sequence, fingerprint FROM checkpoint").fetchall()
        return {stream: Position(sequence, mark) for stream, sequence, mark in found}

    def apply(self, batch: Batch) -> None:
        """Fold a batch in and commit. A message that the fold cannot take becomes a row that says so; it never stops the rest."""
        try:
            self._apply(batch)
        except FOLD_ERRORS as error:
            if len(batch.rows) == 1:
                self._apply_unfoldable(batch, error)
                return
            middle = len(batch.rows) // 2
            for rows in (batch.rows[:middle], batch.rows[middle:]):
                self.apply(batch._replace(rows=rows, position=self._position_of(batch, rows), time_ns=rows[-1].columns.time_ns))

    def _position_of(self, batch: Batch, rows: Sequence[Row]) -> Position:
        """The position after some of a batch's rows; a fingerprint is known for the last of the batch alone."""
        last = rows[-1].columns.sequence
        return batch.position if last == batch.position.sequence else Position(last, "")

    def _apply_unfoldable(self, batch: Batch, error: duckdb.Error) -> None:
        row = batch.rows[0]
        log.error("%s %d (%s) cannot be folded: %s", batch.stream, row.columns.sequence, row.columns.subject, one_line(error))
        self._apply(batch._replace(rows=[unfoldable(row, one_line(error))]))

    def _apply(self, batch: Batch) -> None:
        with self._transaction():
            self._connection.execute("TRUNCATE incoming")
            self._appender.append_rows(row.columns for row in batch.rows)
            self._appender.flush()
            kinds = {row.kind for row in batch.rows}
            for wanted, statement in self._folds[batch.stream]:
                if not wanted or not wanted.isdisjoint(kinds):
                    self._connection.execute(statement)
            self._connection.execute(
                "UPDATE checkpoint SET sequence = $2, fingerprint = $3, time = make_timestamp($4 // 1000), "
                "messages = messages + $5, undecodable = undecodable + $6 WHERE stream = $1",
                [batch.stream, *batch.position, batch.time_ns, len(batch.rows), sum(row.columns.fault is not None for row in batch.rows)],
            )
        self._positions[batch.stream] = batch.position

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            self._appender.clear()
            self._connection.execute("ROLLBACK")
            raise

    def checkpoint_if_due(self) -> None:
        """Work the write-ahead log into the file where it has grown long."""
        if wal_path(self.path).exists() and wal_path(self.path).stat().st_size > WAL_BYTES:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Work the write-ahead log into the file: the file alone then holds everything that is committed."""
        self._connection.execute("CHECKPOINT")


def _prepare(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the tables of an empty file, check the rules of another one, and set up the session."""
    connection.execute(f"SET checkpoint_threshold = '{NEVER_BYTES}B'")
    tables = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if not tables:
        _make_tables(connection)
    elif "rules" not in tables or connection.execute("SELECT digest FROM rules").fetchall() != [(schema.rules_digest(),)]:
        raise ViewsRejected("the file was folded by the rules of another version of cutor")
    connection.execute(schema.session_script())
    connection.executemany("INSERT INTO transition VALUES ($1, $2, $3)", schema.transitions())
    connection.execute(f"SET VARIABLE subject_pattern = '{schema.SUBJECT_PATTERN}'")
    connection.execute(f"SET VARIABLE environment_pattern = '{schema.ENVIRONMENT_PATTERN}'")


def _make_tables(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("BEGIN")
    for script in schema.table_scripts():
        connection.execute(script)
    connection.execute("INSERT INTO rules VALUES ($1)", [schema.rules_digest()])
    connection.executemany("INSERT INTO folds.status VALUES ($1, $2)", schema.statuses())
    connection.executemany(
        "INSERT INTO checkpoint VALUES ($1, $2, NULL, $3, 0, 0)", [(stream, *START) for stream in schema.FOLDS]
    )
    connection.execute("COMMIT")


def wal_path(path: Path) -> Path:
    """Return where DuckDB keeps the write-ahead log of a file."""
    return path.with_name(path.name + ".wal")


def one_line(error: BaseException) -> str:
    """Return the first line of an error of DuckDB's, which says what is wrong."""
    return str(error).strip().split("\n", 1)[0] or type(error).__name__



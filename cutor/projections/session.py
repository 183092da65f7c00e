"""The connection to a file of views that is written: how it is opened and set up, and what its errors mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import duckdb

from cutor.errors import CutorError
from cutor.projections import schema
from cutor.projections.definitions import DefinedOtherwise, check_definitions
from cutor.projections.errors import ProjectorBusy, ViewsRejected, ViewsUnwritable
from cutor.projections.views_paths import beside, literal, wal_paths

NEVER_BYTES: Final = 1 << 60
"""DuckDB is told to leave checkpoints to us: none may happen while the file is being copied."""
MEMORY_BYTES: Final = 2 << 30
"""Of DuckDB in the projector. A choice: with less it spills to the disk sooner, and folds more slowly then."""
UNLOGGED: Final = "views"
"""What a file without a log is called while it is open; nothing in the file depends on that."""
STORAGE_ERRORS: Final = (duckdb.IOException, duckdb.OutOfMemoryException, duckdb.TransactionException, duckdb.FatalException)
"""What a full disk or too little memory comes to; the last two, where it is met by a commit or a checkpoint."""
FULL: Final = ("No space left", "Disk quota exceeded", "File too large", "Out of Memory")
"""What DuckDB says of a file that is well, and cannot be opened all the same."""
DAMAGED: Final = "Corrupt database"
"""What it says of a block that is not what was written. It looks at one when it first reads it, which may be long after the
file was opened."""


class Foreign(NamedTuple):
    """What is to be known of a file that somebody else may have written: its fold ``reads`` what is in these directories."""

    reads: tuple[Path, ...] = ()


def connect(path: Path, *, logged: bool = True, foreign: Foreign | None = None) -> duckdb.DuckDBPyConnection:
    """Open a file, or make it where there is none, with all that the fold needs.

    One that is not ``logged`` gets no write-ahead log: it holds what was committed before its last checkpoint. Only such a one
    can be ``foreign``: nothing in it leads to a file but its own and those that it is said to read, and nothing that it defines
    is run before that is known to be what views define.

    Raises `ViewsRejected` for one that is damaged, folded by other rules, or defines anything else, `ViewsUnwritable` where
    disk or memory are full, `ProjectorBusy` where another program has it open.
    """
    try:
        connection = _opened(path) if logged else _opened_without_log(path, foreign)
    except DefinedOtherwise as error:
        raise ViewsRejected(str(error)) from error
    except duckdb.Error as error:
        raise _meaning(path, error) from error
    try:
        _prepare(connection)
    except duckdb.Error as error:
        connection.close()
        raise _meaning(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _opened(path: Path | None, **config: str) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(
        path or ":memory:", config={"autoinstall_known_extensions": False, "python_enable_replacements": False, **config}
    )


def _opened_without_log(path: Path, foreign: Foreign | None) -> duckdb.DuckDBPyConnection:
    """Open a file as a database beside one in memory: how it recovers can be said of such a one only."""
    connection = _opened(None, temp_directory=str(beside(path, "tmp")))
    try:
        if foreign is not None:
            _enclose(connection, path, foreign)
        connection.execute(f"ATTACH {literal(path)} AS {UNLOGGED} (RECOVERY_MODE no_wal_writes)")
        connection.execute(f"USE {UNLOGGED}")
        if foreign is not None:
            check_definitions(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _enclose(connection: duckdb.DuckDBPyConnection, path: Path, foreign: Foreign) -> None:
    """Let a database reach nothing but a file, its logs, and what is in the directories that it is to read, for good."""
    connection.execute("SET autoload_known_extensions = FALSE")
    connection.execute("SET allowed_paths = $1", [[str(one) for one in (path, *wal_paths(path))]])
    connection.execute("SET allowed_directories = $1", [[str(one) for one in foreign.reads]])
    connection.execute("SET enable_external_access = FALSE")


def _meaning(path: Path, error: duckdb.Error) -> CutorError | ViewsRejected:
    if "lock on file" in str(error):
        return ProjectorBusy(f"{path}: another program has the file open: {one_line(error)}")
    if any(words in str(error) for words in FULL):
        return _unwritable(path, error)
    return ViewsRejected(f"the file is damaged: {one_line(error)}")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise `ViewsUnwritable` for what a full disk or too little memory comes to in it, `ViewsRejected` as `reading`."""
    with reading():
        try:
            yield
        except STORAGE_ERRORS as error:
            if DAMAGED in str(error):
                raise
            raise _unwritable(path, error) from error


@contextmanager
def reading() -> Iterator[None]:
    """Raise `ViewsRejected` where a block that is read in it is not what was written."""
    try:
        yield
    except duckdb.Error as error:
        if DAMAGED not in str(error):
            raise
        raise ViewsRejected(f"the file is damaged: {one_line(error)}") from error


def _unwritable(path: Path, error: duckdb.Error) -> ViewsUnwritable:
    return ViewsUnwritable(f"{path}: the views cannot be written: {one_line(error)}")


def _prepare(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the tables of an empty file, check the rules of another one, and set up the session."""
    connection.execute("SET enable_progress_bar = FALSE")  # it would go to the role's log
    connection.execute(f"SET checkpoint_threshold = '{NEVER_BYTES}B'")
    connection.execute("SET force_compression = 'zstd'")  # of texts: half the time of what DuckDB finds best, and smaller
    connection.execute("SET threads = 1")  # batches are too short to be shared out: waking threads costs more
    connection.execute(f"SET memory_limit = '{MEMORY_BYTES}B'")
    tables = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if not tables:
        _make_tables(connection)
    elif "rules" not in tables or connection.execute("SELECT digest FROM folds.rules").fetchall() != [(schema.rules_digest(),)]:
        raise ViewsRejected("the file was folded by the rules of another version of cutor")
    connection.execute(schema.session_script())
    columns = [[*of] for of in zip(*schema.transitions(), strict=True)]
    connection.execute("INSERT INTO transition SELECT unnest($1), unnest($2), unnest($3), unnest($4)", columns)


def _make_tables(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("BEGIN")
    for script in schema.table_scripts():
        connection.execute(script)
    connection.execute("INSERT INTO folds.rules VALUES ($1)", [schema.rules_digest()])
    connection.executemany("INSERT INTO folds.status VALUES ($1, $2)", schema.statuses())
    connection.executemany("INSERT INTO folds.waits VALUES ($1, NULL)", [(stream,) for stream in schema.FOLDS])
    connection.execute("COMMIT")


def one_line(error: BaseException) -> str:
    """Return the first line of an error of DuckDB's, which says what is wrong."""
    return str(error).strip().split("\n", 1)[0] or type(error).__name__

"""A fresh file of views, folded from a range of the log, which any client of DuckDB opens.

It is made as a draft in a directory of its own beside its place, and put there when it is whole: until then, and after whatever
ends the work before, nothing is at that place but what was there. Nothing else writes to it: it stays as it is.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

import duckdb

from cutor.bus.connection import Bus
from cutor.errors import REFUSED, CutorError
from cutor.journal.replay import Span
from cutor.model.subjects import EVENTS
from cutor.projections.archive.place import Archive
from cutor.projections.errors import ViewsUnwritable
from cutor.projections.rebuilds.rebuild import FreshViews, Tell, tell_nobody
from cutor.projections.rebuilds.start import Way
from cutor.projections.session import one_line
from cutor.projections.views_file import held, put_in_place
from cutor.projections.views_paths import beside, wal_path

PART_RULES: Final = "part of a log"
"""Stands for the digest of the rules in a file that does not begin where the log does: no projector goes on with it."""

_REPLAYED: Final = """
CREATE TABLE replayed (
    stream VARCHAR PRIMARY KEY,
    first_sequence BIGINT NOT NULL,
    last_sequence BIGINT NOT NULL,
    messages BIGINT NOT NULL,
    last_time TIMESTAMP
);
COMMENT ON TABLE replayed IS 'The range of each stream from which this file was folded, once and for ever';
COMMENT ON COLUMN replayed.stream IS 'EVENTS or ENVIRONMENTS';
COMMENT ON COLUMN replayed.first_sequence IS 'The first sequence of the range';
COMMENT ON COLUMN replayed.last_sequence IS 'Its last; smaller than the first where the range is empty';
COMMENT ON COLUMN replayed.messages IS 'Messages folded in';
COMMENT ON COLUMN replayed.last_time IS 'Time of the last of them in the stream, UTC; null where there is none';
"""


class FileExists(CutorError):
    """Something is at the place of the file already; the message names it."""

    exit_code = REFUSED


class Part(NamedTuple):
    """What of a stream is in the file; ``last_time`` is as DuckDB writes it, None where there is no message."""

    stream: str
    first_sequence: int
    last_sequence: int
    messages: int
    last_time: str | None


class Folded(NamedTuple):
    """What a file was made of. ``begun_before`` are submissions that have messages in it, but not their beginning."""

    parts: list[Part]
    begun_before: int
    begun_before_messages: int


def check_place(path: Path, *, force: bool) -> None:
    """Raise `FileExists` or `ViewsUnwritable` for a place at which no file can be made: before any work is done for it."""
    if not path.parent.is_dir():
        raise ViewsUnwritable(f"{path}: cannot be written: {path.parent} is no directory")
    if path.is_dir():
        raise FileExists(f"{path}: is a directory; name a file in it")
    for there in (path, wal_path(path)):
        if not force and (there.exists() or there.is_symlink()):
            raise FileExists(f"{there}: is there already; name another file, or replace it with --force")


async def fold_range(
    bus: Bus,
    path: Path,
    spans: Mapping[str, Span],
    *,
    force: bool = False,
    tell: Tell = tell_nobody,
    archive: Archive | None = None,
) -> Folded:
    """Fold these spans of the streams into a file at a place where none is, or with ``force`` in the place of that one.

    A message is folded as it would be in the whole log; but where the beginning of a submission is not in the span, its
    messages are strays. Raises `FileExists`, `ViewsUnwritable`, `ProjectorBusy` for the file of a projector that lives,
    `RebuildFailed`, `StreamRewound`, `BusUnreachable`.
    """
    check_place(path, force=force)
    async with _draft(path) as draft:
        async with FreshViews.making(bus, draft, tell, Way(archive)) as fresh:
            await fresh.fold_to(
                {stream: span.last for stream, span in spans.items()}, {stream: span.first for stream, span in spans.items()}
            )
            await fresh.finish()
        folded = _finish(draft, spans)
        _put(draft, path, force=force)
    return folded


@asynccontextmanager
async def _draft(path: Path) -> AsyncIterator[Path]:
    """Give a place for a draft that nobody else can reach, on the same file system; all of it is gone in the end."""
    try:
        directory = Path(tempfile.mkdtemp(prefix=f".{path.name[:64]}.", dir=path.parent))
    except OSError as error:
        raise ViewsUnwritable(f"{path}: cannot be written: {error.strerror}") from error
    try:
        yield directory / "views.duckdb"
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _finish(draft: Path, spans: Mapping[str, Span]) -> Folded:
    """Say in the file what it was made of, and leave it in one piece."""
    try:
        with duckdb.connect(draft) as connection:
            connection.execute(_REPLAYED)
            for stream, span in spans.items():
                connection.execute(
                    "INSERT INTO replayed SELECT stream, $2, $3, messages, time FROM checkpoint WHERE stream = $1",
                    [stream, *span],
                )
                _forget_gaps_before(connection, stream, span.first)
            if spans[EVENTS].first > 1:
                connection.execute("UPDATE folds.rules SET digest = $1", [PART_RULES])
            found = connection.execute("SELECT * REPLACE (last_time::VARCHAR AS last_time) FROM replayed").fetchall()
            [before] = connection.execute(
                "SELECT count(DISTINCT (tenant, id)), count(*) FROM events ANTI JOIN submissions USING (tenant, id) "
                "WHERE tenant IS NOT NULL"
            ).fetchall()
            connection.execute("CHECKPOINT")
    except duckdb.Error as error:
        raise ViewsUnwritable(f"{draft}: the views cannot be written: {one_line(error)}") from error
    return Folded([Part(*row) for row in found], *before)


def _forget_gaps_before(connection: duckdb.DuckDBPyConnection, stream: str, first: int) -> None:
    """Leave out of the table of gaps what lies before a range: nobody has lost it."""
    connection.execute("DELETE FROM gaps WHERE stream = $1 AND to_sequence < $2", [stream, first])
    connection.execute("UPDATE gaps SET from_sequence = greatest(from_sequence, $2) WHERE stream = $1", [stream, first])


def _put(draft: Path, path: Path, *, force: bool) -> None:
    """Put the draft at its place: whole, on the disk, for its owner alone, and by one step."""
    try:
        with draft.open("r+b") as opened:
            os.fchmod(opened.fileno(), 0o600)
            os.fsync(opened.fileno())
        if not force:
            os.link(draft, path)
        elif beside(path, "lock").exists():
            with held(path):
                put_in_place(draft, path)
        else:
            put_in_place(draft, path)
    except FileExistsError as error:
        raise FileExists(f"{path}: somebody else made it meanwhile; name another file, or replace it with --force") from error
    except OSError as error:
        raise ViewsUnwritable(f"{path}: cannot be written: {error.strerror}") from error

"""A segment as a Parquet file, which DuckDB writes and reads: one row a message, in stream order, compressed by zstd.

Columns: ``sequence`` (place in the stream), ``time_ns`` (the stream's time, nanoseconds since 1970 UTC), ``subject``,
``message_id``, ``headers`` (the sender's others as a JSON object; null where there are none) and ``body`` (the bytes as they
were published). Files of former versions have a column ``kind`` beside, which nothing reads. Any program that reads Parquet can
read it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple, Protocol, Self

import duckdb
import msgspec

from cutor.bus.bulk.columns import Columns, Message
from cutor.bus.message import Stored
from cutor.projections.archive.errors import ArchiveDamaged, ArchiveUnusable
from cutor.projections.archive.manifest import Segment
from cutor.projections.archive.place import sha256_of
from cutor.projections.folds.rows import fingerprint
from cutor.projections.views_paths import literal

ROW_GROUP: Final = 40_960
"""Most messages that are compressed together, and read by one thread."""
SMALLEST_GROUP: Final = 2048
"""Fewest of them: DuckDB writes groups of so many, or of a multiple."""
ROW_GROUP_BYTES: Final = 16 << 20
"""About how many bytes the bodies of such a group have at most.

Who wants a few messages of a group decompresses all its bodies: a batch of a fold is to hold several groups, not a part of one.
"""
LARGEST_BYTES: Final = 256 << 20
"""Most bytes of bodies that `archive.segment_bytes` lets a segment have, but for the message with which it is full."""
MEMORY_BYTES: Final = 8 * LARGEST_BYTES
"""A segment is in memory as a table, as columns and as a compressed group at one time; a small one takes what it takes."""
FETCHED: Final = 4096
"""Messages that are taken from a file at a time."""
COLUMNS: Final = "sequence, time_ns, subject, message_id, headers, body"
_TABLE: Final = (
    "CREATE TABLE segment (sequence BIGINT NOT NULL, time_ns BIGINT NOT NULL, subject VARCHAR NOT NULL, "
    "message_id VARCHAR, headers VARCHAR, body BLOB NOT NULL)"
)
_DIFFERING: Final = " OR ".join(f"kept.{name} IS DISTINCT FROM written.{name}" for name in COLUMNS.split(", "))


class Published(Message, Protocol):
    """A message with the headers that its sender chose; `cutor.bus.message.Stored` is one."""

    @property
    def headers(self) -> Mapping[str, str]: ...


class Totals(NamedTuple):
    """What a file holds, as a manifest says it."""

    messages: int
    first: int
    last: int
    first_time_ns: int
    last_time_ns: int
    body_bytes: int


def connect() -> duckdb.DuckDBPyConnection:
    """Return a database in memory that fetches nothing by itself."""
    connection = duckdb.connect(config={"autoinstall_known_extensions": False, "python_enable_replacements": False})
    connection.execute("SET enable_progress_bar = FALSE")
    connection.execute(f"SET memory_limit = '{MEMORY_BYTES}B'")
    return connection


class SegmentWriter:
    """Messages on their way into one file. They are in memory until `write`, which is why a segment has a bound.

    `add` raises `ArchiveUnusable` where there is no room for them in memory.
    """

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._connection = connect()
        self._connection.execute(_TABLE)
        self._appender = self._connection.appender("segment")
        self._first: Message | None = None
        self._last: Message | None = None
        self.messages = 0
        self.body_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    @property
    def first_time_ns(self) -> int | None:
        """The time of the first message; None where there is none."""
        return None if self._first is None else self._first.time_ns

    def add(self, messages: Sequence[Published]) -> None:
        """Take messages, which follow those that are there without a gap."""
        if not messages:
            return
        try:
            self._appender.append_rows(
                (one.sequence, one.time_ns, one.subject, one.message_id, _headers(one.headers), one.body) for one in messages
            )
        except duckdb.Error as error:
            raise ArchiveUnusable(f"{self._stream}: a segment cannot be taken into memory: {one_line(error)}") from error
        self._first = self._first or messages[0]
        self._last = messages[-1]
        self.messages += len(messages)
        self.body_bytes += sum(len(one.body) for one in messages)

    def write(self, draft: Path) -> Segment:
        """Write all of it to a file, read that back, and return what a manifest says of it; empty again then.

        Raises `ArchiveUnusable` where it cannot be written, `ArchiveDamaged` where it does not read back as it was written.
        """
        assert self._first is not None
        assert self._last is not None
        try:
            self._appender.flush()
            rows = row_group(self.messages, self.body_bytes)
            self._connection.execute(
                f"COPY segment TO {literal(draft)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {rows}, "
                "USE_TMP_FILE false)"
            )
            self._compare(draft)
            segment = Segment(
                first=self._first.sequence,
                last=self._last.sequence,
                body_bytes=self.body_bytes,
                file_bytes=draft.stat().st_size,
                first_time_ns=self._first.time_ns,
                last_time_ns=self._last.time_ns,
                fingerprint=fingerprint(self._last),
                sha256=sha256_of(draft),
            )
        except (duckdb.Error, OSError) as error:
            raise ArchiveUnusable(f"{draft.parent}: a segment cannot be written: {one_line(error)}") from error
        self._connection.execute("TRUNCATE segment")
        self._first, self._last, self.messages, self.body_bytes = None, None, 0, 0
        return segment

    def _compare(self, draft: Path) -> None:
        found = self._connection.execute(
            f"SELECT count(*) FROM segment AS kept POSITIONAL JOIN read_parquet($1) AS written WHERE {_DIFFERING}",  # noqa: S608 - names of columns
            [str(draft)],
        ).fetchone()
        if found != (0,):
            raise ArchiveDamaged(f"{draft}: it does not read back as it was written: is the disk sound?")


def row_group(messages: int, body_bytes: int) -> int:
    """Return how many messages go together into a group of a file with so many, and with so many bytes of bodies."""
    fitting = ROW_GROUP_BYTES * messages // max(1, body_bytes)
    return min(max(fitting // SMALLEST_GROUP * SMALLEST_GROUP, SMALLEST_GROUP), ROW_GROUP)


def totals_of(path: Path) -> Totals:
    """Return what a file holds. Raises `ArchiveDamaged` where it is no segment, or has one message twice."""
    sql = """SELECT count(DISTINCT sequence), min(sequence), max(sequence), arg_min(time_ns, sequence),
        arg_max(time_ns, sequence), coalesce(sum(octet_length(body)), 0)::BIGINT FROM read_parquet($1)"""
    with _reading(path) as connection:
        row = connection.execute(sql, [str(path)]).fetchone()
    if row is None or row[0] == 0:
        raise ArchiveDamaged(f"{path}: it holds no message")
    return Totals(*row)


def first_since(path: Path, time_ns: int) -> int:
    """Return the first sequence of a file whose message is of this time or later: there is one. Raises `ArchiveDamaged`."""
    with _reading(path) as connection:
        row = connection.execute(
            "SELECT min(sequence) FROM read_parquet($1) WHERE time_ns >= $2", [str(path), time_ns]
        ).fetchone()
    if row is None or row[0] is None:
        raise ArchiveDamaged(f"{path}: it ends before the time that its manifest says")
    return int(row[0])


def messages_of(stream: str, path: Path, first: int, last: int, batch: int = FETCHED) -> Iterator[list[Stored]]:
    """Yield the messages of a file from one sequence to another, both with it, in lists of ``batch`` at the most.

    They come as they stand in the file, which is in their order: a sort would have all of it in memory.

    Raises `ArchiveDamaged`.
    """
    sql = f"SELECT {COLUMNS} FROM read_parquet($1) WHERE sequence BETWEEN $2 AND $3"  # noqa: S608 - names of columns
    before = first - 1
    with _reading(path) as connection:
        connection.execute(sql, [str(path), first, last])
        while found := connection.fetchmany(batch):
            messages = [_stored(stream, *row) for row in found]
            for message in messages:
                if message.sequence <= before:
                    raise ArchiveDamaged(f"{path}: it has {message.sequence} behind {before}")
                before = message.sequence
            yield messages


def messages_at(stream: str, path: Path, sequences: Sequence[int]) -> list[Stored]:
    """Return the messages of a file at these sequences, in their order. Raises `ArchiveDamaged` where one is not there."""
    sql = f"""SELECT {COLUMNS} FROM read_parquet($1) WHERE sequence BETWEEN $2 AND $3
        AND sequence IN (SELECT unnest($4::BIGINT[])) ORDER BY sequence"""  # noqa: S608 - names of columns
    with _reading(path) as connection:
        rows = connection.execute(sql, [str(path), min(sequences), max(sequences), list(sequences)]).fetchall()
    if len(rows) != len(set(sequences)):
        raise ArchiveDamaged(f"{path}: it lacks messages that its names say are in it")
    return [_stored(stream, *row) for row in rows]


@contextmanager
def _reading(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        try:
            yield connection
        except (duckdb.Error, msgspec.DecodeError) as error:
            raise ArchiveDamaged(f"{path}: it cannot be read: {one_line(error)}") from error


def columns_of(path: Path, first: int, last: int, batch: int) -> Iterator[Columns]:
    """Yield the same in columns, without the headers that their senders chose."""
    with _reading(path) as connection:
        connection.execute(
            "SELECT sequence, time_ns, subject, message_id, body FROM read_parquet($1) WHERE sequence BETWEEN $2 AND $3 "
            "ORDER BY sequence",
            [str(path), first, last],
        )
        while found := connection.fetchmany(batch):
            sequences, times_ns, subjects, message_ids, bodies = zip(*found, strict=True)
            yield Columns([*sequences], [*times_ns], [*subjects], [*message_ids], [*bodies])


def _stored(
    stream: str, sequence: int, time_ns: int, subject: str, message_id: str | None, headers: str | None, body: bytes
) -> Stored:
    return Stored(stream, sequence, subject, time_ns, message_id, _read_headers(headers), body)


def _headers(headers: Mapping[str, str]) -> str | None:
    return msgspec.json.encode(dict(headers)).decode() if headers else None


def _read_headers(text: str | None) -> Mapping[str, str]:
    return {} if text is None else msgspec.json.decode(text, type=dict[str, str])


def one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip().split("\n", 1)[0] or type(error).__name__

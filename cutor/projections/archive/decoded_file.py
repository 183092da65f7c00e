"""The relations that a fold takes of a segment, as Parquet files: made, compared with the bodies, and read.

A relation is stored as `cutor.projections.folds` makes it of the bodies, but for these themselves, which are in the segment
already: of each message a column ``is_json`` says which of ``body`` and ``raw`` its body is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import duckdb

from cutor.bus.bulk.columns import Columns
from cutor.projections.archive.decoded import RELATIONS, Decoded, DecodedFile
from cutor.projections.archive.errors import ArchiveUnusable
from cutor.projections.archive.manifest import Segment
from cutor.projections.archive.place import sha256_of
from cutor.projections.archive.rules import decoding_rules
from cutor.projections.archive.segment_file import FETCHED, ROW_GROUP, columns_of, connect, one_line
from cutor.projections.folds.batches import batch_of
from cutor.projections.folds.relation import Scan
from cutor.projections.folds.row_groups import GROUP_BYTES
from cutor.projections.views_paths import literal

ARRIVING: Final = "arriving"


class Found(NamedTuple):
    """The kinds of the events of a segment, and how many of its messages cannot be read."""

    kinds: set[str]
    faults: int


def make(stream: str, path: Path, segment: Segment, drafts: Path) -> Decoded:
    """Decode a segment at ``path`` into files in a directory, named after the relations, each read back and compared.

    Raises `ArchiveDamaged` for a segment that cannot be read, `ArchiveUnusable` where nothing can be written.
    """
    with closing(connect()) as connection:
        found = _decode(connection, stream, path, segment)
        try:
            for relation in RELATIONS[stream]:
                target = drafts / relation
                connection.execute(
                    f"COPY {relation} TO {literal(target)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP}, "
                    "USE_TMP_FILE false)"
                )
                if differs(connection, relation, target):
                    raise ArchiveUnusable(f"{target}: it does not read back as it was written: is the disk sound?")
            files = {
                name: DecodedFile(sha256=sha256_of(drafts / name), file_bytes=_size(drafts / name))
                for name in RELATIONS[stream]
            }
        except (duckdb.Error, OSError) as error:
            raise ArchiveUnusable(f"{drafts.parent}: what was decoded cannot be written: {one_line(error)}") from error
    return Decoded(
        first=segment.first,
        last=segment.last,
        segment=segment.sha256,
        rules=decoding_rules(),
        kinds=tuple(sorted(found.kinds)),
        faults=found.faults,
        files=files,
    ).sealed()


@contextmanager
def decoded_anew(stream: str, path: Path, segment: Segment) -> Iterator[tuple[duckdb.DuckDBPyConnection, Found]]:
    """Give a connection that has the relations of a segment as tables, decoded from its bodies, and what else was found.

    Raises `ArchiveDamaged`.
    """
    with closing(connect()) as connection:
        yield connection, _decode(connection, stream, path, segment)


def differs(connection: duckdb.DuckDBPyConnection, relation: str, path: Path) -> bool:
    """Return whether a file holds anything else than the relation that a connection has. Raises `duckdb.Error`."""
    found = connection.execute(
        f"SELECT count(*) FROM {relation} AS kept POSITIONAL JOIN read_parquet($1) AS written "  # noqa: S608 - one of `RELATIONS`
        "WHERE kept IS DISTINCT FROM written",
        [str(path)],
    ).fetchone()
    return found != (0,)


def _decode(connection: duckdb.DuckDBPyConnection, stream: str, path: Path, segment: Segment) -> Found:
    kinds: set[str] = set()
    made: set[str] = set()
    faults = 0
    for columns in _gathered(columns_of(path, segment.first, segment.last, FETCHED)):
        batch = batch_of(stream, columns)
        kinds |= {kind for kind in batch.kinds if kind is not None}
        faults += batch.faults
        for name, relation in batch.relations().items():
            connection.register(ARRIVING, relation)
            try:
                into = f"INSERT INTO {name}" if name in made else f"CREATE TABLE {name} AS"
                connection.execute(f"{into} {_stored(stream, name)}")
                made.add(name)
            except duckdb.Error as error:
                raise ArchiveUnusable(f"{path}: cannot be decoded: {one_line(error)}") from error
            finally:
                connection.unregister(ARRIVING)
    return Found(kinds, faults)


def _gathered(found: Iterator[Columns]) -> Iterator[Columns]:
    """Yield what is found in larger batches: a statement of DuckDB's costs as much as decoding a thousand messages."""
    gathered, held_bytes = Columns.empty(), 0
    for columns in found:
        gathered.add(columns)
        held_bytes += sum(map(len, columns.bodies))
        if len(gathered) >= ROW_GROUP or held_bytes >= GROUP_BYTES:
            yield gathered
            gathered, held_bytes = Columns.empty(), 0
    if len(gathered):
        yield gathered


def _stored(stream: str, relation: str) -> str:
    columns = "* EXCLUDE (body, raw), body IS NOT NULL AS is_json" if relation == RELATIONS[stream][0] else "*"
    return f"SELECT {columns} FROM {ARRIVING}"  # noqa: S608 - names of columns


def scans_of(stream: str, segment: Path, files: dict[str, Path], first: int, last: int) -> dict[str, Scan]:
    """Return the relations of the messages from one sequence of a segment to another, both with it."""
    messages, *others = RELATIONS[stream]
    joined = Scan(
        """SELECT decoded.* EXCLUDE (is_json), if(is_json, decode(bytes)::JSON, NULL) AS body, if(is_json, NULL, bytes) AS raw
        FROM (FROM read_parquet($1) WHERE sequence BETWEEN $3 AND $4) AS decoded
        POSITIONAL JOIN (SELECT body AS bytes FROM read_parquet($2) WHERE sequence BETWEEN $3 AND $4)""",
        [str(files[messages]), str(segment), first, last],
    )
    plain = "FROM read_parquet($1) WHERE sequence BETWEEN $2 AND $3"
    return {messages: joined, **{name: Scan(plain, [str(files[name]), first, last]) for name in others}}


def _size(path: Path) -> int:
    return path.stat().st_size

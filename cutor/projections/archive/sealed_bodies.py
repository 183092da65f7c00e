"""Contents from the archive, by their subjects in BODIES, for whoever refers to what that stream has let go of."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import duckdb

from cutor.model.subjects import BODIES
from cutor.projections.archive.errors import ArchiveDamaged, ArchiveUnusable
from cutor.projections.archive.manifest import Segment
from cutor.projections.archive.place import Archive, sha256_of
from cutor.projections.archive.segment_file import connect
from cutor.projections.session import one_line

KEPT_BYTES: Final = 64 << 20
"""Of what was read last, so much is kept: many submissions have the same inputs."""


class SealedBodies:
    """The bodies of one archive, for one thread at a time.

    Which subject is in which file is read once, in one pass over the files' names; of a file that cannot be read, whenever
    somebody asks. A file is compared with its SHA-256 before a body is taken from it.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._connection = connect()
        self._connection.execute("CREATE TABLE names (subject VARCHAR, sequence BIGINT, segment VARCHAR)")
        self._segments: dict[str, Segment] = {}
        self.unread: list[ArchiveDamaged] = []
        """Why segments could not be read when it was looked for names last: what they hold is not known."""
        self._checked: set[str] = set()
        self._kept: OrderedDict[str, list[bytes]] = OrderedDict()
        self._kept_bytes = 0

    def chunks(self, subjects: Sequence[str]) -> dict[str, list[bytes]]:
        """Return what is sealed under subjects, the newest first; one that is not has no entry.

        Raises `ArchiveDamaged`, also where a subject may be in a file that cannot be read, and `ArchiveUnusable`.
        """
        found = {subject: self._kept[subject] for subject in subjects if subject in self._kept}
        if wanted := [subject for subject in subjects if subject not in found]:
            found |= self._read(wanted)
        for subject, bodies in found.items():
            self._keep(subject, bodies)
        return found

    def before(self, hashes: Sequence[str], first: int) -> list[str]:
        """Return the subjects of contents with these hashes of which the archive has nothing from a sequence on.

        What is in `unread` is not looked at. Raises `ArchiveDamaged` for the manifest, `ArchiveUnusable`.
        """
        self._learn()
        sql = """SELECT subject FROM names
            WHERE split_part(split_part(subject, '.', 3), '-', 1) IN (SELECT unnest($1::VARCHAR[]))
            GROUP BY subject HAVING max(sequence) < $2"""
        return [subject for (subject,) in self._connection.execute(sql, [list(hashes), first]).fetchall()]

    def _read(self, subjects: Sequence[str]) -> dict[str, list[bytes]]:
        self._learn()
        sql = """SELECT subject, sequence, segment FROM names WHERE subject IN (SELECT unnest($1::VARCHAR[]))
            ORDER BY sequence DESC"""
        named = self._connection.execute(sql, [list(subjects)]).fetchall()
        if self.unread and len({subject for subject, _, _ in named}) < len(set(subjects)):
            raise self.unread[0]
        bodies: dict[int, bytes] = {}
        for segment in {segment for _, _, segment in named}:
            bodies |= self._bodies(self._segments[segment], [one[1] for one in named if one[2] == segment])
        found: dict[str, list[bytes]] = {}
        for subject, sequence, _ in named:
            found.setdefault(subject, []).append(bodies[sequence])
        return found

    def _learn(self) -> None:
        """Take up the names of segments that are new since. Raises `ArchiveUnusable` where memory has no room for them."""
        manifest = self._archive.manifest(BODIES)
        segments = manifest.segments if manifest else ()
        self.unread = []
        for gone in self._segments.keys() - {segment.sha256 for segment in segments}:  # another archive has come in its place
            self._connection.execute("DELETE FROM names WHERE segment = $1", [gone])
            del self._segments[gone]
        for segment in segments:
            if segment.sha256 in self._segments:
                continue
            path = self._archive.file_of(BODIES, segment)
            sql = "INSERT INTO names SELECT subject, sequence, $2 FROM read_parquet($1)"
            try:
                self._connection.execute(sql, [str(path), segment.sha256])
            except duckdb.OutOfMemoryException as error:
                raise _no_room(path, error) from error
            except duckdb.Error as error:
                self.unread.append(_unreadable(path, error))
            else:
                self._segments[segment.sha256] = segment

    def _bodies(self, segment: Segment, sequences: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        if segment.sha256 not in self._checked:
            _check(self._archive.file_of(BODIES, segment), segment)
            self._checked.add(segment.sha256)
        path = self._archive.file_of(BODIES, segment)
        sql = "SELECT sequence, body FROM read_parquet($1) WHERE sequence BETWEEN $2 AND $3 AND list_contains($4, sequence)"
        try:
            return iter(self._connection.execute(sql, [str(path), min(sequences), max(sequences), list(sequences)]).fetchall())
        except duckdb.OutOfMemoryException as error:
            raise _no_room(path, error) from error
        except duckdb.Error as error:
            raise _unreadable(path, error) from error

    def _keep(self, subject: str, bodies: list[bytes]) -> None:
        if subject not in self._kept:
            self._kept_bytes += sum(map(len, bodies))
        self._kept[subject] = bodies
        self._kept.move_to_end(subject)
        while self._kept_bytes > KEPT_BYTES:
            _, gone = self._kept.popitem(last=False)
            self._kept_bytes -= sum(map(len, gone))


def _check(path: Path, segment: Segment) -> None:
    """Raise `ArchiveDamaged` where a file is not what was sealed."""
    try:
        found = sha256_of(path)
    except OSError as error:
        raise ArchiveDamaged(f"{path}: it cannot be read: {error.strerror}") from error
    if found != segment.sha256:
        raise ArchiveDamaged(f"{path}: it is not what was sealed: its SHA-256 differs from the manifest's")


def _no_room(path: Path, error: duckdb.OutOfMemoryException) -> ArchiveUnusable:
    return ArchiveUnusable(f"{path}: there is no room for it in memory: {one_line(error)}")


def _unreadable(path: Path, error: duckdb.Error) -> ArchiveDamaged:
    return ArchiveDamaged(f"{path}: it cannot be read: {one_line(error)}")

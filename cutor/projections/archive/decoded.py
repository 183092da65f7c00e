"""What was decoded of the segments of one stream: an index of files that a rebuild reads in place of bodies.

```
<archive>/<STREAM>/decoded/index.json                                  which segments were decoded, by which rules, with hashes
<archive>/<STREAM>/decoded/<first>-<last>.<rules>.<relation>.parquet   a relation that the fold takes, but for the bodies
```

All of it follows from the segments, and can be removed at any time: it is made again. So it is no part of the manifest, whose
chain would have to change with every change of the rules.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec

from cutor.model.subjects import ENVIRONMENTS, EVENTS
from cutor.projections.archive import rules
from cutor.projections.archive.errors import ArchiveUnusable
from cutor.projections.archive.manifest import Count, Segment
from cutor.projections.archive.place import DRAFT, MANIFEST_BYTES, PRIVATE, Archive, flush, sha256_of
from cutor.projections.folds import incoming, incoming_environments

log = logging.getLogger(__name__)

VERSION: Final = 2
"""Of the index's form: what an index of another version lists is not used."""
DIRECTORY: Final = "decoded"
INDEX: Final = "index.json"
RELATIONS: Final = {
    EVENTS: (incoming.INCOMING, incoming.REQUESTS, incoming.BUILDS, incoming.ENDS, incoming.STAGES),
    ENVIRONMENTS: (incoming_environments.INCOMING,),
}
"""Of each stream that is folded what its fold takes; the first has a row a message, and their bodies."""
RULES_SHOWN: Final = 16
"""Hexadecimal digits (64 bits) of the rules' digest in the name of a file."""
_OURS: Final = re.compile(rf"{INDEX}{DRAFT}|\d{{20}}-\d{{20}}\..*", re.ASCII)

Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class DecodedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One relation of a segment."""

    sha256: Sha256
    file_bytes: Count


class Decoded(msgspec.Struct, frozen=True, kw_only=True):
    """What was decoded of the segment with the messages ``first`` to ``last``.

    ``segment`` is the SHA-256 of its file, ``rules`` says by which rules, ``kinds`` are those of its events, ``faults`` counts
    the messages that cannot be read. ``digest`` covers all of that and the files: kinds and faults decide which statements of
    the fold run.
    """

    first: Count
    last: Count
    segment: Sha256
    rules: Sha256
    kinds: tuple[str, ...]
    faults: Count
    files: Mapping[str, DecodedFile]
    digest: str = ""

    def sealed(self) -> Decoded:
        """Return the same with its digest."""
        bare = msgspec.structs.replace(self, digest="")
        return msgspec.structs.replace(self, digest=hashlib.sha256(msgspec.json.encode(bare, order="sorted")).hexdigest())

    def file_name(self, relation: str) -> str:
        """Return the name of a file: it follows from range and rules, so that an index can name no other file."""
        return f"{self.first:020}-{self.last:020}.{self.rules[:RULES_SHOWN]}.{relation}.parquet"

    @property
    def file_bytes(self) -> int:
        """Bytes of all files."""
        return sum(one.file_bytes for one in self.files.values())


class DecodedFiles(NamedTuple):
    """The same, and where the file of each relation lies."""

    decoded: Decoded
    paths: dict[str, Path]

    def fault(self) -> str | None:
        """Return what is wrong with the files: one is gone, or is not what it was; None where nothing is. Reads all of them."""
        for relation, path in self.paths.items():
            try:
                if sha256_of(path) != self.decoded.files[relation].sha256:
                    return f"{path}: it is not what was written: its SHA-256 differs from the index's"
            except OSError as error:
                return f"{path}: it cannot be read: {error.strerror}"
        return None


class Found(NamedTuple):
    """What of the entries is ``usable``, by the first sequence of each; of those that were ``changed`` a line each."""

    usable: dict[int, Decoded]
    changed: list[str]


class _Version(msgspec.Struct, frozen=True, kw_only=True):
    version: int


class _Index(_Version, frozen=True, kw_only=True):
    segments: tuple[Decoded, ...]


class DecodedPlace:
    """The directory of one stream."""

    def __init__(self, archive: Archive, stream: str) -> None:
        self._stream = stream
        self.directory = archive.directory / stream / DIRECTORY
        self._drafts = self.directory / DRAFT
        self._index = self.directory / INDEX

    def usable(self, segments: tuple[Segment, ...]) -> dict[int, Decoded]:
        """Return what was decoded of segments, as `kept` does; an index that cannot be read counts for none, and is told of."""
        try:
            return self.kept(segments)
        except ArchiveUnusable as error:
            log.warning("%s; bodies are read in place of what was decoded", error)
            return {}

    def kept(self, segments: tuple[Segment, ...]) -> dict[int, Decoded]:
        """Return the same, as `found` does; an entry that was changed is an error in the log. Raises `ArchiveUnusable`."""
        found = self.found(segments)
        for fault in found.changed:
            log.error("%s: the bodies of the segment are read in its place", fault)
        return found.usable

    def found(self, segments: tuple[Segment, ...]) -> Found:
        """Return what was decoded of segments, by the rules of this process.

        Whether the files are what they were is not looked at. What is no index counts for nothing, and is told of; so does all
        where the code on the disk is not what runs. Raises `ArchiveUnusable` where the disk, for example, does not let it be
        read: that says nothing about what is there.
        """
        if not rules.hold():
            return Found({}, [])
        wanted, today = {(one.first, one.last, one.sha256) for one in segments}, rules.decoding_rules()
        usable: dict[int, Decoded] = {}
        changed: list[str] = []
        for one in self._decoded():
            if one != one.sealed():
                changed.append(f"{self._index}: what it says of {one.first} to {one.last} is not what was written")
            elif (
                (one.first, one.last, one.segment) in wanted
                and one.rules == today
                and {*one.files} == {*RELATIONS[self._stream]}
            ):
                usable[one.first] = one
        return Found(usable, changed)

    def files_of(self, decoded: Decoded) -> DecodedFiles:
        """Return the same with its files."""
        return DecodedFiles(decoded, {relation: self.directory / decoded.file_name(relation) for relation in decoded.files})

    def _decoded(self) -> tuple[Decoded, ...]:
        try:
            with self._index.open("rb") as file:
                raw = file.read(MANIFEST_BYTES)
            if msgspec.json.decode(raw, type=_Version).version != VERSION:
                return ()
            return msgspec.json.decode(raw, type=_Index).segments
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise ArchiveUnusable(f"{self._index}: it cannot be read: {error.strerror}") from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            log.warning("%s: no index of what was decoded: %s; bodies are read in its place", self._index, error)
            return ()

    # -- for who holds the archive ---------------------------------------------------------------------------------

    @contextmanager
    def drafts(self) -> Iterator[Path]:
        """Give a directory for files in the making, for the owner alone; what is left in it goes with the block."""
        self.check_no_links()
        with self._writable():
            self._drafts.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            _empty(self._drafts)
        try:
            yield self._drafts
        finally:
            self.check_no_links()
            with self._writable():
                _empty(self._drafts)
                self._drafts.rmdir()

    def check_no_links(self) -> None:
        """Raise `ArchiveUnusable` for a link in the place of a directory: what it leads to is not ours to write or remove."""
        for path in (self.directory.parent, self.directory, self._drafts):
            with self._writable():
                is_link = path.is_symlink()
            if is_link:
                raise ArchiveUnusable(
                    f"{path}: it is a link: nothing is written through it, and nothing removed; remove the link"
                )

    def put_in_place(self, drafts: Path, decoded: Decoded, others: Mapping[int, Decoded]) -> dict[int, Decoded]:
        """Have drafts, named after relations, in their places; return them with the others: the index names them all then.

        Raises `CodeChanged` where it is not known by which code they were made.
        """
        rules.check()
        with self._writable():
            for relation in decoded.files:
                flush(drafts / relation)
                (drafts / relation).rename(self.directory / decoded.file_name(relation))
            flush(self.directory)
            whole = {**others, decoded.first: decoded}
            self._write_index(tuple(whole[first] for first in sorted(whole)))
        return whole

    def _write_index(self, segments: tuple[Decoded, ...]) -> None:
        draft = self._index.with_name(INDEX + DRAFT)
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(msgspec.json.format(msgspec.json.encode(_Index(version=VERSION, segments=segments)), indent=1) + b"\n")
        flush(draft)
        draft.rename(self._index)
        flush(self.directory)

    def tidy(self, kept: Mapping[int, Decoded]) -> None:
        """Remove the files that ``kept`` does not name: those of former rules, and what a former life did not come to name."""
        named = {one.file_name(relation) for one in kept.values() for relation in one.files}
        self.check_no_links()
        with self._writable():
            for path in self._ours():
                if path.name not in named:
                    path.unlink()

    def remove(self) -> None:
        """Remove all that was decoded."""
        self.check_no_links()
        with self._writable():
            self._index.unlink(missing_ok=True)
            for path in self._ours():
                path.unlink()

    def held_bytes(self) -> int:
        """Return how many bytes `remove` would free, about."""
        with self._writable():
            return sum(path.lstat().st_size for path in self._ours())

    def _ours(self) -> list[Path]:
        """Return all files but the index."""
        return [path for path in self.directory.iterdir() if _OURS.fullmatch(path.name)] if self.directory.is_dir() else []

    @contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ArchiveUnusable(f"{self.directory}: cannot be written: {error.strerror}; see [archive] directory") from error


def _empty(directory: Path) -> None:
    for path in directory.iterdir():
        path.unlink()

"""The sealed fold: the views of what is sealed, as a file that a rebuild begins with in place of folding it again.

```
<archive>/fold/index.json                           which messages it was folded from, by which rules, with its SHA-256
<archive>/fold/<EVENTS>-<ENVIRONMENTS>.<rules>.duckdb   the views, up to and with these sequences; whole, without a log
```

It follows from the segments, and can be removed at any time: it is made again. So it is no part of a manifest. It counts where
its rules are today's, and where what it says of the segments that it was folded from is what their manifests say today.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from cutor.projections.archive import fold_rules
from cutor.projections.archive.decoded import Sha256
from cutor.projections.archive.errors import ArchiveUnusable, CodeChanged
from cutor.projections.archive.manifest import Count, Manifest
from cutor.projections.archive.place import DRAFT, PRIVATE, Archive, flush
from cutor.projections.schema import FOLDS

log = logging.getLogger(__name__)

VERSION: Final = 1
"""Of the index's form: an older one is made anew, a newer one is left alone."""
DIRECTORY: Final = "fold"
INDEX: Final = "index.json"
INDEX_BYTES: Final = 16 << 20
"""Far above what an index has, a few lines a stream: what is larger is none that cutor wrote."""
RULES_SHOWN: Final = 16
"""Hexadecimal digits (64 bits) of the rules' digest in the name of a file."""
NOT_WHAT_WAS_SEALED: Final = {0, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO}
"""What comes of a file that is gone, or is none; whatever else hinders reading one says nothing about what is in it."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What of a stream a fold holds: ``first`` to ``last`` without ``missing``, the ranges that were acknowledged as such.

    ``link`` is a digest of what the manifest says of those segments; not of when the stream was made, so that it is the same
    for one that was restored. ``fingerprint`` is that of the last message. Of a stream of which nothing is sealed, ``last``
    is 0.
    """

    first: Count = 1
    last: Count = 0
    messages: Count = 0
    body_bytes: Count = 0
    missing: tuple[tuple[int, int], ...] = ()
    fingerprint: str = ""
    link: str = ""


class SealedFold(msgspec.Struct, frozen=True, kw_only=True):
    """A file with views. ``mark`` is that of the archive, ``rules`` say by which rules; ``digest`` covers all of this."""

    rules: Sha256
    mark: str | None
    sha256: Sha256
    file_bytes: Count
    streams: Mapping[str, Part]
    digest: str = ""

    def sealed(self) -> SealedFold:
        """Return the same with its digest."""
        bare = msgspec.structs.replace(self, digest="")
        return msgspec.structs.replace(self, digest=hashlib.sha256(msgspec.json.encode(bare, order="sorted")).hexdigest())

    @property
    def file_name(self) -> str:
        """The name of its file: it follows from what it holds and the rules, so that an index can name no other file."""
        return f"{'-'.join(f'{self.streams[stream].last:020}' for stream in FOLDS)}.{self.rules[:RULES_SHOWN]}.duckdb"

    @property
    def messages(self) -> int:
        """How many messages it was folded from."""
        return sum(part.messages for part in self.streams.values())

    def named(self) -> str:
        """Return in words what it holds."""
        ranges = [f"{stream} {part.first:,} to {part.last:,}" for stream, part in self.streams.items() if part.last]
        return " and ".join(ranges) or "nothing"


def part_of(manifest: Manifest | None, last: int) -> Part:
    """Return what a fold of the segments up to a sequence would hold, as a manifest says. Pure."""
    segments = [one for one in manifest.segments if one.last <= last] if manifest else []
    if not segments:
        return Part()
    link = hashlib.sha256(msgspec.json.encode([msgspec.structs.replace(one, chain="", rules="") for one in segments]))
    return Part(
        first=segments[0].first,
        last=segments[-1].last,
        messages=sum(one.messages for one in segments),
        body_bytes=sum(one.body_bytes for one in segments),
        missing=tuple((one.first - one.missing, one.first - 1) for one in segments if one.missing),
        fingerprint=segments[-1].fingerprint,
        link=link.hexdigest(),
    )


def parts_of(manifests: Mapping[str, Manifest | None], lasts: Mapping[str, int]) -> dict[str, Part]:
    """Return the same of several streams. Pure."""
    return {stream: part_of(manifests.get(stream), last) for stream, last in lasts.items()}


class Looked(NamedTuple):
    """The fold that can be gone by; or why there is none: rules that are ``outdated``, or a ``fault``.

    ``is_newer``: a newer cutor wrote it, and it is none of ours to replace. ``is_unread``: the fault is that it cannot be read;
    that says nothing about what is there, and it is none to replace, either.
    """

    fold: SealedFold | None = None
    outdated: str | None = None
    fault: str | None = None
    is_newer: bool = False
    is_unread: bool = False


class _Version(msgspec.Struct, frozen=True, kw_only=True):
    version: int


class _Index(_Version, frozen=True, kw_only=True):
    fold: SealedFold


class FoldPlace:
    """The directory of the sealed fold of an archive."""

    def __init__(self, archive: Archive) -> None:
        self.directory = archive.directory / DIRECTORY
        self._archive = archive
        self._index = self.directory / INDEX
        self._drafts = self.directory / DRAFT

    def path_of(self, fold: SealedFold) -> Path:
        """Return where the file of a fold lies."""
        return self.directory / fold.file_name

    def look(self, manifests: Mapping[str, Manifest | None]) -> Looked:
        """Return the fold that is there, where it belongs to these manifests and the rules are those of this process.

        Of the file it is looked at that it is one, and how long; `fold_copy` compares what is in it while it copies.
        """
        try:
            return self._look(manifests)
        except _NoIndex as error:
            return Looked(fault=str(error))
        except _Unread as error:
            return Looked(fault=str(error), is_unread=True)
        except _Newer as error:
            return Looked(outdated=str(error), is_newer=True)

    def _look(self, manifests: Mapping[str, Manifest | None]) -> Looked:
        """Do that; raise `_NoIndex`, `_Unread`, `_Newer`."""
        fold = self._read()
        if fold is None:
            return Looked()
        try:
            fold_rules.check()
        except CodeChanged as error:
            return Looked(outdated=str(error))
        looked = self._judged(fold, manifests)
        while looked.fold is not None and (fault := self._fault_of_file(looked.fold)) is not None:
            fold, before = self._read(), looked.fold
            if fold is None:
                return Looked()
            looked = Looked(fault=fault) if fold == before else self._judged(fold, manifests)  # it was brought on meanwhile
        return looked

    def _fault_of_file(self, fold: SealedFold) -> str | None:
        path = self.path_of(fold)
        try:
            there = path.lstat()
        except OSError as error:
            if error.errno not in NOT_WHAT_WAS_SEALED:
                raise _Unread(f"{path}: it cannot be read: {error.strerror}") from error
            return f"{path}: it cannot be read: {error.strerror}"
        if not stat.S_ISREG(there.st_mode):
            return f"{path}: it is no file"
        if there.st_size != fold.file_bytes:
            return f"{path}: it has {there.st_size} bytes, and {fold.file_bytes} were sealed"
        return None

    def _judged(self, fold: SealedFold, manifests: Mapping[str, Manifest | None]) -> Looked:
        if fold != fold.sealed():
            return Looked(fault=f"{self._index}: what it says is not what was written")
        if fold.rules != fold_rules.folding_rules():
            return Looked(outdated=f"{self.directory}: what is there was folded by the rules of another version of cutor")
        lasts = {stream: part.last for stream, part in fold.streams.items()}
        is_of_archive = fold.mark in (None, self._archive.mark())  # None: sealed before the archive had its mark
        if lasts.keys() != FOLDS.keys() or not is_of_archive or fold.streams != parts_of(manifests, lasts):
            return Looked(fault=f"{self._index}: the fold is not of what is sealed in this archive")
        return Looked(fold)

    def _read(self) -> SealedFold | None:
        """Return what the index says, None where there is none, or an old one. Raises `_NoIndex`, `_Unread`, `_Newer`."""
        try:
            with open_plain(self._index) as opened:
                raw = os.read(opened, INDEX_BYTES)
            version = msgspec.json.decode(raw, type=_Version).version
            if version > VERSION:
                raise _Newer(f"{self._index}: a newer cutor wrote it")
            if version < VERSION:
                return None
            return msgspec.json.decode(raw, type=_Index).fold
        except FileNotFoundError:
            return None
        except OSError as error:
            kind = _NoIndex if error.errno in NOT_WHAT_WAS_SEALED else _Unread
            raise kind(f"{self._index}: it cannot be read: {error.strerror}") from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _NoIndex(f"{self._index}: no index of a fold: {error}") from error

    def foreign(self) -> list[Path]:
        """Return what lies there and is none of cutor's: a log beside the views, for example, which says what they hold.

        Raises `ArchiveUnusable`.
        """
        ours = {INDEX, INDEX + DRAFT, DRAFT}
        with self._readable():
            return sorted(path for path in self._all() if path.name not in ours and path.suffix != ".duckdb")

    # -- for who holds the archive ---------------------------------------------------------------------------------

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """Give a place for a file in the making, in an empty directory for the owner alone, which goes with the block."""
        self.check_no_links()
        with self._writable():
            self._remove_drafts()
            self._drafts.mkdir(mode=PRIVATE, parents=True)
        try:
            yield self._drafts / "views.duckdb"
        finally:
            self.check_no_links()
            with self._writable():
                self._remove_drafts()

    def _remove_drafts(self) -> None:
        if self._drafts.exists():
            _remove(self._drafts)

    def check_no_links(self) -> None:
        """Raise `ArchiveUnusable` for a link in the place of a directory: what it leads to is not ours to write or remove."""
        for path in (self.directory, self._drafts):
            with self._writable():
                is_link = path.is_symlink()
            if is_link:
                raise ArchiveUnusable(
                    f"{path}: it is a link: nothing is written through it, and nothing removed; remove the link"
                )

    def put_in_place(self, draft: Path, fold: SealedFold) -> None:
        """Have a draft as the fold of the archive; the former one stays until `tidy`. Raises `CodeChanged` and others."""
        fold_rules.check()
        with self._writable():
            flush(draft)
            path = self.path_of(fold)
            if path.is_dir() and not path.is_symlink():
                _remove(path)
            draft.rename(path)
            flush(self.directory)
            self._write_index(fold)

    def _write_index(self, fold: SealedFold) -> None:
        draft = self._index.with_name(INDEX + DRAFT)
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(msgspec.json.format(msgspec.json.encode(_Index(version=VERSION, fold=fold)), indent=1) + b"\n")
        flush(draft)
        draft.rename(self._index)
        flush(self.directory)

    def tidy_up(self) -> None:
        """Remove what a former life left: all but the index and the file that it names, whether that can be gone by or not.

        Nothing where a newer cutor wrote the index, or it cannot be read. Raises `ArchiveUnusable`.
        """
        try:
            fold = self._read()
        except _NoIndex:
            fold = None
        except (_Newer, _Unread):
            return
        self.tidy(fold if fold is not None and fold == fold.sealed() and fold.streams.keys() == FOLDS.keys() else None)

    def tidy(self, kept: SealedFold | None) -> None:
        """Remove what is there but for a fold and the index: what a former life left, and folds that gave way."""
        self.check_no_links()
        with self._writable():
            for path in self._all():
                if path.name != INDEX and (kept is None or path.name != kept.file_name):
                    _remove(path)

    def remove(self) -> None:
        """Remove the fold."""
        self.check_no_links()
        with self._writable():
            self._index.unlink(missing_ok=True)
        self.tidy(None)

    def held_bytes(self) -> int:
        """Return how many bytes `remove` would free, about; none where it would refuse, since there is a link."""
        if self.directory.is_symlink() or self._drafts.is_symlink():
            return 0
        with self._writable():
            return sum(Path(at, name).lstat().st_size for at, _, names in os.walk(self.directory) for name in names)

    def _all(self) -> list[Path]:
        return list(self.directory.iterdir()) if self.directory.is_dir() else []

    @contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ArchiveUnusable(f"{self.directory}: cannot be written: {error.strerror}; see [archive] directory") from error

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ArchiveUnusable(f"{self.directory}: it cannot be read: {error.strerror}") from error


class _NoIndex(Exception):
    """The index is none."""


class _Unread(Exception):
    """What is there cannot be read, for a reason that says nothing about it."""


class _Newer(Exception):
    """The index is one of a newer cutor."""


@contextmanager
def open_plain(path: Path) -> Iterator[int]:
    """Open a file to read, which must be none but a file: no link is followed, and no pipe waited for. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "it is no file")
        yield descriptor
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()

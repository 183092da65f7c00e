"""Where an archive lies, who may write it, and how a segment comes to be there.

A segment is written as a draft, forced to the disk, and renamed; then the manifest that names it, in the same way. Killed in
between, a sealer leaves a draft, or a segment that no manifest names: the next one removes the one, sets the other aside, and
does it again. No segment is ever deleted.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from cutor.model.units import about
from cutor.projections.archive.errors import ArchiveBusy, ArchiveDamaged, ArchiveFull, ArchiveUnusable
from cutor.projections.archive.manifest import Manifest, Segment, decode, encode, is_segment_name

log = logging.getLogger(__name__)

MANIFEST: Final = "manifest.json"
MANIFEST_BYTES: Final = 256 << 20
"""A longer one is refused: it is no manifest of an archive."""
MARK: Final = "mark"
MARK_DIGITS: Final = 32
"""Hexadecimal digits of an archive's mark: 128 random bits."""
DRAFT: Final = ".draft"
ASIDE: Final = ".aside"
PRIVATE: Final = 0o700
"""Mode of an archive's directories: nobody but their owner comes in."""
RESERVE_BYTES: Final = 64 << 20
"""What a file system must have left beside a segment: other programs may write to it, too."""
CHUNK_BYTES: Final = 1 << 20
"""Read at one time for a hash. A choice."""


class _Lacking(NamedTuple):
    free: str
    needed: str


class Archive:
    """A directory with the segments of several streams."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def streams(self) -> list[str]:
        """Return the streams that have a manifest. Raises `ArchiveUnusable`."""
        with self._readable():
            if not self.directory.exists():
                return []
            return sorted(path.parent.name for path in self.directory.glob(f"*/{MANIFEST}"))

    def manifest(self, stream: str) -> Manifest | None:
        """Return what is sealed of a stream; None where nothing is. Raises `ArchiveDamaged`, `ArchiveUnusable`."""
        path = self._of(stream) / MANIFEST
        with self._readable():
            try:
                with path.open("rb") as file:
                    raw = file.read(MANIFEST_BYTES + 1)
            except FileNotFoundError:
                return None
        if len(raw) > MANIFEST_BYTES:
            raise ArchiveDamaged(f"{path}: more than {MANIFEST_BYTES} bytes; this is not the manifest of an archive")
        return decode(raw, stream, str(path))

    def file_of(self, stream: str, segment: Segment) -> Path:
        """Return where a segment lies."""
        return self._of(stream) / segment.file_name

    def free_bytes(self) -> int:
        """Return what the file system has left for this user; of a directory that is not made yet, that of the one above."""
        place = self.directory
        while not place.exists() and place != place.parent:
            place = place.parent
        with self._readable():
            return shutil.disk_usage(place).free

    def mark(self) -> str | None:
        """Return the mark by which this archive is known, None where it has none. Raises `ArchiveUnusable`."""
        with self._readable():
            try:
                with (self.directory / MARK).open("rb") as file:
                    return file.read(MARK_DIGITS).decode(errors="replace")
            except FileNotFoundError:
                return None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the only one who writes as long as this lasts. Makes the directory, for the owner alone, where there is none.

        Raises `ArchiveBusy`, `ArchiveUnusable`.
        """
        with self._writable():
            self.directory.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            lock = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ArchiveBusy(f"{self.directory}: somebody else seals into it; wait until that has ended") from error
            yield
        finally:
            os.close(lock)

    def unnamed(self, stream: str, first: int, last: int) -> Path | None:
        """Return a file with messages of a range that the manifest does not name, also one that was set aside; else None.

        Raises `ArchiveDamaged`, `ArchiveUnusable`.
        """
        manifest = self.manifest(stream)
        named = {segment.file_name for segment in manifest.segments} if manifest else set()
        with self._readable():
            names = {path.name for path in self._of(stream).iterdir()} if self._of(stream).is_dir() else set()
        for name in sorted(names - named):
            if is_segment_name(name.removesuffix(ASIDE)):
                begin, _, end = name.partition(".")[0].partition("-")
                if int(begin) <= last and int(end) >= first:
                    return self._of(stream) / name
        return None

    # -- for who holds it ------------------------------------------------------------------------------------------

    def make_mark(self) -> str:
        """Give this archive a mark, which is on the disk then."""
        mark, draft = secrets.token_hex(MARK_DIGITS // 2), self.directory / (MARK + DRAFT)
        with self._writable():
            draft.unlink(missing_ok=True)
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(descriptor, "w") as file:  # noqa: PTH123 - a descriptor, not a path
                file.write(f"{mark}\n")
            flush(draft)
            draft.rename(self.directory / MARK)
            flush(self.directory)
        return mark

    def check_room(self, body_bytes: int) -> None:
        """Raise `ArchiveFull` where a segment of so many bytes of bodies may not fit, whatever compression makes of them."""
        if (lacking := self._lacking(body_bytes)) is not None:
            raise ArchiveFull(
                f"{self.directory}: {lacking.free} are free, and the next segment wants {lacking.needed}: make room there, "
                "or move the archive to a larger disk and set [archive] directory; nothing was written"
            )

    def check_room_for_decoding(self, segment: Segment, needed_bytes: int) -> None:
        """Raise `ArchiveFull` where what is decoded of a segment may not fit."""
        if (lacking := self._lacking(needed_bytes)) is not None:
            raise ArchiveFull(
                f"{self.directory}: {lacking.free} are free, and decoding {segment.file_name} wants {lacking.needed}: make "
                "room there; sealing and folding do without, but rebuilds read the bodies, which is slower"
            )

    def check_room_for_folding(self, needed_bytes: int) -> None:
        """Raise `ArchiveFull` where a sealed fold may not fit beside the one that is there."""
        if (lacking := self._lacking(needed_bytes)) is not None:
            raise ArchiveFull(
                f"{self.directory}: {lacking.free} are free, and sealing a fold of what is sealed wants {lacking.needed}: make "
                "room there; sealing does without, but rebuilds fold every event, which is slower"
            )

    def _lacking(self, needed_bytes: int) -> _Lacking | None:
        needed, free = needed_bytes + RESERVE_BYTES, self.free_bytes()
        return _Lacking(about(free), about(needed)) if free < needed else None

    @contextmanager
    def draft(self, stream: str) -> Iterator[Path]:
        """Give an empty file, readable by its owner alone, for the next segment of a stream; it goes where the block fails."""
        draft = self._of(stream) / f"segment{DRAFT}"
        with self._writable():
            draft.parent.mkdir(mode=PRIVATE, exist_ok=True)
            draft.unlink(missing_ok=True)
            os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        try:
            yield draft
        finally:
            draft.unlink(missing_ok=True)

    def put_in_place(self, draft: Path, segment: Segment, manifest: Manifest) -> Manifest:
        """Have a finished draft as one more segment: return the manifest that names it, which is on the disk then."""
        with self._writable():
            flush(draft)
            draft.rename(self.file_of(manifest.stream, segment))
            flush(draft.parent)
        whole = manifest.with_segment(segment)
        self.write_manifest(whole)
        return whole

    def write_manifest(self, manifest: Manifest) -> None:
        """Put a manifest in place of the one before."""
        path = self._of(manifest.stream) / MANIFEST
        draft = path.with_name(MANIFEST + DRAFT)
        with self._writable():
            path.parent.mkdir(mode=PRIVATE, exist_ok=True)
            draft.unlink(missing_ok=True)
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
                file.write(encode(manifest))
            flush(draft)
            draft.rename(path)
            flush(path.parent)

    def tidy(self, stream: str) -> None:
        """See to what a former life left in the directory of a stream, before anything is written there.

        Removes drafts, and sets a segment aside that was put in place by who was killed before the manifest named it.

        No segment is deleted: where several are unnamed, or one does not follow the last, the manifest is lost or an old one,
        and the stream may not have what they hold any more. Raises `ArchiveDamaged` then, and `ArchiveUnusable` for a link in
        the place of the directory.
        """
        directory = self._of(stream)
        if directory.is_symlink():
            raise ArchiveUnusable(f"{directory}: it is a link: nothing is written through it; move the archive as a whole")
        with self._writable():
            if directory.is_dir():
                self._tidy(stream, directory)

    def _tidy(self, stream: str, directory: Path) -> None:
        for name in (f"segment{DRAFT}", MANIFEST + DRAFT):
            if (directory / name).exists():
                log.warning("removed what a former life left behind: %s", directory / name)
                (directory / name).unlink(missing_ok=True)
        manifest = self.manifest(stream)
        named = {segment.file_name for segment in manifest.segments} if manifest else set()
        unnamed = sorted(path for path in directory.iterdir() if is_segment_name(path.name) and path.name not in named)
        if not unnamed:
            return
        follows = manifest is None or int(unnamed[0].name.partition("-")[0]) == manifest.next
        if len(unnamed) > 1 or not follows:
            others = " and others" if len(unnamed) > 1 else ""
            raise ArchiveDamaged(
                f"{directory / MANIFEST}: does not name {unnamed[0].name}{others}: it is lost or an old one; put the newest in "
                "its place, or those files elsewhere; nothing was changed"
            )
        log.warning("set aside what a former life did not come to name: %s%s", unnamed[0], ASIDE)
        unnamed[0].rename(unnamed[0].with_name(unnamed[0].name + ASIDE))

    def _of(self, stream: str) -> Path:
        return self.directory / stream

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ArchiveUnusable(f"{self.directory}: the archive cannot be read: {error.strerror}") from error

    @contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ArchiveUnusable(
                f"{self.directory}: the archive cannot be written: {error.strerror}; see [archive] directory"
            ) from error


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def flush(path: Path) -> None:
    """Have a file, or the names in a directory, on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

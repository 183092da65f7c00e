"""Backups of the streams in a directory: taken while everything runs, checked, and restored into an empty server.

```
<directory>/<STREAM>.snapshot   what the server gave, as it came: messages with their sequences and times
<directory>/manifest.json       written last: each stream's file, size, SHA-256, configuration, state and consumers
```

A file is complete or not there (it is written under another name first), and only its owner can read any: events hold what
users submitted. A directory without a manifest is no backup. What the server says and is told, `cutor.bus.backup` knows.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

from cutor.bus import backup as transfer
from cutor.bus.backup_manifest import (
    SUFFIX,
    VERSION,
    Manifest,
    StreamBackup,
    check_server,
    decode,
    encode,
    identity_of,
    in_order,
    restore_order,
    version_of,
)
from cutor.bus.connection import EVENTS, Bus
from cutor.bus.restoring import MARKED
from cutor.errors import REFUSED, CutorError
from cutor.private_files import write_privately
from cutor.release import RELEASE

MANIFEST: Final = "manifest.json"
MANIFEST_BYTES: Final = 16 << 20
"""A longer one is refused: it is no manifest of a backup."""
PRIVATE: Final = 0o700
"""Mode of a backup's directory: nobody but its owner comes in."""

Tell = Callable[[str, int, int | None], None]
"""Is told of progress: the stream, how many bytes of its snapshot are through, and of how many (None: not known)."""


class BackupUnusable(CutorError):
    """A directory that cannot take a backup, or holds none that could be restored; the message names it and says why."""

    exit_code = REFUSED


def tell_nobody(stream: str, done_bytes: int, total_bytes: int | None) -> None:
    """Progress that nobody looks at."""


# -- backup ------------------------------------------------------------------------------------------------------------


async def make(bus: Bus, directory: Path, tell: Tell = tell_nobody) -> Manifest:
    """Back up every stream of cutor's into a directory that is empty or not there yet.

    What was written is removed where this fails or is cancelled. Raises `BackupUnusable` and the errors of the bus,
    `RestoreUnfinished` among them.
    """
    with _fresh(directory) as written:
        await transfer.check_whole(bus)
        names = await transfer.streams_of(bus)
        for needed in (EVENTS, MARKED):
            if needed not in names:
                await bus.api.require_stream(needed)
        streams = [await _back_up(bus, name, written, directory, tell) for name in in_order(names)]
        manifest = Manifest(
            version=VERSION,
            made_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            cutor_version=RELEASE,
            server_version=bus.link.server_version,
            streams=streams,
        )
        with _named(directory / MANIFEST):
            write_privately(directory / MANIFEST, encode(manifest))
        written.append(directory / MANIFEST)
        _flush(directory)
    return manifest


@contextmanager
def _fresh(directory: Path) -> Iterator[list[Path]]:
    """Make the directory, or take an empty one; whatever is in the list is removed again where the block fails."""
    there = directory.exists()
    written: list[Path] = []
    try:
        directory.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise BackupUnusable(f"{directory} is not empty: a backup goes into a directory of its own")
    except OSError as error:
        raise BackupUnusable(f"{directory} cannot take a backup: {error.strerror}") from error
    try:
        yield written
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        if not there:
            with suppress(OSError):  # somebody put something else there
                directory.rmdir()
        raise


async def _back_up(bus: Bus, name: str, written: list[Path], directory: Path, tell: Tell) -> StreamBackup:
    """One stream into its file."""
    path = directory / f"{name}{SUFFIX}"
    draft = path.with_name(f".{path.name}.part")
    written += [draft, path]
    with _named(path), _private(draft) as file:
        copy = _Copy(file, lambda size_bytes: tell(name, size_bytes, None))
        created = str((await bus.api.stream_info(name, timeout_s=transfer.ELECTION_S))["created"])
        taken = await transfer.snapshot(bus, name, copy.take)
        await copy.flush()
    draft.rename(path)
    return StreamBackup(
        name=name,
        file=path.name,
        size_bytes=copy.size_bytes,
        sha256=copy.digest.hexdigest(),
        messages=taken.state.messages,
        stored_bytes=taken.stored_bytes,
        first_sequence=taken.state.first,
        last_sequence=taken.state.last,
        config=taken.config,
        consumers=taken.consumers,
        created=created,
    )


class _Copy:
    """A snapshot on its way into a file; `tell` hears how many bytes there are after each chunk."""

    def __init__(self, file: BinaryIO, tell: Callable[[int], None]) -> None:
        self.digest = hashlib.sha256()
        self.size_bytes = 0
        self._file = file
        self._tell = tell

    async def take(self, chunk: bytes) -> None:
        """Write one more chunk."""
        await asyncio.to_thread(self._keep, chunk)
        self.size_bytes += len(chunk)
        self._tell(self.size_bytes)

    def _keep(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self.digest.update(chunk)

    async def flush(self) -> None:
        """Have all of it on the disk."""
        self._file.flush()
        await asyncio.to_thread(os.fsync, self._file.fileno())


@contextmanager
def _private(path: Path) -> Iterator[BinaryIO]:
    """Open a new file that only its owner can read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
        yield file


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Have the system's errors name the file: a disk that is full says so of none."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _flush(directory: Path) -> None:
    """Have the names of the files on the disk, too."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# -- restore -----------------------------------------------------------------------------------------------------------


def read(directory: Path) -> Manifest:
    """Return the manifest of a finished backup. Raises `BackupUnusable` and `ManifestInvalid`."""
    path = directory / MANIFEST
    try:
        with _regular(path) as file:
            raw = file.read(MANIFEST_BYTES + 1)
    except FileNotFoundError:
        raise BackupUnusable(f"{directory} holds no finished backup: there is no {MANIFEST} in it") from None
    except OSError as error:
        raise BackupUnusable(f"{path} cannot be read: {error.strerror}") from error
    if len(raw) > MANIFEST_BYTES:
        raise BackupUnusable(f"{path}: more than {MANIFEST_BYTES} bytes; this is not the manifest of a backup")
    return decode(raw, str(path))


def _regular(path: Path) -> BinaryIO:
    """Open a file to read. Raises `BackupUnusable` for what is none: from a pipe that nobody writes to, nothing ever comes."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BackupUnusable(f"{path} is no regular file: this is not a backup")
    return open(descriptor, "rb")  # noqa: PTH123 - a descriptor, not a path; whoever asks closes it


async def verify(directory: Path, manifest: Manifest, tell: Tell = tell_nobody) -> None:
    """Compare every file with the manifest. Raises `BackupUnusable` for the first that differs."""
    for one in manifest.streams:
        async for _ in _chunks(directory, one, tell):
            pass


async def restore(
    bus: Bus,
    directory: Path,
    manifest: Manifest,
    *,
    replicas: int | None = None,
    tell: Tell = tell_nobody,
    begin: Callable[[], None] = lambda: None,
) -> None:
    """Make the streams of a verified backup in a server that has none of them; their states are read back and compared.

    ``begin`` is called just before the first stream, when server and backup have been found to fit: until then nothing is
    changed. Until the last stream is through, the server is marked as holding part of a backup (`cutor.bus.restoring`); where
    it is so already, and holds all of this backup, the mark is taken away and that is all. Raises `RestoreRefused` and
    `RestoreUnfinished` before that, `RestoreFailed` for whatever ends it within, and the errors of the bus.
    """
    version = version_of(bus.link.server_version)
    check_server(manifest, version, clustered=bus.link.clustered, replicas=replicas)
    if not await transfer.is_begun(bus, manifest):
        await transfer.check_empty(bus, manifest)
        begin()
        await _send_all(bus, directory, manifest, replicas, tell)
    await transfer.end(bus, manifest)


async def _send_all(bus: Bus, directory: Path, manifest: Manifest, replicas: int | None, tell: Tell) -> None:
    """Send stream after stream, the first with the mark. Whatever fails behind that leaves part of a backup, and says so."""
    held = False
    try:
        for one in restore_order(manifest.streams):
            note = None if held else identity_of(manifest)
            await transfer.restore(bus, one, _chunks(directory, one, tell), replicas=replicas, note=note)
            held = True
    except transfer.RestoreFailed:
        raise
    except CutorError as error:
        if not held:
            raise
        raise transfer.failed(str(error)) from error


async def _chunks(directory: Path, one: StreamBackup, tell: Tell) -> AsyncGenerator[bytes, None]:
    """The file of a stream in chunks; raises `BackupUnusable` before its end where it is not the one of the manifest."""
    path = directory / one.file
    digest = hashlib.sha256()
    done_bytes = 0

    def next_chunk() -> bytes:
        chunk = file.read(transfer.CHUNK_BYTES)
        digest.update(chunk)
        return chunk

    try:
        with _regular(path) as file:
            if (found := os.fstat(file.fileno()).st_size) != one.size_bytes:
                raise BackupUnusable(
                    f"{path} has {found} bytes where the manifest says {one.size_bytes}: the backup is damaged"
                )
            while chunk := await asyncio.to_thread(next_chunk):
                done_bytes += len(chunk)
                tell(one.name, done_bytes, one.size_bytes)
                yield chunk
    except OSError as error:
        raise BackupUnusable(f"{path} cannot be read: {error.strerror}") from error
    if digest.hexdigest() != one.sha256:
        raise BackupUnusable(f"{path} is not what was written (its SHA-256 differs from the manifest's): the backup is damaged")

"""A copy of a sealed fold, compared with its hash while it is made: the file itself is never opened as a database."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import duckdb

from cutor.projections import schema
from cutor.projections.archive.sealed_fold import NOT_WHAT_WAS_SEALED, Part, SealedFold, open_plain
from cutor.projections.definitions import DefinedOtherwise, check_definitions, enclosed
from cutor.projections.session import FULL, one_line
from cutor.projections.store import Checkpoint
from cutor.projections.writer import Writer

PIECE_BYTES: Final = 4 << 20
"""Copied and hashed at one time; Python's lock is free meanwhile. A choice."""

T = TypeVar("T")
Tell = Callable[[int], None]
"""Is told how many bytes are copied, in the thread that copies."""


class FoldUnusable(Exception):
    """A fold is not what was sealed, or cannot be copied; the message says which file, and why."""


class FoldUnreadable(FoldUnusable):
    """The file of a fold cannot be read, for a reason that says nothing about what is in it."""


class CopyUnwritable(FoldUnusable):
    """A copy cannot be written where it is to be; that says nothing about the fold."""


def copy(path: Path, fold: SealedFold, to: Path, tell: Tell = lambda _: None) -> None:
    """Copy the file of a fold to a place where nothing is. Raises `FoldUnusable`, and nothing that it wrote is there then."""
    with _opened(path) as source:
        _write(source, path, fold, to, tell)


class _Stopped(Exception):
    """Nobody wants the copy any more."""


async def copied(path: Path, fold: SealedFold, to: Path, tell: Tell = lambda _: None) -> None:
    """Do the same in a thread; who is cancelled waits until it has stopped, which is soon."""
    try:
        await _in_a_thread(partial(copy, path, fold, to), tell)
    except asyncio.CancelledError:
        await asyncio.to_thread(to.unlink, missing_ok=True)
        raise


def check_file(path: Path, fold: SealedFold, tell: Tell = lambda _: None) -> None:
    """Raise `FoldUnusable` where a file is not what was sealed. Reads all of it."""
    with _opened(path) as source:
        _transfer(source, lambda _: None, path, fold, tell)


async def checked(path: Path, fold: SealedFold) -> None:
    """Do the same in a thread, as `copied` does its work."""
    await _in_a_thread(partial(check_file, path, fold))


async def hashed(path: Path) -> tuple[int, str]:
    """Return how many bytes a file has, and its SHA-256, in hex; in a thread likewise. Raises OSError."""

    def digest(tell: Tell) -> tuple[int, str]:
        with open_plain(path) as source:
            return os.fstat(source).st_size, _digest(source, lambda _: None, tell)

    return await _in_a_thread(digest)


async def _in_a_thread(work: Callable[[Tell], T], tell: Tell = lambda _: None) -> T:
    """Do what goes through a whole file. Who is cancelled waits until it has stopped, where it next tells how far it is."""
    stop = False

    def told(done: int) -> None:
        if stop:
            raise _Stopped
        tell(done)

    doing = asyncio.create_task(asyncio.to_thread(work, told))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        stop = True
        await asyncio.wait([doing])
        if not doing.cancelled():
            doing.exception()  # whatever it is, nobody asks for it any more
        raise


def check_copy(path: Path, fold: SealedFold) -> None:
    """Raise `FoldUnusable` where a copy does not hold what the index says: whoever writes that can compute hashes, too.

    Nothing that the copy defines is run before it is known to be what views define. Who opens it as `Foreign` and looks at
    `check_positions` need not ask.
    """
    try:
        with enclosed(path) as connection:
            check_definitions(connection)
            rules = connection.execute("SELECT digest FROM folds.rules").fetchall()
            found = connection.execute("SELECT stream, sequence, fingerprint FROM checkpoint").fetchall()
    except DefinedOtherwise as error:
        raise FoldUnusable(f"{fold.file_name}: {error}") from error
    except duckdb.Error as error:
        kind = FoldUnreadable if any(words in str(error) for words in FULL) else FoldUnusable
        raise kind(f"{fold.file_name}: it cannot be read as views: {one_line(error)}") from error
    if rules != [(schema.rules_digest(),)] or {stream: Checkpoint(*at) for stream, *at in found} != {
        stream: checkpoint_of(part) for stream, part in fold.streams.items()
    }:
        raise FoldUnusable(f"{fold.file_name}: it is not the fold of {fold.named()}, as the index says")


def check_positions(writer: Writer, parts: Mapping[str, Part]) -> None:
    """Raise `FoldUnusable` where open views do not stand where a fold of these parts does."""
    for stream, part in parts.items():
        if writer.checkpoint(stream) != checkpoint_of(part):
            raise FoldUnusable(f"{writer.path.name}: it does not stand at {part.last} of {stream}, as it should")


def checkpoint_of(part: Part) -> Checkpoint:
    """Return how far views are that hold this of a stream."""
    return Checkpoint(part.last, part.fingerprint)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        with open_plain(path) as source:
            yield source
    except OSError as error:
        is_there = error.errno not in NOT_WHAT_WAS_SEALED
        kind = FoldUnreadable if is_there else FoldUnusable
        raise kind(f"{path}: it cannot be read: {error.strerror or error}") from error


def _write(source: int, path: Path, fold: SealedFold, to: Path, tell: Tell) -> None:
    with _writable(to):
        target = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def put(piece: memoryview) -> None:
        with _writable(to):
            while piece:
                piece = piece[os.write(target, piece) :]

    try:
        _transfer(source, put, path, fold, tell)
    except BaseException:
        to.unlink(missing_ok=True)
        raise
    finally:
        os.close(target)


@contextmanager
def _writable(to: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CopyUnwritable(f"{to}: it cannot be written: {error.strerror}") from error


def _transfer(source: int, put: Callable[[memoryview], None], path: Path, fold: SealedFold, tell: Tell) -> None:
    size = os.fstat(source).st_size
    if size != fold.file_bytes:
        raise FoldUnusable(f"{path}: it has {size} bytes, and {fold.file_bytes} were sealed")
    if _digest(source, put, tell) != fold.sha256:
        raise FoldUnusable(f"{path}: it is not what was sealed: its SHA-256 differs from the index's")


def _digest(source: int, put: Callable[[memoryview], None], tell: Tell) -> str:
    digest, done, buffer = hashlib.sha256(), 0, memoryview(bytearray(PIECE_BYTES))
    while count := os.readv(source, [buffer]):
        piece = buffer[:count]
        digest.update(piece)
        put(piece)
        done += count
        tell(done)
    return digest.hexdigest()

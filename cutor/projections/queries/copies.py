"""Copies of the views that questions read while the projector writes. In the process of the query service.

DuckDB lets no second process open a file that one writes, so questions are answered on a copy: of the file, which is copied
again only after a checkpoint, or a commit so large that DuckDB wrote its rows past the log, and of the log, which is short. The
writer does nothing for a copy but to leave its log alone while that is copied. Where the file system can share blocks between
files, the file is not copied but shared.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

from cutor.metrics import table
from cutor.metrics.tally import Observation
from cutor.projections.errors import ViewsRejected
from cutor.projections.queries.executors import Executors, ExecutorsGone, Holder
from cutor.projections.queries.link import Held, Hold, Link, Release
from cutor.projections.views_paths import beside, wal_path

log = logging.getLogger(__name__)

COPY_BYTES: Final = 64 << 20
"""Bytes that the kernel copies at a time."""
ATTEMPTS: Final = 4
"""Copies that are waited for until one is new enough and open: two, unless processes die meanwhile."""
HEADER_BYTES: Final = 3 * 4096
"""What DuckDB writes at every checkpoint, and at no other time: file and log belong together where it is the same."""
NEW_NS: Final = 100_000_000
"""A time of last change that is no older may be that of a later change, too: the kernel's clock for it steps by up to 10 ms."""


class Base(NamedTuple):
    """What a file of views holds beside its log, by what shows of it: equal ones are equal copies."""

    life: int
    inode: int
    header: bytes
    changed_ns: int
    """Blocks come between two checkpoints, too: a large commit writes its rows to the file, and to the log where they are."""
    is_settled: bool
    """Whether any further change would show."""

    @classmethod
    def of(cls, descriptor: int, held: Held) -> Base:
        """Look at an open file, while it is held."""
        changed_ns = os.fstat(descriptor).st_mtime_ns
        is_settled = abs(time.time_ns() - changed_ns) > NEW_NS
        return cls(held.version[0], held.inode, os.pread(descriptor, HEADER_BYTES, 0), changed_ns, is_settled)


class Copies:
    """The newest copy of the views, held open by a process that starts those which read it."""

    def __init__(self, link: Link, database: Path) -> None:
        self._link = link
        self._database = database
        self._path = beside(database, "snapshot")
        self._executors: Executors | None = Executors.start()  # DuckDB loads while nobody asks yet
        self._holder: Holder | None = None
        self._holder_of_files: Holder | None = None
        self._version: tuple[int, int] | None = None
        self._base: Base | None = None
        self._true_at_s = float("-inf")
        self._has_told = False
        self._refreshing: asyncio.Task[None] | None = None

    async def current(self, max_age_s: float) -> Holder:
        """Return a copy that holds everything that was committed ``max_age_s`` before this was called.

        One that is made serves all who came before it was begun, and is made to its end whoever still waits for it. Raises
        `ViewsRejected`, `ExecutorsGone`, `LinkClosed` and OSError.
        """
        wanted_s = asyncio.get_running_loop().time() - max_age_s
        for _ in range(ATTEMPTS):
            if (holder := self._true_since(wanted_s)) is not None:
                return holder
            if self._refreshing is None or self._refreshing.done():
                self._refreshing = asyncio.create_task(self._refresh(), name="copy the views")
            await asyncio.shield(self._refreshing)
        if (holder := self._true_since(wanted_s)) is not None:
            return holder
        raise ExecutorsGone("the process that holds the copy of the views dies again and again")

    async def link_to(self, path: Path) -> None:
        """Have file and log of a copy that holds all that is committed, for as long as the links last. Raises as `current`."""
        while True:
            holder = await self.current(0.0)
            refreshing = self._refreshing
            if (refreshing is None or refreshing.done()) and self._holder_of_files is holder:
                break
            if refreshing is not None:
                await asyncio.wait([refreshing])
        os.link(self._path, path)
        if wal_path(self._path).exists():
            os.link(wal_path(self._path), wal_path(path))

    def _true_since(self, wanted_s: float) -> Holder | None:
        return self._living() if self._true_at_s >= wanted_s else None

    def _living(self) -> Holder | None:
        return self._holder if self._holder is not None and self._holder.alive else None

    async def _refresh(self) -> None:
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        is_whole = self._living() is not None and self._holder_of_files is self._holder
        async with self._held(self._version if is_whole else None) as held:
            if not held.known:
                self._holder_of_files = None
                views_bytes, file_bytes = await asyncio.to_thread(self._copy, held)
        if not held.known:
            await self._open(held.version, views_bytes)
            self._link.tell(
                Observation(table.QUERY_COPIES, labels=("file" if file_bytes else "log",)),
                Observation(table.QUERY_COPIED, float(file_bytes + held.wal_bytes)),
                Observation(table.QUERY_COPY_TIME, loop.time() - begun_s),
            )
        self._true_at_s = begun_s

    @asynccontextmanager
    async def _held(self, known: tuple[int, int] | None) -> AsyncIterator[Held]:
        await self._link.send(Hold(known))
        held = await self._link.receive(Held)
        if held.error is not None:
            raise ViewsRejected(held.error)
        try:
            yield held
        finally:
            if not held.known:
                await self._link.send(Release())

    async def _open(self, version: tuple[int, int], views_bytes: int) -> None:
        if self._executors is None or not self._executors.alive:
            self._end_executors()
            self._executors = Executors.start()
        holder = await self._executors.hold(self._path, views_bytes)
        if not holder.is_shut_in and not self._has_told:
            log.warning("the kernel allows neither chroot nor user namespaces: questions can read where the views lie")
            self._has_told = True
        if self._holder is not None:
            self._holder.retire()
        self._holder = self._holder_of_files = holder
        self._version = version

    def _copy(self, held: Held) -> tuple[int, int]:
        """Copy the file, where it has changed since it was copied last, and its log.

        Returns the size of both, and how much of the file was copied.
        """
        file_bytes = 0
        with self._database.open("rb") as source:
            if os.fstat(source.fileno()).st_ino != held.inode:
                raise ViewsRejected("the file was replaced while it was to be copied")
            base = Base.of(source.fileno(), held)
            if base != self._base or not self._path.exists():
                self._base = None
                file_bytes = os.fstat(source.fileno()).st_size
                copy(source.fileno(), self._path, file_bytes)
                self._base = base if base.is_settled else None
            size_bytes = os.fstat(source.fileno()).st_size
        wal_path(self._path).unlink(missing_ok=True)
        if held.wal_bytes:
            with wal_path(self._database).open("rb") as source:
                copy(source.fileno(), wal_path(self._path), held.wal_bytes)
        return size_bytes + held.wal_bytes, file_bytes

    def _end_executors(self) -> None:
        if self._executors is not None:
            self._executors.end()
        self._executors = self._holder = self._holder_of_files = None

    async def close(self) -> None:
        """End whoever reads the copy, and remove it."""
        if self._refreshing is not None:
            await asyncio.wait([self._refreshing])
        self._end_executors()
        for path in (self._path, wal_path(self._path)):
            path.unlink(missing_ok=True)


def copy(source: int, path: Path, size_bytes: int) -> None:
    """Copy the first bytes of an open file to a path, atomically; as a reference to the same blocks where that is possible."""
    draft = beside(path, "draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        at = 0
        while at < size_bytes:
            copied = os.copy_file_range(source, descriptor, min(COPY_BYTES, size_bytes - at), at, at)
            if not copied:
                raise ViewsRejected("the file became shorter while it was copied")
            at += copied
        draft.rename(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)

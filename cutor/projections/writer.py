"""The one thread that touches the file of the views."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import duckdb

from cutor.bus.bulk.columns import Message
from cutor.projections.errors import ViewsRejected
from cutor.projections.folds.batch import Batch
from cutor.projections.folds.gaps import Gap
from cutor.projections.session import Foreign
from cutor.projections.store import WAL_BYTES, Checkpoint, DeadLetter, Store
from cutor.projections.views_file import is_same_file, make_unlogged, open_or_make_anew, put_in_place, remove_views, set_aside
from cutor.undisturbed import to_the_end

log = logging.getLogger(__name__)

LONGEST_LOG_BYTES: Final = 4 * WAL_BYTES
"""Where the write-ahead log has grown to this beside a copy that takes long, the next commit waits until it is worked in."""

T = TypeVar("T")


class Copied(NamedTuple):
    """What is to be copied: the file with this inode, and so many bytes of its log; ``version`` identifies what they hold."""

    version: tuple[int, int]
    inode: int
    wal_bytes: int


class Writer:
    """The open file of views: calls go to its thread, one after the other, and the event loop stays free.

    A call that is cancelled still runs to its end in the thread; the next one comes after it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="views")
        self._store: Store | None = None
        self._inode = 0
        self._lives = 0
        self._no_copy = asyncio.Lock()
        self._working_in: asyncio.Task[None] | None = None

    @property
    def version(self) -> tuple[int, int]:
        """What identifies the committed contents: changes with every commit, and when the file is made anew."""
        return self._lives, self._open_store().commits

    async def steady_version(self) -> tuple[int, int]:
        """Return the same; where another file is just put in place, once it is."""
        async with self._no_copy:
            return self.version

    def checkpoint(self, stream: str) -> Checkpoint:
        """Return how far the views have come in a stream."""
        return self._open_store().checkpoint(stream)

    def doubtful(self, stream: str) -> int:
        """Return up to which sequence dead letters may have come; see `Store`."""
        return self._open_store().doubtful(stream)

    async def open(self) -> None:
        """Open the file, or make it (anew). Raises `ViewsUnwritable` and `ProjectorBusy`."""
        await self._open(open_or_make_anew)

    async def make(self, foreign: Foreign | None = None) -> None:
        """Make the file, without a write-ahead log: it is whole only after `work_all_in`. Errors as of `open`.

        Where there is a copy of one that somebody else may have written, ``foreign`` says so. Raises `ViewsRejected`.
        """
        await self._open(partial(make_unlogged, foreign=foreign))

    async def _open(self, opening: Callable[[Path], Store]) -> None:
        self._store = await self._call(lambda: opening(self.path))
        self._inode = self.path.stat().st_ino
        self._lives += 1

    async def apply(self, stream: str, messages: Sequence[Message]) -> None:
        """Fold messages in and commit. Raises `ViewsRejected` where the file is not there any more; else as `Store.apply`."""

        def write() -> None:
            self.check_in_place()
            self._open_store().apply(stream, messages)
            self._open_store().work_in(LONGEST_LOG_BYTES)

        await self._call(write)
        await self._keep_log_bounded()
        self._work_in_beside()

    def _work_in_beside(self) -> None:
        """Begin to work the log in where it is long; copies wait, and commits for a merge. Raises what came of the last."""
        if self._working_in is not None:
            if not self._working_in.done():
                return
            working_in, self._working_in = self._working_in, None
            working_in.result()
        if not self._no_copy.locked() and self._open_store().has_long_log():
            self._working_in = asyncio.create_task(self._work_in(), name="work the log in")

    async def _work_in(self) -> None:
        async with self._no_copy:
            store = self._store
            if store is None:
                return
            if store.is_merging_due():
                await self._call(store.merge)
            else:
                await asyncio.to_thread(store.work_in_beside)

    async def apply_batch(self, stream: str, batch: Batch) -> None:
        """Fold in messages that have been read, and commit; errors as of `apply`."""

        def write() -> None:
            self.check_in_place()
            self._open_store().apply_batch(stream, batch)
            self._open_store().work_in()

        await self._call(write)
        await self._keep_log_bounded()
        self._work_in_beside()

    async def work_all_in(self) -> None:
        """Have all in the file that was committed. Raises `ViewsUnwritable`: of a file that `make` made, that is lost then."""
        await self._call(self._open_store().work_all_in)

    async def _keep_log_bounded(self) -> None:
        """Where the log has grown to its bound beside a copy, or beside being worked in, wait for that, and work it in."""
        if self._open_store().log_bytes() > LONGEST_LOG_BYTES:
            async with self._no_copy:
                await self._call(lambda: self._open_store().work_in(LONGEST_LOG_BYTES))

    async def dead_letters(self, stream: str, after: int, limit: int) -> list[DeadLetter]:
        """Return the first messages of a stream behind a sequence that are no events, or changed nothing; see `Store`."""
        return await self._call(lambda: self._open_store().dead_letters(stream, after, limit))

    async def first(self, stream: str) -> int | None:
        """Return the first sequence of a stream that is folded in; None where nothing is."""
        return await self._call(lambda: self._open_store().first(stream))

    async def gaps(self, stream: str) -> list[Gap]:
        """Return what a stream is known to lack."""
        return await self._call(lambda: self._open_store().gaps(stream))

    async def note_gaps(self, stream: str, gaps: Sequence[Gap]) -> None:
        """Note that a stream lacks something, and commit. Raises `ViewsRejected` as `apply`."""

        def write() -> None:
            self.check_in_place()
            self._open_store().note_gaps(stream, gaps)

        await self._call(write)

    def waits_for(self, stream: str) -> str | None:
        """Return what keeps the views of a stream from going on."""
        return self._open_store().waits_for(stream)

    async def note_wait(self, stream: str, reason: str | None) -> None:
        """Note that, and commit. Raises `ViewsRejected` as `apply`."""

        def write() -> None:
            self.check_in_place()
            self._open_store().note_wait(stream, reason)

        await self._call(write)

    def check_in_place(self) -> None:
        """Raise `ViewsRejected` where the file was removed or replaced: what is committed now would be seen by nobody."""
        if not is_same_file(self.path, self._inode):
            raise ViewsRejected("the file was removed or replaced while it was written")

    @asynccontextmanager
    async def copying(self) -> AsyncIterator[Copied]:
        """Keep file and log such that they can be copied as long as this lasts; commits go on meanwhile."""
        async with self._no_copy:
            store, begun = self._open_store(), False

            def begin() -> Copied:
                nonlocal begun
                self.check_in_place()
                wal_bytes, begun = store.begin_copy(), True
                return Copied(self.version, self._inode, wal_bytes)

            def end() -> None:
                if begun:
                    store.end_copy()

            try:
                yield await self._call(begin)  # which goes on in the thread where this is cancelled: `end` comes after it
            finally:
                await to_the_end(self._call(end))

    async def settle(self) -> None:
        """Wait for what was under way: afterwards `checkpoint` is that of the file, until the next call."""
        await self._call(lambda: None)

    async def replace_by(self, draft: Path) -> None:
        """Close the file, put another one in its place, closed and whole, and open that. Copies wait meanwhile.

        Raises `RebuildFailed` where it cannot be put there: then the file is open again, as it was.
        """
        async with self._no_copy:
            await self._close_held()
            try:
                await self._call(lambda: put_in_place(draft, self.path))
            finally:
                await self.open()

    async def give_up(self, *, keep: bool) -> None:
        """Close the file, to be made anew: set aside, or removed where what was set aside before is rather to be kept."""
        await self._close_store()
        await self._call(lambda: (set_aside if keep else remove_views)(self.path))

    async def close(self) -> None:
        """Close the file after what is under way; everything that is committed is in it."""
        await self._close_store()
        self._thread.shutdown()

    async def _close_store(self) -> None:
        async with self._no_copy:
            await self._close_held()

    async def _close_held(self) -> None:
        self._forget_working_in()
        store, self._store = self._store, None
        if store is None:
            return
        try:
            await self._call(store.close)
        except duckdb.Error as error:  # the file is gone or broken: what is to be kept is committed already
            log.warning("%s: closing: %s", self.path, error)

    def _forget_working_in(self) -> None:
        """What came of the log of a file that is closed is no trouble of the next one."""
        working_in = self._working_in
        if working_in is None or not working_in.done():
            return
        self._working_in = None
        if not working_in.cancelled() and (error := working_in.exception()) is not None:
            log.warning("%s: working the log in: %s", self.path, error)

    def _open_store(self) -> Store:
        if self._store is None:
            raise ViewsRejected("the views are being made anew")
        return self._store

    async def _call(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

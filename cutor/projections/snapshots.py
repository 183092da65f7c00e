"""Copies of the views that others may read while the projector writes.

DuckDB lets no second process open a file that one writes, so that questions are answered on a copy. It is made when somebody
asks and something was committed since the last one, and put in place atomically: whoever has the old one open keeps it.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import BinaryIO, Final

import duckdb

from cutor.projections.views_file import beside
from cutor.projections.writer import Writer

COPY_BYTES: Final = 64 << 20
"""Bytes that the kernel copies at a time."""


class Snapshots:
    """The newest copy of the views that a writer writes."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._path = beside(writer.path, "snapshot")
        self._taken: tuple[int, int] | None = None
        self._one_at_a_time = asyncio.Lock()

    async def current(self) -> Path:
        """Return a copy that holds everything that was committed when this was called. Raises `ViewsRejected`."""
        async with self._one_at_a_time:
            if self._taken != await self._writer.steady_version() or not self._path.exists():
                await self._take()
            return self._path

    async def _take(self) -> None:
        async with self._writer.copying() as (version, source):
            await asyncio.to_thread(_copy, source, self._path)
        self._taken = version

    def remove(self) -> None:
        """Remove the copy; the next question makes one."""
        self._path.unlink(missing_ok=True)


def _copy(source: BinaryIO, path: Path) -> None:
    """Copy an open file to a path, atomically; as a reference to the same blocks where the file system can do that."""
    draft = path.with_name(path.name + ".draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        while os.copy_file_range(source.fileno(), descriptor, COPY_BYTES):
            pass
        draft.rename(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def open_snapshot(path: Path) -> duckdb.DuckDBPyConnection:
    """Open a copy of the views for reading, and for nothing else: no files, no network, no other settings."""
    return duckdb.connect(path, read_only=True, config={"enable_external_access": False, "lock_configuration": True})

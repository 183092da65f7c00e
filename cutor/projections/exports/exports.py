"""Makes files of the views that every DuckDB client opens, from the copy that queries read.

In the process of the query service; the writer has no part in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from cutor.metrics import table
from cutor.metrics.tally import Observation
from cutor.projections.errors import ViewsRejected
from cutor.projections.queries.copies import Copies
from cutor.projections.queries.executors import Moment
from cutor.projections.queries.link import Tell
from cutor.projections.views_paths import COPIES, beside, wal_path

STORAGE_VERSION: Final = "v1.0.0"
"""DuckDB 1.0 and newer open the file."""
MEMORY_BYTES: Final = 1 << 30
"""Of DuckDB while it copies tables, beside the projector's 2 GiB: it spills to the disk beyond. A choice."""
_PROGRAM: Final = Path(__file__).with_name("exporter.py")


class Exports:
    """Makes one file at a time, beside the views."""

    def __init__(self, copies: Copies, database: Path, tell: Tell) -> None:
        self._tell = tell
        self._copies = copies
        self._source = beside(database, "exported")
        self._target = beside(database, "export")
        self._one_at_a_time = asyncio.Lock()

    async def as_of(self) -> list[Moment]:
        """Return up to where a file that is made now would hold each stream. Raises as `Copies.current`."""
        return (await self._copies.current(0.0)).as_of

    @asynccontextmanager
    async def made(self) -> AsyncIterator[tuple[Path, list[Moment]]]:
        """Give a file with all that was committed before this was called, and up to where it holds each stream.

        It is there as long as this lasts; who wants to keep it opens, links or renames it. Raises `ViewsRejected`, OSError and
        what `Copies.current` raises.
        """
        async with self._one_at_a_time:
            self._remove()
            try:
                as_of = await self._make()
                yield self._target, as_of
            finally:
                self._remove()

    async def _make(self) -> list[Moment]:
        result = "failed"
        try:
            await self._copies.link_to(self._source)
            as_of = await self._export()
            self._remove_source()
            result = "made"
        finally:
            self._tell(Observation(table.SNAPSHOTS, labels=(result,)))
        return as_of

    async def _export(self) -> list[Moment]:
        order = {
            "source": str(self._source),
            "target": str(self._target),
            "storage_version": STORAGE_VERSION,
            "memory_bytes": MEMORY_BYTES,
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", str(_PROGRAM), str(os.getpid())),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"LANG": "C.UTF-8"},
            cwd="/",
        )
        try:
            written, _ = await process.communicate(msgspec.json.encode(order) + b"\n")
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        answer = json.loads(written) if written else {"error": "the process that made it was ended"}
        if "error" in answer:
            raise ViewsRejected(f"the file cannot be made: {answer['error']}")
        return [Moment(*moment) for moment in answer["as_of"]]

    def _remove_source(self) -> None:
        for path in (self._source, wal_path(self._source)):
            path.unlink(missing_ok=True)

    def _remove(self) -> None:
        self._remove_source()
        for path in (self._target, wal_path(self._target)):
            path.unlink(missing_ok=True)


def remove_copies(database: Path) -> list[Path]:
    """Remove what a query service that was killed left beside the views; return what there was."""
    left = [path for what in COPIES if (path := beside(database, what)).exists()]
    for path in left:
        path.unlink(missing_ok=True)
    return left

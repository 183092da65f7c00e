"""Publishes the views as a file, on a schedule. In the process of the query service; the writer has no part in it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from cutor.projections.errors import ViewsRejected
from cutor.projections.exports.exports import Exports
from cutor.projections.queries.executors import ExecutorsGone, Moment
from cutor.projections.queries.link import LinkClosed, Settings
from cutor.projections.views_paths import beside

log = logging.getLogger(__name__)

RETRY_S: Final = 300.0
"""So long after a failure it is tried again, or after the interval where that is shorter: whoever made the directory that was
missing waits for no day, and where a disk is full no file is made for nothing all the time."""


@asynccontextmanager
async def publishing(exports: Exports, settings: Settings) -> AsyncIterator[None]:
    """Publish as long as this lasts, if that is configured."""
    if not settings.snapshot_interval_s:
        yield
        return
    work = _publish_on_schedule(exports, Path(settings.snapshot_path), settings.snapshot_interval_s)
    task = asyncio.create_task(work, name="publish snapshots")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _publish_on_schedule(exports: Exports, path: Path, interval_s: float) -> None:
    """Publish now and then; what hinders it is said once, and tried again soon."""
    trouble = ""
    published: list[Moment] = []
    while True:
        pause_s = interval_s
        try:
            if published != await exports.as_of() or not await asyncio.to_thread(path.exists):
                published = await publish(exports, path)
                told = ", ".join(f"{moment.stream} {moment.sequence}" for moment in published)
                log.info("published the views at %s: %s", path, told)
            trouble = ""
        except LinkClosed:
            return
        except (ViewsRejected, ExecutorsGone, OSError) as error:
            if str(error) != trouble:
                log.error("the views cannot be published at %s: %s", path, error)
                trouble = str(error)
            pause_s = min(interval_s, RETRY_S)
        await asyncio.sleep(pause_s)


async def publish(exports: Exports, path: Path) -> list[Moment]:
    """Make a file, and put it at a path atomically. Whoever has the former one open keeps that. Raises `OSError`."""
    if not await asyncio.to_thread(path.parent.is_dir):  # before a file is made for nothing
        raise OSError(f"{path.parent} is no directory")
    async with exports.made() as (made, as_of):
        await asyncio.to_thread(_put_in_place, made, path)
    return as_of


def _put_in_place(made: Path, path: Path) -> None:
    draft = beside(path, "draft")
    draft.unlink(missing_ok=True)
    try:
        try:
            made.rename(draft)
        except OSError:  # another file system
            _copy(made, draft)
        _sync(draft)
        draft.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


def _copy(made: Path, draft: Path) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    with made.open("rb") as source, os.fdopen(os.open(draft, flags, 0o600), "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""A projector on a real server, and histories for it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from cutor.bus.connection import Bus
from cutor.config import Config
from cutor.model.codec import encode
from cutor.model.events import Cleaned, Event, kind_of
from cutor.model.subjects import Address, event_subject, fence
from cutor.process.context import RoleContext
from cutor.process.measures import Measures
from cutor.projections.errors import QueryTimeout, QueryUnavailable
from cutor.projections.queries.client import query
from cutor.projections.role import run_projector
from cutor.projections.settings import ArchiveSettings, ProjectorSettings
from cutor.projections.views_paths import beside, wal_path
from tests.unit.histories import RUNNING, finished, ran

FINISHED = (*RUNNING, ran(0, "OK", "WA"), finished("WRONG_ANSWER"), Cleaned(worker="w", by="worker"))
PATIENCE_S = 180.0


async def happen(bus: Bus, identity: str, *events: Event, after: int = 0) -> int:
    """Append events of one submission; returns the sequence of the last."""
    address = Address("default", identity)
    for event in events:
        appended = await bus.append(
            event_subject(address, kind_of(event)),
            encode(event),
            message_id=f"{identity}/{kind_of(event)}/{after}",
            fence=fence(address),
            expected_sequence=after,
        )
        after = appended.sequence
    return after


async def happen_to_many(bus: Bus, count: int, prefix: str) -> None:
    """Append the whole life of many submissions, interleaved."""
    names = [f"{prefix}{number}" for number in range(count)]
    for start in range(0, count, 50):
        await asyncio.gather(*(happen(bus, name, *FINISHED) for name in names[start : start + 50]))


def context_of(
    server: str,
    database: Path,
    settings: ProjectorSettings | None = None,
    *,
    ready: asyncio.Event,
    stop: asyncio.Event,
    archive: Path | None = None,
    measures: Measures | None = None,
) -> RoleContext:
    """What a projector is given."""
    config = msgspec.structs.replace(
        Config(),
        projector=msgspec.structs.replace(settings or ProjectorSettings(), database=str(database)),
        archive=ArchiveSettings(directory=str(archive) if archive else None),
    )
    return RoleContext(
        server=server,
        instance="test",
        worker="p",
        config=config,
        ready=ready.set,
        stop=stop,
        measures=measures or Measures(),
    )


@asynccontextmanager
async def projector(
    server: str,
    database: Path,
    settings: ProjectorSettings | None = None,
    *,
    archive: Path | None = None,
    measures: Measures | None = None,
) -> AsyncIterator[asyncio.Task[None]]:
    """A projector as a task of this process, ready."""
    ready, stop = asyncio.Event(), asyncio.Event()
    context = context_of(server, database, settings, ready=ready, stop=stop, archive=archive, measures=measures)
    task = asyncio.create_task(run_projector(context))
    try:
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait([task, waiting], timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            waiting.cancel()
            await task
        assert ready.is_set()
        yield task
    finally:
        stop.set()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(task, PATIENCE_S)


def copy_of_the_views(database: Path, to: Path) -> None:
    """Copy what a projector's last question was answered from."""
    snapshot = beside(database, "snapshot")
    shutil.copyfile(snapshot, to)
    if wal_path(snapshot).exists():
        shutil.copyfile(wal_path(snapshot), wal_path(to))


async def until(bus: Bus, sql: str, wanted: object) -> None:
    """Wait until a query's only value is what is wanted."""
    deadline = time.monotonic() + PATIENCE_S
    found: object = None
    while found != [[wanted]]:
        with contextlib.suppress(QueryUnavailable, QueryTimeout):  # while the views are made anew
            found = (await query(bus, sql)).rows
        assert time.monotonic() < deadline, f"{sql}: {found}, not {wanted}"

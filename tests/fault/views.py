"""Whether a projector's views are those that a fresh fold of the streams makes, however often the projector was killed."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from pathlib import Path
from typing import Final

import duckdb

from cutor.bus.bulk.columns import Message
from cutor.bus.connection import Bus
from cutor.projections.errors import QueryError, QueryTimeout, QueryUnavailable
from cutor.projections.queries.client import query
from cutor.projections.rebuilds.compare import PARTS
from cutor.projections.store import Store
from tests.integration.projecting import copy_of_the_views

CAUGHT_UP_S: Final = 180.0
STREAMS: Final = {"EVENTS", "ENVIRONMENTS"}
"""What the projector folds in: one that its checkpoint does not name, it has not begun with."""
SHOWN: Final = 3
"""Rows of a difference that are reported."""


async def differences(bus: Bus, database: Path) -> list[str]:
    """Return how the views of a running projector differ from a rebuild of them, a line each; empty where they are equal."""
    with tempfile.TemporaryDirectory(prefix="cutor-fault-views-", dir=database.parent.parent) as directory:
        kept, rebuilt = Path(directory) / "kept.duckdb", Path(directory) / "rebuilt.duckdb"
        if lag := await caught_up(bus):
            return [lag]
        await asyncio.to_thread(copy_of_the_views, database, kept)
        await _rebuild(bus, await asyncio.to_thread(_checkpoints, kept), rebuilt)
        return await asyncio.to_thread(compare, kept, rebuilt)


async def caught_up(bus: Bus) -> str | None:
    """Wait until the projector has folded in all there is; the question leaves a copy of the views. Returns what is wrong."""
    deadline = time.monotonic() + CAUGHT_UP_S
    said = "nothing"
    while time.monotonic() < deadline:
        with contextlib.suppress(QueryUnavailable, QueryTimeout, QueryError):
            rows = (await query(bus, "SELECT stream, sequence FROM checkpoint")).rows
            come = dict.fromkeys(STREAMS, 0) | dict(rows)
            behind = {stream: int((await bus.stream_info(stream))["state"]["last_seq"]) - at for stream, at in come.items()}
            if not any(behind.values()):
                return None
            said = str(behind)
        await asyncio.sleep(0.2)
    return f"the projector has not caught up in {CAUGHT_UP_S:g} s: {said}"


def _checkpoints(kept: Path) -> dict[str, int]:
    with duckdb.connect(kept, read_only=True) as opened:
        return dict(opened.execute("SELECT stream, sequence FROM checkpoint").fetchall())


async def _rebuild(bus: Bus, positions: dict[str, int], path: Path) -> None:
    """Fold every stream up to a checkpoint into a new file."""
    streams: dict[str, list[Message]] = {}
    for stream, until in positions.items():
        found: list[Message] = streams.setdefault(stream, [])
        if until:
            async for batch in bus.read_batches(stream, until_sequence=until):
                found += batch
    await asyncio.to_thread(_fold, streams, path)


def _fold(streams: dict[str, list[Message]], path: Path) -> None:
    store = Store.open(path)
    for stream, messages in streams.items():
        if messages:
            store.apply(stream, messages)
    store.close()


def compare(kept: Path, rebuilt: Path) -> list[str]:
    """Return the tables and views of two files whose rows differ, a line each, both ways."""
    found = []
    with duckdb.connect() as opened:
        opened.execute(f"ATTACH '{kept}' AS kept (READ_ONLY)")
        opened.execute(f"ATTACH '{rebuilt}' AS rebuilt (READ_ONLY)")
        names = opened.execute(
            "SELECT database_name, schema_name || '.' || table_name FROM duckdb_tables() WHERE NOT internal AND NOT temporary "
            "UNION ALL SELECT database_name, schema_name || '.' || view_name FROM duckdb_views() WHERE NOT internal"
        ).fetchall()
        tables = {base: {name for owner, name in names if owner == base} for base in ("kept", "rebuilt")}
        if tables["kept"] != tables["rebuilt"]:
            found.append(f"tables: {sorted(tables['kept'] ^ tables['rebuilt'])}")
        for name in sorted((tables["kept"] & tables["rebuilt"]) - set(PARTS)):
            for one, other in (("kept", "rebuilt"), ("rebuilt", "kept")):
                rows = opened.execute(f"FROM {one}.{name} EXCEPT ALL FROM {other}.{name}").fetchall()
                if rows:
                    found.append(f"{name}: {len(rows)} rows are {one} alone, such as {str(rows[:SHOWN])[:600]}")
    return found

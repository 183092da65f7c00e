"""Streams that let go of messages as soon as a test says so, and archives of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from cutor.bus.connection import Bus
from cutor.bus.topology import default_text, parse
from cutor.projections.archive.place import Archive
from cutor.projections.archive.sealing import STREAMS, Cut, seal
from tests.nats_server import TENANTS

BRIEF = parse(
    default_text()
    .replace("duplicate_window: 5m", "duplicate_window: 100ms")
    .replace("duplicate_window: 2m", "duplicate_window: 100ms"),
    TENANTS,
)
"""The streams of cutor; their duplicate windows are short, so that the server takes a short age."""


async def seal_everything(bus: Bus, directory: Path) -> None:
    """Seal all streams up to their ends."""
    archive = Archive(directory)
    with archive.held():
        for stream in STREAMS:
            await seal(bus, archive, stream, Cut(segment_messages=100).everything())


async def let_go(bus: Bus, *streams: str) -> None:
    """Let streams go of all that is in them."""
    for stream in streams:
        config = (await bus.stream_info(stream))["config"]
        await bus.api.call(stream, f"STREAM.UPDATE.{stream}", {**config, "max_age": 100_000_000})
        while (await bus.stream_info(stream))["state"]["messages"]:
            await asyncio.sleep(0.02)
        await bus.api.call(stream, f"STREAM.UPDATE.{stream}", config)

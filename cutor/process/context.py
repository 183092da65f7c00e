"""What a role is started with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cutor.config import Config
from cutor.process.measures import Measures


@dataclass(frozen=True)
class RoleContext:
    """One role process: where the log is, who this is, how it is told to stop.

    ``server`` is the NATS address with its credential. ``instance`` labels the containers. ``worker`` names this process in
    leases; nothing else of its role has that name, but for its former lives. ``ready`` is called once, when the role serves.
    ``stop`` is set on SIGTERM: what runs may finish within ``config.shutdown_grace_s``. ``hurry`` is set at the second one: it
    is handed back now. ``data`` is the data directory, where builder and runner note what they have in hand; null: they note
    nothing. ``measures`` is what this process counts.
    """

    server: str
    instance: str
    worker: str
    config: Config
    ready: Callable[[], None]
    stop: asyncio.Event
    hurry: asyncio.Event = field(default_factory=asyncio.Event)
    data: Path | None = None
    measures: Measures = field(default_factory=Measures)

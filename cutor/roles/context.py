"""What a role is started with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from cutor.config import Config


@dataclass(frozen=True)
class RoleContext:
    """One role process: where the log is, who this is, how it is told to stop.

    ``server`` is the NATS address with its credential. ``instance`` labels the containers, ``worker`` names this process in
    leases (unique among running processes). ``ready`` is called once, when the role serves. ``stop`` is set on SIGTERM.
    """

    server: str
    instance: str
    worker: str
    config: Config
    ready: Callable[[], None]
    stop: asyncio.Event

"""A connection to Docker for who may come to need none: its client is imported with the connection, and not before.

That import takes as long as everything else that a command or a projector needs for its start.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cutor.containers.engine import Engine


@asynccontextmanager
async def connected(docker_host: str | None = None) -> AsyncIterator[Engine]:
    """Connect as `Engine.connect` does."""
    from cutor.containers.engine import Engine  # noqa: PLC0415 - the module says why

    async with Engine.connect(docker_host) as engine:
        yield engine

"""A projector in a process of its own, for tests that kill it: ``python -m tests.integration.projector_process URL FILE``."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import msgspec

from cutor.config import Config
from cutor.process.context import RoleContext
from cutor.projections.role import run_projector
from cutor.projections.settings import ProjectorSettings


async def main(server: str, database: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    config = msgspec.structs.replace(Config(), projector=ProjectorSettings(database=database))
    await run_projector(
        RoleContext(
            server=server,
            instance="test",
            worker=f"projector-{os.getpid()}",
            config=config,
            ready=lambda: print("ready", flush=True),
            stop=stop,
        )
    )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))

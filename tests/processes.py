"""Processes of this machine by what can be read of them: those of stages, and of builders of Nix, in their containers.

Tests that need a build, or a hook, to last have it sleep by `SLEEP`, and wake it when they have seen what they are about.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

SLEEP: Final = "sleep 543 || true"
"""What a shell runs that is to be woken; longer than any patience."""
_SLEEPS: Final = b"\x00543\x00"


def pids(*, environment: str = "", command: bytes = b"") -> list[int]:
    """Return the processes whose environment and command line (arguments, each with a NUL behind it) hold these."""
    return [pid for pid, variables, line in _processes() if environment.encode() in variables and command in line]


def sleepers(environment: str) -> list[int]:
    """Return the processes that sleep by `SLEEP` in such an environment."""
    return pids(environment=environment, command=_SLEEPS)


def wake(environment: str) -> None:
    """End the sleep of those that sleep."""
    for pid in sleepers(environment):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


@asynccontextmanager
async def waking(environment: str) -> AsyncIterator[None]:
    """Nobody sleeps in such an environment while the block lasts."""

    async def go_on() -> None:
        while True:
            wake(environment)
            await asyncio.sleep(0.1)

    task = asyncio.create_task(go_on())
    try:
        yield
    finally:
        task.cancel()


def _processes() -> Iterator[tuple[int, bytes, bytes]]:
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):
                yield int(process.name), (process / "environ").read_bytes(), (process / "cmdline").read_bytes()

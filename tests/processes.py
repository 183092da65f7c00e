"""Processes of this machine by what can be read of them: those of stages, and of builders of Nix, in their containers.

Tests that need a build, or a hook, to last have it sleep by `SLEEP`, and wake it when they have seen what they are about.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
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


def descendants(pid: int) -> Iterator[int]:
    """Yield the processes that a process has started, and those that they have; who ends meanwhile has none."""
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                for child in (task / "children").read_text().split():
                    yield int(child)
                    yield from descendants(int(child))


def command_of(pid: int) -> list[str]:
    """Return the arguments of a process, its program first; none where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def name_of(pid: int) -> str:
    """Return the name of a process; empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def init_of(container: str) -> int:
    """Return the first process of a container, as the host numbers it; 0 where there is none any more."""
    command = ["docker", "inspect", "-f", "{{.State.Pid}}", container]
    return int(subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or 0)


def _processes() -> Iterator[tuple[int, bytes, bytes]]:
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):
                yield int(process.name), (process / "environ").read_bytes(), (process / "cmdline").read_bytes()

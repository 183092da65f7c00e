"""Processes of this machine by what can be read of them: those of stacks, of stages, and of builders of Nix in containers.

A process may end between any look and the next: it is then one that is not there, and nothing here raises. Tests that need a
build, a hook or a program to last have it sleep by `SLEEP`, or by words of their own (`Sleep`), and wake it when they have seen
what they are about: what sleeps for some seconds has ended on a busy machine before anybody looks.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

SLEEP: Final = "sleep 543 || true"
"""What a shell runs that is to be woken; longer than any patience."""
_SLEEPS: Final = b"\x00543\x00"


class Sleep:
    """A sleep that no other has: whoever runs it goes on once it is woken."""

    def __init__(self) -> None:
        self._argument = f"543.{secrets.randbelow(10**9):09}"
        self.script: Final = f"sleep {self._argument} || true"
        """What a shell runs."""

    @property
    def pids(self) -> list[int]:
        """Those that sleep by it now: of a jail's, the program alone."""
        return pids(command=b"sleep\x00" + self._argument.encode() + b"\x00")

    def wake(self) -> None:
        """End the sleep of those that sleep."""
        for pid in self.pids:
            kill(pid, signal.SIGTERM)


def pids(*, environment: str = "", command: bytes = b"") -> list[int]:
    """Return the processes whose environment and command line (arguments, each with a NUL behind it) hold these."""
    return [pid for pid, variables, line in _processes() if environment.encode() in variables and command in line]


def sleepers(environment: str) -> list[int]:
    """Return the processes that sleep by `SLEEP` in such an environment."""
    return pids(environment=environment, command=_SLEEPS)


def wake(environment: str) -> None:
    """End the sleep of those that sleep."""
    for pid in sleepers(environment):
        kill(pid, signal.SIGTERM)


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


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> bool:
    """Send a signal; return False where the process has ended."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def descendants(pid: int) -> list[int]:
    """Return the processes beneath one, at any depth, each before its own."""
    found = []
    for child in _children(pid):
        found += [child, *descendants(child)]
    return found


def command_of(pid: int) -> list[str]:
    """Return the arguments of a process, its program first; none where it has ended."""
    return _read(pid, "cmdline").decode(errors="replace").split("\0")[:-1]


def name_of(pid: int) -> str:
    """Return the name of a process; empty where it has ended."""
    return _read(pid, "comm").decode(errors="replace").strip()


def state_of(pid: int) -> str:
    """Return the letter of a process's state; empty where it has ended, and nobody has to learn of it any more."""
    return (_fields(pid) or [""])[0]


def parent_of(pid: int) -> int:
    """Return the process's parent; 0 where it has ended, or has none in sight."""
    return int((_fields(pid) or ["", "0"])[1])


def alive(pid: int) -> bool:
    """Return whether there is such a process, and no mere zombie."""
    return state_of(pid) not in {"", "Z", "X"}


def naming(directory: Path) -> dict[int, str]:
    """Return pid and command line of every process, but this one, that names something beneath a directory."""
    found = {}
    for pid in _all():
        line = " ".join([*command_of(pid), ""])
        if pid != os.getpid() and str(directory) in line:
            found[pid] = line
    return found


def outermost(pids: list[int]) -> list[int]:
    """Return those whose parent is not among them: what was just forked has the command line of its parent."""
    return [pid for pid in pids if parent_of(pid) not in pids]


def init_of(container: str) -> int:
    """Return the first process of a container, as the host numbers it; 0 where there is none any more."""
    command = ["docker", "inspect", "-f", "{{.State.Pid}}", container]
    return int(subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or 0)


def _children(pid: int) -> list[int]:
    found = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - names are all that is wanted
            found += [int(child) for child in _read(pid, f"task/{task}/children").split()]
    return found


def _fields(pid: int) -> list[str]:
    """Return the fields of a process's `stat` behind its name: state, parent, ..."""
    return _read(pid, "stat").decode(errors="replace").rpartition(")")[2].split()


def _read(pid: int, file: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{file}").read_bytes()
    except OSError:
        return b""


def _all() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208


def _processes() -> Iterator[tuple[int, bytes, bytes]]:
    for pid in _all():
        with suppress(OSError):
            yield pid, Path(f"/proc/{pid}/environ").read_bytes(), Path(f"/proc/{pid}/cmdline").read_bytes()

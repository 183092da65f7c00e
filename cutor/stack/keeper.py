"""Keeps one role process running: starts it, logs what it prints, starts it again when it dies, ends it when told to."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cutor.errors import CutorError
from cutor.stack.logs import Log, last_lines
from cutor.stack.process import Process, describe_exit
from cutor.stack.restarts import QUICK_DEATHS, Restarts

STOP_TIMEOUT_S: Final = 25.0
"""After SIGTERM a role has this long; it bounds itself to less (`role_process.STOP_TIMEOUT_S`)."""
DRAIN_TIMEOUT_S: Final = 1.0
_CHUNK_BYTES: Final = 1 << 16


class RoleGivenUp(CutorError):
    """A role died again and again; the message says how it ended and where its log is."""


@dataclass(frozen=True)
class Orders:
    """What the supervisor tells its keepers: ``stop`` ends roles in an orderly way, ``halt`` ends them at once."""

    stop: asyncio.Event
    halt: asyncio.Event


class Keeper:
    """One role process, again and again. ``ready`` is set when it served for the first time."""

    def __init__(
        self,
        role: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        inherited: Sequence[int],
        log: Log,
        show: Callable[[str, bytes], None],
    ) -> None:
        self.role = role
        self.ready = asyncio.Event()
        self.process: Process | None = None
        self._command = command
        self._environment = environment
        self._inherited = inherited
        self._log = log
        self._show = show

    async def run(self, orders: Orders) -> None:
        """Keep the role running until ``orders.stop``; nothing of it runs when this returns or raises `RoleGivenUp`."""
        restarts = Restarts()
        while not orders.stop.is_set():
            started = time.monotonic()
            code = await self._live(orders)
            if orders.stop.is_set():
                return
            restarts = restarts.after(time.monotonic() - started)
            if restarts.hopeless:
                raise RoleGivenUp(self._why(code))
            self._say(f"ended with {describe_exit(code)}; it is started again in {restarts.pause_s:.1f} s")
            await first_of(orders.stop.wait(), asyncio.sleep(restarts.pause_s))

    def _why(self, code: int) -> str:
        last = "".join(f": {line}" for line in last_lines(self._log.path, 1))
        return f"the {self.role} died {QUICK_DEATHS} times in a row, the last time with {describe_exit(code)}{last}"

    async def _live(self, orders: Orders) -> int:
        """One life; returns the exit code. The process is gone when this ends, however it ends."""
        process = await Process.start(self._command, environment=self._environment, inherited=self._inherited)
        self.process = process
        pump = asyncio.create_task(self._pump(process))
        announced = asyncio.create_task(self._announced(process))
        try:
            await first_of(process.wait(), orders.stop.wait())
            process.signal(signal.SIGTERM)
            await first_of(process.wait(), orders.halt.wait(), asyncio.sleep(STOP_TIMEOUT_S))
        finally:
            process.signal(signal.SIGKILL)
            code = await process.wait()
            self.process = None
            await asyncio.wait([pump, announced], timeout=DRAIN_TIMEOUT_S)
            for task in (pump, announced):
                task.cancel()
            await asyncio.wait([pump, announced])
            process.close()
        return code

    async def _announced(self, process: Process) -> None:
        if await process.until_ready():
            self.ready.set()

    async def _pump(self, process: Process) -> None:
        """Copy what the process prints into its log and to the terminal, line by line."""
        rest = b""
        while data := await process.output.read(_CHUNK_BYTES):
            self._log.write(data)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._show(self.role, line)
            rest = rest[-_CHUNK_BYTES:]
        if rest:
            self._show(self.role, rest)

    def _say(self, line: str) -> None:
        text = f"{self.role} {line}".encode()
        self._log.write(text + b"\n")
        self._show("cutor", text)


async def first_of(*waits: Coroutine[Any, Any, object]) -> None:
    """Wait until one of them is done, and cancel the others; raises what a done one raised."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

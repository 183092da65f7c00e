"""Keeps one role process running: starts it, logs what it prints, starts it again when it dies, ends it when told to.

Each new start is announced in the role's log and by the supervisor: a line an attempt, so at most a line a pause (`restarts`).
What a life that ended by itself said last is its reason, and stands in the supervisor's line; one that a signal killed had no
time to give any, and its last line is about something else.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cutor.bond import HURRY
from cutor.errors import CutorError
from cutor.logs import LogFormat, message_of
from cutor.stack.logs import Log, stamped, taken
from cutor.stack.process import Process, describe_end
from cutor.stack.restarts import QUICK_DEATHS, Restarts
from cutor.stack.stop_times import HURRIED, StopTimes
from cutor.text import escape

DRAIN_TIMEOUT_S: Final = 1.0
"""What a role printed last is in its pipe when it ends. Its children may hold the pipe open, and are not waited for."""
LAST_WORDS: Final = 300
"""Characters of the last line of a role that are repeated when it is started again."""
_CHUNK_BYTES: Final = 1 << 16
"""What a pipe of Linux holds by default; a longer line is cut there."""


class RoleGivenUp(CutorError):
    """A role died again and again; the message says how it ended, and what it said of that or where its log is."""


@dataclass(frozen=True)
class Orders:
    """What the supervisor tells its keepers: ``stop`` lets what runs finish within the grace, ``hurry`` ends the grace and has
    it handed back, ``halt`` kills.

    ``served`` is set once the whole stack was ready: from then on nothing is given up.
    """

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    hurry: asyncio.Event = field(default_factory=asyncio.Event)
    halt: asyncio.Event = field(default_factory=asyncio.Event)
    served: asyncio.Event = field(default_factory=asyncio.Event)


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
        times: StopTimes,
        log_format: LogFormat = "text",
    ) -> None:
        self.role = role
        self.ready = asyncio.Event()
        self.process: Process | None = None
        self._command = command
        self._environment = environment
        self._inherited = inherited
        self._log = log
        self._show = show
        self._times = times
        self._log_format: LogFormat = log_format
        self._last_line = b""
        self._killed = False

    async def run(self, orders: Orders) -> None:
        """Keep the role running until ``orders.stop``; nothing of it runs when this returns or raises `RoleGivenUp`."""
        restarts = Restarts()
        while not orders.stop.is_set():
            started = time.monotonic()
            ending = await self._live(orders)
            if orders.stop.is_set():
                return
            restarts = restarts.after(time.monotonic() - started)
            if restarts.hopeless(served=orders.served.is_set()):
                last = f"the last time it {ending}{self._reason() or f'; its log is {self._log.path}'}"
                raise RoleGivenUp(f"the {self.role} died {QUICK_DEATHS} times in a row, {last}")
            self._say(ending, f"it is started again in {restarts.pause_s:.1f} s{_of_deaths(restarts.quick_deaths)}")
            await first_of(orders.stop.wait(), asyncio.sleep(restarts.pause_s))

    def move(self, environment: Mapping[str, str]) -> None:
        """Give the role another environment: it ends and comes back with it. It hurries: where it is now, nothing listens."""
        self._environment = environment
        if self.process is not None:
            self.process.signal(HURRY)

    def _reason(self) -> str:
        """What the life that ended by itself said last."""
        if self._killed:
            return ""
        said = message_of(self._last_line.decode(errors="replace").strip())[:LAST_WORDS]
        return f": {escape(said)}" if said else ""

    async def _live(self, orders: Orders) -> str:
        """One life; returns how it ended. The process is gone when this ends, however it ends."""
        self._last_line, self._killed = b"", False
        environment = self._environment
        try:
            process = await Process.start(self._command, environment=environment, inherited=self._inherited)
        except OSError as error:  # no memory, no process number: that passes, like other ends of a life
            return f"ended before it began ({error.strerror})"
        self.process = process
        if environment is not self._environment:  # `move` came before there was a process to signal
            process.signal(HURRY)
        pump = asyncio.create_task(self._pump(process))
        announced = asyncio.create_task(self._announced(process))
        try:
            await first_of(process.wait(), orders.stop.wait())
            await self._end(process, orders)
        finally:
            process.signal(signal.SIGKILL)
            code = await process.wait()
            self.process = None
            await asyncio.wait([pump, announced], timeout=DRAIN_TIMEOUT_S)
            for task in (pump, announced):
                task.cancel()
            await asyncio.wait([pump, announced])
            process.close()
        self._killed = code < 0
        return describe_end(code)

    async def _end(self, process: Process, orders: Orders) -> None:
        """Tell the role to stop, and to hurry once that is ordered; return when it has ended, or has had its time."""
        process.signal(signal.SIGTERM)
        await first_of(process.wait(), orders.hurry.wait(), orders.halt.wait(), asyncio.sleep(self._times.kept_role_s))
        if orders.hurry.is_set():
            process.signal(HURRY)
            await first_of(process.wait(), orders.halt.wait(), asyncio.sleep(HURRIED.kept_role_s))

    async def _announced(self, process: Process) -> None:
        if await process.until_ready():
            self.ready.set()

    async def _pump(self, process: Process) -> None:
        """Copy what the process prints into its log and to the terminal, line by line."""
        rest = b""
        while data := await process.output.read(_CHUNK_BYTES):
            if self._log_format == "text":
                self._log.write(data)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._shown(line)
            rest = rest[-_CHUNK_BYTES:]
        if rest:
            self._shown(rest)

    def _shown(self, line: bytes) -> None:
        if self._log_format == "json":
            line = taken(line, self._log_format, self.role)
            self._log.write(line + b"\n")
        self._last_line = line if line.strip() else self._last_line
        self._show(self.role, line)

    def _say(self, ending: str, then: str) -> None:
        """Tell of an end in the role's log, where its reason is already, and to the supervisor with it."""
        self._log.write(stamped(f"the {self.role} {ending}; {then}".encode(), self._log_format))
        self._show("cutor", f"the {self.role} {ending}{self._reason()}; {then}".encode())


def _of_deaths(quick_deaths: int) -> str:
    return f" ({quick_deaths} quick deaths in a row)" if quick_deaths > 1 else ""


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

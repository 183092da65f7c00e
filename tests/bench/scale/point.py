"""One stack with so many submissions behind it, in so many environments, and all that is measured of it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

from cutor.bus.connection import Bus
from tests.bench.lives import publishing
from tests.bench.performance.producers import Life, Producers
from tests.bench.performance.usage import CONTAINERS, ENGINE, OTHERS, RUNNER, Watch
from tests.bench.scale.draining import drain
from tests.bench.scale.figures import Command, Cost, Step, step_of
from tests.bench.scale.histories import TENANT, Model, case_of
from tests.bench.stacks import Machine, expect

NOT_OURS: Final = (ENGINE, CONTAINERS, OTHERS)
PATIENCE_S: Final = 600.0
COMMANDS: Final = (
    ("status", "{past}"), ("events", "{past}"), ("watch", "{past}"), ("events", "--last", "20"), ("projections", "status"),
    ("query", "SELECT count(*) AS n FROM submissions"), ("query", "SELECT id, outcome FROM submissions WHERE id = '{past}'"),
    ("env", "list", "--json"), ("parked", "list"),
)  # fmt: skip
"""Commands that are timed; ``{past}`` is a submission in the midst of the history."""


class Point:
    """A stack that is filled once, then asked again and again."""

    def __init__(self, there: Machine, submissions: int, keys: Sequence[str]) -> None:
        self.submissions = submissions
        self.keys = keys
        self._there = there
        self._watch = Watch(there.stack.data)
        self._runner: subprocess.Popen[bytes] | None = None
        self.lives: list[Life] = []
        self.contained: list[Life] = []
        self._cpu_s: dict[str, float] = {}
        self._starts: dict[str, list[float]] = {}
        self._commands: dict[str, list[float]] = {}
        self._filled_s = 0.0
        self._next = 0

    @property
    def url(self) -> str:
        """The address of its server."""
        return self._there.stack.server

    @property
    def name(self) -> str:
        """How many there are."""
        return f"{self.submissions:,} submissions in {len(self.keys):,} environments"

    # -- what there is ---------------------------------------------------------------------------------------------

    async def fill(self, model: Model) -> None:
        """Make the stack, and its history: submissions that have ended, and that every role has attended to."""
        self._there.up()
        began, url = time.perf_counter(), self.url
        async with publishing(url) as publisher:
            await publisher.store(model.environments(self.keys))
            await publisher.store(model.submissions(0, self.submissions, self.keys))
        for role in ("builder", "runner"):
            drained = await drain(url, f"{role}-{TENANT}")
            expect(drained == self.submissions, (role, drained))
        self._filled_s = time.perf_counter() - began
        self._there.down()

    async def begin(self) -> None:
        """Start the roles for the first time, and wait for the views."""
        self._there.up("builder", "projector")
        async with Bus.connect(self.url, name="bench") as bus:
            info = await bus.stream_info("EVENTS")
        wanted = int(info["state"]["last_seq"])
        deadline = time.monotonic() + PATIENCE_S
        while True:
            streams = {one["stream"]: one for one in self._there.json("projections", "status")["streams"]}
            if streams["EVENTS"]["checkpoint"] >= wanted:
                return
            expect(time.monotonic() < deadline, streams)
            await asyncio.sleep(0.1)

    # -- what is measured ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Stop everything, and start it again; note how long that takes, and how much CPU time until all are ready."""
        self._there.down()
        began = time.perf_counter()
        self._there.up("builder", "runner", "projector")
        self._note("cutor up", time.perf_counter() - began)
        for who, processes in self._watch.roles().items():
            self._note(f"{who}, CPU", sum(cpu_of_tree(pid) for pid in processes))
        self._there.down()
        self._there.up("builder", "projector")

    def _note(self, name: str, seconds: float) -> None:
        self._starts.setdefault(name, []).append(seconds)

    @contextmanager
    def log_runner(self) -> Iterator[None]:
        """Have a runner without containers while the block lasts."""
        data = self._there.stack.data / "log-runner"
        command = [sys.executable, "-m", "tests.bench.scale.log_runner", self.url, str(data), RUNNER]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            expect(process.stdout.readline() == b"ready\n", "the runner without containers did not start")
            yield
        finally:
            process.terminate()
            process.wait()

    @contextmanager
    def real_runner(self) -> Iterator[None]:
        """Have a runner while the block lasts."""
        self._there.start_role("runner-1", "runner")
        try:
            yield
        finally:
            self._there.end_role("runner-1")

    @asynccontextmanager
    async def producers(self) -> AsyncIterator[Producers]:
        """Connect a producer."""
        async with Producers.of(self.url, 1) as producers:
            yield producers

    async def turn(self, producers: Producers, count: int, *, into: list[Life], counted: bool = True) -> None:
        """Hand in so many, one after the other, each in the next environment."""
        before = self._watch.now()
        for _ in range(count):
            into.append(await producers.first.live(case_of(self._next * 7919 % len(self.keys))))
            self._next += 1
        if counted:
            for who, cpu_s in self._watch.now().items():
                if who not in NOT_OURS:
                    self._cpu_s[who] = self._cpu_s.get(who, 0.0) + cpu_s - before.get(who, 0.0)

    def commands(self) -> None:
        """Run every command once."""
        past = f"past-{self.submissions // 2:09d}"
        for command in COMMANDS:
            words = [word.replace("{past}", past) for word in command]
            name = " ".join(command).replace("{past}", "ID")
            began = time.perf_counter()
            self._there.cutor(*words)
            self._commands.setdefault(name, []).append((time.perf_counter() - began) * 1000)

    def cost(self) -> Cost:
        """Return all that was measured since the last call, and begin anew."""
        found = Cost(
            submissions=self.submissions,
            environments=len(self.keys),
            lives=len(self.lives),
            steps=steps(self.lives),
            contained=steps(self.contained),
            cpu_ms={who: round(cpu_s * 1000 / max(len(self.lives), 1), 3) for who, cpu_s in self._cpu_s.items()},
            starts={name: round(min(taken), 3) for name, taken in self._starts.items()},
            commands=[Command(name, round(min(taken), 1)) for name, taken in self._commands.items()],
            memory=self._watch.memory(),
            stream_bytes=size_of(self._there.stack.data / "nats"),
            views_bytes=sum(path.stat().st_size for path in self._there.stack.data.rglob("*.duckdb*")),
            filled_s=round(self._filled_s, 1),
        )
        self.lives, self.contained, self._cpu_s, self._starts, self._commands = [], [], {}, {}, {}
        return found


def steps(lives: Sequence[Life]) -> list[Step]:
    """Return where the time of submissions goes, and the whole of it."""
    found: dict[str, list[float]] = {}
    for life in lives:
        for name, took_ms in (life.steps() | {"all of it": life.took_ms}).items():
            if "programs" not in name:
                found.setdefault(name, []).append(took_ms)
    return [step_of(name, times) for name, times in found.items()]


def cpu_of_tree(pid: int) -> float:
    """Return the CPU seconds of a process since it began."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def size_of(directory: Path) -> int:
    """Return what the files beneath a directory take on the disk."""
    return sum(path.stat().st_blocks * 512 for path in directory.rglob("*") if path.is_file())

"""What is below cutor, measured by itself: programs and jails in a container, containers, a runner's calls to its container.

All containers carry the stack's label, so that its end removes what an interruption left.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeVar

import msgspec
from aiodocker import Docker

from cutor.containers.child import Child
from cutor.containers.engine import Engine
from cutor.containers.host_config import (
    BOX_DIRECTORY,
    CODE_DIRECTORY,
    NO_NETWORK,
    PAUSE_COMMAND,
    ContainerSpec,
    Identity,
    Resources,
    RunnerStorage,
    pause_network,
    pause_spec,
    runner_spec,
)
from cutor.containers.seccomp import program_policy
from cutor.containers.surplus import Surplus
from cutor.jail.inside.protocol import Frame, FrameReader, encode
from cutor.jail.job import RunnerJob
from cutor.jail.memory import first_memory_bytes
from cutor.jail.room import OWN_TASKS
from cutor.jail.session import WorkerSession
from cutor.model.environments import EnvironmentBuilt, pack_variables
from cutor.model.limits import MIB, Limit
from cutor.model.request import COMPILE_SCRIPT, RUN_SCRIPT
from tests.bench.performance.cases import Case
from tests.bench.performance.figures import Step, step
from tests.bench.stacks import expect

INSIDE: Final = Path(__file__).with_name("inside.py")
UID: Final = 280_000
"""Of what is measured here: no runner's slot has it, and no build."""
ROOMY: Final = Resources(memory_bytes=1024 * MIB, processes=512, cpus=float(os.cpu_count() or 1))
"""For programs and jails: all CPUs, as cutor has them in several containers."""
PATIENCE_S: Final = 120.0
TRUE: Final = ["/opt/cutor/bin/busybox", "true"]

T = TypeVar("T")


class There(NamedTuple):
    """Where it is measured: the stack's label, the image, the store, the environment of all cases, the limits of a stage."""

    instance: str
    image: str
    store_volume: str
    environment: EnvironmentBuilt
    variables: tuple[tuple[bytes, bytes], ...]
    limit: Limit

    def spec(self, resources: Resources, command: list[str] | None = None, network: str = NO_NETWORK) -> ContainerSpec:
        """Return a container as a runner makes it, with another command in it if there is one."""
        storage = RunnerStorage(store_volume=self.store_volume)
        spec = runner_spec(self.identity(), image=self.image, uid=UID, resources=resources, storage=storage, network=network)
        if command is not None:
            spec.body["Cmd"] = command
        return spec

    def identity(self) -> Identity:
        """Return that of another container."""
        return Identity(self.instance, f"bench-{secrets.token_hex(6)}")


class Programs:
    """A container that holds a case: its stages by fork and exec, or by nsjail, as often as there is time."""

    def __init__(self, there: There, case: Case, child: Child) -> None:
        self._there = there
        self._case = case
        self._child = child
        self._reader = FrameReader()
        self._frames: list[Frame] = []

    @classmethod
    @asynccontextmanager
    async def of(cls, engine: Engine, there: There, case: Case) -> AsyncIterator[Programs]:
        """Start the container, and hand the case over."""
        text = f"import sys; sys.path[0] = {CODE_DIRECTORY!r}\n{INSIDE.read_text()}"
        child = await engine.start(there.spec(ROOMY, ["/usr/bin/python3", "-S", "-E", "-c", text, program_policy()]))
        try:
            made = cls(there, case, child)
            await made._hand_over()
            yield made
        finally:
            await child.remove()

    async def _hand_over(self) -> None:
        files = {name: text.encode() for name, text in self._case.files.items()}
        environment = self._there.environment
        closure = "\n".join(environment.closure).encode()
        header = {
            "type": "job",
            "files": [{"name": name, "bytes": len(data)} for name, data in files.items()],
            "closure_bytes": len(closure),
            "programs": msgspec.to_builtins(environment.programs),
        }
        await self._child.send(encode(header, b"".join([*files.values(), closure, pack_variables(self._there.variables)])))
        accepted = await self._next("accepted")
        expect(accepted["missing"] is None, accepted)

    async def measure(self, way: Literal["fork+exec", "nsjail"], at_once: int, seconds: float) -> tuple[list[float], float]:
        """Return how long each took, and how long all of them."""
        compiling = [{"kind": "compile", "script": COMPILE_SCRIPT, "args": [], "printed": ""}] if self._case.compiles else []
        running = [{"kind": "run", "script": RUN_SCRIPT, "args": args, "printed": said} for args, said in self._case.tests]
        header = {
            "type": "measure",
            "way": way,
            "at_once": at_once,
            "seconds": float(seconds),
            "limit": msgspec.to_builtins(self._there.limit),
            "stages": compiling + running,
        }
        await self._child.send(encode(header))
        found = await self._next("measured")
        return found["times_ms"], found["seconds"]

    async def _next(self, kind: str) -> dict[str, Any]:
        """Return the next frame of a kind; others say that the init is ready or rests."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                while self._frames:
                    header: dict[str, Any] = msgspec.json.decode(self._frames.pop(0).header)
                    expect(header["type"] != "fault", header)
                    if header["type"] == kind:
                        return header
                data = await self._child.receive()
                expect(data, self._child.stderr_tail)
                self._frames += self._reader.feed(data)


class Containers:
    """Bare containers, each made, started, ended by itself and removed; all join the ``network``, a pause container's."""

    def __init__(self, engine: Engine, docker: Docker, there: There, network: str) -> None:
        self._engine = engine
        self._docker = docker
        self._there = there
        self.network = network

    @classmethod
    @asynccontextmanager
    async def of(cls, engine: Engine, there: There) -> AsyncIterator[Containers]:
        """Park a container without a network, as a runner does."""
        async with Docker() as docker:
            pause = await engine.start(pause_spec(there.identity(), image=there.image))
            try:
                yield cls(engine, docker, there, pause_network(pause.id))
            finally:
                await pause.remove()

    def _spec(self, command: list[str]) -> ContainerSpec:
        return self._there.spec(Resources(memory_bytes=128 * MIB, processes=64), command, self.network)

    async def own(self) -> dict[str, float]:
        """Have one as a runner has it, in which a program waits for the end of its input; return what each call took."""
        took: dict[str, float] = {}
        child = await timed(took, "create, attach, start", self._engine.start(self._spec(PAUSE_COMMAND)))
        try:
            await timed(took, "end", child.end(PATIENCE_S))
        finally:
            await timed(took, "remove", child.remove())
        return took

    async def cheapest(self) -> dict[str, float]:
        """Have one for less, whose program ends at once: nothing attached, and one tmpfs; return what each call took."""
        spec = self._spec(TRUE)
        host = spec.body["HostConfig"]
        host["Tmpfs"] = {BOX_DIRECTORY: host["Tmpfs"][BOX_DIRECTORY]}
        for attached in ("OpenStdin", "StdinOnce", "AttachStdin", "AttachStdout", "AttachStderr"):
            del spec.body[attached]
        took: dict[str, float] = {}
        container = await timed(took, "create", self._docker.containers.create(spec.body, name=spec.name))
        try:
            await timed(took, "start", container.start())
            ended = await timed(took, "wait for its end", container.wait())
            expect(ended["StatusCode"] == 0, ended)
        finally:
            await timed(took, "remove", container.delete(force=True, v=True))
        return took

    async def measure(
        self, live: Callable[[], Awaitable[dict[str, float]]], at_once: int, seconds: float
    ) -> tuple[list[dict[str, float]], float]:
        """Have so many at once for so long; return what each call of each took, and how long all did."""
        began = time.perf_counter()
        lives: list[dict[str, float]] = []

        async def living() -> None:
            while time.perf_counter() < began + seconds:
                lives.append(await live())

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(living())
        return lives, time.perf_counter() - began


async def runner_calls(engine: Engine, there: There, network: str, case: Case, times: int) -> list[Step]:
    """Return what the calls of a runner to one container in a network take, each by itself: one run, no compile stage."""
    lives: list[dict[str, float]] = []
    files = {name: text.encode() for name, text in case.files.items()}
    submission = RunnerJob(files, there.variables, there.environment.programs, there.environment.closure)
    others = len(pack_variables(there.variables)) + sum(map(len, there.environment.closure))
    resources = Resources(
        memory_bytes=first_memory_bytes(there.limit, files, others, 0),
        processes=there.limit.processes + OWN_TASKS,
    )
    for _ in range(times):
        took: dict[str, float] = {}
        child = await timed(took, "create, attach, start", engine.start(there.spec(resources, network=network)))
        worker = WorkerSession(child, resources, None, Surplus.find(child.id))
        try:
            await timed(took, "until the init is ready", worker.ready())
            await timed(took, "hand the submission over", worker.hand_over(submission))
            args, _ = case.tests[0]
            report = await timed(took, "run a stage", worker.run_test(0, args=args, stdin=b"", limit=there.limit))
            expect(report.exit_code == 0, report)
        finally:
            await timed(took, "remove", worker.close())
        lives.append(took)
    return steps(lives)


def steps(lives: Sequence[dict[str, float]]) -> list[Step]:
    """Return steps of the times that each life had of them."""
    return [step(name, [life[name] for life in lives if name in life]) for name in lives[0]]


async def timed(took: dict[str, float], name: str, call: Awaitable[T]) -> T:
    """Await a call, and note how long it took, in milliseconds."""
    began = time.perf_counter()
    try:
        return await call
    finally:
        took[name] = (time.perf_counter() - began) * 1000

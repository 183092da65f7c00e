"""Real containers for the tests of stages: a submission in one, with the programs of the offline package set.

Every container carries the label of this test process, by which one that is left over is found.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, NoReturn

import msgspec
import pytest

from cutor.containers.child import Child
from cutor.containers.control_group import Watermark
from cutor.containers.engine import Engine
from cutor.containers.errors import ContainerError
from cutor.containers.host_config import ContainerSpec, Identity, Resources, RunnerStorage, runner_spec
from cutor.containers.surplus import Surplus
from cutor.jail.job import RunnerJob
from cutor.jail.session import WorkerSession
from cutor.model.environments import Programs
from cutor.model.limits import DEFAULT_LIMITS, MIB, Limit
from cutor.model.outcome import StageReport
from tests.child_image import IMAGE

INSTANCE: Final = f"test-{os.getpid()}"
UID: Final = 310_000 + os.getpid() % 10_000
"""Beside the ids of any stack on this machine."""

STORAGE: Final = RunnerStorage()
RESOURCES: Final = Resources(memory_bytes=256 * MIB, processes=64)
LIMIT: Final = msgspec.structs.replace(
    DEFAULT_LIMITS.run.default, wall_time_ms=60_000, cpu_time_ms=3000, memory_bytes=64 * MIB, processes=32
)
"""Time enough on a machine that does much else: what is to run into its wall time says so."""

_packages: dict[str, str] = {}


def limit(**changed: int) -> Limit:
    """Return `LIMIT` with some of its numbers changed."""
    return msgspec.structs.replace(LIMIT, **changed)


def unavailable(reason: str) -> NoReturn:
    """Skip visibly on a laptop, fail in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}: run `make setup`")
    pytest.skip(f"{reason}: run `make setup`")


@asynccontextmanager
async def connected() -> AsyncIterator[Engine]:
    """Connect to Docker; without it, or without the child image, see `unavailable`. What a test raises later is its failure."""
    async with AsyncExitStack() as stack:
        try:
            engine = await stack.enter_async_context(Engine.connect())
            await engine.image_labels(IMAGE)
        except ContainerError as error:
            unavailable(str(error))
        yield engine


def identity() -> Identity:
    """Return a new container's identity."""
    return Identity(INSTANCE, secrets.token_hex(6), "default/test")


def spec(storage: RunnerStorage = STORAGE, resources: Resources = RESOURCES) -> ContainerSpec:
    """Return a runner's container as a stack makes it."""
    return runner_spec(identity(), image=IMAGE, uid=UID, resources=resources, storage=storage)


async def say(engine: Engine, command: str) -> str:
    """Return what a shell command of the image's prints, in a container as runners have them."""
    made = spec()
    made.body["Cmd"] = ["/usr/bin/bash", "-c", command]
    child = await engine.start(made)
    try:
        pieces = []
        while data := await child.receive():
            pieces.append(data)
        return b"".join(pieces).decode()
    finally:
        await child.remove()


async def packages(engine: Engine) -> dict[str, str]:
    """Return the programs of the offline package set that the store holds: name without version → store path."""
    if not _packages:
        listing = await say(engine, "cd /nix/store; for name in *; do [ -d $name/bin ] && echo $name; done")
        for name in listing.split():
            _packages[name.split("-")[1]] = f"/nix/store/{name}"
    if not {"bash", "coreutils", "python3", "gcc"} <= set(_packages):
        unavailable("the store volume holds no package set")
    return _packages


def without_attributes(made: ContainerSpec) -> ContainerSpec:
    """Return a container as on a kernel before 6.6: nothing in it keeps extended attributes, so boxes have to be copied."""
    options = made.body["HostConfig"]["SecurityOpt"]
    made.body["HostConfig"]["SecurityOpt"] = [option.replace('"setxattr",', "") for option in options]
    assert made.body["HostConfig"]["SecurityOpt"] != options
    return made


async def submission(engine: Engine, files: Mapping[str, str | bytes]) -> RunnerJob:
    """Return a submission with bash, coreutils, Python and gcc on its PATH."""
    found = await packages(engine)
    path = ":".join(f"{found[name]}/bin" for name in ("bash", "coreutils", "python3", "gcc"))
    return RunnerJob(
        files={name: text.encode() if isinstance(text, str) else text for name, text in files.items()},
        variables=((b"HOME", b"/tmp"), (b"PATH", path.encode())),
        programs=Programs(bash=f"{found['bash']}/bin/bash", sh=f"{found['bash']}/bin/sh", env=f"{found['coreutils']}/bin/env"),
    )


class Stages:
    """A submission in its container, its session, and short ways to run test cases of it."""

    def __init__(self, engine: Engine, child: Child, session: WorkerSession, cgroup: str) -> None:
        self.engine = engine
        self.cgroup = cgroup
        self.child = child
        self.session = session
        self._count = 0

    async def run(self, *args: str, stdin: bytes = b"", **limits: int) -> StageReport:
        """Run the next test case with these arguments, under `LIMIT` with changes."""
        self._count += 1
        return await self.session.run_test(self._count - 1, args=args, stdin=stdin, limit=limit(**limits))


@asynccontextmanager
async def stages(
    files: Mapping[str, str | bytes],
    *,
    copy_box: bool = False,
    storage: RunnerStorage = STORAGE,
    resources: Resources = RESOURCES,
    watermark: bool = True,
) -> AsyncIterator[Stages]:
    """Start a container and hand a submission over; afterwards the container is gone, checked."""
    async with connected() as engine:
        made = spec(storage, resources)
        child = await engine.start(without_attributes(made) if copy_box else made)
        try:
            session = WorkerSession(child, resources, Watermark.find(child.id) if watermark else None, Surplus.find(child.id))
            ready = await session.ready()
            assert ready.box == "copy" or not copy_box
            await session.hand_over(await submission(engine, files))
            yield Stages(engine, child, session, ready.cgroup)
        finally:
            await asyncio.shield(child.remove())
        assert not (await child.state()).exists


def scripts(**cases: str) -> dict[str, str | bytes]:
    """Return files whose run script does what the case named by its first argument says, with the other arguments."""
    return {"cutor-run.sh": 'case=$1; shift; . "cases/$case"', **{f"cases/{name}": text for name, text in cases.items()}}


def facts(report: StageReport) -> dict[str, object]:
    """Return what a report says of the program's end: the fields that are not empty, without times and outputs."""
    names = ("exit_code", "signal_number", "killed_by", "fault")
    found = {name: getattr(report, name) for name in names if getattr(report, name) is not None}
    return {**found, "oom": True} if report.oom_kills else found

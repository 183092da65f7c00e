"""Roles whose step is a function of the test, on a real server: the loop as it is, without containers.

Run as a process (``python -m tests.scripted_roles URL DATA ROLE WORKER MARKS``) it is a role that works until it is stopped,
and whose life leaves marks: files named after what happened, for tests that stop or kill it.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cutor.bus.connection import Bus
from cutor.config import Config
from cutor.journal.journal import Journal
from cutor.model.events import CacheBuilt, Finished, Lease, Leased, Role, kind_of
from cutor.model.limits import Policy
from cutor.model.messages import Unreadable
from cutor.model.request import ValidRequest, request_from
from cutor.model.request_checks import validate
from cutor.model.state import Submission
from cutor.model.subjects import Address
from cutor.process.context import RoleContext
from cutor.roles.loop import Loop, serve
from cutor.roles.settings import BuilderSettings, RunnerSettings
from cutor.roles.step import Arrival, LeasedStep, WorkerUnable
from cutor.roles.sweep import Stuck, Swept
from tests.unit.histories import ENVIRONMENT, OK

Work = Callable[[LeasedStep], Awaitable[None]]
Approach = Callable[[Arrival], Awaitable[Any]]

PATIENCE_S = 180.0


def request(
    submission_id: str,
    run: str = "true",
    *,
    cases: int = 1,
    tenant: str = "default",
    policy: Policy | None = None,
    cache: bool = True,
) -> ValidRequest:
    """Return a small request."""
    files = [{"name": "shell.nix", "content": "{}"}, {"name": "cutor-run.sh", "content": run}]
    document = {"id": submission_id, "tenant": tenant, "files": files, "test_cases": [{}] * cases, "cache": cache}
    return validate(request_from(document), policy or Policy(), "unused")


class Scripted:
    """A step whose work is a function of the test; one that has an ``approach`` is asked before the lease, without a slot.

    One that has a ``check`` makes sure of what it needs by itself.
    """

    def __init__(self, role: Role, work: Work) -> None:
        self.role: Role = role
        self._work = work
        self._approach: Approach | None = getattr(work, "approach", None)
        self.looks = self._approach is not None
        self._check: Callable[[], Awaitable[None]] | None = getattr(work, "check", None)
        self.unable_times = 0

    async def check(self) -> None:
        if self.unable_times:
            self.unable_times -= 1
            raise WorkerUnable("no Docker Engine answers")
        if self._check is not None:
            await self._check()

    async def approach(self, arrival: Arrival, /) -> Any:
        return self.work if self._approach is None else await self._approach(arrival)

    async def work(self, leased: LeasedStep) -> None:
        await self._work(leased)


@asynccontextmanager
async def role(
    journal: Journal,
    work: Work,
    name: Role = "builder",
    worker: str = "w1",
    unable_times: int = 0,
    grace_s: float = 5.0,
    hurried: bool = False,
    data: Path | None = None,
    swept: tuple[Address, ...] = (),
    stuck: tuple[Stuck, ...] = (),
    slots: int = 2,
    slots_per_tenant: int | None = None,
) -> AsyncIterator[None]:
    """Run a loop until the block ends; ``hurried``: it is told to hurry, too."""
    stop, hurry, ready = asyncio.Event(), asyncio.Event(), asyncio.Event()
    config = Config(
        shutdown_grace_s=grace_s,
        builder=BuilderSettings(slots=slots, slots_per_tenant=slots_per_tenant),
        runner=RunnerSettings(slots=slots, slots_per_tenant=slots_per_tenant),
    )
    context = RoleContext("", "test", worker, config, ready.set, stop, hurry, data)
    step = Scripted(name, work)
    step.unable_times = unable_times
    left = Swept(frozenset(swept), stuck)
    loop = asyncio.create_task(Loop(context, journal, step, slots, retry_delay_s=0.05).run(left))
    await asyncio.wait([loop, asyncio.create_task(ready.wait())], return_when=asyncio.FIRST_COMPLETED)
    try:
        yield
    finally:
        stop.set()
        if hurried:
            await asyncio.sleep(0.1)
            hurry.set()
        await loop


async def until(
    journal: Journal, address: Address, holds: Callable[[Submission], bool], *, timeout_s: float = PATIENCE_S
) -> Submission:
    """Wait for a state of a submission."""
    async with asyncio.timeout(timeout_s):
        while not holds(state := await journal.known(address)):
            await asyncio.sleep(0.02)
    return state


async def kinds(journal: Journal, address: Address) -> list[str]:
    """Return the kinds of a submission's events, in order."""
    return [kind_of(entry.message) for entry in await journal.entries(address) if not isinstance(entry.message, Unreadable)]


async def end(leased: LeasedStep) -> None:
    """End the submission."""
    await leased.report(Finished(lease=leased.lease, outcome="DEPENDENCY_ERROR"))


async def build(leased: LeasedStep) -> None:
    """Report an environment."""
    await leased.report(CacheBuilt(lease=leased.lease, environment=ENVIRONMENT, stage=OK))


def histories_are_read(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every history be read, also where the fences tell it."""

    async def unproven(*_some: object) -> None:
        return None

    monkeypatch.setattr(journal, "proven", unproven)


class Waiting:
    """Work that says when it has begun, waits to be told to go on, and then does what the test wants; `stopped` is its end."""

    def __init__(self, then: Work) -> None:
        self.began, self.go_on, self.stopped = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.taken: list[LeasedStep] = []
        self._then = then

    async def __call__(self, leased: LeasedStep) -> None:
        self.taken.append(leased)
        self.began.set()
        try:
            await self.go_on.wait()
            await self._then(leased)
        finally:
            self.stopped.set()


async def pending_acks(journal: Journal, consumer: str = "builder-default") -> int:
    """Return how many deliveries the server still counts as under way."""
    info = await journal.bus.api.call("consumer", f"CONSUMER.INFO.EVENTS.{consumer}")
    return int(info["num_ack_pending"])


async def take_over(journal: Journal, address: Address, number: int = 2) -> Lease:
    """Take the lease as another worker does to whom the event was delivered again."""
    lease = Lease(role="builder", worker="other", token=f"other{number}", number=number)
    await journal.settle(await journal.known(address), lambda _state: Leased(lease=lease))
    return lease


async def set_ack_wait(bus: Bus, seconds: float, consumer: str = "builder-default") -> None:
    """Change how long a lease lasts, for as long as the consumer is: shorter or longer than `streams.yaml` may say."""
    info = await bus.api.call("consumer", f"CONSUMER.INFO.EVENTS.{consumer}")
    config = info["config"] | {"ack_wait": int(seconds * 1e9)}
    subject = f"CONSUMER.CREATE.EVENTS.{consumer}"
    await bus.api.call("consumer", subject, {"stream_name": "EVENTS", "config": config, "action": "update"})


async def main(server: str, data: Path, name: Role, worker: str, marks: Path) -> None:
    """Be a role process."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    async def work(leased: LeasedStep) -> None:
        (marks / f"{worker}-began-{leased.lease.number}").touch()
        try:
            while not (marks / "go-on").exists():
                await asyncio.sleep(0.02)
            await end(leased)
        finally:
            (marks / f"{worker}-stopped-{leased.lease.number}").touch()

    ready = (marks / f"{worker}-ready").touch
    context = RoleContext(server, "test", worker, Config(shutdown_grace_s=0.1), ready, stop, data=data)
    await serve(context, Scripted(name, work), 2)


if __name__ == "__main__":
    asyncio.run(
        main(
            sys.argv[1], Path(sys.argv[2]), "builder" if sys.argv[3] == "builder" else "runner", sys.argv[4], Path(sys.argv[5])
        )
    )

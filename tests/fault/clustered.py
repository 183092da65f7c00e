"""Three servers, the roles beside them, submissions without pause: the leader of EVENTS is killed, and another server.

Work must go on within 10 s of each kill: the appends of a producer are acknowledged again, and the roles append.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final

from cutor.bus.connection import Bus
from cutor.bus.errors import BusError
from cutor.config import parse
from cutor.journal.stack_policy import publish_policy
from cutor.model.codec import encode
from cutor.model.events import StoredRequest, Submitted
from cutor.model.subjects import Address, event_subject, fence
from tests.cluster import NODES, Cluster
from tests.fault.campaign import FIVE, Campaign, campaign
from tests.fault.invariants import Finding
from tests.fault.leftovers import left_by
from tests.fault.points import Point
from tests.fault.rows import Handed, Row
from tests.fault.stack import ExtraRole, FaultStack
from tests.fault.submissions import KINDS

KILLS: Final = 3
READY_S: Final = 180.0
GOES_ON_S: Final = 10.0
"""The longest pause of work that a kill may cost."""
APPENDS_AT_LEAST: Final = 50
"""Acknowledged before each kill, and after it."""
ROLES: Final = ("builder", "runner", "projector")


def longest_pause(at: Sequence[float], since: float, until: float) -> float:
    """Return the longest time without any of ``at`` (in order) from one moment to another, both ends counted."""
    return max(after - before for before, after in pairwise([since, *(one for one in at if since < one < until), until]))


def lost(acknowledged: Mapping[str, int], there: Mapping[str, int]) -> list[Finding]:
    """Return the acknowledged appends that are not where they were acknowledged to be; both by sequence."""
    return [
        Finding("lost", f"acknowledged at {sequence}, is {f'at {there[key]}' if key in there else 'not there'}")
        for key, sequence in acknowledged.items()
        if there.get(key) != sequence
    ]


@dataclass
class Appends:
    """Events of a tenant that nobody works for, one after the other as long as it runs, and which were acknowledged."""

    acknowledged: dict[str, int] = field(default_factory=dict)
    at: list[float] = field(default_factory=list)
    refused: str = "nothing was refused"
    task: asyncio.Task[None] | None = None

    async def run(self, server: str) -> None:
        async with Bus.connect(server, name="fault: load") as bus:
            while True:
                address = Address("load", secrets.token_hex(8))
                try:
                    await self._append(bus, address)
                except BusError as error:  # how long it may go on so, the pauses say
                    self.refused = f"the last refusal: {error}"
                await asyncio.sleep(0.01)

    async def _append(self, bus: Bus, address: Address) -> None:
        body = encode(Submitted(request=StoredRequest(files=(), test_cases=()), digest=address.id))
        appended = await bus.append(
            event_subject(address, "submitted"), body, message_id=address.id, fence=fence(address), expected_sequence=0
        )
        self.acknowledged[address.id] = appended.sequence
        self.at.append(time.monotonic())

    async def more(self, count: int, timeout_s: float) -> str | None:
        """Wait for further acknowledged appends; returns what is wrong where they do not come. Raises what ended them."""
        wanted, deadline = len(self.at) + count, time.monotonic() + timeout_s
        while len(self.at) < wanted:
            self.check()
            if time.monotonic() > deadline:
                return f"{count - wanted + len(self.at)} of {count} appends acknowledged in {timeout_s:g} s; {self.refused}"
            await asyncio.sleep(0.02)
        return None

    def check(self) -> None:
        """Raise what ended them, if anything did: nothing else may."""
        if self.task is not None and self.task.done():
            self.task.result()


@asynccontextmanager
async def _load(server: str) -> AsyncIterator[Appends]:
    """Appends without pause while the block lasts. What ends them before is raised."""
    appends = Appends()
    appends.task = asyncio.create_task(appends.run(server), name="load")
    try:
        yield appends
        appends.check()
    finally:
        appends.task.cancel()
        with suppress(asyncio.CancelledError):
            await appends.task


@contextmanager
def _roles(stack: FaultStack, server: str) -> Iterator[list[ExtraRole]]:
    with ExitStack() as exits:
        extras = [ExtraRole(stack, role, f"cluster-{role}") for role in ROLES]
        for extra in extras:
            extra.start(server)
            exits.callback(extra.stop)
        yield extras


@asynccontextmanager
async def _clustered(home: Path, left: list[str]) -> AsyncIterator[tuple[Cluster, Campaign]]:
    """A cluster with streams and policy, roles on it, and a campaign that has seen them work.

    ``left`` gets what the roles leave when they have ended.
    """
    stack = await FaultStack.make(home / "stack")
    (home / "nodes").mkdir(parents=True)
    cluster = Cluster(home / "nodes")
    try:
        for node in range(NODES):
            cluster.start(node)
        await cluster.prepare()
        async with Bus.connect(cluster.url(), name="fault: policy") as bus:
            await publish_policy(bus, parse(stack.config.read_bytes(), "config").policy())
        with _roles(stack, cluster.url()) as extras:
            async with campaign(stack, cluster.url(), stack.home / "cluster-projector") as held:
                await held.warm(places=lambda: [extra.place for extra in extras])
                yield cluster, held
        for extra in extras:
            left += await asyncio.to_thread(left_by, extra)
    finally:
        cluster.kill_all()
        await asyncio.to_thread(stack.finish)


async def cluster_rounds(points: list[Point], home: Path) -> AsyncGenerator[Row, None]:
    """Kill servers of a cluster under load."""
    left: list[str] = []
    async with _clustered(home, left) as (cluster, held):
        for point in points:
            yield await _round(cluster, held, point)
        row = await held.last()
    row.left += left
    yield row


@dataclass
class Times:
    """How long it took after each kill: until appends went on, until a role's did, until a submission from then had ended."""

    appends: list[float] = field(default_factory=list)
    roles: list[float] = field(default_factory=list)
    submissions: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        if not self.appends:
            return "nothing was measured"
        return (
            f"after a kill, at the most: appends paused {max(self.appends):.1f} s, the roles {max(self.roles):.1f} s; "
            f"a submission handed in then ended after {max(self.submissions):.1f} s"
        )

    def faults(self) -> Iterator[str]:
        """Yield what took too long."""
        for what, pauses in (("acknowledged appends", self.appends), ("the roles' appends", self.roles)):
            for number, pause in enumerate(pauses, 1):
                if pause > GOES_ON_S:
                    yield f"{what} paused {pause:.1f} s after kill {number}, at the most {GOES_ON_S:g} s"


async def _round(cluster: Cluster, held: Campaign, point: Point) -> Row:
    row, began, times = Row(point.name), time.monotonic(), Times()
    handed: list[Handed] = []
    async with _load(cluster.url()) as appends:
        for _ in range(KILLS):
            await _kill(cluster, held, row, handed, times, appends)
            row.kills += 1
        await held.history.until_done([one.identity for one in handed], timeout_s=READY_S)
    await held.settle({point.name: row}, {point.name: handed}, began)
    await held.read_all()
    there = {identity: entries[0].sequence for identity, entries in held.history.entries.items() if entries}
    row.findings += [("the load", finding) for finding in lost(appends.acknowledged, there)]
    row.faults += times.faults()
    row.said = f"{len(appends.acknowledged)} appends acknowledged beside; {times}"
    return row


async def _kill(cluster: Cluster, held: Campaign, row: Row, handed: list[Handed], times: Times, appends: Appends) -> None:
    """Kill one server under load, measure until work goes on, and start it again."""
    handed += [await held.hand_in(KINDS[name]) for name in FIVE]
    row.faults += filter(None, [await appends.more(APPENDS_AT_LEAST, READY_S)])
    leader = await cluster.leader("EVENTS")
    node = leader if row.point.endswith("leader") else next(n for n in sorted(cluster.running) if n != leader)
    cluster.kill(node)
    killed, killed_ns = time.monotonic(), time.time_ns()
    last = await held.hand_in(KINDS["plain"])
    handed.append(last)
    await held.history.until_done([last.identity], timeout_s=READY_S)
    ended, ended_s = time.monotonic(), (time.time_ns() - killed_ns) / 1e9
    row.faults += filter(None, [await appends.more(APPENDS_AT_LEAST, READY_S)])
    times.submissions.append(ended - killed)
    times.roles.append(longest_pause([(ns - killed_ns) / 1e9 for ns in held.history.work_ns], 0.0, ended_s))
    times.appends.append(longest_pause(appends.at, killed, time.monotonic()))
    cluster.start(node)
    for stream in ("EVENTS", "ENVIRONMENTS"):
        await cluster.current(stream)

"""Three servers, the roles beside them, submissions without pause: the leader of EVENTS is killed, and another server."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final

from cutor.bus.connection import Bus
from cutor.bus.errors import BusError
from cutor.config import parse
from cutor.journal import Journal
from cutor.model.codec import encode
from cutor.model.events import StoredRequest, Submitted
from cutor.model.subjects import Address, event_subject, fence
from tests.cluster import NODES, Cluster
from tests.fault.campaign import FIVE, Campaign, Handed, Row, campaign
from tests.fault.network import no_container
from tests.fault.points import Point
from tests.fault.stack import ExtraRole, FaultStack
from tests.fault.submissions import KINDS

KILLS: Final = 3
LOAD_S: Final = 2.0
READY_S: Final = 60.0
ROLES: Final = ("builder", "runner", "projector")


@dataclass
class Appends:
    """Events of a tenant that nobody works for, one after the other as long as it runs, and which were acknowledged."""

    acknowledged: dict[str, int] = field(default_factory=dict)
    at: list[float] = field(default_factory=list)

    async def run(self, server: str) -> None:
        async with Bus.connect(server, name="fault: load") as bus:
            while True:
                address = Address("load", secrets.token_hex(8))
                body = encode(Submitted(request=StoredRequest(files=(), test_cases=()), digest=address.id))
                with suppress(BusError):
                    appended = await bus.append(
                        event_subject(address, "submitted"),
                        body,
                        message_id=address.id,
                        fence=fence(address),
                        expected_sequence=0,
                    )
                    self.acknowledged[address.id] = appended.sequence
                    self.at.append(time.monotonic())
                await asyncio.sleep(0.01)

    def longest_pause(self, since: float) -> float:
        """Return the longest time between two acknowledged appends since a moment."""
        return max((b - a for a, b in pairwise(self.at) if b >= since), default=0.0)


@contextmanager
def _roles(stack: FaultStack, server: str) -> Iterator[list[ExtraRole]]:
    with ExitStack() as exits:
        extras = [ExtraRole(stack, role, f"cluster-{role}") for role in ROLES]
        for extra in extras:
            extra.start(server)
            exits.callback(extra.stop)
        yield extras


@asynccontextmanager
async def _clustered(home: Path) -> AsyncIterator[tuple[Cluster, Campaign, list[ExtraRole]]]:
    """A cluster with streams and policy, roles on it, and a campaign that has seen them work."""
    stack = FaultStack.make(home / "stack")
    (home / "nodes").mkdir(parents=True)
    cluster = Cluster(home / "nodes")
    try:
        for node in range(NODES):
            cluster.start(node)
        await cluster.prepare()
        async with Bus.connect(cluster.url(), name="fault: policy") as bus:
            await Journal(bus).publish_policy(parse(stack.config.read_bytes(), "config").policy())
        with _roles(stack, cluster.url()) as extras:
            async with campaign(stack, cluster.url()) as held:
                yield cluster, held, extras
    finally:
        cluster.kill_all()
        await asyncio.to_thread(stack.finish)


async def cluster_rounds(points: list[Point], home: Path) -> AsyncGenerator[Row, None]:
    """Kill servers of a cluster under load."""
    async with _clustered(home) as (cluster, held, extras):
        await held.warm(watch=False)
        for point in points:
            row = await _round(cluster, held, point)
            for extra in extras:
                await no_container(extra.instance, None, row)
            yield row


@dataclass
class Times:
    """How long it took after each kill: until appends went on, until a role's did, until a submission from then had ended."""

    appends: list[float] = field(default_factory=list)
    roles: list[float] = field(default_factory=list)
    submissions: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"after a kill, at the most: appends paused {max(self.appends):.1f} s, the roles {max(self.roles):.1f} s; "
            f"a submission handed in then ended after {max(self.submissions):.1f} s"
        )


async def _round(cluster: Cluster, held: Campaign, point: Point) -> Row:
    row, began, times = Row(point.name), time.monotonic(), Times()
    appends = Appends()
    load = asyncio.create_task(appends.run(cluster.url()))
    handed: list[Handed] = []
    try:
        for _ in range(KILLS):
            await _kill(cluster, held, point, handed, times, appends)
            row.kills += 1
        await held.history.until_done([one.identity for one in handed], timeout_s=READY_S)
    finally:
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
    await held.settle({point.name: row}, {point.name: handed}, began, projector=held.stack.home / "cluster-projector")
    there = {identity: entries[0].sequence for identity, entries in held.history.entries.items()}
    if lost := [key for key, sequence in appends.acknowledged.items() if there.get(key) != sequence]:
        row.left.append(f"{len(lost)} acknowledged appends are lost, such as {lost[:3]}")
    row.said = f"{len(appends.acknowledged)} appends acknowledged beside; {times}"
    return row


async def _kill(cluster: Cluster, held: Campaign, point: Point, handed: list[Handed], times: Times, appends: Appends) -> None:
    """Kill one server under load, measure until work goes on, and start it again."""
    handed += [await held.hand_in(KINDS[name]) for name in FIVE]
    await asyncio.sleep(LOAD_S)
    leader = await cluster.leader("EVENTS")
    node = leader if point.name.endswith("leader") else next(n for n in sorted(cluster.running) if n != leader)
    cluster.kill(node)
    killed, killed_ns = time.monotonic(), time.time_ns()
    last = await held.hand_in(KINDS["plain"])
    handed.append(last)
    await held.history.until_done([last.identity], timeout_s=READY_S)
    times.submissions.append(time.monotonic() - killed)
    times.roles.append(min((ns - killed_ns for ns in held.history.work_ns if ns > killed_ns), default=0) / 1e9)
    times.appends.append(appends.longest_pause(killed))
    cluster.start(node)
    for stream in ("EVENTS", "ENVIRONMENTS"):
        await cluster.current(stream)

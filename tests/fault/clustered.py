"""Three servers, the roles beside them, submissions without pause: the leader of EVENTS is killed, and another server."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cutor.bus.connection import Bus
from cutor.bus.errors import BusError
from cutor.config import parse
from cutor.journal import Journal
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
    """Events of strangers, appended one after the other for as long as it runs; ``acknowledged`` are those that were."""

    acknowledged: dict[str, int] = field(default_factory=dict)
    at: list[float] = field(default_factory=list)

    async def run(self, server: str) -> None:
        async with Bus.connect(server, name="fault: load") as bus:
            while True:
                key = secrets.token_hex(8)
                with suppress(BusError):
                    appended = await bus.append(
                        f"cutor.env.{key}",
                        b"{}",
                        message_id=key,
                        fence=f"cutor.env.{key}",
                        expected_sequence=0,
                    )
                    self.acknowledged[key] = appended.sequence
                    self.at.append(time.monotonic())
                await asyncio.sleep(0.01)

    def pause_after(self, moment: float) -> float:
        """Return how long it took from a moment until the first append that began no earlier was acknowledged."""
        return max((b - a for a, b in zip(self.at, self.at[1:], strict=False) if b >= moment), default=0.0)


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


async def _round(cluster: Cluster, held: Campaign, point: Point) -> Row:
    row, began = Row(point.name), time.monotonic()
    appends = Appends()
    load = asyncio.create_task(appends.run(cluster.url()))
    handed: list[Handed] = []
    pauses: list[float] = []
    ends: list[float] = []
    try:
        for _ in range(KILLS):
            handed += [await held.hand_in(KINDS[name]) for name in FIVE]
            await asyncio.sleep(LOAD_S)
            leader = await cluster.leader("EVENTS")
            node = leader if point.name.endswith("leader") else next(n for n in sorted(cluster.running) if n != leader)
            cluster.kill(node)
            killed = time.monotonic()
            row.kills += 1
            last = await held.hand_in(KINDS["plain"])
            handed.append(last)
            await held.history.until_done([last.identity], timeout_s=READY_S)
            ends.append(time.monotonic() - killed)
            pauses.append(appends.pause_after(killed))
            cluster.start(node)
            for stream in ("EVENTS", "ENVIRONMENTS"):
                await cluster.current(stream)
        await held.history.until_done([one.identity for one in handed], timeout_s=READY_S)
    finally:
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
    await held.settle({point.name: row}, {point.name: handed}, began, projector=held.stack.home / "cluster-projector")
    await _acknowledged(held, appends, row)
    row.said = (
        f"{len(appends.acknowledged)} appends acknowledged beside; appends paused {max(pauses):.1f} s at the most; "
        f"a submission that was handed in after the kill ended after {max(ends):.1f} s at the most"
    )
    return row


async def _acknowledged(held: Campaign, appends: Appends, row: Row) -> None:
    """Look whether every acknowledged append is in the stream."""
    there = {stored.subject: stored.sequence async for stored in held.bus.read("ENVIRONMENTS")}
    lost = [key for key, sequence in appends.acknowledged.items() if there.get(f"cutor.env.{key}") != sequence]
    if lost:
        row.left.append(f"{len(lost)} acknowledged appends are lost, such as {lost[:3]}")

"""What a server bears: `python -m tests.bench.scale.server`, or `make bench-server`; in a minute and a half.

- A submission's messages as roles exchange them, without any role: seven fenced appends, two deliveries with their answers,
  and the reads of builder and runner, from many at one time. What counts is the server's CPU time for one; then that of three
  servers with three copies of everything.
- Roles that have nothing to do: so many pulls that wait, at one consumer and at one for each of many tenants; what they cost
  the server in CPU time and memory, and how soon one of them has what comes.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Final, NamedTuple

import uvloop

from cutor.bus.connection import Bus
from cutor.bus.consumer import WeightedQueues
from cutor.bus.delivery import Delivery
from cutor.bus.embedded import EmbeddedServer
from cutor.bus.ports import free_port
from cutor.bus.topology import apply, default_text, parse
from cutor.model.subjects import EVENTS, Address, event_subject, fence
from tests.bench.performance.figures import percentile
from tests.bench.performance.tables import number, table
from tests.bench.performance.usage import TICKS, field, stat_of
from tests.cluster import start_cluster

SECONDS: Final = 5.0
AT_ONCE: Final = 50
BODY: Final = b'{"kind":"of 500 bytes","pad":"' + b"x" * 470 + b'"}'
STEPS: Final[dict[str, tuple[str, ...]]] = {
    "builder": ("leased", "cache-built"),
    "runner": ("leased", "ran", "finished", "cleaned"),
}
IDLE: Final = ((100, 1), (500, 1), (1_000, 1), (10, 50), (100, 50))
"""Roles that wait, and tenants; each role has a connection and a pull for each tenant."""


class Busy(NamedTuple):
    """What so many servers took for submissions: how many a second, and CPU milliseconds for one of all and of the busiest."""

    servers: int
    submissions: int
    per_second: float
    cpu_ms: float
    busiest_ms: float


class Idle(NamedTuple):
    """What roles that wait cost one server: a share of a CPU, KiB for a role, and when one has what comes, in milliseconds."""

    roles: int
    tenants: int
    cpu_share: float
    kib: float
    p50: float
    p99: float


async def busy(url: str, pids: Sequence[int], seconds: float) -> Busy:
    """Let submissions go through for so long."""
    names, done, began = count(), 0, time.perf_counter()
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(Bus.connect(url, name="bench"))
        queues = {
            role: await stack.enter_async_context(WeightedQueues(bus, EVENTS, [(f"{role}-default", 1)])) for role in STEPS
        }
        ended: dict[str, asyncio.Event] = {}
        slots = [asyncio.create_task(serve(bus, queues[role], role, ended)) for role in STEPS for _ in range(AT_ONCE)]

        async def produce() -> None:
            nonlocal done
            while time.perf_counter() < began + seconds:
                address = Address("default", f"life-{next(names)}")
                end = ended[address.id] = asyncio.Event()
                await append(bus, address, "submitted", 0)
                await end.wait()
                done += 1

        before = [cpu_s(pid) for pid in pids]
        producing = asyncio.gather(*(produce() for _ in range(AT_ONCE)))
        await asyncio.wait([producing, *slots], return_when=asyncio.FIRST_COMPLETED)
        for failed in slots:
            if failed.done():
                failed.result()
        await producing
        spent = [cpu_s(pid) - then for pid, then in zip(pids, before, strict=True)]
        took = time.perf_counter() - began
        for slot in slots:
            slot.cancel()
        await asyncio.gather(*slots, return_exceptions=True)
    return Busy(len(pids), done, done / took, sum(spent) * 1000 / done, max(spent) * 1000 / done)


async def serve(bus: Bus, queue: WeightedQueues, role: str, ended: dict[str, asyncio.Event]) -> None:
    """Do what a slot of a role does, for ever."""
    while True:
        if (delivery := await queue.next(30)) is None:
            continue
        address = Address("default", delivery.stored.subject.split(".")[3])
        sequence = await read(bus, address, delivery)
        for kind in STEPS[role]:
            sequence = await append(bus, address, kind, sequence)
        await delivery.ack()
        if role == "runner":
            ended.pop(address.id).set()


async def read(bus: Bus, address: Address, delivery: Delivery) -> int:
    """Read a submission's history, as a role does; return its newest sequence."""
    sequence, at_least = 0, delivery.stored.sequence
    batches = bus.history_batches(fence(address), event_subject(address, "submitted"), at_least=at_least, consistent=False)
    async for batch in batches:
        sequence = batch[-1].sequence
    return sequence


async def append(bus: Bus, address: Address, kind: str, expected: int) -> int:
    """Append one event behind the fence."""
    message_id = f"{address}/{kind}/{expected}"
    done = await bus.append(
        event_subject(address, kind), BODY, message_id=message_id, fence=fence(address), expected_sequence=expected
    )
    return done.sequence


async def idle(directory: Path, roles: int, tenants: int, seconds: float) -> Idle:
    """Let so many roles wait, each for all tenants; then let a hundred deliveries come to one tenant."""
    names = [f"tenant-{number}" for number in range(tenants)]
    weights = [(f"runner-{name}", 1) for name in names]
    taken_ms: list[float] = []

    async def wait(queue: WeightedQueues) -> None:
        while True:
            if (delivery := await queue.next(30)) is not None:
                taken_ms.append((time.time_ns() - delivery.stored.time_ns) / 1e6)
                await delivery.ack()

    async with await EmbeddedServer.start(directory, port=free_port("127.0.0.1")) as server, AsyncExitStack() as stack:
        bus = await stack.enter_async_context(Bus.connect(server.url, name="bench"))
        await apply(bus, parse(default_text(), names))
        held = field(server.pid, "status", "VmRSS")
        buses = [await stack.enter_async_context(Bus.connect(server.url, name="role")) for _ in range(roles)]
        queues = [await stack.enter_async_context(WeightedQueues(one, EVENTS, weights)) for one in buses]
        tasks = [asyncio.create_task(wait(queue)) for queue in queues]
        await asyncio.sleep(4)
        before = cpu_s(server.pid)
        await asyncio.sleep(seconds)
        share = (cpu_s(server.pid) - before) / seconds
        kib = (field(server.pid, "status", "VmRSS") - held) / roles
        for nth in range(100):
            await bus.publish(f"cutor.ev.{names[0]}.s{nth}.cache-built", BODY)
            await asyncio.sleep(0.02)
        async with asyncio.timeout(60):
            while len(taken_ms) < 100:
                await asyncio.sleep(0.02)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return Idle(roles, tenants, share, kib, percentile(sorted(taken_ms), 50), percentile(sorted(taken_ms), 99))


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process, those of its children left out."""
    return sum(map(int, stat_of(pid)[11:13])) / TICKS


async def one_server(directory: Path, seconds: float) -> Busy:
    """As `busy`, with one server."""
    async with await EmbeddedServer.start(directory, port=free_port("127.0.0.1")) as server:
        async with Bus.connect(server.url, name="bench") as bus:
            await apply(bus, parse(default_text(), ["default"]))
        return await busy(server.url, [server.pid], seconds)


def run(directory: Path, seconds: float) -> None:
    """Measure and print."""
    found = [uvloop.run(one_server(directory / "one", seconds))]
    with start_cluster() as cluster:
        found.append(uvloop.run(busy(cluster.url(), [cluster.pid(node) for node in sorted(cluster.running)], seconds)))
    head = ["servers", "submissions", "a second", "CPU of all, ms a submission", "of the busiest, ms"]
    rows = ([str(one.servers), f"{one.submissions:,}", *map(number, one[2:])] for one in found)
    print(table(head, rows), flush=True)
    waiting = [uvloop.run(idle(directory / f"idle-{roles}-{tenants}", roles, tenants, seconds)) for roles, tenants in IDLE]
    head = ["roles that wait", "tenants", "server, % of a CPU", "KiB a role", "delivered within, half, ms", "99 of 100"]
    lines = ([f"{one.roles:,}", str(one.tenants), number(one.cpu_share * 100), *map(number, one[3:])] for one in waiting)
    print("\n" + table(head, lines))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="cutor-bench-") as name:
        run(Path(name), SECONDS)

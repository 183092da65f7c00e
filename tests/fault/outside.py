"""Kills from outside: of processes, of containers and what is in them, and of everything at once."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Final

from tests.attacks.stack import StackFailed
from tests.fault import deeds
from tests.fault.arming import Order
from tests.fault.campaign import FIVE, Campaign
from tests.fault.invariants import Finding
from tests.fault.points import Point
from tests.fault.rows import Handed, Row
from tests.fault.stack import FaultStack, jails_of
from tests.fault.submissions import KINDS
from tests.processes import init_of, kill

SEEN_S: Final = 120.0
DEAD_S: Final = 120.0


async def start_round(held: Campaign, points: list[Point]) -> list[Row]:
    """Kill everything while there is work, then the supervisor at a point of each of its next starts; the last one must do."""
    began, rows = time.monotonic(), {point.name: Row(point.name) for point in points}
    handed = [await held.hand_in(KINDS[name]) for name in (*FIVE, *points[0].kinds)]
    await in_work(held, handed, "runner", "lasts")
    held.stack.kill_all()
    await held.stack.ended(DEAD_S)
    rows[points[0].name].kills = 1
    held.redelivered = 0
    for point in points:
        if "consumer-reset" in point.name:
            _power_failure(held.stack)
            held.redelivered += 1
        await _die_at_start(held.stack, point, rows[point.name])
    await held.stack.up()
    await held.settle(rows, {name: handed[at :: len(rows)] for at, name in enumerate(rows)}, began)
    return list(rows.values())


async def _die_at_start(stack: FaultStack, point: Point, row: Row) -> None:
    stack.points.arm(point.name, Order(passing=point.passing))
    stack.launch()
    code = await stack.ended(DEAD_S)
    row.reached = stack.points.fired(point.name)
    row.kills += row.reached
    if not row.reached:
        stack.points.disarm(point.name)
        row.said = f"the supervisor ended with {code}"


def _power_failure(stack: FaultStack) -> None:
    """Let the lock that a dead life left name another boot of the machine, as it does after a power failure."""
    lock = stack.data / "lock"
    holder = json.loads(lock.read_text())
    lock.write_text(json.dumps(holder | {"boot": "another"}))


async def stop_round(held: Campaign, points: list[Point]) -> list[Row]:
    """Ask the stack to end while there is work, and kill the supervisor at a point of that; start it again, for each point."""
    began, rows, handed = time.monotonic(), {point.name: Row(point.name) for point in points}, {}
    held.redelivered = 0
    for point in points:
        row = rows[point.name]
        handed[point.name] = [await held.hand_in(KINDS[name]) for name in (*FIVE, *point.kinds)]
        await in_work(held, handed[point.name], "runner", "lasts")
        held.stack.points.arm(point.name, Order(passing=point.passing))
        held.stack.supervisor[0].send_signal(signal.SIGTERM)
        code = await held.stack.ended(DEAD_S)
        row.reached = held.stack.points.fired(point.name)
        row.kills = int(row.reached)
        if not row.reached:
            held.stack.points.disarm(point.name)
            row.said = f"the supervisor ended with {code}"
        await held.stack.up()
    await held.settle(rows, handed, began)
    return list(rows.values())


async def in_work(held: Campaign, handed: list[Handed], role: str, kind: str) -> str:
    """Return the id of the submission of a kind once a role works on it."""
    identity = next(one.identity for one in handed if one.kind.name == kind)
    await held.history.until(identity, "leased", role, timeout_s=SEEN_S)
    await asyncio.sleep(0.3)
    return identity


async def outside_round(held: Campaign, points: list[Point]) -> list[Row]:
    """Kill something while submissions are handed in and worked on."""
    (point,) = points
    began, row = time.monotonic(), Row(point.name)
    handing = asyncio.create_task(_hand_in(held, point))
    what = point.name.partition(".")[2]
    held.redelivered = 0
    try:
        role, _, inside = what.partition("-")
        if role == "garbage":
            row.made = await _garbage(held, await handing)
        elif inside in {"container", "init", "jail", "daemon"}:
            row.kills = await _inside(held, await handing, role, inside)
        else:
            await asyncio.sleep(random.uniform(0.1, 1.0))
            row.killed_ns.append(time.time_ns())
            row.kills = await _process(held.stack, what)
        row.reached = row.kills + row.made > 0
    finally:
        handed = await handing
    await held.settle({point.name: row}, {point.name: handed}, began)
    if role == "garbage":
        row.findings += list(_more_than_one_lease(held, handed))
    return [row]


async def _garbage(held: Campaign, handed: list[Handed]) -> int:
    """Put garbage behind each event of submissions as it comes; returns whether there was some before each end."""

    async def behind(identity: str) -> int:
        seen = 0
        deadline = time.monotonic() + SEEN_S
        while not held.history.done(identity) and time.monotonic() < deadline:
            while seen < len(held.history.entries[identity]):
                seen += 1
                await deeds.spoil(held, identity)
            await asyncio.sleep(0.002)
        return seen

    counts = await asyncio.gather(*(behind(one.identity) for one in handed))
    return int(min(counts) >= 3)


def _more_than_one_lease(held: Campaign, handed: list[Handed]) -> Iterator[tuple[str, Finding]]:
    """Yield the submissions whose work was done again although nothing was killed: what is no event is to hurt nobody."""
    for one in handed:
        leases = [entry.body["lease"] for entry in held.history.entries[one.identity] if entry.kind == "leased"]
        roles = [lease["role"] for lease in leases]
        if len(roles) != len(set(roles)):
            yield one.identity, Finding("doubled", f"nothing was killed, and there are leases of {', '.join(roles)}")


async def _hand_in(held: Campaign, point: Point) -> list[Handed]:
    return [await held.hand_in(KINDS[name]) for name in (*FIVE, *point.kinds)]


async def _process(stack: FaultStack, what: str) -> int:
    match what:
        case "everything":
            killed = len(stack.processes())
            stack.kill_all()
            await stack.ended(DEAD_S)
            await stack.up()
            return min(killed, 1)
        case "supervisor":
            killed = shoot_all(stack, what)
            await stack.ended(DEAD_S)
            await stack.up()
            return killed
        case "server-again":
            killed = shoot_all(stack, "server")
            await asyncio.sleep(1.5)
            return killed + shoot_all(stack, "server")
        case _:
            return shoot_all(stack, what)


def shoot_all(stack: FaultStack, role: str) -> int:
    """SIGKILL to the process of a role; returns whether there was one."""
    return sum(map(kill, stack.pids(role)))


async def _inside(held: Campaign, handed: list[Handed], role: str, what: str) -> int:
    """Kill a container of a submission that is worked on, its init, or a jail in it.

    That of a build's nix-daemon was there first, and the one in which a program is, last."""
    kind = "lasts-building" if role == "builder" else "lasts"
    identity = await in_work(held, handed, role, kind)
    find: Callable[[str], list[int]] = {"init": _inits, "jail": _jails, "daemon": _daemons}.get(what, lambda _: [])
    deadline = time.monotonic() + SEEN_S
    while time.monotonic() < deadline:
        containers = await asyncio.to_thread(held.stack.containers_of, identity)
        if what == "container":
            for container in containers:
                await asyncio.to_thread(subprocess.run, ["docker", "kill", container], capture_output=True, check=False)
            if containers:
                return len(containers)
        pids = [pid for container in containers for pid in await asyncio.to_thread(find, container)]
        if any(kill(pid) for pid in pids):
            return 1
        await asyncio.sleep(0.05)
    raise StackFailed(f"there was no {what} of {identity} to kill")


def _inits(container: str) -> list[int]:
    pid = init_of(container)
    return [pid] if pid else []


def _daemons(container: str) -> list[int]:
    return jails_of(container)[:1]


def _jails(container: str) -> list[int]:
    return jails_of(container)[-1:]

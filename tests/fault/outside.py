"""Kills from outside: of processes, of containers and what is in them, and of everything at once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.attacks.stack import StackFailed
from tests.fault.arming import Order
from tests.fault.campaign import FIVE, Campaign, Handed, Row
from tests.fault.points import Point
from tests.fault.stack import FaultStack, children, init_of
from tests.fault.submissions import KINDS

SEEN_S: Final = 120.0
DEAD_S: Final = 120.0


def shoot(pid: int) -> bool:
    """SIGKILL; False where it has ended."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


async def start_round(held: Campaign, points: list[Point]) -> list[Row]:
    """Kill everything while there is work, then the supervisor at a point of each of its next starts; the last one must do."""
    began, rows = time.monotonic(), {point.name: Row(point.name) for point in points}
    handed = [await held.hand_in(KINDS[name]) for name in (*FIVE, *points[0].kinds)]
    await in_work(held, handed, "runner", "lasts")
    held.stack.kill_all()
    await held.stack.ended(DEAD_S)
    rows[points[0].name].kills = 1
    for point in points:
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
    try:
        role, _, inside = what.partition("-")
        if inside in {"container", "init", "jail"}:
            row.kills = await _inside(held, await handing, role, inside)
        else:
            await asyncio.sleep(random.uniform(0.1, 1.0))
            row.kills = await _process(held.stack, what)
        row.reached = row.kills > 0
    finally:
        handed = await handing
    await held.settle({point.name: row}, {point.name: handed}, began)
    return [row]


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
    return sum(map(shoot, stack.pids(role)))


async def _inside(held: Campaign, handed: list[Handed], role: str, what: str) -> int:
    """Kill a container of a submission that is worked on, its init, or a jail in it."""
    kind = "lasts-building" if role == "builder" else "lasts"
    identity = await in_work(held, handed, role, kind)
    find: Callable[[str], list[int]] = {"init": _inits, "jail": _jails}.get(what, lambda _: [])
    deadline = time.monotonic() + SEEN_S
    while time.monotonic() < deadline:
        containers = await asyncio.to_thread(held.stack.containers_of, identity)
        if what == "container":
            for container in containers:
                await asyncio.to_thread(subprocess.run, ["docker", "kill", container], capture_output=True, check=False)
            if containers:
                return len(containers)
        pids = [pid for container in containers for pid in await asyncio.to_thread(find, container)]
        if any(shoot(pid) for pid in pids):
            return 1
        await asyncio.sleep(0.05)
    raise StackFailed(f"there was no {what} of {identity} to kill")


def _inits(container: str) -> list[int]:
    pid = init_of(container)
    return [pid] if pid else []


def _jails(container: str) -> list[int]:
    """Return the outermost nsjail of a container: a descendant of its init with that program."""
    pid = init_of(container)
    found = []
    for child in children(pid) if pid else ():
        try:
            name = Path(f"/proc/{child}/comm").read_text().strip()
        except OSError:
            continue
        if name == "nsjail":
            found.append(child)
    return found[:1]

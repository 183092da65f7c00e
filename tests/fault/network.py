"""Faults of the connection between one role and the server, and roles that stand still for longer than their lease lasts."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final
from urllib.parse import urlsplit

from tests.containers import container_ids
from tests.fault import role as entry
from tests.fault.arming import Order
from tests.fault.campaign import FIVE, Campaign
from tests.fault.leftovers import left_by
from tests.fault.outside import in_work, shoot_all
from tests.fault.points import Point
from tests.fault.proxy import Proxy
from tests.fault.rows import Handed, Row
from tests.fault.stack import LEASE_S, ExtraRole, FaultStack
from tests.fault.submissions import KINDS, LONG
from tests.fault.views import caught_up

READY_S: Final = 180.0
AWAY_S: Final = 6.0
SLOW_MS: Final = 150.0
TAKEN_OVER_S: Final = LEASE_S + 40.0
STOPS_S: Final = LEASE_S + 30.0
WAKES_S: Final = 2.0
"""What a role that was stopped is given to send what it was about to send."""
LATE: Final = {
    "stopped-at-its-append": {"builder": "cache-built", "runner": "finished"},
    "stopped-before-its-lease": {"builder": "leased", "runner": "leased"},
}
"""What a role is about to append when it is stopped."""
RESULTS: Final = {"builder": rb"cutor\.ev\.\S+\.cache-built ", "runner": rb"cutor\.ev\.\S+\.(ran|finished) "}
LEASES: Final = rb"PUB cutor\.ev\.\S+\.leased "
"""Not the subscriptions, by which a role hears of others' leases."""
COMMAND: Final = LONG.replace(" ", "\0").encode()


@asynccontextmanager
async def routed(stack: FaultStack, role: str) -> AsyncIterator[Proxy]:
    """Let a role reach the server by a proxy while the block lasts, from when it is ready; it is started again at both ends."""
    port = urlsplit(stack.server).port
    assert port is not None
    route = stack.points.directory / f".{role}{entry.ROUTE}"
    async with Proxy(port) as proxy:
        route.write_text(proxy.url(stack.server))
        try:
            at = stack.log.stat().st_size
            await _again(stack, role)
            deadline = time.monotonic() + READY_S
            while not proxy.connections or f"the {role} is ready".encode() not in stack.said(at):
                assert time.monotonic() < deadline, f"the {role} does not come by the proxy"
                await asyncio.sleep(0.05)
            yield proxy
        finally:
            proxy.resume()
            proxy.delay(0)
            route.unlink()
            await _again(stack, role)


async def _again(stack: FaultStack, role: str) -> None:
    """Have a role started again, and wait until it is there."""
    old = set(stack.pids(role))
    shoot_all(stack, role)
    deadline = time.monotonic() + READY_S
    while not set(stack.pids(role)) - old:
        assert time.monotonic() < deadline, f"the {role} is not started again"
        await asyncio.sleep(0.05)


async def network_round(held: Campaign, points: list[Point]) -> list[Row]:
    """One fault of the network, with submissions in work."""
    (point,) = points
    began, row = time.monotonic(), Row(point.name)
    held.redelivered = 0
    role, _, how = point.name.partition(".")[2].partition("-")
    if how == "stopped-past-its-lease":
        handed = await _stopped(held, point, row)
    elif how in LATE:
        handed = await _late(held, point, row, role, LATE[how][role])
    else:
        async with routed(held.stack, role) as proxy:
            (pid,) = held.stack.pids(role)
            handed = await (_frozen if how == "frozen-past-its-lease" else _usual)(held, point, row, proxy)
            await _goes_on(held, row, role, handed)
            if held.stack.pids(role) != [pid]:
                row.faults.append(f"the {role} that met the fault is not the one that runs: it has died of it")
    row.made = int(row.reached)
    await held.settle({point.name: row}, {point.name: handed}, began)
    return [row]


async def _usual(held: Campaign, point: Point, row: Row, proxy: Proxy) -> list[Handed]:
    """Do something to the connection of a role that is at work, and undo it."""
    role, _, how = point.name.partition(".")[2].partition("-")
    handed = [await held.hand_in(KINDS[name]) for name in (*FIVE, *point.kinds)]
    row.reached = await _disturb(held, handed, proxy, role, how)
    proxy.resume()
    proxy.delay(0)
    return handed


async def _goes_on(held: Campaign, row: Row, role: str, handed: list[Handed]) -> None:
    """See that everything ends while the role still is the one that met the fault, and that it takes up something new."""
    await _ended(held, row, handed)
    later = await held.hand_in(KINDS["plain"])
    handed.append(later)
    await _ended(held, row, [later])
    if role == "projector" and (lag := await caught_up(held.bus)):
        row.faults.append(lag)


async def _ended(held: Campaign, row: Row, handed: list[Handed]) -> None:
    """Wait until submissions have ended; note those that have not."""
    left = await held.history.until_done([one.identity for one in handed], timeout_s=TAKEN_OVER_S)
    row.faults += [f"{identity} had not ended {TAKEN_OVER_S:g} s after the fault was over" for identity in left]


async def _disturb(held: Campaign, handed: list[Handed], proxy: Proxy, role: str, how: str) -> bool:
    """Do one thing to the connection; returns whether it was met."""
    if how in {"append-unanswered", "append-halved", "lease-unanswered"}:
        pattern = LEASES if how == "lease-unanswered" else RESULTS[role]
        trap = (proxy.cut_within if how == "append-halved" else proxy.cut_after)(pattern)
        try:
            async with asyncio.timeout(READY_S):
                await trap.sprung.wait()
        except TimeoutError:
            return False
        return True
    if role != "projector":
        await in_work(held, handed, role, "lasts" if role == "runner" else "lasts-building")
    match how:
        case "cut":
            proxy.cut()
            await asyncio.sleep(AWAY_S)
        case "frozen":
            proxy.freeze()
            await asyncio.sleep(AWAY_S)
        case "slow":
            proxy.delay(SLOW_MS)
            await held.history.until_done([one.identity for one in handed], timeout_s=TAKEN_OVER_S)
        case "flapping":
            for _ in range(8):
                proxy.drop()
                await asyncio.sleep(0.6)
    return True


@asynccontextmanager
async def _second(held: Campaign, role: str, row: Row) -> AsyncIterator[ExtraRole]:
    """Another process of a role while the block lasts; nothing of it may be left."""
    extra = ExtraRole(held.stack, role, f"second-{role}")
    extra.start(held.stack.server)
    try:
        yield extra
    finally:
        await asyncio.to_thread(extra.stop)
    row.left += await asyncio.to_thread(left_by, extra)


async def _at_work(held: Campaign, point: Point, row: Row) -> tuple[list[Handed], str, list[str]]:
    """Hand in, and wait until the stage of one that lasts runs; return it, and its containers."""
    handed = [await held.hand_in(KINDS[name]) for name in (*FIVE, *point.kinds)]
    identity = next(one.identity for one in handed if one.kind.name == "until-cancelled")
    deadline = time.monotonic() + READY_S
    while not await asyncio.to_thread(held.stack.runs, identity, COMMAND):
        assert time.monotonic() < deadline, f"{identity} does not come to run"
        await asyncio.sleep(0.1)
    return handed, identity, await asyncio.to_thread(held.stack.containers_of, identity)


async def _stopped(held: Campaign, point: Point, row: Row) -> list[Handed]:
    """SIGSTOP a runner at work for longer than its lease: a second one takes over, the first finds out when it wakes.

    Its container is there until then; nothing but what it finds out lets that go before the work would have ended.
    """
    (pid,) = held.stack.pids("runner")
    handed, identity, containers = await _at_work(held, point, row)
    send_signal(pid, signal.SIGSTOP)
    try:
        async with _second(held, "runner", row) as extra:
            row.reached = await _taken_over(held, identity, extra) and await _there(containers)
            send_signal(pid, signal.SIGCONT)
            await _gone(containers, row)
            await held.cancel(identity)
            await _ended(held, row, handed)
        await _goes_on(held, row, "runner", handed)
    finally:
        send_signal(pid, signal.SIGCONT)
    if held.stack.pids("runner") != [pid]:
        row.left.append("the runner that had been stopped is not the one that runs")
    return handed


async def _late(held: Campaign, point: Point, row: Row, role: str, event: str) -> list[Handed]:
    """Stop a role between its decision to append an event and the append; when it wakes, everything has ended by a second one.

    The append that is sent then comes too late, and nothing but the fence stands against it.
    """
    (pid,) = held.stack.pids(role)
    at = f"{role}.append-{event}.before"
    held.stack.points.arm(at, Order("stop"))
    handed = [await held.hand_in(KINDS[name]) for name in (*FIVE, *point.kinds)]
    try:
        async with asyncio.timeout(READY_S):
            while not held.stack.points.fired(at):
                await asyncio.sleep(0.05)
        async with _second(held, role, row):
            left = await held.history.until_done([one.identity for one in handed], timeout_s=TAKEN_OVER_S)
            row.reached = not left
            send_signal(pid, signal.SIGCONT)
            await asyncio.sleep(WAKES_S)
            if event == "leased":  # it cannot know what came of that: its note stays until its next start
                await _again(held.stack, role)
    finally:
        send_signal(pid, signal.SIGCONT)
    return handed


async def _frozen(held: Campaign, point: Point, row: Row, proxy: Proxy) -> list[Handed]:
    """Let a runner at work hear nothing for longer than its lease: it stops its container, a second one takes over."""
    handed, identity, containers = await _at_work(held, point, row)
    proxy.freeze()
    row.reached = await _there(containers)
    async with _second(held, "runner", row) as extra:
        await _gone(containers, row)
        row.reached &= await _taken_over(held, identity, extra)
        proxy.resume()
        await held.cancel(identity)
        await _ended(held, row, handed)
    return handed


async def _taken_over(held: Campaign, identity: str, extra: ExtraRole) -> bool:
    """Wait until another process of the role has a lease."""
    deadline = time.monotonic() + TAKEN_OVER_S
    while time.monotonic() < deadline:
        leases = [entry.body["lease"] for entry in held.history.entries[identity] if entry.kind == "leased"]
        if any(lease["worker"].startswith(f"{extra.data.name}-") for lease in leases):
            return True
        await asyncio.sleep(0.1)
    return False


async def _there(containers: list[str]) -> bool:
    """Whether there are containers, and all of them are there."""
    return bool(containers) and await _still(containers) == containers


async def _still(containers: list[str]) -> list[str]:
    """Return those of some containers that Docker has still, whatever state they are in."""
    found = await asyncio.to_thread(container_ids)
    return [one for one in containers if one in found]


async def _gone(containers: list[str], row: Row) -> None:
    """Wait until containers are gone; note those that stay."""
    deadline = time.monotonic() + STOPS_S
    while found := await _still(containers):
        if time.monotonic() > deadline:
            row.left.append(f"containers of a lease that is over: {', '.join(found)}")
            return
        await asyncio.sleep(0.2)


def send_signal(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)

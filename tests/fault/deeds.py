"""What the harness does beside handing in, so that a point is passed, or so that its pass can be borne."""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from cutor.bus.errors import BusError
from cutor.errors import CutorError
from cutor.projections.queries.client import query
from tests.fault.invariants import Finding
from tests.fault.points import Deed, Point
from tests.fault.wraps import BUG, POISONED
from tests.processes import kill

if TYPE_CHECKING:
    from tests.fault.campaign import Campaign
    from tests.fault.rows import Handed, Row

TO_THE_END: Final[frozenset[Deed]] = frozenset({"poison", "bug", "cancel", "retry", "drop", "redeliver"})
"""Deeds that go on behind the pass; the others end with it."""
SEEN_S: Final = 120.0
STARTS_S: Final = 60.0
STEP: Final = {"builder": "submitted", "runner": "cache-built"}
"""The event of a delivery to a role."""


async def do(held: Campaign, point: Point, row: Row, handed: list[Handed]) -> None:
    """Do what a point asks for, once its submissions are handed in."""
    if deed := DEEDS.get(point.deed):
        await deed(held, point, row, handed)


async def _query(held: Campaign, point: Point, row: Row, handed: list[Handed]) -> None:
    while True:
        with suppress(BusError, CutorError):
            await query(held.bus, "SELECT count(*) FROM submissions", timeout_s=5)
        await asyncio.sleep(0.2)


async def _spoil_views(held: Campaign, point: Point, row: Row, handed: list[Handed]) -> None:
    await asyncio.sleep(1)
    database = held.stack.data / "projections.duckdb"
    spoilt = database.with_name("spoilt")
    spoilt.write_bytes(secrets.token_bytes(4096))
    spoilt.rename(database)


async def _restart(held: Campaign, point: Point, row: Row, handed: list[Handed]) -> None:
    """Kill the role while it has work, so that its start passes the point."""
    await asyncio.sleep(0.5)
    row.killed_ns.append(time.time_ns())
    row.kills += _signal(held, point.role, signal.SIGKILL)


async def _terminate(held: Campaign, point: Point, row: Row, handed: list[Handed]) -> None:
    """Ask the role to end while it is at work that takes longer than it is given, so that it hands that back."""
    identity = _of_kind(handed, point.kinds[0])
    await held.history.until(identity, "leased", point.role, timeout_s=SEEN_S)
    await asyncio.sleep(0.3)
    _signal(held, point.role, signal.SIGTERM)


async def _garbage(held: Campaign, point: Point, row: Row, handed: list[Handed]) -> None:
    for one in handed:
        await spoil(held, one.identity)


async def spoil(held: Campaign, identity: str) -> None:
    """Put into a submission what is no event: it must hurt nobody, and get a letter."""
    for kind in ("finished", "nonsense"):
        subject = f"cutor.ev.default.{identity}.{kind}"
        held.garbage.add(await held.bus.publish(subject, b"\xff no event"))


async def _poison(held: Campaign, point: Point, row: Row, handed: list[Handed]) -> None:
    """Let the role fail by a bug at one submission until its delivery is ended, which has a letter.

    With the bug mended, what waits for somebody is delivered again by hand: so it goes on.
    """
    identity = _of_kind(handed, point.kinds[0])
    while not held.stack.points.fired(point.name):
        await asyncio.sleep(0.1)
    if not await _starts(held, point.role):
        row.faults.append(f"the {point.role} does not start with a submission in hand that is a bug to it")
    held.stack.points.disarm(f"{point.role}.{POISONED}")
    step = next(entry for entry in held.history.entries[identity] if entry.kind == STEP[point.role])
    held.garbage.add(step.sequence)  # its letter is written before the delivery is ended
    while await held.stack.command("streams", "redeliver"):
        await asyncio.sleep(0.2)
    held.redelivered += 1
    await held.history.until_done([identity], timeout_s=SEEN_S)  # before the next bug comes


async def _starts(held: Campaign, role: str) -> bool:
    """Wait until a role that was killed is ready again; whether it came to that."""
    at, deadline = held.stack.log.stat().st_size, time.monotonic() + STARTS_S
    while f"the {role} is ready".encode() not in held.stack.said(at):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.2)
    return True


async def _bug(held: Campaign, point: Point, row: Row, handed: list[Handed]) -> None:
    """Let the role fail by a bug at one submission until that is parked."""
    await held.history.until(_of_kind(handed, point.kinds[0]), "parked", timeout_s=SEEN_S)
    held.stack.points.disarm(f"{point.role}.{BUG}")


async def _redeliver(held: Campaign, point: Point, row: Row, handed: list[Handed]) -> None:
    """Have everything delivered again while there is work, by a process that dies of it, and again until that is done."""
    identity = _of_kind(handed, point.kinds[0])
    await held.history.until(identity, "leased", "runner", timeout_s=SEEN_S)
    held.redelivered += 1
    while await held.stack.command("streams", "redeliver"):
        held.redelivered += 1
    await held.cancel(identity)


async def _cancel(held: Campaign, point: Point, row: Row, handed: list[Handed]) -> None:
    """Cancel what waits or runs by a process that dies of it, and again until that is done."""
    identity = _of_kind(handed, point.kinds[0])
    while await held.stack.command("cancel", identity):
        await asyncio.sleep(0.2)


async def _drop(held: Campaign, point: Point, row: Row, handed: list[Handed]) -> None:
    """Drop a parked submission by a process that dies of it, and again until that is done: it is recorded, and stays so."""
    identity = handed[0].identity
    await held.history.until(identity, "parked", timeout_s=SEEN_S)
    while await held.stack.command("parked", "drop", identity):
        await asyncio.sleep(0.2)
    found = await held.client.parked(everything=True, limit=10_000)
    decided = [one.decision.action if one.decision else "nothing" for one in found if one.id == identity]
    if decided != ["dropped"]:
        row.findings.append((identity, Finding("lost", f"of what was dropped is recorded: {decided}")))


async def _retry(held: Campaign, point: Point, row: Row, handed: list[Handed]) -> None:
    """Retry a parked submission by a process that dies of it, and again until that is done: there is one new submission."""
    parked = handed[0]
    await held.history.until(parked.identity, "parked", timeout_s=SEEN_S)
    while await held.stack.command("parked", "retry", parked.identity):
        await asyncio.sleep(0.2)
    await held.read_all()
    found = held.history.caused_by(parked.identity)
    if len(found) != 1:
        row.findings.append((parked.identity, Finding("doubled" if found else "lost", f"retried as {found}, must be one")))
    handed += [parked._replace(identity=identity) for identity in found]


def _of_kind(handed: Sequence[Handed], kind: str) -> str:
    return next(one.identity for one in handed if one.kind.name == kind)


def _signal(held: Campaign, role: str, number: signal.Signals) -> int:
    """Send a signal to the process of a role; return how many there were."""
    return sum([kill(pid, number) for pid in held.stack.pids(role)])


Doing = Callable[["Campaign", Point, "Row", "list[Handed]"], Awaitable[None]]
DEEDS: Final[dict[Deed, Doing]] = {
    "query": _query,
    "spoil-views": _spoil_views,
    "restart": _restart,
    "terminate": _terminate,
    "garbage": _garbage,
    "poison": _poison,
    "bug": _bug,
    "cancel": _cancel,
    "retry": _retry,
    "drop": _drop,
    "redeliver": _redeliver,
}
"""What is done beside; the other deeds are done by arming more points."""

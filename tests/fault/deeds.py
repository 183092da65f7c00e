"""What the harness does beside handing in, so that a point is passed, or so that its pass can be borne."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from cutor.bus.errors import BusError
from cutor.errors import CutorError
from cutor.projections.query_client import query
from tests.fault.invariants import Finding
from tests.fault.points import Deed, Point
from tests.fault.wraps import POISONED

if TYPE_CHECKING:
    from tests.fault.campaign import Campaign, Handed, Row

TO_THE_END: Final[frozenset[Deed]] = frozenset({"poison", "retry"})
"""Deeds that go on behind the pass; the others end with it."""
SEEN_S: Final = 120.0
STARTS_S: Final = 60.0
STEP: Final = {"builder": "submitted", "runner": "cache-built"}
"""The event of a delivery to a role."""


async def do(held: Campaign, point: Point, row: Row, handed: list[Handed]) -> None:
    """Do what a point asks for, once its submissions are handed in."""
    match point.deed:
        case "query":
            await _query(held)
        case "spoil-views":
            await _spoil_views(held)
        case "restart":
            await _restart(held, point, row)
        case "terminate":
            await _terminate(held, point, handed)
        case "garbage":
            for one in handed:
                await _spoil(held, one.identity)
        case "poison":
            await _poison(held, point, row, handed)
        case "retry":
            await _retry(held, row, handed)
        case _:
            pass


async def _query(held: Campaign) -> None:
    while True:
        with suppress(BusError, CutorError):
            await query(held.bus, "SELECT count(*) FROM submissions", timeout_s=5)
        await asyncio.sleep(0.2)


async def _spoil_views(held: Campaign) -> None:
    await asyncio.sleep(1)
    database = held.stack.data / "projections.duckdb"
    spoilt = database.with_name("spoilt")
    spoilt.write_bytes(secrets.token_bytes(4096))
    spoilt.rename(database)


async def _restart(held: Campaign, point: Point, row: Row) -> None:
    """Kill the role while it has work, so that its start passes the point."""
    await asyncio.sleep(0.5)
    row.kills += _signal(held, point.role, signal.SIGKILL)


async def _terminate(held: Campaign, point: Point, handed: Sequence[Handed]) -> None:
    """Ask the role to end while it is at work that takes longer than it is given, so that it hands that back."""
    identity = _of_kind(handed, point.kinds[0])
    await held.history.until(identity, "leased", point.role, timeout_s=SEEN_S)
    await asyncio.sleep(0.3)
    _signal(held, point.role, signal.SIGTERM)


async def _spoil(held: Campaign, identity: str) -> None:
    """Put into a submission what is no event: it must hurt nobody, and get a letter."""
    for kind in ("finished", "nonsense"):
        subject = f"cutor.ev.default.{identity}.{kind}"
        held.garbage.add(await held.bus.publish(subject, b"\xff no event"))


async def _poison(held: Campaign, point: Point, row: Row, handed: Sequence[Handed]) -> None:
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


async def _retry(held: Campaign, row: Row, handed: list[Handed]) -> None:
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
    pids = held.stack.pids(role)
    for pid in pids:
        os.kill(pid, number)
    return len(pids)

"""Garbage of every kind in floods, between and under submissions of a real stack: it holds up nobody, and is counted."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Any

from cutor import Client
from cutor.bus.connection import Bus
from cutor.model.codec import encode
from cutor.model.events import Event, kind_of
from cutor.model.subjects import DEADLETTERS, EVENTS, Address, event_subject
from cutor.projections.queries.client import query
from tests.garbage import garbage, unreadable
from tests.integration.live_submissions import PATIENCE_S, cleaned, document, until
from tests.integration.projecting import copy_of_the_views, projector
from tests.integration.test_projections_projector import differences
from tests.live_stack import Stack
from tests.parking import park
from tests.raw_nats import pub, send_raw
from tests.unit.histories import SUBMITTED, cache_built, finished, leased, ran

UNDER: tuple[Event, ...] = (SUBMITTED, finished(), leased("builder", 9), leased("runner", 9), cache_built(), ran(0, "OK"))
"""Events that are strays wherever a submission stands: their leases are nobody's, or they come a second time."""


async def run_normal(client: Client, server: str, rng: random.Random) -> tuple[str, int]:
    """Run a submission to its end, with garbage under its own id meanwhile; returns its id and how much that was."""
    receipt = await client.submit(document("sleep 1; echo done", test_cases=[{"expected_output": "done"}, {}]))
    address = Address("default", receipt.id)
    kinds = ("submitted", "cache-built", "ran", "finished")
    frames = [pub(event_subject(address, kind_of(event)).encode(), encode(event)) for event in UNDER]
    frames += [pub(event_subject(address, rng.choice(kinds)).encode(), body) for body in unreadable(rng)]
    frames += [pub(event_subject(address, kind).encode(), encode(finished())) for kind in (">", "*", "a.>", "finished.more")]
    rng.shuffle(frames)
    for start in range(0, len(frames), 4):
        await send_raw(server, *frames[start : start + 4])
        await asyncio.sleep(0.3)
    result = await client.result(receipt.id, wait=True, timeout_s=3 * PATIENCE_S)
    assert (result.outcome, [stage.outcome for stage in result.run]) == ("OK", ["OK", "OK"]), result
    await cleaned(client, receipt.id)
    return receipt.id, len(frames)


async def letters(bus: Bus) -> int:
    return int((await bus.stream_info(DEADLETTERS))["state"]["messages"])


async def until_so_many(bus: Bus, wanted: int) -> None:
    deadline = time.monotonic() + 2 * PATIENCE_S
    while (found := await letters(bus)) < wanted:
        assert time.monotonic() < deadline, f"{found} letters, not {wanted}"
        await asyncio.sleep(0.1)
    assert await letters(bus) == wanted


async def shown(bus: Bus, sql: str, rows: list[list[Any]]) -> None:
    """Wait until the views, which may be behind, answer a question so."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := (await query(bus, sql)).rows) != rows:
        assert time.monotonic() < deadline, f"{found}, not {rows}"


async def test_floods_hold_up_nobody_and_are_counted(stack: Stack, tmp_path: Path) -> None:
    rng = random.Random(7)
    async with Client(stack.server) as client:
        bus = client.journal.bus
        ended = await client.submit(document("true"))
        await client.result(ended.id, wait=True, timeout_s=3 * PATIENCE_S)
        await cleaned(client, ended.id)
        before = await letters(bus)
        flood = [one for _ in range(3) for one in garbage(rng, Address("default", ended.id))]

        async def publish() -> None:
            for start in range(0, len(flood), 10):
                await send_raw(stack.server, *(one.frame for one in flood[start : start + 10]))
                await asyncio.sleep(0.1)

        *normal, _ = await asyncio.gather(*(run_normal(client, stack.server, rng) for _ in range(4)), publish())
        await until_so_many(bus, before + len(flood) + sum(count for _, count in normal))
        for submission, count in normal:
            wanted = f"SELECT (strays, outcome) FROM submissions WHERE id = '{submission}' AND cleaned_at IS NOT NULL"
            await shown(bus, wanted, [[[count, "OK"]]])
        again = await client.submit(document("true"))
        assert (await client.result(again.id, wait=True, timeout_s=3 * PATIENCE_S)).outcome == "OK"
        await cleaned(client, again.id)
        await compare_with_a_rebuild(stack, bus, tmp_path)
    findings = stack.cutor("doctor").stdout.decode()
    assert "warn  dead letters" in findings
    assert "FAIL" not in findings, findings


async def test_what_cutor_itself_appends_leaves_no_letters(stack: Stack) -> None:
    """Also where it is cancelled, handed in twice, cancelled too late, parked under a builder's hands, and retried."""
    async with Client(stack.server) as client:
        bus = client.journal.bus
        before = await letters(bus)
        one = await client.submit(document("sleep 100", limits={"run": {"wall_time_ms": 110_000}}))
        await until(lambda: running(client, one.id))
        assert await client.cancel(one.id)
        await cleaned(client, one.id)
        assert not await client.cancel(one.id)
        parked = await park(client, document("true"))
        await asyncio.gather(client.retry(parked), client.retry(parked))
        twice = await asyncio.gather(*(client.submit(document("true", id=f"twice-{parked}")) for _ in range(3)))
        for submission in (f"{parked}-r2", twice[0].id):
            assert (await client.result(submission, wait=True, timeout_s=3 * PATIENCE_S)).outcome == "OK"
            await cleaned(client, submission)
        await cleaned(client, parked)
        await shown(bus, f"SELECT max(sequence) >= {await last_of(bus)} FROM events", [[True]])
        assert (await query(bus, f"SELECT id, strays FROM submissions WHERE id LIKE '%{parked}%' AND strays > 0")).rows == []
        assert await letters(bus) == before


async def running(client: Client, submission: str) -> bool | None:
    return (await client.result(submission)).attempts.runner > 0 or None


async def last_of(bus: Bus) -> int:
    """Return how far the log is. Others use the stack, too: what they handed in may still be cleaned."""
    return int((await bus.stream_info(EVENTS))["state"]["last_seq"])


async def compare_with_a_rebuild(stack: Stack, bus: Bus, tmp_path: Path) -> None:
    """Compare the views with new ones; again where something was appended meanwhile."""
    last = count = -1
    while last != await last_of(bus):
        last, count = await last_of(bus), await letters(bus)
        await shown(bus, f"SELECT max(sequence) >= {last} FROM events", [[True]])
        live, anew = tmp_path / f"live-{last}.duckdb", tmp_path / f"anew-{last}.duckdb"
        copy_of_the_views(stack.data / "projections.duckdb", live)
        async with projector(stack.server, anew):
            pass  # it is ready when it has caught up
    assert await letters(bus) == count, "a rebuild sends none again"
    assert set(differences(live, anew).values()) == {0}

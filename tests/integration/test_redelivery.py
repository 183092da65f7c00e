"""Deliveries that count as done and are not, as a power failure may leave them: they come again, and nothing else does."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import pytest

from cutor import Client
from cutor.bus.connection import Bus
from cutor.bus.consumer import WeightedQueues
from cutor.journal.redelivery import CannotRedeliver, Redelivered, describe, redeliver
from cutor.model.codec import encode
from cutor.model.events import Cancelled, Cleaned
from cutor.model.subjects import Address, event_subject
from cutor.stack.lock import read_holder, wait_free
from tests.bare_stack import User
from tests.integration.projecting import FINISHED, happen
from tests.integration.test_stack_restore import QUICK
from tests.unit.histories import RUNNING


async def acknowledge_all(bus: Bus, consumer: str, count: int) -> None:
    async with asyncio.timeout(180), WeightedQueues(bus, "EVENTS", [(consumer, 1)]) as queue:
        for _ in range(count):
            delivery = await queue.next()
            assert delivery is not None
            await delivery.ack(confirm=True)


async def received(bus: Bus, consumer: str, count: int) -> list[int]:
    async with asyncio.timeout(180), WeightedQueues(bus, "EVENTS", [(consumer, 1)]) as queue:
        found = []
        for _ in range(count):
            delivery = await queue.next()
            assert delivery is not None
            found.append(delivery.stored.sequence)
            await delivery.ack(confirm=True)
        return found


async def test_consumers_go_back_to_the_oldest_that_waits(own_bus: Bus) -> None:
    await happen(own_bus, "ended", *FINISHED)
    first = int((await own_bus.stream_info("EVENTS"))["state"]["last_seq"]) + 1
    await happen(own_bus, "queued", FINISHED[0])
    await happen(own_bus, "cancelled", FINISHED[0], Cancelled())
    await happen(own_bus, "running", *RUNNING)
    await happen(own_bus, "cleaned", FINISHED[0], Cancelled(), Cleaned(worker="w", by="worker"))
    await acknowledge_all(own_bus, "builder-default", 5)
    await acknowledge_all(own_bus, "runner-default", 2)
    found = await redeliver(own_bus)
    assert found == Redelivered(3, first, ["builder-default", "runner-default"])
    wanted = "cutor.ev.*.*.submitted"
    submitted = [stored.sequence async for stored in own_bus.read("EVENTS", filter=wanted, from_sequence=first)]
    assert await received(own_bus, "builder-default", 4) == submitted
    assert len(await received(own_bus, "runner-default", 1)) == 1


async def test_where_nothing_waits_nothing_is_set_back(own_bus: Bus) -> None:
    assert await redeliver(own_bus) == Redelivered(0, 0, [])
    await happen(own_bus, "ended", *FINISHED)
    await acknowledge_all(own_bus, "builder-default", 1)
    await happen(own_bus, "queued", FINISHED[0])
    assert (await redeliver(own_bus)).consumers == [], "what waits has not been delivered yet"


async def test_what_was_acknowledged_out_of_turn_comes_again_too(own_bus: Bus) -> None:
    first = await happen(own_bus, "in-hand", FINISHED[0])
    second = await happen(own_bus, "lost", FINISHED[0])
    async with asyncio.timeout(180), WeightedQueues(own_bus, "EVENTS", [("builder-default", 1)]) as queue:
        deliveries = [await queue.next(), await queue.next()]
        assert deliveries[1] is not None
        await deliveries[1].ack(confirm=True)
    assert (await redeliver(own_bus)) == Redelivered(2, first, ["builder-default"])
    assert await received(own_bus, "builder-default", 2) == [first, second]


async def test_an_end_of_a_stranger_does_not_hide_who_waits(own_bus: Bus) -> None:
    """A `finished` of no lease is a stray, also here."""
    await happen(own_bus, "queued", FINISHED[0], FINISHED[-2])
    await acknowledge_all(own_bus, "builder-default", 1)
    assert (await redeliver(own_bus)).consumers == ["builder-default"]


async def test_a_stray_behind_the_end_opens_nothing(own_bus: Bus) -> None:
    """Somebody publishes a second `submitted` for a submission that was cleaned up after."""
    await happen(own_bus, "s", FINISHED[0], Cancelled(), Cleaned(worker="w", by="worker"))
    await own_bus.publish(event_subject(Address("default", "s"), "submitted"), encode(FINISHED[0]))
    await acknowledge_all(own_bus, "builder-default", 2)
    assert await redeliver(own_bus) == Redelivered(0, 0, [])


async def test_progress_is_told_up_to_the_end(own_bus: Bus) -> None:
    last = await happen(own_bus, "ended", *FINISHED)
    told: list[tuple[int, int]] = []
    await redeliver(own_bus, lambda read_to, end: told.append((read_to, end)))
    assert told[-1] == (last, last)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Redelivered(0, 0, []), ["no submission waits for somebody", "no consumer was set back"]),
        (
            Redelivered(1, 17, ["builder-default"]),
            ["1 submission waits for somebody, the oldest with event 17 of EVENTS", "set back: builder-default"],
        ),
        (
            Redelivered(1200, 17, []),
            [
                "1,200 submissions wait for somebody, the oldest with event 17 of EVENTS",
                "no consumer has delivered any of them yet",
            ],
        ),
    ],
)
def test_what_was_found_is_said_in_words(found: Redelivered, said: list[str]) -> None:
    assert describe(found) == said


async def test_a_server_that_is_too_old_is_refused(own_bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cutor.bus.link.Link.server_version", "2.12.3")
    with pytest.raises(CannotRedeliver, match=r"nats-server 2.12.3 cannot set consumers back: it takes 2.14 or newer"):
        await redeliver(own_bus)


async def test_a_submission_that_nobody_would_have_taken_up_ends(user: User) -> None:
    """Its delivery was acknowledged, and the events that stood for it are gone: only the command makes it go on."""
    assert (await asyncio.to_thread(user.up)).returncode == 0
    async with Client(user.stack.server) as client, Bus.connect(user.stack.server, name="test") as bus:
        await client.submit(QUICK, id="s")
        await acknowledge_all(bus, "builder-default", 1)
    assert (await asyncio.to_thread(user.down)).returncode == 0
    assert (await asyncio.to_thread(user.up, roles=["builder", "runner"])).returncode == 0
    async with Client(user.stack.server) as client:
        done = await asyncio.to_thread(user.cutor, "streams", "redeliver")
        assert done.returncode == 0, done.stderr
        assert "1 submission waits for somebody, the oldest with event 1 of EVENTS" in done.stdout
        assert "set back: builder-default" in done.stdout
        assert (await client.result("s", wait=True, timeout_s=240)).outcome == "OK"


def kill(user: User, *, machine: bool) -> None:
    """End a stack as its machine's end would, or as SIGKILL alone does: they differ by the name of the boot."""
    lock = user.stack.data / "lock"
    holder = read_holder(lock)
    assert holder is not None
    os.kill(holder.pid, signal.SIGKILL)
    assert wait_free(lock, timeout_s=180)
    if machine:
        lock.write_text(json.dumps(json.loads(lock.read_text()) | {"boot": "another"}))


def supervisor_log(user: User) -> str:
    return (user.stack.data / "log" / "supervisor.log").read_text()


@pytest.mark.parametrize("down_first", [False, True])
async def test_a_start_after_a_power_failure_has_lost_deliveries_come_again(user: User, down_first: bool) -> None:
    """Also where `cutor down` cleaned up first, or where the start that followed failed."""
    assert (await asyncio.to_thread(user.up)).returncode == 0
    async with Client(user.stack.server) as client, Bus.connect(user.stack.server, name="test") as bus:
        await client.submit(QUICK, id="s")
        await acknowledge_all(bus, "builder-default", 1)
    kill(user, machine=True)
    if down_first:
        assert (await asyncio.to_thread(user.down)).returncode == 0
    else:
        config = user.home / "config.toml"
        config.write_text('[docker]\nimage = "no-such-image:1"\n')
        failed = await asyncio.to_thread(user.up, "--config", str(config), roles=["builder", "runner"])
        assert failed.returncode == 3, failed.stderr
    started = await asyncio.to_thread(user.up, roles=["builder", "runner"])
    assert started.returncode == 0, started.stderr
    async with Client(user.stack.server) as client:
        assert (await client.result("s", wait=True, timeout_s=240)).outcome == "OK"
    said = supervisor_log(user)
    assert "the machine may have gone down under a former life of this stack" in said
    assert "1 submission waits for somebody, the oldest with event 1 of EVENTS; set back: builder-default" in said
    assert not (user.stack.data / "power-failed").exists()


def test_a_stack_that_was_killed_has_nothing_to_see_to(user: User) -> None:
    assert user.up().returncode == 0
    kill(user, machine=False)
    assert user.up().returncode == 0
    assert "the machine may have gone down" not in supervisor_log(user)

"""What another process reads of a stream is what this one reads of it; it may die at any time, and outlives nobody."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import duckdb
import pytest

from cutor.bus.bulk.columns import Columns
from cutor.bus.bulk.pulling import DeliveryLost
from cutor.bus.bulk.reader import Wanted, in_a_thread
from cutor.bus.connection import Bus
from cutor.model.codec import encode
from cutor.model.environments import EnvironmentRemoved
from cutor.model.subjects import ENVIRONMENTS, EVENTS, environment_subject
from cutor.projections.folds import batches, feeding
from cutor.projections.folds.batch import Batch
from cutor.projections.folds.batches import batch_of, read_batches
from cutor.projections.folds.row_groups import PORTION
from cutor.projections.folds.sharing import Mapped, SharedBatch
from tests.bench.lives import lives, publish
from tests.integration.test_bus_bulk import consumers
from tests.integration.test_bus_poison import POISON
from tests.nats_server import OwnServer
from tests.processes import pids, state_of
from tests.raw_nats import send_raw

SOME = PORTION + 1
MANY = 4 * PORTION + 100
"""More than what can be on the way."""
MORE = 6 * PORTION
"""Enough for whole pieces behind the one that waits for room."""
FEEDER = b"cutor.projections.folds.feeder\0"

Rows = dict[str, list[tuple[Any, ...]]]


@pytest.fixture(autouse=True)
def _any_number_is_fed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "FED_FROM", 0)


def rows(batch: Batch) -> Rows:
    found = {}
    with duckdb.connect() as database:
        for name, relation in batch.relations().items():
            database.register(name, relation)
            found[name] = database.execute(f"FROM {name}").fetchall()
    return found


async def fed(bus: Bus, stream: str, first: int, last: int) -> list[Batch]:
    async with asyncio.timeout(180), aclosing(read_batches(bus, stream, first, last)) as found:
        return [batch async for batch in found]


def feeders() -> list[int]:
    return pids(command=FEEDER + f"{os.getpid()}\0".encode())


async def test_it_makes_what_is_made_here(own_server: OwnServer, own_bus: Bus) -> None:
    """Whole lives, what no client would send, and bodies larger than a portion."""
    await publish(own_server.url, lives(3000))
    await send_raw(own_server.url, *POISON.values())
    for number in range(3):
        await own_bus.publish(f"cutor.ev.default.large{number}.submitted", bytes(7 << 20))
    last = await own_bus.publish("cutor.ev.default.after.note", b"{}")
    columns = Columns.of([stored async for stored in own_bus.read(EVENTS)])
    for first in (1, 2990):
        place = first - 1
        for batch in await fed(own_bus, EVENTS, first, last):
            expected = batch_of(EVENTS, columns.part(place, place + len(batch)))
            assert isinstance(batch, SharedBatch)
            assert batch.columns == expected.columns
            assert batch.last == expected.last
            assert rows(batch) == rows(expected)
            for name in ("sequences", "times_ns", "body_bytes", "kinds", "faults"):
                assert getattr(batch, name) == getattr(expected, name), name
            place += len(batch)
        assert place == len(columns)
    assert [len(batch) for batch in await fed(own_bus, EVENTS, 1, 100)] == [100]
    assert [batch.sequences for batch in await fed(own_bus, EVENTS, last, last + 1000)] == [[last]]
    assert await fed(own_bus, EVENTS, 5, 4) == []
    assert feeders() == []
    assert await consumers(own_bus) == []


async def test_environments_are_read_so_too(own_bus: Bus) -> None:
    key = "ab" * 32
    for body in (encode(EnvironmentRemoved(key=key, reason="old")), b"\xff"):
        await own_bus.publish(environment_subject(key), body)
    [batch] = await fed(own_bus, ENVIRONMENTS, 1, 2)
    assert isinstance(batch, SharedBatch)
    assert rows(batch) == rows(batch_of(ENVIRONMENTS, batch.columns))


@pytest.mark.parametrize("killed", [True, False], ids=["process", "consumer"])
async def test_what_it_leaves_is_read_by_another(
    own_server: OwnServer, own_bus: Bus, caplog: pytest.LogCaptureFixture, killed: bool
) -> None:
    """It dies, or its consumer goes away, before it has handed over the rest."""
    await publish(own_server.url, lives(MANY))
    sequences: list[int] = []
    kinds = set()
    async with aclosing(own_bus.read_in_bulk(EVENTS, feeding.Fed().read, from_sequence=1, until_sequence=MANY)) as parts:
        async for part in parts:
            kinds.add(type(part).__name__)
            if not sequences:
                [pid] = feeders()
                if killed:
                    os.kill(pid, signal.SIGKILL)
                else:
                    (name,) = await consumers(own_bus)
                    await own_bus.api.call("loss", f"CONSUMER.DELETE.EVENTS.{name}")
            columns = SharedBatch(EVENTS, {}, [part]) if isinstance(part, Mapped) else part
            sequences += columns.sequences
    assert sequences == list(range(1, MANY + 1))
    assert kinds == {"Mapped"}
    assert feeders() == []
    said = "it was ended by signal 9" if killed else "DeliveryLost: "
    assert caplog.text.count(f"the process that reads EVENTS brings no more: {said}") == 1


@pytest.mark.parametrize(("brought", "processes"), [([1, 1], 2), ([0], 1)], ids=["twice", "nothing"])
async def test_one_that_is_lost_twice_or_brings_nothing_is_the_last(
    own_server: OwnServer, own_bus: Bus, monkeypatch: pytest.MonkeyPatch, brought: list[int], processes: int
) -> None:
    """The first pieces come whole; the rest is read here."""
    await publish(own_server.url, lives(300))
    begun: list[str] = []

    async def losing(wanted: Wanted) -> AsyncGenerator[Columns, None]:
        begun.append(wanted.consumer)
        async with aclosing(in_a_thread(100)(wanted)) as parts:
            for _ in range(brought[len(begun) - 1]):
                yield (await anext(parts)).part(0, 100)
        raise DeliveryLost("lost")

    monkeypatch.setattr(feeding, "_in_a_process", losing)
    async with aclosing(own_bus.read_in_bulk(EVENTS, feeding.Fed().read, from_sequence=1, until_sequence=300)) as parts:
        sequences = [sequence async for part in parts if isinstance(part, Columns) for sequence in part.sequences]
    assert sequences == list(range(1, 301))
    assert len(begun) == processes


async def test_one_that_stands_still_is_killed(
    own_server: OwnServer, own_bus: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await publish(own_server.url, lives(MANY))
    sequences: list[int] = []
    async with aclosing(own_bus.read_in_bulk(EVENTS, feeding.Fed().read, from_sequence=1, until_sequence=MANY)) as parts:
        async for part in parts:
            if not sequences:
                [pid] = feeders()
                os.kill(pid, signal.SIGSTOP)
                monkeypatch.setattr(feeding, "SILENT_S", 0.5)
            elif pid not in feeders():  # what it said before is read
                monkeypatch.setattr(feeding, "SILENT_S", 60.0)
            sequences += (SharedBatch(EVENTS, {}, [part]) if isinstance(part, Mapped) else part).sequences
    assert sequences == list(range(1, MANY + 1))
    assert feeders() == []
    assert "the process that reads EVENTS brings no more: it has said nothing for 0.5 s" in caplog.text


async def waits_for_room(bus: Bus, pid: int) -> None:
    """Wait until the process has had all that it asked for, asks for no more, and sleeps."""
    (name,) = await consumers(bus)
    async with asyncio.timeout(180):
        while True:
            consumer = await bus.api.call("look", f"CONSUMER.INFO.EVENTS.{name}")
            if consumer["num_pending"] and not consumer["num_waiting"] and state_of(pid) == "S":
                return
            await asyncio.sleep(0.02)


async def test_a_server_that_goes_away_while_it_waits_for_room_leaves_no_hole(own_server: OwnServer, own_bus: Bus) -> None:
    """Whoever folds is busy with the first piece meanwhile, and takes the next ones as soon as the server is gone."""
    await publish(own_server.url, lives(MORE))
    sequences: list[int] = []
    numbers = 0
    async with aclosing(own_bus.read_in_bulk(EVENTS, feeding.Fed().read, from_sequence=1, until_sequence=MORE)) as parts:
        async for part in parts:
            numbers += 1
            sequences += (SharedBatch(EVENTS, {}, [part]) if isinstance(part, Mapped) else part).sequences
            if numbers == 1:
                [pid] = feeders()
                await waits_for_room(own_bus, pid)
                await own_server.kill()
            elif numbers == 3:
                await own_server.start()
    assert sequences == list(range(1, MORE + 1))
    assert feeders() == []


async def test_one_that_cannot_be_started_is_not_needed(
    own_server: OwnServer, own_bus: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await publish(own_server.url, lives(300))
    feeder = "from cutor.projections.folds import feeder; {}; feeder.main()"
    raising = feeder.format("del feeder.Portions")
    bare = feeder.format("feeder.socket.send_fds = lambda own, packets, _: own.send(*packets)")
    late = feeder.format("made = feeder.write; feeder.write = lambda *one, behind, **named: made(*one, behind=7, **named)")
    for program, said in (
        (("-c", "raise SystemExit(3)"), "it ended with exit code 3"),
        (("-m", "nothing.of.that.name"), "it ended with exit code 1"),
        (("-c", raising), "NameError: name 'Portions' is not defined"),
        (("-c", bare), "a piece came without its memory"),
        (("-c", late), "a piece that begins behind 7 came behind 0"),
    ):
        monkeypatch.setattr(feeding, "PROGRAM", program)
        [batch] = await fed(own_bus, EVENTS, 1, 300)
        assert batch.sequences == list(range(1, 301))
        assert f"the process that reads EVENTS brings no more: {said}" in caplog.text
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert [len(batch) for batch in await fed(own_bus, EVENTS, 1, 300)] == [300]


async def test_its_signs_of_life_are_no_pieces(own_server: OwnServer, own_bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    await publish(own_server.url, lives(SOME))
    program = "from cutor.projections.folds import feeder; feeder.ALIVE_S = 0; feeder.main()"
    monkeypatch.setattr(feeding, "PROGRAM", ("-c", program))
    found = await fed(own_bus, EVENTS, 1, SOME)
    assert [type(batch) for batch in found] == [SharedBatch] * len(found)
    assert [sequence for batch in found for sequence in batch.sequences] == list(range(1, SOME + 1))


async def test_who_leaves_early_leaves_no_process(own_server: OwnServer, own_bus: Bus) -> None:
    await publish(own_server.url, lives(SOME))
    async with aclosing(own_bus.read_in_bulk(EVENTS, feeding.Fed().read, from_sequence=1, until_sequence=SOME)) as parts:
        await anext(parts)
        [pid] = feeders()
        command = await asyncio.to_thread(Path(f"/proc/{pid}/cmdline").read_bytes)
        assert b"nats" not in command
    assert feeders() == []
    assert await consumers(own_bus) == []


READER = """
import asyncio, sys
from cutor.bus.connection import Bus
from cutor.projections.folds import feeding

async def main():
    async with Bus.connect(sys.argv[1], name="reader") as bus:
        parts = bus.read_in_bulk("EVENTS", feeding.Fed().read, from_sequence=1, until_sequence=int(sys.argv[2]))
        async for part in parts:
            print(flush=True)
            await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_it_ends_with_its_parent(own_server: OwnServer) -> None:
    await publish(own_server.url, lives(SOME))
    command = [sys.executable, "-c", READER, own_server.url, str(SOME)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:  # noqa: ASYNC220 - it is what is tested
        assert parent.stdout is not None
        assert await asyncio.to_thread(parent.stdout.readline) == b"\n"
        [pid] = pids(command=FEEDER + f"{parent.pid}\0".encode())
        ended = os.pidfd_open(pid)
        parent.kill()
    async with asyncio.timeout(180):
        there = asyncio.Event()
        asyncio.get_running_loop().add_reader(ended, there.set)
        await there.wait()
    asyncio.get_running_loop().remove_reader(ended)
    os.close(ended)

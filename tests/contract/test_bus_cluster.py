"""The same bus on a cluster of three: other answers of the server, the same promises."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from cutor.bus.connection import Bus
from cutor.bus.consumer import WeightedQueues
from cutor.bus.errors import FenceConflict, Leaderless
from cutor.bus.topology import parse, plan
from tests.cluster import REPLICATED, Cluster, start_cluster
from tests.files import text_of
from tests.live_stack import surroundings
from tests.nats_server import appender


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with start_cluster() as three:
        yield three


@pytest.fixture
async def bus(cluster: Cluster) -> AsyncIterator[Bus]:
    async with Bus.connect(cluster.url(), name="test") as connected:
        yield connected


async def test_three_replicas_are_read_back(bus: Bus) -> None:
    assert await plan(bus, parse(REPLICATED, ["default"])) == []


async def test_of_many_writers_at_once_one_wins(bus: Bus) -> None:
    """The server answers 10164 to those it cannot compare yet; they ask again and then lose."""

    async def write(number: int) -> str:
        try:
            await bus.append(
                "cutor.ev.default.race.submitted",
                b"",
                message_id=f"w{number}",
                fence="cutor.ev.default.race.>",
                expected_sequence=0,
            )
        except FenceConflict:
            return "conflict"
        return "won"

    assert Counter(await asyncio.gather(*(write(number) for number in range(20)))) == {"won": 1, "conflict": 19}


async def test_a_stale_retry_is_a_duplicate_here_and_the_caller_sees_no_difference(bus: Bus) -> None:
    append = appender(bus)
    first = await append("dup", "submitted", 0)
    again = await bus.append(
        "cutor.ev.default.dup.submitted",
        b"{}",
        message_id="default/dup/submitted/0",
        fence="cutor.ev.default.dup.>",
        expected_sequence=0,
    )
    assert (again.sequence, again.duplicate) == (first, True)


async def test_one_reads_ones_own_writes(bus: Bus) -> None:
    """A direct get may be answered by a replica that is behind; `at_least` and `consistent` make up for it."""
    append = appender(bus)
    for number in range(40):
        sequence = 0
        for kind in ("submitted", "leased", "cache-built"):
            sequence = await append(f"own{number}", kind, sequence)
            subjects = f"cutor.ev.default.own{number}.>", f"cutor.ev.default.own{number}.submitted"
            newest = (await bus.history(*subjects, at_least=sequence))[-1]
            assert newest.sequence == sequence
            assert (await bus.history(*subjects, consistent=True))[-1] == newest


def stands_still(pid: int) -> bool:
    """Whether every thread of a process is stopped: on a busy machine a signal takes its time."""
    texts = [text_of(path) for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return {text.rpartition(")")[2].split()[0] for text in texts if text} == {"T"}


async def test_a_follower_waits_for_what_passed_before_it_was_stored(
    cluster: Cluster, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader's copies are stopped: the append passes by as a notice, and is stored only when they go on."""
    monkeypatch.setattr("cutor.bus.following.LOOK_EVERY_S", 1000.0)
    append = appender(bus)
    sequences = [await append("slow", "submitted", 0)]
    await cluster.current("EVENTS")
    leader = await cluster.leader("EVENTS")
    copies = sorted(cluster.running - {leader})
    seen: list[int] = []

    async def follow() -> None:
        subjects = "cutor.ev.default.slow.>", "cutor.ev.default.slow.submitted"
        async with (
            Bus.connect(cluster.url(nodes=[leader]), name="follower") as beside,
            aclosing(beside.follow(*subjects, patience_s=60)) as following,
        ):
            async for stored in following:
                seen.append(stored.sequence)
                if stored.subject.endswith("finished"):
                    return

    one = cluster.url(nodes=[leader])
    async with asyncio.timeout(180), asyncio.TaskGroup() as group, Bus.connect(one, name="test") as near:
        group.create_task(follow())
        while not seen:
            await asyncio.sleep(0.01)
        try:
            for node in copies:
                os.kill(cluster.pid(node), signal.SIGSTOP)
            while not all(stands_still(cluster.pid(node)) for node in copies):
                await asyncio.sleep(0.01)
            appending = asyncio.create_task(appender(near)("slow", "finished", sequences[-1]))
            await asyncio.sleep(1.5)
            assert seen == sequences
        finally:
            for node in copies:
                os.kill(cluster.pid(node), signal.SIGCONT)
        sequences.append(await appending)
    assert seen == sequences


async def test_everything_goes_on_when_the_leader_dies(cluster: Cluster, bus: Bus) -> None:
    append = appender(bus)
    leader = await cluster.leader("EVENTS")
    last = int((await bus.stream_info("EVENTS"))["state"]["last_seq"])
    seen: list[str] = []

    async def read() -> None:
        async with aclosing(bus.read("EVENTS", filter="cutor.ev.*.*.ran", from_sequence=last + 1, follow=True)) as reading:
            async for stored in reading:
                seen.append(stored.subject)
                if len(seen) == 60:
                    return

    async with asyncio.timeout(180), WeightedQueues(bus, "EVENTS", [("builder-default", 1)]) as queue:
        delivery = await queue.next()
        assert delivery is not None
        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            for number in range(60):
                if number == 20:
                    cluster.kill(leader)
                await append(f"leader{number}", "ran", 0)
        await delivery.ack(confirm=True)
        assert await queue.next() is not None
    assert seen == [f"cutor.ev.default.leader{number}.ran" for number in range(60)]
    cluster.start(leader)


async def asks_on(bus: Bus) -> None:
    """Ask JetStream until it has no answer: a node that led goes on for some seconds, until it knows that it is alone."""
    while True:
        await bus.api.info()
        await asyncio.sleep(0.1)


async def test_a_cluster_without_a_leader_is_told_from_a_server_that_does_not_answer(cluster: Cluster, tmp_path: Path) -> None:
    await cluster.current("EVENTS")
    left, *others = sorted(cluster.running)
    for node in others:
        cluster.kill(node)
    try:
        async with Bus.connect(cluster.url(nodes=[left]), name="test") as alone:
            with pytest.raises(Leaderless, match=r"answers, but JetStream there does not .* has no leader at the moment"):
                await asyncio.wait_for(asks_on(alone), 180)
        command = [sys.executable, "-m", "cutor", "--server", cluster.url(nodes=[left]), "doctor"]
        done = await asyncio.to_thread(
            subprocess.run, command, env=surroundings(tmp_path), capture_output=True, text=True, check=False
        )
        (told,) = [line for line in done.stdout.splitlines() if line.startswith(("FAIL  jetstream", "FAIL  server"))]
        assert "has no leader at the moment" in told
        assert "is the stack up" not in done.stdout
        assert done.returncode == 3
    finally:
        for node in others:
            cluster.start(node)
        await cluster.ready()

"""Backups of a cluster with three copies of everything: into a single server and back, and when its leader dies."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from cutor.bus.backup_manifest import RestoreRefused
from cutor.bus.bodies import Bodies
from cutor.bus.connection import Bus
from cutor.bus.consumer import WeightedQueues
from cutor.bus.embedded import EmbeddedServer
from cutor.bus.errors import BusError
from cutor.bus.message import Stored
from cutor.bus.topology import default_text, parse, plan
from cutor.journal import backup
from cutor.journal.backup import tell_nobody
from tests.cluster import NODES, REPLICATED, Cluster, start_cluster
from tests.nats_server import appender
from tests.ports import free_port

THREE = parse(REPLICATED, ["default"])
ONE = parse(default_text(), ["default"])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with start_cluster() as three:
        yield three


async def empty(cluster: Cluster) -> None:
    """Start the cluster anew with empty stores, and wait until it can keep three copies of a stream."""
    cluster.kill_all()
    for node in range(NODES):
        shutil.rmtree(cluster.directory / str(node))
    for node in range(NODES):
        cluster.start(node)
    async with asyncio.timeout(180):
        while True:
            try:
                async with Bus.connect(cluster.url(), name="test", connect_timeout_s=1) as bus:
                    await bus.api.call("probe", "STREAM.CREATE.PROBE", {"name": "PROBE", "subjects": ["p"], "num_replicas": 3})
                    await bus.api.call("probe", "STREAM.DELETE.PROBE")
                    assert (await bus.api.call("names", "STREAM.NAMES", {}))["streams"] is None
                    return
            except BusError:
                await asyncio.sleep(0.2)


async def everything(bus: Bus) -> list[Stored]:
    return [stored async for stored in bus.read("EVENTS")]


async def delivered(bus: Bus, count: int) -> list[str]:
    """The ids of the next deliveries to builders."""
    async with asyncio.timeout(180), WeightedQueues(bus, "EVENTS", [("builder-default", 1)]) as queue:
        found = []
        for _ in range(count):
            delivery = await queue.next()
            assert delivery is not None
            found.append(delivery.stored.subject.split(".")[3])
            await delivery.ack(confirm=True)
        return found


async def test_from_three_to_one_and_back(cluster: Cluster, tmp_path: Path) -> None:
    of_three, of_one = tmp_path / "three", tmp_path / "one"
    body = os.urandom(2 << 20)
    async with Bus.connect(cluster.url(), name="test") as bus:
        for number in range(20):
            await appender(bus)(f"s{number}", "submitted", 0)
        assert await delivered(bus, 8) == [f"s{number}" for number in range(8)]
        ref = await Bodies(bus).put(body)
        made = await backup.make(bus, of_three)
        events = await everything(bus)

    server = await EmbeddedServer.start(tmp_path / "nats", port=free_port("127.0.0.1"))
    async with server, Bus.connect(server.url, name="test") as single:
        with pytest.raises(RestoreRefused, match="cannot keep 3 copies: `--replicas 1` restores one copy"):
            await backup.restore(single, of_three, made)
        await backup.restore(single, of_three, made, replicas=1)
        assert await plan(single, ONE) == []
        assert await everything(single) == events
        assert await Bodies(single).get(ref) == body
        assert await delivered(single, 4) == ["s8", "s9", "s10", "s11"]
        back = await backup.make(single, of_one)

    await empty(cluster)
    async with Bus.connect(cluster.url(), name="test") as bus:
        await backup.restore(bus, of_one, back, replicas=3)
        assert await plan(bus, THREE) == []
        assert await everything(bus) == events
        assert await Bodies(bus).get(ref) == body
        assert await delivered(bus, 8) == [f"s{number}" for number in range(12, 20)]
        with pytest.raises(RestoreRefused, match="holds streams already"):
            await backup.restore(bus, of_three, made)
    await cluster.current("EVENTS")

    await empty(cluster)
    async with Bus.connect(cluster.url(), name="test") as bus:
        await backup.restore(bus, of_three, made)
        assert await plan(bus, THREE) == [], "as many copies as there were"
        assert await everything(bus) == events


@pytest.fixture
async def filled(cluster: Cluster) -> AsyncIterator[Bus]:
    """A bus on the cluster as the last test left it, with more in it than is sent before a leader dies."""
    async with Bus.connect(cluster.url(), name="test") as bus:
        await Bodies(bus).put(os.urandom(32 << 20))
        yield bus


async def elected(cluster: Cluster) -> None:
    """Wait until every stream has a leader again: an election takes longer than a request waits."""
    async with asyncio.timeout(180):
        for stream in ("EVENTS", "BODIES", "ENVIRONMENTS", "STACK"):
            while True:
                try:
                    await cluster.leader(stream)
                    break
                except BusError:
                    await asyncio.sleep(0.2)


async def test_a_leader_that_dies_during_a_backup(cluster: Cluster, filled: Bus, tmp_path: Path) -> None:
    """The backup ends in one line and leaves nothing, or it is whole; the next one is whole."""
    leader = await cluster.leader("BODIES")
    killed = False

    def kill(stream: str, done_bytes: int, total_bytes: int | None) -> None:
        nonlocal killed
        tell_nobody(stream, done_bytes, total_bytes)
        if stream == "BODIES" and not killed:
            killed = True
            cluster.kill(leader)

    try:
        made = await backup.make(filled, tmp_path / "first", kill)
    except BusError as error:
        assert "\n" not in str(error)
        assert not (tmp_path / "first").exists()
    else:
        await backup.verify(tmp_path / "first", made)
    assert killed
    await elected(cluster)
    async with Bus.connect(cluster.url(), name="test") as bus, asyncio.timeout(120):
        while True:  # every stream of the dead node has a leader to choose
            try:
                made = await backup.make(bus, tmp_path / "second")
                break
            except BusError:
                assert not (tmp_path / "second").exists()
    await backup.verify(tmp_path / "second", made)
    cluster.start(leader)

"""Retention in a cluster: another copy that leads has let go of the same."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from cutor.bus.connection import Bus
from cutor.projections.archive.joined import Joined
from cutor.projections.archive.place import Archive
from cutor.projections.archive.retention import expire, plan
from cutor.projections.archive.sealing import Cut, seal
from tests.cluster import Cluster, start_cluster
from tests.integration.projecting import FINISHED, happen, happen_to_many

AGE_S = 3.0
"""What has just happened is younger, on a busy machine too."""


async def old(bus: Bus) -> None:
    """Wait until all that is there is of the age, by the server's clock."""
    newest = await bus.last("EVENTS", "cutor.ev.>", consistent=True)
    assert newest
    while (await Joined.of(bus, "EVENTS", None)).now_ns < newest.time_ns + int(AGE_S * 1.1e9):
        await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with start_cluster() as three:
        yield three


async def test_the_copy_that_leads_next_has_let_go_of_the_same(cluster: Cluster, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    async with Bus.connect(cluster.url(), name="test") as bus:
        await cluster.current("EVENTS")
        config = (await bus.stream_info("EVENTS"))["config"]
        await bus.api.call("EVENTS", "STREAM.UPDATE.EVENTS", {**config, "duplicate_window": 10**8})
        await happen_to_many(bus, 5, "s")
        with archive.held():
            last = (await seal(bus, archive, "EVENTS", Cut().everything())).last
        await old(bus)
        young = await happen(bus, "young", *FINISHED)
        expiry = await plan(bus, archive, AGE_S)
        assert (expiry.first, expiry.last) == (1, last - 1)
        assert await expire(cluster.url(), bus, archive, expiry) == last
        before = await cluster.leader("EVENTS")
        await bus.api.call("EVENTS", "STREAM.LEADER.STEPDOWN.EVENTS")
        async with asyncio.timeout(180):
            while await cluster.leader("EVENTS") == before:
                await asyncio.sleep(0.1)
        await cluster.current("EVENTS")
        state = (await bus.stream_info("EVENTS"))["state"]
        assert (state["first_seq"], state["last_seq"], state["messages"]) == (last, young, young - last + 1)

"""What questions come to and cost, in the metrics of the projector whose process answers them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from cutor.bus.connection import Bus
from cutor.metrics import table
from cutor.metrics.exposition import exposed
from cutor.process.measures import Measures
from cutor.projections.errors import QueryError, QueryTimeout, QueryUnavailable
from cutor.projections.exports.client import fetch_snapshot
from cutor.projections.queries.client import query
from cutor.projections.queries.service import AT_ONCE, WAITING
from tests.integration.projecting import FINISHED, PATIENCE_S, happen, projector
from tests.nats_server import OwnServer
from tests.unit.histories import SUBMITTED


class Stack:
    """A projector with the life of one submission, and what it measures."""

    def __init__(self, bus: Bus, measures: Measures) -> None:
        self.bus = bus
        self.measures = measures

    async def results(self, **wanted: int) -> None:
        """Wait until questions are counted so, and others not at all."""
        found: dict[str, int] = {}
        async with asyncio.timeout(PATIENCE_S):
            while found != wanted:
                counted = self.measures.tally.numbers(table.QUESTIONS)
                found = {result: int(number) for (result,), number in counted.items() if number}
                await asyncio.sleep(0.02)


@pytest.fixture
async def stack(own_server: OwnServer, own_bus: Bus, tmp_path: Path) -> AsyncIterator[Stack]:
    await happen(own_bus, "one", *FINISHED)
    measures = Measures()
    async with projector(own_server.url, tmp_path / "views.duckdb", measures=measures):
        yield Stack(own_bus, measures)


async def test_questions_are_counted_by_what_came_of_them(stack: Stack) -> None:
    await query(stack.bus, "SELECT 1")
    for sql in ("SELEC 1", "SELECT * FROM read_text('/etc/passwd')", "x" * 200_000):
        with pytest.raises(QueryError):
            await query(stack.bus, sql)
    with pytest.raises(QueryTimeout):
        await query(stack.bus, "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r", 0.3)
    with pytest.raises(QueryError):
        await query(stack.bus, "SELECT list(range) FROM range(1000000000)", 110.0)
    await stack.results(answered=1, refused=3, timeout=1, stopped=1)
    assert stack.measures.tally.spreads(table.QUESTION_TIME)[()].number == 6
    assert stack.measures.tally.spreads(table.ANSWER_BYTES)[()].number == 1


async def test_a_flood_is_turned_away_and_counted(stack: Stack) -> None:
    """A hundred at once: as many as run and wait are answered, the others hear at once that there are too many."""
    asked = [query(stack.bus, "SELECT count(*) FROM events", 110.0) for _ in range(100)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    busy = [one for one in answers if isinstance(one, QueryUnavailable)]
    good = [one for one in answers if not isinstance(one, BaseException)]
    assert len(busy) + len(good) == 100
    assert len(good) >= AT_ONCE + WAITING
    assert all("too many questions wait already" in str(one) for one in busy)
    await stack.results(answered=len(good), **({"busy": len(busy)} if busy else {}))


async def test_copies_snapshots_and_memory_are_measured(stack: Stack, tmp_path: Path) -> None:
    for name in ("two", "three", "four", "five"):  # a log that was just worked in has the file copied
        await query(stack.bus, "SELECT 1")
        await happen(stack.bus, name, SUBMITTED)
    await query(stack.bus, "SELECT 1")
    await fetch_snapshot(stack.bus, tmp_path / "snapshot.duckdb")
    text = exposed(await stack.measures.sampled(), "projector").decode()
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["cutor_query_copies_total", "file"] >= 1
    assert found["cutor_query_copies_total", "log"] >= 1
    assert found["cutor_query_copied_bytes_total",] > 4096
    assert found["cutor_query_copy_seconds_count",] >= 2
    assert found["cutor_snapshots_total", "made"] == 1
    assert found["cutor_query_service_starts_total",] == 1
    assert found["cutor_query_memory_bytes",] > 1 << 20
    assert found["cutor_questions_total", "busy"] == 0

"""What questions cost the projector's writer: `python -m tests.bench.queries [EVENTS]`, or `make bench-queries`.

An embedded server is filled with whole lives of submissions (`lives`), the views are made of them, and a projector is started
on both. Then 100 events a second come, and beside them nothing, a dashboard, an analyst's worst questions, or snapshots of all.
Of every batch the projector's process notes how long its commit took, and how long ago the server had stored its first message:
from publish to committed view. Everything is on one machine, so what is left of its CPUs is part of what is measured.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial, wraps
from pathlib import Path
from typing import Final, NamedTuple

import uvloop

from cutor.bus.bulk.columns import Message
from cutor.bus.connection import Bus
from cutor.bus.embedded import EmbeddedServer
from cutor.bus.ports import free_port
from cutor.errors import CutorError
from cutor.projections.exports.client import fetch_snapshot
from cutor.projections.queries.client import query
from cutor.projections.rebuilds.rebuild import rebuild
from cutor.projections.store import Store
from cutor.projections.writer import Writer
from tests.bench.lives import Made, lives, publish
from tests.integration.projector_process import main as run_projector
from tests.nats_server import apply_streams

COUNT: Final = 400_000
RATE: Final = 100
"""Events a second."""
PHASE_S: Final = 15.0
DASHBOARD: Final = "SELECT outcome, count(*) FROM submissions GROUP BY ALL"
WORST: Final = (
    "SELECT count(*) FROM range(100000000) a, range(1000000) b WHERE a.range % 7 = b.range % 11",
    "SELECT count(*) FROM (SELECT DISTINCT hash(range) FROM range(2000000000))",
    "SELECT count(*) FROM events a, events b WHERE a.body < b.body",
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r",
    "SELECT list(body) FROM events, range(1000)",
)

Ask = Callable[[], Awaitable[object]]


class Commit(NamedTuple):
    """One commit of the projector's: how long it took, and how old its first message was then; ``hold`` for a copy's begin."""

    what: str
    took_ms: float
    age_ms: float


class Phase(NamedTuple):
    """What was measured while questions of one kind were asked."""

    name: str
    commits: list[Commit]
    answers_ms: list[float]


# -- the projector's process ---------------------------------------------------------------------------------------------------


def measured(log: Path) -> None:
    """Have every commit of this process noted in a file, and every time that it holds its log for a copy."""
    opened = log.open("a", buffering=1)
    write, begin_copy = Writer.apply, Store.begin_copy

    @wraps(write)
    async def applying(self: Writer, stream: str, messages: Sequence[Message]) -> None:
        began = time.perf_counter()
        await write(self, stream, messages)
        age_ms = (time.time_ns() - messages[0].time_ns) / 1e6
        opened.write(f"commit {(time.perf_counter() - began) * 1e3:.3f} {age_ms:.3f}\n")

    @wraps(begin_copy)
    def beginning(self: Store) -> int:
        began = time.perf_counter()
        size_bytes = begin_copy(self)
        opened.write(f"hold {(time.perf_counter() - began) * 1e3:.3f} 0\n")
        return size_bytes

    Writer.apply = applying  # type: ignore[method-assign]
    Store.begin_copy = beginning  # type: ignore[method-assign]


@asynccontextmanager
async def projector(url: str, database: Path, log: Path) -> AsyncIterator[None]:
    """A projector in a process of its own, ready."""
    command = (sys.executable, "-m", "tests.bench.queries", "projector", url, str(database), str(log))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        yield
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


# -- load and questions -----------------------------------------------------------------------------------------------------


async def come(bus: Bus, messages: Iterator[Made]) -> None:
    """Publish events evenly, without end."""
    loop = asyncio.get_running_loop()
    due_s = loop.time()
    for one in messages:
        due_s += 1 / RATE
        await asyncio.sleep(due_s - loop.time())
        headers = {"Nats-Msg-Id": one.message_id or ""}
        await bus.link.ask(one.subject, one.body, until=loop.time() + 10, headers=headers)


async def asking(asks: Sequence[Ask], pause_s: float, took_ms: list[float]) -> None:
    """Ask one after the other, without end; a question that is refused or stopped counts as answered."""
    for ask in itertools.cycle(asks):
        began = time.perf_counter()
        with suppress(CutorError):
            await ask()
        took_ms.append((time.perf_counter() - began) * 1e3)
        await asyncio.sleep(pause_s)


async def phase(name: str, log: Path, askers: Sequence[Sequence[Ask]], pause_s: float) -> Phase:
    """Measure while all of them ask."""
    took_ms: list[float] = []
    before = len(noted(log))
    tasks = [asyncio.create_task(asking(asks, pause_s, took_ms)) for asks in askers]
    await asyncio.sleep(PHASE_S)
    for task in tasks:
        task.cancel()
    return Phase(name, noted(log)[before:], took_ms)


def noted(log: Path) -> list[Commit]:
    """Return what the projector has noted."""
    return [Commit(what, float(took), float(age)) for what, took, age in map(str.split, log.read_text().splitlines())]


def shown(one: Phase, quiet: Phase) -> str:
    """Return a line of the table."""
    commits = [commit for commit in one.commits if commit.what == "commit"]
    holds = [commit.took_ms for commit in one.commits if commit.what == "hold"]
    ages = sorted(commit.age_ms for commit in commits)
    of_quiet = statistics.median(ages) / statistics.median(commit.age_ms for commit in quiet.commits)
    answers = f"{len(one.answers_ms):5}  {middle(one.answers_ms)}" if one.answers_ms else " " * 20
    took = middle([commit.took_ms for commit in commits])
    held = f"{max(holds):7.2f}" if holds else " " * 7
    return f"{one.name:34} {len(commits):7}  {took}  {middle(ages)}  {of_quiet:5.2f}  {held}  {answers}"


def middle(values: Sequence[float]) -> str:
    """Return the median and the 99th of a hundred."""
    ordered = sorted(values)
    return f"{statistics.median(ordered):6.1f} {ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]:7.1f}"


async def bench(count: int) -> None:
    """Measure, and print a table."""
    with tempfile.TemporaryDirectory(prefix="cutor-bench-queries-") as directory:
        place = Path(directory)
        server = await EmbeddedServer.start(place / "nats", port=free_port("127.0.0.1"))
        try:
            async with Bus.connect(server.url, name="bench") as bus:
                await apply_streams(server.url)
                await measure(bus, server.url, place, count)
        finally:
            await server.stop()


async def measure(bus: Bus, url: str, place: Path, count: int) -> None:
    """Fill the stream, make the views, and ask."""
    messages = lives(count * 10)
    await publish(url, itertools.islice(messages, count))
    database, log = place / "views.duckdb", place / "commits"
    await rebuild(bus, database)
    print(f"{count:,} events; the views have {database.stat().st_size >> 20} MiB", flush=True)
    log.touch()
    async with projector(url, database, log):
        load = asyncio.create_task(come(bus, messages))
        try:
            await show(bus, place, log)
        finally:
            load.cancel()
            await asyncio.wait([load])


async def show(bus: Bus, place: Path, log: Path) -> None:
    """Ask in each of the ways, and print a line of each."""
    exact, old = partial(query, bus, DASHBOARD), partial(query, bus, DASHBOARD, max_age_s=10.0)
    worst = [[partial(query, bus, sql, 5.0) for sql in (*WORST[at:], *WORST[:at])] for at in (0, 2)]
    await phase("", log, [[exact]], 1.0)
    quiet = await phase("nothing", log, [], 1.0)
    print(f"{'':34} commits   commit, ms     publish → view, ms  of p50  hold, ms  asked     answer, ms")
    print(f"{'beside':34}            p50     p99     p50     p99           at most           p50     p99")
    print(shown(quiet, quiet), flush=True)
    for name, askers, pause_s in (
        ("a dashboard, each second", [[exact]], 1.0),
        ("a dashboard, 10 a second, 10 s old", [[old]], 0.1),
        ("the worst questions, two at a time", worst, 0.0),
        ("both", [*worst, [exact]], 1.0),
        ("snapshots, one after the other", [[partial(fetch_snapshot, bus, place / "taken.duckdb")]], 0.0),
    ):
        print(shown(await phase(name, log, askers, pause_s), quiet), flush=True)


def main() -> None:
    """Be the projector, or measure."""
    if sys.argv[1:2] == ["projector"]:
        measured(Path(sys.argv[4]))
        uvloop.run(run_projector(sys.argv[2], sys.argv[3]))
    else:
        uvloop.run(bench(int(sys.argv[1]) if sys.argv[1:] else COUNT))


if __name__ == "__main__":
    main()

"""How old an event is when the views hold it, and what that costs: `python -m tests.bench.live [ages|cpu] [SECONDS]`.

Or `make bench-live`, for both. An embedded server, a projector in a process of its own, and this process, which publishes whole
lives of submissions (`lives`) at a steady rate. The age of an event is the time from the stream's own timestamp of it to the
end of the commit that has it; what a publisher waits for its acknowledgement is not in it. Of the commits, half took as long as
is shown or less. CPU time is that of the projector's process, all its threads; not of those that answer questions.

Ages are measured as they are while nobody asks, and while somebody does each second; what an event costs, while all CPUs are
busy with something else, for which commits rest (`cutor.projections.pace`), and beside it with commits that never rest.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

import uvloop

from cutor.bus.bulk.columns import Message
from cutor.bus.connection import Bus
from cutor.bus.embedded import EmbeddedServer
from cutor.bus.ports import free_port
from cutor.bus.topology import apply, default_text, parse
from cutor.model.subjects import EVENTS
from cutor.projections.queries.client import query
from cutor.projections.settings import ProjectorSettings
from cutor.projections.writer import Writer
from tests.bench.lives import Made, lives, publishing
from tests.integration.projecting import projector

SECONDS: Final = {"ages": 20, "cpu": 10}
"""What can be measured, and for how long each rate is."""
TARGETS: Final = {100: (8, 12), 5000: (25, 50)}
"""For every rate, in events a second, what half of the events and 99 of 100 are to be below, in milliseconds."""
RATES: Final = (10, 40, 100, 250, 1000)
"""Events a second whose CPU time is measured."""
IDLE_S: Final = 20.0
TICK_S: Final = 0.001
WARM_UP: Final = 500
"""Events that come before it is measured: what runs for the first time takes longer."""
WARM_UP_RATE: Final = 250
ASK_S: Final = 1.0
"""Between two questions of who looks."""
PATIENCE_S: Final = 60.0


async def project(url: str, database: str, count: int, commit_interval_ms: int) -> None:
    """Be the projector until so many events are committed, for none `IDLE_S`; print what was measured as one line of JSON."""
    ages_ms: list[float] = []
    commits_ms: list[float] = []
    warm, done = asyncio.Event(), asyncio.Event()
    apply_to_views = Writer.apply

    async def measured(self: Writer, stream: str, messages: Sequence[Message]) -> None:
        began_ns = time.time_ns()
        await apply_to_views(self, stream, messages)
        now_ns = time.time_ns()
        if stream == EVENTS:
            commits_ms.append((now_ns - began_ns) / 1e6)
            ages_ms.extend((now_ns - message.time_ns) / 1e6 for message in messages)
            if len(ages_ms) >= WARM_UP:
                warm.set()
            if len(ages_ms) >= WARM_UP + count:
                done.set()

    Writer.apply = measured  # type: ignore[method-assign]
    async with projector(url, Path(database), ProjectorSettings(commit_interval_ms=commit_interval_ms)):
        print("ready", flush=True)
        await warm.wait()
        print("warm", flush=True)
        cpu_s, began, before = time.process_time(), time.monotonic(), len(commits_ms)
        await (done.wait() if count else asyncio.sleep(IDLE_S))
        cpu_s, wall_s = time.process_time() - cpu_s, time.monotonic() - began
    found: dict[str, float] = {"cpu_s": cpu_s, "wall_s": wall_s}
    if count:
        ages_ms, taken_ms = sorted(ages_ms[WARM_UP:]), commits_ms[before:]
        found |= {"commits": len(taken_ms), "commit": statistics.median(taken_ms), "max": ages_ms[-1]}
        found |= {f"p{per}": statistics.quantiles(ages_ms, n=100)[per - 1] for per in (50, 90, 99)}
    print(json.dumps(found), flush=True)


async def paced(url: str, messages: Iterable[Made], rate: int) -> None:
    """Publish at a steady rate, a few together where they are closer than a tick."""
    began, done = time.monotonic(), 0
    remaining = iter(messages)
    async with publishing(url) as publisher:
        while True:
            due = int((time.monotonic() - began) * rate) - done
            if due > 0:
                some = list(itertools.islice(remaining, due))
                if not some:
                    return
                done += await publisher.store(some)
            await asyncio.sleep(max(TICK_S, 1 / rate / 2))


@asynccontextmanager
async def asking(bus: Bus) -> AsyncIterator[None]:
    """Have somebody look at the views meanwhile."""

    async def ask() -> None:
        while True:
            await query(bus, "SELECT max(sequence) FROM events")
            await asyncio.sleep(ASK_S)

    await query(bus, "SELECT 1")
    task = asyncio.create_task(ask())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def busy_cpus() -> AsyncIterator[None]:
    """Have somebody want all CPUs meanwhile."""
    command = [sys.executable, "-S", "-c", "while True: pass"]
    busy = [await asyncio.create_subprocess_exec(*command) for _ in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            await process.wait()


async def measure(
    rate: int, seconds: int, *, looks: bool = False, busy: bool = False, commit_interval_ms: int | None = None
) -> dict[str, Any]:
    """Return what a projector of its own process measured at a rate; of 0, while nothing happens."""
    count = rate * seconds
    interval_ms = ProjectorSettings().commit_interval_ms if commit_interval_ms is None else commit_interval_ms
    with tempfile.TemporaryDirectory(prefix="cutor-bench-") as directory:
        server = await EmbeddedServer.start(Path(directory) / "nats", port=free_port("127.0.0.1"))
        async with server, Bus.connect(server.url, name="bench") as bus:
            await apply(bus, parse(default_text(), ["default"]))
            arguments = ["project", server.url, f"{directory}/views.duckdb", str(count), str(interval_ms)]
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.bench.live", *arguments, stdout=asyncio.subprocess.PIPE
            )
            assert child.stdout is not None
            messages = lives(WARM_UP + count)
            try:
                assert (await child.stdout.readline()) == b"ready\n"
                async with asking(bus) if looks else nullcontext(), busy_cpus() if busy else nullcontext():
                    await paced(server.url, itertools.islice(messages, WARM_UP), WARM_UP_RATE)
                    assert (await asyncio.wait_for(child.stdout.readline(), PATIENCE_S)) == b"warm\n"
                    began = time.monotonic()
                    if rate:
                        await paced(server.url, messages, rate)
                    came = count / (time.monotonic() - began)
                    line = await asyncio.wait_for(child.stdout.readline(), PATIENCE_S)
            finally:
                if child.returncode is None:
                    child.terminate()
                await child.wait()
    found: dict[str, Any] = json.loads(line)
    return found | {"came": came}


async def ages(seconds: int) -> None:
    """Measure how old events are, and print a table."""
    print(
        "| events/s, as they came | asked | half within, ms (target) | 99 % within, ms (target) "
        "| 90 % | longest | commits, ms | CPU |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for (rate, (half, most)), looks in itertools.product(TARGETS.items(), (False, True)):
        found = await measure(rate, seconds, looks=looks)
        times = f"{found['p50']:.1f} ({half}) | {found['p99']:.1f} ({most}) | {found['p90']:.1f} | {found['max']:.1f}"
        commits = f"{found['commits']:,}, {found['commit']:.1f}"
        share = found["cpu_s"] / found["wall_s"]
        asked = "each second" if looks else "never"
        print(f"| {rate:,}, {found['came']:,.0f} | {asked} | {times} | {commits} | {share:.0%} |", flush=True)


async def cpu(seconds: int) -> None:
    """Measure what events cost while nobody looks and all CPUs are busy, and print a table."""
    print("| events/s | ms of CPU an event | no commit rests | % of a CPU | no commit rests | events a commit | half, ms |")
    print("|---|---|---|---|---|---|---|")
    for rate in RATES:
        found = [await measure(rate, seconds, busy=True, commit_interval_ms=interval_ms) for interval_ms in (None, 0)]
        each = " | ".join(f"{one['cpu_s'] / (rate * seconds) * 1000:.2f}" for one in found)
        share = " | ".join(f"{one['cpu_s'] / one['wall_s']:.1%}" for one in found)
        rest = f"{rate * seconds / found[0]['commits']:.1f} | {found[0]['p50']:.0f}"
        print(f"| {rate:,} | {each} | {share} | {rest} |", flush=True)
    idle = await measure(0, seconds)
    print(f"\nWhile nothing happens: {idle['cpu_s'] / idle['wall_s'] * 60_000:.0f} ms of CPU a minute", flush=True)


async def run(wanted: str | None, seconds: int | None) -> None:
    """Measure one thing, or both."""
    for name, measured in {"ages": ages, "cpu": cpu}.items():
        if wanted in (None, name):
            await measured(seconds or SECONDS[name])
            print(flush=True)


def main() -> None:
    """Run as the command line says, or as the projector."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["project"]:
        url, database, count, interval_ms = arguments[1:]
        uvloop.run(project(url, database, int(count), int(interval_ms)))
        return
    wanted = arguments.pop(0) if arguments and arguments[0] in SECONDS else None
    uvloop.run(run(wanted, int(arguments[0]) if arguments else None))


if __name__ == "__main__":
    main()

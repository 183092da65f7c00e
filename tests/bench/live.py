"""How old an event is when the views hold it: `python -m tests.bench.live [SECONDS]`, or `make bench-live`.

An embedded server, a projector in a process of its own, and this process, which publishes whole lives of submissions (`lives`)
at a steady rate. The age of an event is the time from the stream's own timestamp of it to the end of the commit that has it;
what a publisher waits for its acknowledgement is not in it. Of the commits, half took as long as is shown or less. CPU time is
that of the projector's process, all its threads.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import uvloop

from cutor.bus.bulk.columns import Message
from cutor.bus.connection import Bus
from cutor.bus.embedded import EmbeddedServer, free_port
from cutor.bus.topology import apply, default_text, parse
from cutor.model.subjects import EVENTS
from cutor.projections.writer import Writer
from tests.bench.lives import Made, lives, publishing
from tests.integration.projecting import projector

SECONDS: Final = 20
TARGETS: Final = {100: (8, 12), 5000: (25, 50)}
"""For every rate, in events a second, what half of the events and 99 of 100 are to be below, in milliseconds."""
TICK_S: Final = 0.001
WARM_UP: Final = 500
"""Events that come before it is measured: what runs for the first time takes longer."""
PATIENCE_S: Final = 60.0


async def project(url: str, database: str, count: int) -> None:
    """Be the projector until so many events are committed; print what was measured as one line of JSON."""
    ages_ms: list[float] = []
    commits_ms: list[float] = []
    done = asyncio.Event()
    apply_to_views = Writer.apply

    async def measured(self: Writer, stream: str, messages: Sequence[Message]) -> None:
        began_ns = time.time_ns()
        await apply_to_views(self, stream, messages)
        now_ns = time.time_ns()
        if stream == EVENTS:
            commits_ms.append((now_ns - began_ns) / 1e6)
            ages_ms.extend((now_ns - message.time_ns) / 1e6 for message in messages)
            if len(ages_ms) >= count:
                done.set()

    Writer.apply = measured  # type: ignore[method-assign]
    async with projector(url, Path(database)):
        print("ready", flush=True)
        while len(ages_ms) < WARM_UP:
            await asyncio.sleep(0.01)
        cpu_s, began, before = time.process_time(), time.monotonic(), len(commits_ms)
        await done.wait()
        share = (time.process_time() - cpu_s) / (time.monotonic() - began)
    ages_ms = sorted(ages_ms[WARM_UP:])
    taken_ms = commits_ms[before:]
    found = {"commits": len(taken_ms), "commit": statistics.median(taken_ms), "cpu_share": share, "max": ages_ms[-1]}
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


async def measure(rate: int, seconds: int) -> dict[str, Any]:
    """Return what a projector of its own process measured at a rate."""
    count = WARM_UP + rate * seconds
    with tempfile.TemporaryDirectory(prefix="cutor-bench-") as directory:
        server = await EmbeddedServer.start(Path(directory) / "nats", port=free_port("127.0.0.1"))
        async with server, Bus.connect(server.url, name="bench") as bus:
            await apply(bus, parse(default_text(), ["default"]))
            command = ["-m", "tests.bench.live", "project", server.url, f"{directory}/views.duckdb", str(count)]
            child = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
            assert child.stdout is not None
            try:
                assert (await child.stdout.readline()) == b"ready\n"
                began = time.monotonic()
                await paced(server.url, lives(count), rate)
                came = count / (time.monotonic() - began)
                line = await asyncio.wait_for(child.stdout.readline(), PATIENCE_S)
            finally:
                if child.returncode is None:
                    child.terminate()
                await child.wait()
    found: dict[str, Any] = json.loads(line)
    return found | {"came": came}


async def run(seconds: int) -> None:
    """Measure every rate, and print a table."""
    print(
        "| events/s, as they came | half within, ms (target) | 99 % within, ms (target) | 90 % | longest | commits, ms | CPU |"
    )
    print("|---|---|---|---|---|---|---|")
    for rate, (half, most) in TARGETS.items():
        found = await measure(rate, seconds)
        ages = f"{found['p50']:.1f} ({half}) | {found['p99']:.1f} ({most}) | {found['p90']:.1f} | {found['max']:.1f}"
        commits = f"{found['commits']:,}, {found['commit']:.1f}"
        print(f"| {rate:,}, {found['came']:,.0f} | {ages} | {commits} | {found['cpu_share']:.0%} |", flush=True)


def main() -> None:
    """Run with the command line's seconds, or as the projector."""
    if sys.argv[1:2] == ["project"]:
        url, database, count = sys.argv[2:]
        uvloop.run(project(url, database, int(count)))
    else:
        uvloop.run(run(int(sys.argv[1]) if len(sys.argv) > 1 else SECONDS))


if __name__ == "__main__":
    main()

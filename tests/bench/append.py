"""What it costs to have every append on the disk before it is acknowledged: `python -m tests.bench.append [ROUNDS [APPENDS]]`.

Two embedded servers, one that forces what it writes to the disk every two minutes and one that does so at every append, beside
each other on the same disk (that of TMPDIR). They take turns, so that what else the machine does meets both. Fenced appends of
the bus as roles and clients make them, 400 bytes each: one after the other, and from 100 writers that each wait for their own.
Printed are medians over the rounds, and what one write of the same size with fdatasync takes without any server.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

import uvloop

from cutor.bus.connection import Bus
from cutor.bus.embedded import EmbeddedServer
from cutor.bus.ports import free_port
from cutor.bus.server_file import ALWAYS_SYNC, DEFAULT_SYNC
from cutor.bus.topology import apply, default_text, parse

ROUNDS: Final = 7
APPENDS: Final = 2000
WRITERS: Final = (1, 100)
BODY: Final = b"x" * 400


class Round(NamedTuple):
    """One round: appends a second, and the median time of one in milliseconds."""

    rate: float
    median_ms: float


async def measure(bus: Bus, name: str, writers: int, appends: int) -> Round:
    """Append so many times from so many writers, each to its own submission."""
    times_s: list[float] = []

    async def write(writer: int) -> None:
        fence, sequence = f"cutor.ev.default.{name}-{writer}.>", 0
        for number in range(appends // writers):
            subject = f"cutor.ev.default.{name}-{writer}.{'ran' if sequence else 'submitted'}"
            began = time.perf_counter()
            done = await bus.append(
                subject, BODY, message_id=f"{name}/{writer}/{number}", fence=fence, expected_sequence=sequence
            )
            times_s.append(time.perf_counter() - began)
            sequence = done.sequence

    began = time.perf_counter()
    await asyncio.gather(*(write(writer) for writer in range(writers)))
    return Round(len(times_s) / (time.perf_counter() - began), statistics.median(times_s) * 1000)


def fdatasync_ms(directory: Path, count: int = 500) -> float:
    """The median time of one small write that is forced to the disk."""
    times_s = []
    descriptor = os.open(directory / "plain", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for _ in range(count):
            began = time.perf_counter()
            os.write(descriptor, BODY)
            os.fdatasync(descriptor)
            times_s.append(time.perf_counter() - began)
    finally:
        os.close(descriptor)
    return statistics.median(times_s) * 1000


async def run(directory: Path, rounds: int, appends: int) -> None:
    """Measure and print."""
    found: dict[tuple[str, int], list[Round]] = {}
    intervals = (DEFAULT_SYNC, ALWAYS_SYNC)
    servers = [
        await EmbeddedServer.start(directory / interval, port=free_port("127.0.0.1"), sync_interval=interval)
        for interval in intervals
    ]
    try:
        for number in range(rounds + 1):  # the first one warms up
            for interval, server in zip(intervals, servers, strict=True):
                async with Bus.connect(server.url, name="bench") as bus:
                    await apply(bus, parse(default_text(), ["default"]))
                    for writers in WRITERS:
                        result = await measure(bus, f"r{number}-{writers}", writers, appends)
                        found.setdefault((interval, writers), []).append(result)
    finally:
        for server in servers:
            await server.stop()
    print(f"one write of {len(BODY)} bytes with fdatasync: {fdatasync_ms(directory):.2f} ms")
    print("| sync_interval | writers | appends a second | median of one |\n|---|---|---|---|")
    for (interval, writers), results in found.items():
        rate = statistics.median(one.rate for one in results[1:])
        median_ms = statistics.median(one.median_ms for one in results[1:])
        print(f"| {interval} | {writers} | {rate:,.0f} | {median_ms:.2f} ms |")


def main() -> None:
    """Run with the command line's numbers."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    appends = int(sys.argv[2]) if len(sys.argv) > 2 else APPENDS
    with tempfile.TemporaryDirectory(prefix="cutor-bench-") as directory:
        uvloop.run(run(Path(directory), rounds, appends))


if __name__ == "__main__":
    main()

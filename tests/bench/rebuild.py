"""What a rebuild of the views costs: `python -m tests.bench.rebuild [EVENTS [OUTPUT_BYTES]]`, or `make bench-projections`.

An embedded server is filled with whole lives of submissions (`lives`). Measured are, one after the other: reading the
stream alone, in the ordinary way, in bulk, and by a process that makes columns, too; the steps behind it, each alone, of
the same messages without a server, in batches as a rebuild has them (bodies into events, all of it into columns, and the
fold of those with the commit); the rebuild of a file from the stream, with the memory that this process holds at each
quarter of the way; and the same from an archive and the stream's tail (`tests.bench.archive`). CPU time is that of this
process, all its threads together, and of the processes that it has started and ended, such as the one that reads for a
rebuild. The server's stands beside it.
"""

from __future__ import annotations

import itertools
import resource
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import uvloop

from cutor.bus.bulk.columns import Columns
from cutor.bus.bulk.reader import BATCH
from cutor.bus.connection import Bus
from cutor.bus.embedded import EmbeddedServer
from cutor.bus.ports import free_port
from cutor.bus.topology import apply, default_text, parse
from cutor.model.subjects import EVENTS
from cutor.projections.archive.place import Archive
from cutor.projections.folds.batches import batch_of, read_batches
from cutor.projections.folds.readings import read as read_messages
from cutor.projections.folds.row_groups import GROUP_BYTES, ROW_GROUP
from cutor.projections.rebuilds.rebuild import Progress, rebuild
from cutor.projections.store import Store
from tests.bench.archive import TARGET as ARCHIVE_TARGET
from tests.bench.archive import archived
from tests.bench.lives import lives, publish
from tests.bench.metering import Meter, Spent

COUNT: Final = 1_000_000
LARGE_BYTES: Final = 16_000
"""What each test case prints in the second round, which has a tenth of the events."""
TARGET: Final = 120_000
"""Events a second of a rebuild, of events of 400 bytes, on two CPUs."""
MIB: Final = 1 << 20


class Steps(NamedTuple):
    """What each step behind the reading takes; ``columns`` holds the one before it."""

    events: Spent
    columns: Spent
    folding: Spent


async def read(bus: Bus, server_pid: int) -> tuple[Spent, int]:
    """Read the stream alone, in the ordinary way; return what it took, and the bytes of all bodies."""
    meter, size_bytes = Meter(server_pid), 0
    with meter.running():
        async for messages in bus.read_batches(EVENTS, batch=BATCH):
            size_bytes += sum(len(message.body) for message in messages)
    return meter.spent, size_bytes


async def read_in_bulk(bus: Bus, count: int, server_pid: int) -> Spent:
    """Read the stream alone, in bulk."""
    meter = Meter(server_pid)
    with meter.running():
        read = [len(columns) async for columns in bus.read_columns(EVENTS, from_sequence=1, until_sequence=count)]
    assert sum(read) == count
    return meter.spent


def steps(path: Path, count: int, output_bytes: int) -> Steps:
    """Take each step alone, of the same events without a server; what makes them is not measured."""
    events, columns, folding = Meter(), Meter(), Meter()
    with closing(Store.open(path, logged=False)) as store:
        made = lives(count, output_bytes)
        while some := list(itertools.islice(made, _batch(output_bytes))):
            messages = Columns.of(some)
            with events.running():
                assert all(None not in part.events for part in read_messages(messages))
            with columns.running():
                batch = batch_of(EVENTS, messages)
                batch.relations()
            with folding.running():
                store.apply_batch(EVENTS, batch)
                store.work_in()
        with folding.running():
            store.work_all_in()
    return Steps(events.spent, columns.spent, folding.spent)


def _batch(output_bytes: int) -> int:
    """Return about how many events a batch of a rebuild has."""
    return min(ROW_GROUP, GROUP_BYTES // (output_bytes // 2 + 400))


async def read_by_a_process(bus: Bus, count: int, server_pid: int) -> Spent:
    """Have another process read the stream and make columns of it, as for a rebuild, and do nothing with them."""
    meter = Meter(server_pid)
    with meter.running():
        read = [len(batch) async for batch in read_batches(bus, EVENTS, 1, count)]
    assert sum(read) == count
    return meter.spent


async def rebuilt(
    bus: Bus, path: Path, server_pid: int, archive: Archive | None = None, *, from_events: bool = False
) -> tuple[Spent, list[int]]:
    """Rebuild; return what it took, and the MiB that this process held at each quarter."""
    meter = Meter(server_pid)
    held: list[int] = []

    def tell(progress: Progress) -> None:
        if progress.stream == EVENTS and progress.sequence * 4 >= progress.last * (len(held) + 1):
            held.append(_resident_mib())

    with meter.running():
        await rebuild(bus, path, tell=tell, archive=archive, from_events=from_events)
    return meter.spent, held


def _resident_mib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // MIB


async def measure(directory: Path, count: int, output_bytes: int) -> None:
    """Measure one stream, and print."""
    server = await EmbeddedServer.start(directory / "nats", port=free_port("127.0.0.1"))
    async with server, Bus.connect(server.url, name="bench") as bus:
        await apply(bus, parse(default_text(), ["default"]))
        began = time.perf_counter()
        await publish(server.url, lives(count, output_bytes))
        assert (await bus.stream_info(EVENTS))["state"]["last_seq"] == count
        published_s = time.perf_counter() - began
        reading, size_bytes = await read(bus, server.pid)
        spent = {"reading alone, ordinary": reading, "reading alone, in bulk": await read_in_bulk(bus, count, server.pid)}
        spent["reading and columns, by a process"] = await read_by_a_process(bus, count, server.pid)
        alone = steps(directory / "fold.duckdb", count, output_bytes)
        spent |= {"into events": alone.events, "into columns, that too": alone.columns, "fold and commit": alone.folding}
        spent["rebuild"], held = await rebuilt(bus, directory / "rebuilt.duckdb", server.pid)
        held_with_archive: list[int] = []

        async def from_archive(archive: Archive, from_events: bool) -> Spent:
            path = directory / f"of-archive-{from_events}.duckdb"
            took, quarters = await rebuilt(bus, path, server.pid, archive, from_events=from_events)
            if from_events:
                held_with_archive[:] = quarters
            return took

        spent |= await archived(bus, directory, count, from_archive)
    print(
        f"\n{count:,} events of {size_bytes / count:,.0f} bytes, {size_bytes / MIB:,.0f} MiB; published in {published_s:.1f} s"
    )
    print("| step | events/s | MiB/s | µs of CPU an event | of the server's |\n|---|---|---|---|---|")
    for name, one in spent.items():
        rates = f"{count / one.wall_s:,.0f} | {size_bytes / MIB / one.wall_s:,.1f}"
        print(f"| {name} | {rates} | {one.cpu_s / count * 1e6:.1f} | {one.server_s / count * 1e6:.1f} |")
    if not output_bytes:
        print(f"target of a rebuild: {TARGET:,} events/s; from archive and tail: {ARCHIVE_TARGET:,}")
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    for of, quarters in (("the rebuild", held), ("that from archive and tail, folding every event", held_with_archive)):
        print(f"memory at each quarter of {of}: {', '.join(map(str, quarters))} MiB")
    print(f"highest of all: {peak_mib} MiB")


def main() -> None:
    """Run with the command line's numbers: one stream, or both."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    rounds = [(count, int(sys.argv[2]))] if len(sys.argv) > 2 else [(count, 0), (count // 10, LARGE_BYTES)]
    for events, output_bytes in rounds:
        with tempfile.TemporaryDirectory(prefix="cutor-bench-") as directory:
            uvloop.run(measure(Path(directory), events, output_bytes))


if __name__ == "__main__":
    main()

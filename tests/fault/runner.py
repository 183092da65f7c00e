"""What `make fault` runs: every point of `points`, each with submissions in work, and a table of what came of it.

Exit code 0: nothing lost, doubled, wrong or left, all views equal, every point passed, work went on in time, and in a run of
all points there were at least 500 submissions and 100 processes killed; 1: something was not so; 3: a stack did not work;
130: it was interrupted. Whatever happens, nothing that was started is left running.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Final

from cutor.bus.errors import BusError
from cutor.errors import CutorError
from tests.attacks.stack import StackFailed
from tests.fault import points as registry
from tests.fault import table
from tests.fault.arming import Order
from tests.fault.campaign import FIVE, Campaign, campaign
from tests.fault.clustered import cluster_rounds
from tests.fault.network import network_round
from tests.fault.outside import outside_round, start_round, stop_round
from tests.fault.points import Group, Point
from tests.fault.rows import Row
from tests.fault.stack import FaultStack, fault_stack
from tests.fault.submissions import KINDS

DIFFERENT, FAILED, INTERRUPTED = 1, 3, 130
Round = Callable[[Campaign, list[Point]], Awaitable[list[Row]]]
AT_A_TIME: Final[dict[Group, tuple[Round, int]]] = {
    "start": (start_round, registry.CHAIN),
    "stop": (stop_round, registry.CHAIN),
    "outside": (outside_round, 1),
    "network": (network_round, 1),
}
"""Groups with rounds of their own, and how many of their points are passed before everything is looked at."""


async def all_rows(points: Sequence[Point], home: Path) -> AsyncGenerator[Row, None]:
    """Run everything that was asked for, and yield what came of each point as it ends."""
    groups: dict[Group, list[Point]] = {}
    for point in points:
        groups.setdefault(point.group, []).append(point)
    usual = [groups.pop(group) for group in ("stack", "outside", "network", "start", "stop") if group in groups]
    if usual:
        async with aclosing(_on_a_stack(home / "usual", [point for several in usual for point in several])) as rows:
            async for row in rows:
                yield row
    if strict := groups.pop("strict", None):
        async with aclosing(_on_a_stack(home / "strict", strict, max_leases=1)) as rows:
            async for row in rows:
                yield row
    if new := groups.pop("new", None):
        for row in await first_start(new, home / "new"):
            yield row
    if clustered := groups.pop("cluster", None):
        async with aclosing(cluster_rounds(clustered, home / "cluster")) as rows:
            async for row in rows:
                yield row
    assert not groups, groups


async def _on_a_stack(home: Path, points: list[Point], *, max_leases: int = 20) -> AsyncGenerator[Row, None]:
    async with fault_stack(home, max_leases=max_leases) as stack, campaign(stack) as held:
        await held.warm(lose=max_leases > 1)
        for group in dict.fromkeys(point.group for point in points):
            of_group = [point for point in points if point.group == group]
            if group in AT_A_TIME:
                run_round, many = AT_A_TIME[group]
                for at in range(0, len(of_group), many):
                    for row in await run_round(held, of_group[at : at + many]):
                        yield row
            else:
                for together in registry.rounds(of_group):
                    for row in await held.round(together):
                        yield row
        yield await held.last()


async def first_start(points: list[Point], home: Path) -> list[Row]:
    """Kill the supervisor at several points of a stack's first start, one after the other; in the end it must do."""
    stack, began, rows = await FaultStack.make(home), time.monotonic(), {point.name: Row(point.name) for point in points}
    try:
        for point in points:
            stack.points.arm(point.name, Order(passing=point.passing))
            stack.launch()
            await stack.ended(90)
            rows[point.name].reached = stack.points.fired(point.name)
            rows[point.name].kills = int(rows[point.name].reached)
        await stack.up()
        async with campaign(stack) as held:
            await held.warm(lose=False)
            handed = {point.name: [await held.hand_in(KINDS[name]) for name in FIVE] for point in points}
            await held.settle(rows, handed, began)
            last = await held.last()
        await stack.down()
    finally:
        await asyncio.to_thread(stack.finish)
    return [*rows.values(), last]


async def run(points: Sequence[Point], home: Path, say: Callable[[str], None]) -> list[Row]:
    """Run points, and print the table as it comes."""
    began, rows = time.monotonic(), []
    say(table.heading())
    async with aclosing(all_rows(points, home)) as found:
        async for row in found:
            rows.append(row)
            for line in table.lines(row):
                say(line)
    say(table.total(rows, time.monotonic() - began))
    return rows


def interruptible() -> None:
    """Let SIGTERM end everything as Ctrl-C does, also in a background job of a shell."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


def in_home(work: Callable[[Path], Awaitable[int]], name: str) -> int:
    """Do some work in a directory of its own, which is removed where it went well; return the exit code."""
    home = Path(tempfile.mkdtemp(prefix="cutor-fault-"))
    logging.basicConfig(level=logging.INFO, filename=home / "harness.log", format="%(asctime)s %(name)s: %(message)s")
    interruptible()

    async def awaited() -> int:
        return await work(home)

    code = FAILED
    try:
        code = asyncio.run(awaited())
    except KeyboardInterrupt:
        print(f"{name}: interrupted; what was started is stopped", file=sys.stderr)
        code = INTERRUPTED
    except (StackFailed, CutorError, BusError, AssertionError, TimeoutError) as error:
        print(f"{name}: {error or type(error).__name__}", file=sys.stderr)
    if code in {0, INTERRUPTED}:
        shutil.rmtree(home, ignore_errors=True)
    else:
        print(f"the logs are in {home}", file=sys.stderr)
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.runner", description=__doc__)
    parser.add_argument("points", nargs="*", help="patterns of names, such as 'runner.*'; all without one")
    parser.add_argument("--list", action="store_true", help="print the names of the points")
    parser.add_argument("--seed", type=int, default=None, help="of what is random; printed when it is chosen")
    wanted = parser.parse_args(arguments)
    points = registry.matching(wanted.points or ("*",))
    if not points:
        parser.error("no point has such a name")
    if wanted.list:
        print("\n".join(point.name for point in points))
        return 0
    seed = random.randrange(1 << 32) if wanted.seed is None else wanted.seed
    random.seed(seed)

    async def work(home: Path) -> int:
        print(f"{len(points)} points, seed {seed}", flush=True)
        rows = await run(points, home, lambda line: print(line, flush=True))
        bad = sum(not row.good for row in rows)
        short = [] if wanted.points else table.shortfall(rows)
        for text in short:
            print(f"too little: {text}")
        print("all as it must be" if not (bad or short) else f"{bad} of {len(rows)} not as they must be")
        return DIFFERENT if bad or short else 0

    return in_home(work, "fault")


if __name__ == "__main__":
    sys.exit(main())

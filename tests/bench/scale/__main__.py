"""What a submission costs by how much is there already: `python -m tests.bench.scale`, or `make bench-scale`.

One stack with 100 submissions behind it in one environment, and beside it, in turns, one after the other with more of either.
Histories are made of a real submission's events; the environments are records that all lead to one that was really built. What
is measured, and what it means: docs/explanation/scale.md. The run is kept as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from pathlib import Path
from typing import Final, NamedTuple

import uvloop
from aiodocker import DockerError

from cutor.client.client import Client
from cutor.errors import CutorError
from cutor.journal.environments import Environments
from cutor.model.subjects import ENVIRONMENTS, Address, environment_subject
from cutor.nix.settings import NixSettings
from tests.bench import kept
from tests.bench.performance.__main__ import place, said
from tests.bench.performance.origin import origin, revision
from tests.bench.performance.producers import Producers
from tests.bench.scale import figures, tables
from tests.bench.scale.fairness import fairness
from tests.bench.scale.figures import FORMAT, Pair, Run
from tests.bench.scale.histories import Model, case_of, keys
from tests.bench.scale.point import Point
from tests.bench.stacks import Machine, Unexpected, expect, machine, within
from tests.stores import copy_store, lent_store_async, write_config

POINTS: Final = ((1_000, 1), (10_000, 1), (100_000, 1), (10_000, 10), (10_000, 100), (10_000, 1_000), (100_000, 1_000))
LEAST: Final = (100, 1)
MOST_ENVIRONMENTS: Final = 1_000

WARM_UP: Final = 2
"""Submissions in front of those that count."""

Say = Callable[[str], None]
Running = Callable[[Point], AbstractContextManager[None]]


class Lengths(NamedTuple):
    """How often everything is done."""

    turns: int
    lives: int
    contained: int
    starts: int
    commands: int
    fair: bool = True


USUAL: Final = Lengths(turns=4, lives=50, contained=10, starts=1, commands=3)
QUICK: Final = Lengths(turns=1, lives=3, contained=1, starts=1, commands=1)


async def measure(lengths: Lengths, points: Sequence[tuple[int, int]], say: Say) -> Run:
    """Measure every point beside the smallest one, and leave nothing behind."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    of, pairs = await origin(), []
    with tempfile.TemporaryDirectory(prefix="cutor-bench-") as name:
        directory = Path(name)
        async with lent_store_async(copy_store) as store:
            known = await keys(MOST_ENVIRONMENTS, store)
            say("a real submission is made, of which the histories are")
            with machine(directory / "model") as there:
                write_config(there.config, store)
                model = await modelled(there, known[0])
            async with AsyncExitStack() as stack:
                least = await prepared(stack, directory, store, model, known, LEAST, say)
                for point in points:
                    some = lengths if point == points[-1] else lengths._replace(contained=0)
                    async with AsyncExitStack() as inner:
                        more = await prepared(inner, directory, store, model, known, point, say)
                        pairs.append(await compare(least, more, some, say))
            single = (
                await fairness(directory, store, model, known, (lengths.lives, lengths.contained), say) if lengths.fair else []
            )
    return Run(format=FORMAT, origin=of, pairs=pairs, fair=single)


async def modelled(there: Machine, key: str) -> Model:
    """Have one submission built and run, and return its events."""
    there.up("builder", "runner")
    async with Producers.of(there.stack.server, 1) as producers, Client(there.stack.server) as client:
        life = await producers.first.live(case_of(0))
        expect(life.events, "the submission has no events")
        life = await producers.first.live(case_of(0))  # a hit, as nearly all are
        journal = client.journal
        newest = max([stored async for stored in journal.bus.read("EVENTS")], key=lambda one: one.sequence)
        address = Address("default", newest.subject.split(".")[3])
        for _ in within("that the submission is clean"):
            if (await journal.known(address)).cleaned_ns is not None:
                break
            await asyncio.sleep(0.05)
        known = await Environments(journal.bus).find(key)
        assert known is not None, f"the environment has another key than {key}"
        stored = await journal.bus.last(ENVIRONMENTS, environment_subject(key))
        assert stored is not None
        return Model.of([entry.stored for entry in await journal.entries(address)], known.built, stored.body)


async def prepared(
    stack: AsyncExitStack,
    directory: Path,
    store: NixSettings,
    model: Model,
    known: Sequence[str],
    of: tuple[int, int],
    say: Say,
) -> Point:
    """Return a stack that is filled and serves; it goes with ``stack``."""
    submissions, environments = of
    there = stack.enter_context(machine(directory / f"of-{submissions}-{environments}"))
    write_config(there.config, store)
    point = Point(there, submissions, known[:environments])
    say(f"{point.name}: the history is written")
    await point.fill(model)
    say(f"{point.name}: the views are made")
    await point.begin()
    return point


async def compare(least: Point, more: Point, lengths: Lengths, say: Say) -> Pair:
    """Measure both in turns."""
    both = (least, more)
    say(f"{more.name}: starts")
    for one in both * lengths.starts:
        one.start()
    say(f"{more.name}: submissions without containers")
    await in_turns(both, Point.log_runner, lengths.turns, lengths.lives, counted=True)
    if lengths.contained:
        say(f"{more.name}: submissions with containers")
        await in_turns(both, Point.real_runner, 2, max(lengths.contained // 2, 1), counted=False)
    say(f"{more.name}: commands")
    for one in both * lengths.commands:
        one.commands()
    return Pair(least.cost(), more.cost())


async def in_turns(both: Sequence[Point], runner: Running, turns: int, lives: int, *, counted: bool) -> None:
    """Hand in so many at each of them in each turn; those that are ``counted`` are the ones without containers."""
    async with AsyncExitStack() as stack:
        producers = []
        for one in both:
            stack.enter_context(runner(one))
            producers.append(await stack.enter_async_context(one.producers()))
            await one.turn(producers[-1], WARM_UP, into=[], counted=False)
        for one, producer in [*zip(both, producers, strict=True)] * turns:
            await one.turn(producer, lives, into=one.lives if counted else one.contained, counted=counted)


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    made = argparse.ArgumentParser(
        prog="python -m tests.bench.scale",
        description=(__doc__ or "").partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "points", nargs="*", metavar="SUBMISSIONSxENVIRONMENTS", help="such as 100000x1; without any, seven of them"
    )
    made.add_argument("--unfair", action="store_true", help="leave out what another tenant's queue costs")
    made.add_argument("--quick", action="store_true", help="whether everything works: its figures mean nothing")
    made.add_argument("--output", type=Path, metavar="FILE", help="where the run is kept; without it in .bench")
    made.add_argument("--show", type=Path, nargs="+", metavar="FILE", help="print runs that were kept, as one; measure nothing")
    return made


def points_of(words: Sequence[str]) -> list[tuple[int, int]]:
    """Return the points of a command line. Raises `Unexpected`."""
    found = []
    for word in words:
        submissions, _, environments = word.partition("x")
        if not (submissions.isdecimal() and environments.isdecimal() and 0 < int(environments) <= MOST_ENVIRONMENTS):
            raise Unexpected(f"{word!r} is no SUBMISSIONSxENVIRONMENTS, of the latter 1 to {MOST_ENVIRONMENTS}")
        found.append((int(submissions), int(environments)))
    return found


def together(runs: Sequence[Run]) -> Run:
    """Return several runs as one, of the first one's origin."""
    pairs, fair = [pair for run in runs for pair in run.pairs], [one for run in runs for one in run.fair]
    return Run(format=FORMAT, origin=runs[0].origin, pairs=pairs, fair=fair)


def main() -> int:
    """Do what the command line says; return the exit code."""
    options = parser().parse_args()
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"[{time.monotonic() - began:6.1f} s] {what}", file=sys.stderr, flush=True)

    try:
        if options.show is not None:
            print(tables.whole(together([figures.decode(path.read_bytes()) for path in options.show])))
            return 0
        path = place(options.output, f"scale-{revision()}")
        lengths = (QUICK if options.quick else USUAL)._replace(fair=not options.unfair)
        run = uvloop.run(measure(lengths, points_of(options.points) or POINTS, say))
        path.write_bytes(kept.encode(run))
        print(tables.whole(run))
        print(f"\nkept in {path}", file=sys.stderr)
    except (Unexpected, CutorError, DockerError, TimeoutError, ExceptionGroup, OSError, ValueError) as error:
        print(f"bench-scale: {said(error)}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("bench-scale: interrupted; nothing is left of it", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""How fast cutor is beside what the machine can do at all: `python -m tests.bench.performance`, or `make bench`.

Starts a stack of its own on a copy of this machine's store, measures, stops it, does so once more with one whose containers
serve many submissions each, and prints one table after the other: bare fork and exec, bare nsjail, bare containers and cutor,
case by case; the targets; where the time of a submission goes; who used CPUs and memory. What it means, and how it is measured:
docs/explanation/performance.md. The run is kept as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import uvloop
from aiodocker import DockerError

from cutor.config import parse
from cutor.containers.engine import Engine
from cutor.errors import CutorError
from cutor.nix.settings import NixSettings
from tests.bench import kept
from tests.bench.performance import figures, tables
from tests.bench.performance.bench import QUICK, USUAL, Bench, Lengths, Say
from tests.bench.performance.figures import Run
from tests.bench.performance.origin import ROOT, revision
from tests.bench.performance.producers import Producers
from tests.bench.stacks import Unexpected, machine
from tests.stores import copy_store, lent_store_async, write_config

KEPT: Final = ROOT / ".bench"
REUSING: Final = ("slots=4", "submissions_per_container=100")
"""Settings of the runner of the second stack."""
LONGEST_MINUTES: Final = 24 * 60
EXAMPLES: Final = """\
examples:
  python -m tests.bench.performance                       all of it, in about four minutes on two idle CPUs
  python -m tests.bench.performance --minutes 10          with a steady stream of ten minutes
  python -m tests.bench.performance --runner slots=4          with other settings of the runner than those shipped
  python -m tests.bench.performance --quick               whether everything works: its figures mean nothing
  python -m tests.bench.performance --show A.json         print a run that was kept
  python -m tests.bench.performance --compare A.json B.json   two runs beside each other
"""


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    made = argparse.ArgumentParser(
        prog="python -m tests.bench.performance",
        description=(__doc__ or "").partition("\n\n")[2],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--minutes", type=minutes, metavar="N", help="how long the steady stream lasts; a third of one without it"
    )
    made.add_argument(
        "--runner", action="append", default=[], metavar="NAME=VALUE", help="a setting of the runner's, such as slots=4"
    )
    made.add_argument("--quick", action="store_true", help="measure each thing for a second at the most")
    made.add_argument("--output", type=Path, metavar="FILE", help="where the run is kept; without it in .bench")
    other = made.add_mutually_exclusive_group()
    other.add_argument("--show", type=Path, metavar="FILE", help="print a run that was kept, and measure nothing")
    other.add_argument("--compare", type=Path, nargs=2, metavar="FILE", help="print two of them side by side")
    return made


def minutes(text: str) -> float:
    """Return a number of minutes that something can last."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= LONGEST_MINUTES:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of minutes above 0, and up to {LONGEST_MINUTES}")
    return number


async def measure(lengths: Lengths, settings: list[str]) -> Run:
    """Start a stack whose runner has these settings, measure, then another one that reuses containers; leave nothing behind."""
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"[{time.monotonic() - began:6.1f} s] {what}", file=sys.stderr, flush=True)

    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    say("a copy of the store is made, and a stack started")
    with tempfile.TemporaryDirectory(prefix="cutor-bench-") as directory:
        async with Engine.connect() as engine, lent_store_async(copy_store) as store:
            made = partial(of_a_stack, store=store, engine=engine, lengths=lengths, say=say)
            run = await made(Path(directory) / "single", settings, Bench.run)
            say("another stack is started, whose containers serve many submissions each")
            reused = await made(Path(directory) / "reused", [*settings, *reusing(settings)], Bench.reused)
    run = run.plus(reused)
    return msgspec.structs.replace(run, origin={**run.origin, "runner": " ".join(settings) or "as shipped"})


async def of_a_stack(
    directory: Path,
    settings: list[str],
    measured: Callable[[Bench], Awaitable[Run]],
    *,
    store: NixSettings,
    engine: Engine,
    lengths: Lengths,
    say: Say,
) -> Run:
    """Start a stack whose runner has these settings, measure something of it, and stop it."""
    with machine(directory) as there:
        configured(write_config(there.config, store), settings)
        there.up("builder", "runner", "projector")
        async with Producers.of(there.stack.server, max(lengths.at_once)) as producers:
            run = await measured(Bench(there.stack, store, producers, engine, lengths, say))
        say("the stack is stopped")
    return run


def reusing(settings: list[str]) -> list[str]:
    """Return what makes a runner reuse containers, but for what is set already."""
    names = {setting.partition("=")[0].strip() for setting in settings}
    return [setting for setting in REUSING if setting.partition("=")[0] not in names]


def configured(path: Path, settings: list[str]) -> None:
    """Add settings of the runner's to a configuration. Raises `InvalidConfig` where it can't work."""
    with path.open("a") as file:
        file.write("\n[runner]\n" + "".join(f"{setting}\n" for setting in settings))
    parse(path.read_bytes(), "--runner")


def place(output: Path | None, revision_now: str) -> Path:
    """Return where a run is to be kept, in a directory that is there. Raises `Unexpected`, before anything is measured."""
    path = KEPT / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{revision_now}.json" if output is None else output
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        path.unlink()
    except OSError as error:
        raise Unexpected(f"{path}: the run could not be kept there: {error.strerror}") from error
    return path


def read(path: Path) -> Run:
    """Return the run that a file holds. Raises `Unexpected`."""
    try:
        return figures.decode(path.read_bytes())
    except OSError as error:
        raise Unexpected(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise Unexpected(f"{path}: {error}") from error


def main() -> int:
    """Do what the command line says; return the exit code."""
    options = parser().parse_args()
    try:
        if options.compare is not None:
            print(tables.compared(*map(read, options.compare)))
        elif options.show is not None:
            print(tables.whole(read(options.show)))
        else:
            measure_and_keep(options)
    except (Unexpected, CutorError, DockerError, TimeoutError, ExceptionGroup) as error:
        print(f"bench: {said(error)}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("bench: interrupted; nothing is left of it", file=sys.stderr)
        return 130
    return 0


def measure_and_keep(options: argparse.Namespace) -> None:
    """Measure, print, and keep the run."""
    lengths = QUICK if options.quick else USUAL
    if options.minutes is not None:
        lengths = lengths._replace(stream_s=options.minutes * 60)
    path = place(options.output, revision())
    run = uvloop.run(measure(lengths, options.runner))
    path.write_bytes(kept.encode(run))
    print(tables.whole(run))
    print(f"\nkept in {path}", file=sys.stderr)


def said(error: BaseException) -> str:
    """Return what an error says; of several at one time, the first one."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}" if not isinstance(error, Unexpected | CutorError) else str(error)


if __name__ == "__main__":
    sys.exit(main())

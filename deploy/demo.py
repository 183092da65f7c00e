"""The demonstration behind ``make demo``: a stack of its own, the example submissions, their results as a table.

Its stack, its configuration and its state lie in a directory of its own, and nothing that names another server or configuration
counts: whatever stack the user has is neither asked nor disturbed. Exit code 0: every example ended as it is meant to, stage by
stage; 1: one did not; 130: interrupted.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cutor import Client, Result, Stage
from cutor.cli.failures import exit_code_of, line_of
from cutor.errors import DONE, INTERRUPTED, NOT_OK

EXAMPLES: Final = Path(__file__).parents[1] / "examples"
TIME_LIMIT_S: Final = 300.0


class Meant(NamedTuple):
    """How an example is meant to end: its outcome, and those of the stages that it comes to."""

    outcome: str
    stages: tuple[str, ...]


MEANT: Final = {
    "python-three-tests": Meant("OK", ("OK", "OK", "OK", "OK")),
    "c-primes": Meant("OK", ("OK", "OK", "OK", "OK")),
    "compile-error": Meant("COMPILE_ERROR", ("OK", "RE")),
    "endless-loop": Meant("RUN_ERROR", ("OK", "TLE_CPU")),
    "memory-hog": Meant("RUN_ERROR", ("OK", "MLE")),
    "shell-hook": Meant("OK", ("OK", "OK")),
    "broken-shell": Meant("DEPENDENCY_ERROR", ("RE",)),
}
"""What each shows stands in ``examples/README.md``."""


class Shown(msgspec.Struct):
    """An example and what is known of it by now."""

    name: str
    state: str = "waiting"
    result: Result | None = None

    @property
    def as_meant(self) -> bool:
        return self.result is not None and ending(self.result) == MEANT[self.name]


def ending(result: Result) -> Meant:
    """Return how a submission ended, without the stages that it did not come to."""
    stages = [stage.outcome for stage in (result.dependencies, result.compile, *result.run) if stage is not None]
    return Meant(str(result.outcome), tuple(outcome for outcome in stages if outcome != "SKIPPED"))


async def run_example(client: Client, shown: Shown, console: Console) -> None:
    """Submit one example and follow it to its end. Where no live table can be drawn, a line says that it ended."""
    receipt = await client.submit(EXAMPLES / shown.name)
    shown.state = "submitted"
    async for update in client.watch(receipt.id):
        shown.state = update.summary
    shown.result = await client.result(receipt.id)
    if not console.is_terminal:
        print(f"{shown.name}: {shown.result.outcome}", flush=True)


def milliseconds(stage: Stage | None) -> str:
    return "" if stage is None or stage.wall_time_ms is None else f"{stage.wall_time_ms} ms"


def runs(result: Result) -> str:
    """Return outcome and time of every test case that was run, a line each."""
    return "\n".join(f"{stage.outcome} {milliseconds(stage)}" for stage in result.run if stage.outcome != "SKIPPED")


def table(examples: list[Shown], seconds: float) -> Table:
    """Return the table of all examples: outcome, and the wall time of every stage. It fits 80 columns."""
    drawn = Table(
        title=f"example submissions, after {seconds:.1f} s",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for heading, side in (("example", "left"), ("outcome", "left"), ("dependencies", "right"), ("compile", "right")):
        drawn.add_column(heading, justify="right" if side == "right" else "left", no_wrap=True)
    drawn.add_column("runs", no_wrap=True)
    for shown in examples:
        if shown.result is None:
            drawn.add_row(shown.name, Text(shown.state, style="dim"))
            continue
        result = shown.result
        outcome = Text(str(result.outcome), style="green" if shown.as_meant else "bold red")
        drawn.add_row(shown.name, outcome, milliseconds(result.dependencies), milliseconds(result.compile), runs(result))
    return drawn


async def submit_all(console: Console) -> list[Shown]:
    """Submit every example at once, with a table that grows while they run. Raises the first error of a submission."""
    examples = [Shown(name) for name in MEANT]
    started = time.monotonic()
    async with Client() as client:
        tasks = [asyncio.create_task(run_example(client, shown, console)) for shown in examples]
        try:
            with Live(console=console, transient=True, refresh_per_second=8) as live:
                while not all(task.done() for task in tasks) and time.monotonic() - started < TIME_LIMIT_S:
                    live.update(table(examples, time.monotonic() - started))
                    await asyncio.sleep(0.1)
        finally:  # while the connection is there: a task that outlives it fails with a traceback
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
    console.print(table(examples, time.monotonic() - started))
    for end in ends:
        if isinstance(end, Exception):
            raise end
    return examples


def cutor(*args: str, quiet: bool = False) -> int:
    """Run the command as a user would; return its exit code."""
    return subprocess.run([sys.executable, "-m", "cutor", *args], capture_output=quiet, check=False).returncode


def isolate(home: Path) -> None:
    """Let this process and its commands find no configuration and no stack but those beneath a directory."""
    for name in [name for name in os.environ if name.startswith("CUTOR_")]:
        del os.environ[name]
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        os.environ[name] = str(home)


@contextmanager
def stack(data: Path) -> Iterator[int]:
    """Run a stack; yields the exit code of `cutor up`. One that did not come up is removed without a word."""
    started = False
    try:
        code = cutor("up", "--detach", "--data", str(data))
        started = code == DONE
        yield code
    finally:
        if data.exists():
            cutor("down", "--data", str(data), quiet=not started)


def demonstrate(console: Console) -> int:
    """Start, submit, show, stop; return the exit code."""
    with tempfile.TemporaryDirectory(prefix="cutor-demo-") as directory:
        isolate(Path(directory))
        with stack(Path(directory) / "data") as code:
            return verdict(asyncio.run(submit_all(console)), console) if code == DONE else code


def verdict(examples: list[Shown], console: Console) -> int:
    """Say which examples did not end as they are meant to; return the exit code."""
    wrong = [shown for shown in examples if not shown.as_meant]
    for shown in wrong:
        seen = "not ended" if shown.result is None else describe(ending(shown.result))
        console.print(Text(f"{shown.name}: {seen}; meant is {describe(MEANT[shown.name])}", style="red"))
    if not wrong:
        console.print(f"all {len(examples)} examples ended as they are meant to")
    return NOT_OK if wrong else DONE


def describe(end: Meant) -> str:
    return f"{end.outcome} ({', '.join(end.stages)})"


def main() -> int:
    """Run the demonstration; whatever goes wrong is one line."""
    console = Console()
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        return demonstrate(console)
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        code = exit_code_of(error)
        if code is None:
            raise
        print(f"demo: {line_of(error)}", file=sys.stderr)
        return code


if __name__ == "__main__":
    sys.exit(main())

"""The demonstration behind ``make demo``: a stack of its own, the example submissions, their results as a table.

It uses a data directory and a current-stack file of its own, so that a stack that runs beside it is not disturbed, and removes
both in the end. Exit code 0: every example had the outcome it is meant to have.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cutor import Client, Result, Stage

EXAMPLES: Final = Path(__file__).parents[1] / "examples"
MEANT: Final = {
    "python-three-tests": "OK",
    "c-primes": "OK",
    "compile-error": "COMPILE_ERROR",
    "endless-loop": "RUN_ERROR",
    "memory-hog": "RUN_ERROR",
    "shell-hook": "OK",
    "broken-shell": "DEPENDENCY_ERROR",
}
"""The outcome that each example is meant to have; what each shows stands in ``examples/README.md``."""
TIME_LIMIT_S: Final = 300.0


class Shown(msgspec.Struct):
    """An example and what is known of it by now."""

    name: str
    state: str = "waiting"
    result: Result | None = None

    @property
    def as_meant(self) -> bool:
        return self.result is not None and self.result.outcome == MEANT[self.name]


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
    """Submit every example at once, with a table that grows while they run."""
    examples = [Shown(name) for name in MEANT]
    started = time.monotonic()
    async with Client() as client:
        tasks = [asyncio.create_task(run_example(client, shown, console)) for shown in examples]
        with Live(console=console, transient=True, refresh_per_second=8) as live:
            while not all(task.done() for task in tasks):
                live.update(table(examples, time.monotonic() - started))
                if time.monotonic() - started > TIME_LIMIT_S:
                    break
                await asyncio.sleep(0.1)
        console.print(table(examples, time.monotonic() - started))
        for task in tasks:
            if not task.done():
                task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                console.print(f"[red]{outcome}[/red]")
    return examples


def cutor(*args: str) -> None:
    """Run the command as a user would. Raises `subprocess.CalledProcessError`."""
    subprocess.run([sys.executable, "-m", "cutor", *args], check=True)


def main() -> int:
    """Start, submit, show, stop."""
    console = Console()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    with tempfile.TemporaryDirectory(prefix="cutor-demo-") as directory:
        os.environ["XDG_STATE_HOME"] = directory
        data = str(Path(directory) / "data")
        try:
            cutor("up", "--detach", "--data", data)
            examples = asyncio.run(submit_all(console))
        except subprocess.CalledProcessError as error:
            return error.returncode
        except KeyboardInterrupt:
            console.print("stopped; cleaning up")
            return 130
        finally:
            subprocess.run([sys.executable, "-m", "cutor", "down", "--data", data], check=False)
    wrong = [shown.name for shown in examples if not shown.as_meant]
    for name in wrong:
        console.print(f"[red]{name}: not the outcome it is meant to have ({MEANT[name]})[/red]")
    if not wrong:
        console.print(f"all {len(examples)} examples have the outcome they are meant to have")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""``cutor top``: queues, workers, rates and times, live."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import termios
import time
import tty
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final

import click
from rich.console import Console, Group
from rich.live import Live

from cutor.bus.connection import Bus
from cutor.cli.options import Seconds, Wanted, examples, json_option, server_option
from cutor.cli.output import NARROW_COLUMNS, print_json
from cutor.cli.top_document import TELLING_S, Shown, document
from cutor.cli.top_frame import frame
from cutor.cli.top_look import Looking
from cutor.errors import DONE
from cutor.metrics.heard import Heard
from cutor.metrics.statistics import EVERYBODY, HEARTBEAT_S

KEYS: Final = "q or Ctrl-C ends"
ONCE_S: Final = max(HEARTBEAT_S, TELLING_S)
"""How long `--once` and `--json` listen at the least: every role that lives tells of itself within it."""
ONCE_ROWS: Final = 200
"""Rows of the one picture of `--once`, which need not fit a terminal."""


@click.command(
    "top",
    epilog=examples(
        "cutor top",
        "cutor top --interval 5             # a calmer picture",
        "cutor top --once                   # one picture as plain text",
        "cutor top --json --interval 60 | jq .outcomes    # one document, of what ended within a minute",
    ),
)
@click.option("--once", is_flag=True, help="Print one picture as plain text, and end.")
@click.option(
    "--interval",
    type=Seconds(min=0.2, max=60),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two pictures; with --once and --json, how long to listen: 3 s at the least.",
)
@json_option
@server_option
@click.pass_obj
def command(wanted: Wanted, once: bool, interval: float) -> int:
    """Watch queues, workers, rates and times, live.

    Roles tell how they fare once a second, and so anybody who may listen sees all hosts; the server tells of the queues.
    Rates and times are of the last minute, or since the start if that is less. A worker that was not heard for 5 s is greyed,
    and after 15 s gone. q or Ctrl-C ends it; the terminal is then as it was.
    """
    if not (once or wanted.json or sys.stdout.isatty()):
        raise click.UsageError("this is no terminal: --once prints one picture, --json one document")
    asyncio.run(_look_once(wanted, interval) if once or wanted.json else _look_on(wanted, interval))
    return DONE


async def _look_once(wanted: Wanted, interval_s: float) -> None:
    """Listen for a while, and print what was heard."""
    async with _listening(wanted.find_server()) as (heard, looking):
        await asyncio.sleep(max(ONCE_S, interval_s))
        await looking.look(wait=True)
        shown = document(looking.bus.address, heard, looking.looked, time.monotonic())
    if wanted.json:
        print_json(shown)
        return
    console = Console()
    console.width = console.width if console.is_terminal else NARROW_COLUMNS
    console.print(frame(shown, console.width, ONCE_ROWS))


async def _look_on(wanted: Wanted, interval_s: float) -> None:
    """Show picture after picture until somebody has had enough."""
    console, ended, again = Console(), asyncio.Event(), asyncio.Event()
    async with _listening(wanted.find_server()) as (heard, looking):
        with (
            _keys(ended),
            _signals(ended, again),
            Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live,
        ):
            while not ended.is_set():
                shown = document(looking.bus.address, heard, looking.looked, time.monotonic())
                live.update(_picture(shown, console), refresh=True)
                again.clear()
                await _first(ended, again, interval_s)
                if not ended.is_set():
                    await looking.look()


def _picture(shown: Shown, console: Console) -> Group:
    return frame(shown, console.width, console.height, keys=KEYS, clock=time.strftime("%H:%M:%S"))


@asynccontextmanager
async def _listening(server: str) -> AsyncIterator[tuple[Heard, Looking]]:
    """Hear what roles tell while the block lasts."""
    async with Bus.connect(server, name="cutor top") as bus, bus.subscribe(EVERYBODY) as notices:
        heard, looking = Heard(time.monotonic()), Looking(bus)

        async def listen() -> None:
            async for notice in notices:
                heard.take(notice.subject, notice.body, time.monotonic())

        await looking.begin()
        listener = asyncio.create_task(listen(), name="statistics")
        try:
            yield heard, looking
        finally:
            listener.cancel()
            await asyncio.gather(listener, looking.end(), return_exceptions=True)


async def _first(ended: asyncio.Event, again: asyncio.Event, timeout_s: float) -> None:
    """Wait until there is a reason to look again."""
    waits = [asyncio.create_task(one.wait()) for one in (ended, again)]
    await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


@contextmanager
def _signals(ended: asyncio.Event, again: asyncio.Event) -> Iterator[None]:
    """End on Ctrl-C and SIGTERM, and draw anew where the terminal has another size."""
    loop = asyncio.get_running_loop()
    acts = {signal.SIGINT: ended, signal.SIGTERM: ended, signal.SIGHUP: ended, signal.SIGWINCH: again}
    for number, event in acts.items():
        loop.add_signal_handler(number, event.set)
    try:
        yield
    finally:
        for number in acts:
            loop.remove_signal_handler(number)


@contextmanager
def _keys(ended: asyncio.Event) -> Iterator[None]:
    """Have the key q end it, where stdin is a terminal; that is then as it was, whatever happens."""
    if not sys.stdin.isatty():
        yield
        return
    loop, descriptor = asyncio.get_running_loop(), sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def pressed() -> None:
        with suppress(OSError):
            if b"q" in os.read(descriptor, 64).lower():
                ended.set()

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, pressed)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)

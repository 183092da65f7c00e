"""What `make attacks` runs: every attack on a stack started for them, alone and beside normal submissions, then the leftovers.

Exit code 0: all ended as their files say, and nothing was left; 1: something did not or was; 3: the stack did not work;
130: interrupted. The stack is stopped in every case.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Final, NamedTuple

from cutor import Client
from cutor.errors import CutorError
from tests.attacks import table
from tests.attacks.attack import Attack
from tests.attacks.campaign import Campaign, Verdict, load_attacks
from tests.attacks.leftovers import Census, Watch, watching
from tests.attacks.neighbours import NEIGHBOURS
from tests.attacks.stack import AttackedStack, StackFailed, attacked_stack
from tests.stores import copy_store, lent_store

PASSES: Final = ("alone", "beside")
NORMAL: Final = "their lines come last: how many ended so, and the longest time"
DIFFERENT, FAILED, INTERRUPTED = 1, 3, 130
Say = Callable[[str], None]


class Reporter:
    """Prints verdicts as they come; on a terminal, a line below them says how far it is."""

    def __init__(self, say: Say, *, terminal: bool) -> None:
        self._print = say
        self._terminal = terminal
        self._count = self._done = 0
        self.wrong = 0

    def _say(self, line: str) -> None:
        self._print(f"\r\x1b[K{line}" if self._terminal else line)

    def begin(self, title: str, count: int) -> None:
        """Print the heading of a pass."""
        self._count, self._done = count, 0
        self._say(table.heading(title, count))

    def show(self, verdict: Verdict) -> None:
        """Print a verdict."""
        self._done += 1
        self.wrong += bool(verdict.differences)
        for line in table.lines(verdict):
            self._say(line)
        if self._terminal and self._done < self._count:
            print(table.progress(self._done, self._count, self.wrong), end="\r", flush=True)

    def left(self, when: str, leftovers: Sequence[str]) -> None:
        """Print what was left behind."""
        self.wrong += len(leftovers)
        self._say(f"left {when}: {'nothing' if not leftovers else ''}")
        for line in leftovers:
            self._say(f"! {line}")


class Scale(NamedTuple):
    """How large a run is: attacks at one time in the pass without neighbours, which are in the other, the crowd's size, and how
    many submissions a container serves.
    """

    at_once: int = 1
    beside: Sequence[str] = ("*",)
    crowd: int = 100
    reuse: int = 1


def run(attacks: Sequence[Attack], passes: Sequence[str], reporter: Reporter, scale: Scale) -> None:
    """Start a stack, run the passes on it, stop it; look for leftovers after each pass and after the end.

    Raises `StackFailed`, and `CutorError` where the stack can't be reached.
    """
    home = Path(tempfile.mkdtemp(prefix="cutor-attacks-"))
    try:
        with lent_store(copy_store) as store, attacked_stack(home, store, scale.reuse) as stack:
            asyncio.run(warm(stack))
            with watching(stack) as watch:
                before = watch.census()
                for name in passes:
                    asyncio.run(attack_all(stack, attacks, name, reporter, scale))
                    reporter.left(f"after the pass {name!r}", watch.leftovers(before))
                end(stack, watch, before, reporter)
    finally:
        shutil.rmtree(home)


def end(stack: AttackedStack, watch: Watch, before: Census, reporter: Reporter) -> None:
    """Stop the stack, and look for what is left then: no process of it, and nothing that was not there before."""
    stack.cutor("down", "--data", str(stack.data), timeout_s=120)
    reporter.left("after the end of the stack", watch.leftovers(before._replace(processes=frozenset())))


async def warm(stack: AttackedStack) -> None:
    """Build the environment that attacks share, and see that the stack works at all. Raises `StackFailed`."""
    async with Client(stack.server) as client:
        receipt = await client.submit(NEIGHBOURS[0].request())
        result = await client.result(receipt.id, wait=True, timeout_s=300)
    if result.outcome != "OK":
        raise StackFailed(f"a normal submission ended with {result.outcome}: {result.message}")


async def attack_all(stack: AttackedStack, attacks: Sequence[Attack], name: str, reporter: Reporter, scale: Scale) -> None:
    """Run one pass."""
    began = time.monotonic()
    if name == "beside":
        attacks = matching(attacks, scale.beside)
    async with Client(stack.server) as client:
        campaign = Campaign(stack, client, scale.crowd)
        if name == "alone":
            reporter.begin("without normal submissions", len(attacks))
            await campaign.alone(attacks, reporter.show, scale.at_once)
        else:
            reporter.begin(f"beside normal submissions; {NORMAL}", len(attacks))
            await campaign.beside(attacks, reporter.show)
    print(f"{len(attacks)} attacks in {time.monotonic() - began:.0f} s", flush=True)


def matching(attacks: Sequence[Attack], patterns: Sequence[str]) -> list[Attack]:
    """Return the attacks whose names fit one of the patterns."""
    return [attack for attack in attacks if any(fnmatch(attack.name, pattern) for pattern in patterns)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks.runner", description=__doc__)
    parser.add_argument("attacks", nargs="*", help="patterns of names, such as 'memory/*'; all without one")
    parser.add_argument("--pass", dest="passes", choices=PASSES, action="append", help="one pass only")
    parser.add_argument("--at-once", type=int, default=Scale().at_once, help="attacks at one time; 1 is each alone")
    parser.add_argument(
        "--crowd", type=int, default=Scale().crowd, help="normal submissions at once with the attack in a crowd"
    )
    parser.add_argument("--reuse", type=int, default=Scale().reuse, help="submissions that a container serves in turn")
    wanted = parser.parse_args(arguments)
    attacks = matching(load_attacks(), wanted.attacks or ("*",))
    if not attacks:
        parser.error("no attack has such a name")
    reporter = Reporter(lambda line: print(line, flush=True), terminal=sys.stdout.isatty())
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell inherits it ignored
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        run(attacks, wanted.passes or PASSES, reporter, Scale(wanted.at_once, crowd=wanted.crowd, reuse=wanted.reuse))
    except KeyboardInterrupt:
        print("attacks: interrupted; the stack is stopped", file=sys.stderr)
        return INTERRUPTED
    except (StackFailed, CutorError) as error:
        print(f"attacks: {error}", file=sys.stderr)
        return FAILED
    print("all as they must be" if not reporter.wrong else f"{reporter.wrong} not as they must be")
    return DIFFERENT if reporter.wrong else 0


if __name__ == "__main__":
    sys.exit(main())

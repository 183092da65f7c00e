"""What `make soak` runs: random processes killed at random times under load without pause; then every promise is looked at.

A line a minute says how it goes. Exit codes as those of `runner`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.attacks.leftovers import docker
from tests.fault import table
from tests.fault.campaign import Campaign, Handed, Row, campaign
from tests.fault.outside import DEAD_S, shoot_all
from tests.fault.runner import DIFFERENT, in_home
from tests.fault.stack import FaultStack, fault_stack
from tests.fault.submissions import KINDS

OUTSTANDING: Final = 8
"""Submissions that are under way at one time."""
PAUSE_S: Final = (0.5, 8.0)
"""The shortest and the longest time between two kills."""
STOPPED_S: Final = 3.0
MINUTE_S: Final = 60.0
LAST_S: Final = 300.0
TARGETS: Final = {
    "builder": 4,
    "runner": 4,
    "projector": 3,
    "server": 2,
    "container": 3,
    "stopped builder": 1,
    "stopped runner": 1,
    "supervisor": 1,
    "everything": 1,
}
"""What is killed, and how often beside the others."""
LOAD: Final = tuple(name for name in KINDS if name not in {"lost", "cancelled-build", "cancelled-run"})


class Soak:
    """One run over one stack."""

    def __init__(self, held: Campaign, say: Callable[[str], None]) -> None:
        self._held = held
        self._say = say
        self.kills: Counter[str] = Counter()
        self.handed: list[Handed] = []
        self._since: dict[str, float] = {}

    async def run(self, minutes: float) -> Row:
        """Feed and kill for some minutes, then let everything end, and look."""
        row, began = Row("soak"), time.monotonic()
        work = [asyncio.create_task(one) for one in (self._feed(), self._kill(), self._tell(began))]
        try:
            done, _ = await asyncio.wait(work, timeout=minutes * 60, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
        if self._held.stack.supervisor[0].poll() is not None:
            await self._held.stack.up()
        await self._held.history.until_done([one.identity for one in self.handed], timeout_s=LAST_S)
        row.kills = self.kills.total()
        await self._held.settle({row.point: row}, {row.point: self.handed}, began)
        row.said = ", ".join(f"{what} {count}" for what, count in self.kills.most_common())
        return row

    def _under_way(self) -> list[str]:
        return [one.identity for one in self.handed if not self._held.history.done(one.identity)]

    async def _feed(self) -> None:
        while True:
            if len(self._under_way()) < OUTSTANDING:
                one = await self._held.hand_in(KINDS[random.choice(LOAD)])
                self.handed.append(one)
                self._since[one.identity] = time.monotonic()
            else:
                await asyncio.sleep(0.05)

    async def _kill(self) -> None:
        while True:
            await asyncio.sleep(random.uniform(*PAUSE_S))
            (target,) = random.choices(list(TARGETS), list(TARGETS.values()))
            if await _hit(self._held.stack, target):
                self.kills[target] += 1

    async def _tell(self, began: float) -> None:
        while True:
            await asyncio.sleep(MINUTE_S)
            now, under_way = time.monotonic(), self._under_way()
            oldest = max((now - self._since[one] for one in under_way if one in self._since), default=0.0)
            self._say(
                f"  {(now - began) / 60:5.1f} min: {self.kills.total():4} kills, {len(self.handed):5} submissions, "
                f"{len(self.handed) - len(under_way):5} ended, {len(under_way)} under way, the oldest for {oldest:.0f} s"
            )


async def _hit(stack: FaultStack, target: str) -> bool:
    """Kill something, or let it stand still; returns whether it was there."""
    match target.split():
        case ["container"]:
            return await asyncio.to_thread(_kill_container, stack)
        case ["stopped", role]:
            return await _stand_still(stack, role)
        case [("supervisor" | "everything") as what]:
            if what == "everything":
                stack.kill_all()
            else:
                shoot_all(stack, what)
            await stack.ended(DEAD_S)
            await stack.up()
            return True
        case _:
            return shoot_all(stack, target) > 0


def _kill_container(stack: FaultStack) -> bool:
    containers = docker("ps", "-q", "--filter", f"label=cutor={stack.instance}")
    if not containers:
        return False
    return not subprocess.run(["docker", "kill", random.choice(containers)], capture_output=True, check=False).returncode


async def _stand_still(stack: FaultStack, role: str) -> bool:
    pids = stack.pids(role)
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        if number == signal.SIGSTOP:
            await asyncio.sleep(STOPPED_S)
    return bool(pids)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0, help="how long processes are killed")
    parser.add_argument("--seed", type=int, default=None, help="of what is random; printed when it is chosen")
    wanted = parser.parse_args(arguments)
    seed = random.randrange(1 << 32) if wanted.seed is None else wanted.seed
    random.seed(seed)

    def say(line: str) -> None:
        print(line, flush=True)

    async def work(home: Path) -> int:
        say(f"{wanted.minutes:g} minutes, seed {seed}")
        async with fault_stack(home / "stack") as stack, campaign(stack) as held:
            await held.warm(lose=False)
            row = await Soak(held, say).run(wanted.minutes)
            last = await held.last()
        say(table.heading())
        for one in (row, last):
            for line in table.lines(one):
                say(line)
        say("all as it must be" if row.good and last.good else "not all as it must be")
        return 0 if row.good and last.good else DIFFERENT

    return in_home(work, "soak")


if __name__ == "__main__":
    sys.exit(main())

"""What `make soak` runs: random processes killed at random times under load without pause; then every promise is looked at.

Roles reach the server by proxies: the network is a target as processes are. A line a minute says how it goes. Exit codes as
those of `runner`; too few kills for the time are a fault, too.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from tests.containers import container_ids
from tests.fault import table
from tests.fault.campaign import Campaign, campaign
from tests.fault.network import routed, send_signal
from tests.fault.outside import DEAD_S, shoot_all
from tests.fault.proxy import Proxy
from tests.fault.role import ROLES
from tests.fault.rows import Handed, Row
from tests.fault.runner import DIFFERENT, in_home
from tests.fault.stack import LEASE_S, FaultStack, fault_stack
from tests.fault.submissions import KINDS

OUTSTANDING: Final = 8
"""Submissions that are under way at one time."""
PAUSE_S: Final = (0.5, 8.0)
"""The shortest and the longest time between two kills."""
STOPPED_S: Final = (3.0, 3.0, LEASE_S + 6.0)
"""How long a role stands still, or its network is away: now and then longer than its leases last."""
COSTS_S: Final = 3.0
"""So long after a fault is over, a lease may still be lost to it."""
KILLS_A_MINUTE: Final = 2.0
"""The least; two busy CPUs came to 7."""
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
    "cut builder": 1,
    "cut runner": 1,
    "cut projector": 1,
    "frozen builder": 1,
    "frozen runner": 1,
    "supervisor": 1,
    "everything": 1,
}
"""What is killed, or (in two words) stopped, cut off or frozen, and how often beside the others."""
ARMED: Final = {"lost", "fetched", "cancelled-build", "cancelled-run", "until-cancelled", "bug-builder", "bug-runner"}
"""Kinds whose end depends on a point that is armed, on what was done to the store, or on when somebody cancels them."""
LOAD: Final = tuple(name for name in KINDS if name not in ARMED)


class Soak:
    """One run over one stack."""

    def __init__(self, held: Campaign, say: Callable[[str], None]) -> None:
        self._held = held
        self._say = say
        self.kills: Counter[str] = Counter()
        self.handed: list[Handed] = []
        self._since: dict[str, float] = {}
        self._spans: list[tuple[float, float]] = []
        self._proxies: dict[str, Proxy] = {}

    async def run(self, minutes: float) -> Row:
        """Feed and kill for some minutes, then let everything end, and look."""
        row, began = Row("soak"), time.monotonic()
        async with AsyncExitStack() as routes:
            for role in ROLES:
                self._proxies[role] = await routes.enter_async_context(routed(self._held.stack, role))
            await self._feed_and_kill(minutes)
            ways_end = time.monotonic()  # the roles are started again, to reach the server as they did before
        self._spans.append((ways_end, time.monotonic() + COSTS_S))
        await self._held.history.until_done([one.identity for one in self.handed], timeout_s=LAST_S)
        row.made = sum(count for what, count in self.kills.items() if " " in what)
        row.kills = self.kills.total() - row.made
        if row.kills < (least := max(1, int(minutes * KILLS_A_MINUTE))):
            row.faults.append(f"{row.kills} kills in {minutes:g} minutes, at least {least}")
        await self._held.settle({row.point: row}, {row.point: self.handed}, began, faults_met=self._met)
        row.said = ", ".join(f"{what} {count}" for what, count in self.kills.most_common())
        return row

    async def _feed_and_kill(self, minutes: float) -> None:
        began = time.monotonic()
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

    def _met(self, identity: str) -> int:
        """Return how many faults there were while a submission was under way: each may cost it a lease of a role."""
        return met(self._spans, self._since[identity], self._held.history.cleaned_at.get(identity, math.inf))

    def _under_way(self) -> list[str]:
        return [one.identity for one in self.handed if not self._held.history.done(one.identity)]

    async def _feed(self) -> None:
        while True:
            if len(self._under_way()) < OUTSTANDING:
                since = time.monotonic()
                one = await self._held.hand_in(KINDS[random.choice(LOAD)])
                self._since[one.identity] = since
                self.handed.append(one)
            else:
                await asyncio.sleep(0.05)

    async def _kill(self) -> None:
        while True:
            await asyncio.sleep(random.uniform(*PAUSE_S))
            (target,) = random.choices(list(TARGETS), list(TARGETS.values()))
            began = time.monotonic()
            try:
                self.kills[target] += await self._hit(target)
            finally:
                self._spans.append((began, time.monotonic() + COSTS_S))

    async def _tell(self, began: float) -> None:
        while True:
            await asyncio.sleep(MINUTE_S)
            now, under_way = time.monotonic(), self._under_way()
            oldest = max((now - self._since[one] for one in under_way if one in self._since), default=0.0)
            self._say(
                f"  {(now - began) / 60:5.1f} min: {self.kills.total():4} kills, {len(self.handed):5} submissions, "
                f"{len(self.handed) - len(under_way):5} ended, {len(under_way)} under way, the oldest for {oldest:.0f} s"
            )

    async def _hit(self, target: str) -> bool:
        """Do something to a process, or to the way between a role and the server; returns whether it was there."""
        match target.split():
            case [("cut" | "frozen") as how, role]:
                proxy = self._proxies[role]
                (proxy.cut if how == "cut" else proxy.freeze)()
                try:
                    await asyncio.sleep(random.choice(STOPPED_S))
                finally:
                    proxy.resume()
                return True
            case _:
                return await _hit(self._held.stack, target)


def met(spans: Sequence[tuple[float, float]], since: float, until: float) -> int:
    """Return how many spans of time overlap one. Pure."""
    return sum(begin <= until and end >= since for begin, end in spans)


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
    containers = container_ids(f"label=cutor={stack.instance}", "status=running")
    if not containers:
        return False
    return not subprocess.run(["docker", "kill", random.choice(containers)], capture_output=True, check=False).returncode


async def _stand_still(stack: FaultStack, role: str) -> bool:
    pids = stack.pids(role)
    try:
        for pid in pids:
            send_signal(pid, signal.SIGSTOP)
        if pids:
            await asyncio.sleep(random.choice(STOPPED_S))
    finally:
        for pid in pids:
            send_signal(pid, signal.SIGCONT)
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

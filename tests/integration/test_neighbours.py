"""Submissions beside each other: a neighbour's load changes no outcome, and no more run at once than there are slots."""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from cutor import Client
from cutor.config import Config
from cutor.model.events import Finished, Leased
from cutor.model.limits import DEFAULT_LIMITS
from cutor.model.result import Result
from cutor.model.subjects import Address
from tests.integration.live_submissions import PYTHON, document, until, with_client
from tests.live_stack import Stack
from tests.served import containers

SLOTS: Final = {"builder": Config().builder.slots, "runner": Config().runner.slots}
ENDED_S: Final = 360

NEEDS: Final = "import sys, time\nwhile time.process_time() < float(sys.argv[1]): pass\n"
PROCESSES: Final = DEFAULT_LIMITS.run.default.processes
BURN: Final = f"for i in {{2..{PROCESSES}}}; do while :; do :; done & done; wait"


def needs_one_second() -> dict[str, Any]:
    """Return a request of a program that needs 1 s of CPU time and one that needs far more, both limited to 2 s of it.

    Wall time is out of the way: a machine under test may be as busy as it likes.
    """
    limits = {"run": {"cpu_time_ms": 2000, "wall_time_ms": 100_000}}
    cases = [{"args": ["1.0"]}, {"args": ["1000"]}]
    files = {"needs.py": NEEDS}
    return document('exec python3 needs.py "$1"', files=files, limits=limits, test_cases=cases, stop_on_failure=False)


def burns() -> dict[str, Any]:
    """Return a request of as many processes as a run may have, all of which burn CPU."""
    limits = {"run": {"cpu_time_ms": 120_000, "wall_time_ms": 120_000, "processes": PROCESSES}}
    return document(BURN, limits=limits)


async def ended(client: Client, request: dict[str, Any]) -> Result:
    receipt = await client.submit(request)
    return await client.result(receipt.id, wait=True, timeout_s=ENDED_S)


def processes(container: str) -> int:
    """Return how many processes run in a container; 0 where it is not there any more."""
    listed = subprocess.run(["docker", "top", container, "-eo", "pid"], capture_output=True, text=True, check=False)
    return max(len(listed.stdout.splitlines()) - 1, 0)


@asynccontextmanager
async def burning(client: Client, count: int) -> AsyncIterator[list[str]]:
    """Burn CPU in so many slots while the block lasts; yields the containers. Fails where one of them ended before."""
    identities = [(await client.submit(burns())).id for _ in range(count)]

    async def look() -> list[str] | None:
        found = [one for identity in identities for one in await asyncio.to_thread(containers, identity)]
        counts = [await asyncio.to_thread(processes, one) for one in found]
        return found if len(found) == count and min(counts) >= PROCESSES else None

    try:
        yield await until(look)
        assert [(await client.result(identity)).outcome for identity in identities] == [None] * count
    finally:
        for identity in identities:
            await client.cancel(identity)


def cpu_quotas(ids: list[str]) -> list[float]:
    """Return how many CPUs each of these containers may use."""
    shown = subprocess.run(["docker", "inspect", *ids], capture_output=True, text=True, check=True)
    return [container["HostConfig"]["NanoCpus"] / 1e9 for container in json.loads(shown.stdout)]


def test_a_neighbours_load_changes_no_outcome(stack: Stack) -> None:
    """All other slots burn CPU with all the processes that they may have: each has one CPU and no more."""
    others = SLOTS["runner"] - 1
    assert others >= 1

    async def alone_and_beside(client: Client) -> list[Result]:
        alone = await ended(client, needs_one_second())
        async with burning(client, others) as neighbours:
            assert cpu_quotas(neighbours) == [1.0] * others
            return [alone, await ended(client, needs_one_second())]

    for result in with_client(stack, alone_and_beside):
        assert [stage.outcome for stage in result.run] == ["OK", "TLE_CPU"], result
        used_ms = result.run[0].cpu_time_ms
        assert used_ms is not None
        assert 1000 <= used_ms < 2000, "what is counted is CPU time, not the time in which others had the CPU"


class Containers:
    """Counts containers of a stack that run at once, from what Docker says of their starts and ends while the block lasts."""

    def __init__(self, stack: Stack) -> None:
        filters = [f"label=cutor={stack.instance}", "event=start", "event=die"]
        command = ["docker", "events", "--since", f"{time.time():.3f}", "--format", "{{json .}}"]
        command += [word for one in filters for word in ("--filter", one)]
        self._watching = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def peaks(self) -> tuple[Counter[str], dict[str, int]]:
        """Stop counting; return how many started, and the most that ran at one time, by role."""
        self._watching.terminate()
        said, _ = self._watching.communicate(timeout=180)
        running: dict[str, set[str]] = {role: set() for role in SLOTS}
        started: Counter[str] = Counter()
        most = dict.fromkeys(SLOTS, 0)
        for event in sorted(map(json.loads, said.splitlines()), key=lambda event: int(event["timeNano"])):
            role = event["Actor"]["Attributes"]["cutor.role"]
            if role not in SLOTS:
                continue
            if event["Action"] == "start":
                started[role] += 1
                running[role].add(event["id"])
                most[role] = max(most[role], len(running[role]))
            else:
                running[role].discard(event["id"])
        return started, most


async def most_leased(client: Client, identities: Sequence[str]) -> int:
    """Return the most of these that a runner had at one time, from a lease to the end, by the stream's times."""
    changes = []
    for identity in identities:
        entries = await client.journal.entries(Address("default", identity))
        begun = next(one for one in entries if isinstance(one.message, Leased) and one.message.lease.role == "runner")
        ended = next(one for one in entries if isinstance(one.message, Finished))
        changes += [(begun.stored.time_ns, 1), (ended.stored.time_ns, -1)]
    return max(itertools.accumulate(change for _, change in sorted(changes)))


def test_no_more_run_at_once_than_there_are_slots(stack: Stack) -> None:
    """Twelve are queued; four of them need an environment of their own. Containers of the runner stand ready beside them."""
    new = PYTHON.replace("packages", f'NEW = "{secrets.token_hex(8)}-%d"; packages')
    requests = [document("sleep 0.5", shell=new % n if n < 4 else PYTHON) for n in range(12)]
    counted = Containers(stack)

    async def all_ended(client: Client) -> list[Result]:
        return await asyncio.gather(*(ended(client, request) for request in requests))

    results = with_client(stack, all_ended)
    started, most = counted.peaks()
    assert [result.outcome for result in results] == ["OK"] * len(requests), [result.message for result in results]
    assert started["builder"] >= 4
    assert most["builder"] == SLOTS["builder"]
    assert with_client(stack, lambda client: most_leased(client, [result.id for result in results])) == SLOTS["runner"]
    assert started["runner"] >= len(requests) - Config().runner.most_ready, "each has one of its own"
    assert most["runner"] <= Config().runner.uids

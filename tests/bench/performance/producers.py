"""Producers of a stack: each hands a submission in, follows it to its end, and begins again."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, NamedTuple

from cutor.client.client import Client
from cutor.model.events import CacheBuilt, Compiled, Event, Finished, Leased, Ran, Stage, Submitted, kind_of
from cutor.model.subjects import Address
from tests.bench.performance.cases import Case
from tests.bench.performance.figures import Step, step
from tests.bench.stacks import expect

PATIENCE_S: Final = 300.0
"""For one submission."""
STEPS: Final = (Submitted, Leased, CacheBuilt, Compiled, Ran, Finished)
"""The events of a submission that nothing happens to."""
RAN: Final = "ran, first results"
FURTHER: Final = {RAN: "ran, further results"}


class Life(NamedTuple):
    """One submission: when its producer began to hand it in and saw its end, by the clock, and its events between."""

    begun_ns: int
    seen_ns: int
    events: Sequence[tuple[int, Event]]

    @property
    def took_ms(self) -> float:
        """From the call to the terminal event."""
        return (self.seen_ns - self.begun_ns) / 1e6

    def stages(self) -> Iterator[Stage]:
        """Yield the stages that ran in a jail."""
        for _, event in self.events:
            if isinstance(event, Compiled):
                yield event.stage
            elif isinstance(event, Ran):
                yield from event.stages

    def programs_cpu_s(self) -> float:
        """Return the CPU time of its programs, as its results tell it."""
        return sum(stage.cpu_time_ms or 0 for stage in self.stages()) / 1000

    def steps(self) -> dict[str, float]:
        """Return every step and how long it took, in milliseconds: each from the event before it, by the stream's own times."""
        found: dict[str, float] = {}
        before_ns = self.begun_ns
        for time_ns, event in self.events:
            name = step_name(event)
            name = FURTHER.get(name, f"{name}, again") if name in found else name
            found[name] = found.get(name, 0.0) + (time_ns - before_ns) / 1e6
            before_ns = time_ns
        found["seen by the client"] = (self.seen_ns - before_ns) / 1e6
        return found | {"of all that, programs running": float(sum(stage.wall_time_ms or 0 for stage in self.stages()))}


def step_name(event: Event) -> str:
    """Return what a step is called: by the event that it ends with."""
    if isinstance(event, Leased):
        return f"leased ({event.lease.role})"
    return RAN if isinstance(event, Ran) else kind_of(event)


def life_steps(lives: Sequence[Life]) -> list[Step]:
    """Return where the time of submissions goes; each step has its own median, so they add up to about the whole."""
    found: dict[str, list[float]] = {}
    for life in lives:
        for name, took_ms in life.steps().items():
            found.setdefault(name, []).append(took_ms)
    return [step(name, times) for name, times in found.items()]


class Producer:
    """One producer with a connection of its own."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def live(self, case: Case, tenant: str = "default") -> Life:
        """Hand one in and follow it to its end. Raises `Unexpected` where that is not OK."""
        address = Address(tenant, f"bench-{secrets.token_hex(8)}")
        begun_ns = time.time_ns()
        async with asyncio.timeout(PATIENCE_S):
            await self._client.submit(case.request(), id=address.id, tenant=tenant)
            entries = [entry async for entry, _ in self._client.journal.watch(address)]
        seen_ns = time.time_ns()
        events = [(entry.stored.time_ns, entry.message) for entry in entries if isinstance(entry.message, STEPS)]
        last = events[-1][1]
        expect(isinstance(last, Finished) and last.outcome == "OK", last)
        return Life(begun_ns, seen_ns, events)


class Producers:
    """So many producers, each with a connection of its own."""

    def __init__(self, some: Sequence[Producer]) -> None:
        self._some = some

    @property
    def first(self) -> Producer:
        """One of them."""
        return self._some[0]

    @classmethod
    @asynccontextmanager
    async def of(cls, server: str, count: int) -> AsyncIterator[Producers]:
        """Connect them."""
        async with AsyncExitStack() as stack:
            yield cls([Producer(await stack.enter_async_context(Client(server))) for _ in range(count)])

    async def one_after_the_other(self, case: Case, at_once: int, seconds: float) -> tuple[list[Life], float]:
        """Have so many of them each hand in the next one when the last has ended; return all lives, and how long that took."""
        began = time.perf_counter()
        lives: list[Life] = []

        async def produce(producer: Producer) -> None:
            while time.perf_counter() < began + seconds:
                lives.append(await producer.live(case))

        async with asyncio.TaskGroup() as group:
            for producer in self._some[:at_once]:
                group.create_task(produce(producer))
        return lives, time.perf_counter() - began

    async def with_pauses(self, case: Case, pause_s: float, seconds: float) -> tuple[list[Life], float]:
        """Have one of them hand one in after the other, and wait between two; return all lives, and how long that took."""
        began = time.perf_counter()
        lives: list[Life] = []
        while time.perf_counter() < began + seconds or not lives:
            await asyncio.sleep(pause_s)
            lives.append(await self.first.live(case))
        return lives, time.perf_counter() - began

    async def burst(self, case: Case, count: int) -> tuple[list[Life], float]:
        """Hand so many in at once."""
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._some[index % len(self._some)].live(case)) for index in range(count)]
        return [task.result() for task in tasks], time.perf_counter() - began

    async def stream(self, case: Case, rate: float, seconds: float) -> tuple[list[Life], float]:
        """Hand them in at a steady rate, whatever becomes of those before."""
        began, tasks = time.perf_counter(), []
        async with asyncio.TaskGroup() as group:
            for index in range(max(round(rate * seconds), 1)):
                await asyncio.sleep(began + index / rate - time.perf_counter())
                tasks.append(group.create_task(self._some[index % len(self._some)].live(case)))
        return [task.result() for task in tasks], time.perf_counter() - began

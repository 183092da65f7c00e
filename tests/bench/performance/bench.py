"""One run: in turns, so that what a machine does beside it falls on all alike, each way to do a case, and cutor."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final, Literal, NamedTuple

from cutor.client.client import Client
from cutor.containers.engine import Engine
from cutor.journal.environments import Environments
from cutor.model.environments import unpack_variables
from cutor.model.events import CacheBuilt
from cutor.model.limits import RequestedLimits, resolve_all
from cutor.nix.settings import NixSettings
from tests.bench.performance import cases
from tests.bench.performance.bare import Containers, Programs, There, runner_calls, steps
from tests.bench.performance.cases import Case
from tests.bench.performance.collected import Collected
from tests.bench.performance.figures import BURST, FORMAT, PAUSED, REUSED, STREAM, Memory, Run, Step, Usage
from tests.bench.performance.origin import origin
from tests.bench.performance.producers import Life, Producers, life_steps
from tests.bench.performance.usage import OTHERS, PROGRAMS, Watch
from tests.child_image import IMAGE
from tests.live_stack import Stack

PAUSE_S: Final = 1.0
"""Between two submissions of one producer: long enough that what cutor does ahead is done, and what it does behind, too."""
STREAM_SHARE: Final = 0.6
"""Of the most that cutor did a second: what a stack is to bear for as long as it takes."""
WAYS: Final[tuple[Literal["fork+exec", "nsjail"], ...]] = ("fork+exec", "nsjail")

Say = Callable[[str], None]


class Lengths(NamedTuple):
    """How long each thing is measured, in seconds, and in how many turns."""

    turns: int
    at_once: tuple[int, ...]
    program_s: float
    container_s: float
    cutor_s: float
    paused_s: float
    burst: int
    stream_s: float
    calls: int
    warm_up: int
    compiled: tuple[Case, ...] = (cases.C, cases.MANY)


USUAL: Final = Lengths(
    turns=3,
    at_once=(1, 2, 4, 8),
    program_s=2,
    container_s=4,
    cutor_s=8,
    paused_s=18,
    burst=100,
    stream_s=20,
    calls=12,
    warm_up=5,
)
QUICK: Final = Lengths(
    turns=1, at_once=(1, 2), program_s=0.3, container_s=0.8, cutor_s=1, paused_s=1, burst=4, stream_s=1, calls=2, warm_up=1
)


class Bench:
    """All that is measured of a stack that runs."""

    def __init__(
        self, stack: Stack, store: NixSettings, producers: Producers, engine: Engine, lengths: Lengths, say: Say
    ) -> None:
        self._stack = stack
        self._store = store
        self._producers = producers
        self._engine = engine
        self._lengths = lengths
        self._say = say
        self._watch = Watch(stack.data)
        self._collected = Collected()
        self._usage: dict[tuple[str, int], Usage] = {}
        self._steps: dict[str, list[Step]] = {}

    async def run(self) -> Run:
        """Measure everything."""
        measured_of = await origin()
        there = await self._warm_up()
        async with self._watch.looking():
            await self._hello(there)
            await self._paused()
            for case in self._lengths.compiled:
                await self._compiled(there, case)
            self._say(f"{BURST}: {self._lengths.burst} submissions")
            await self._through(BURST, 0, self._producers.burst(cases.PYTHON, self._lengths.burst))
            await self._stream()
            memory = self._watch.memory()
        return self._all(measured_of, memory)

    async def reused(self) -> Run:
        """Measure the simplest of all where a container serves many submissions, beside bare programs."""
        there = await self._warm_up(only=(cases.PYTHON,))
        case = cases.PYTHON._replace(name=REUSED)
        lives: list[Life] = []
        async with self._watch.looking(), Programs.of(self._engine, there, case) as programs:
            for at_once in self._lengths.at_once:
                for turn in range(self._lengths.turns):
                    self._say(f"{case.name}, {at_once} at once, turn {turn + 1} of {self._lengths.turns}")
                    await self._bare(programs, case, at_once)
                    some = await self._one_after_the_other(case, at_once)
                    lives += some if at_once == 1 else []
        self._steps[f"{case.name}, one at a time: cutor's steps"] = life_steps(lives)
        return self._all(await origin(), [])

    def _all(self, measured_of: dict[str, str], memory: list[Memory]) -> Run:
        return Run(
            format=FORMAT,
            origin=measured_of,
            measured=self._collected.measured(),
            steps=self._steps,
            usage=list(self._usage.values()),
            memory=memory,
        )

    async def _warm_up(self, *, only: tuple[Case, ...] = ()) -> There:
        """Have the environment built, and everything done once; return where it is measured."""
        self._say("the environment is built, and a few submissions go ahead")
        some = only or (cases.PYTHON, *self._lengths.compiled)
        lives = [await self._producers.first.live(case) for case in some]
        for _ in range(self._lengths.warm_up):
            await self._producers.first.live(cases.PYTHON)
        [key] = {event.environment.key for life in lives for _, event in life.events if isinstance(event, CacheBuilt)}
        async with Client(self._stack.server) as client:
            known = await Environments(client.journal.bus).find(key)
            assert known is not None, key
            variables = unpack_variables(await client.journal.contents.fetch(known.built.variables))
            limit = resolve_all(RequestedLimits(), (await client.policy()).limits)["run"]
        return There(self._stack.instance, IMAGE, self._store.store_volume, known.built, variables, limit)

    async def _hello(self, there: There) -> None:
        """The simplest of all, from one at once to several, beside all that is below it."""
        case = cases.PYTHON
        lives: list[Life] = []
        made: list[dict[str, float]] = []
        async with AsyncExitStack() as stack:
            programs = await stack.enter_async_context(Programs.of(self._engine, there, case))
            containers = await stack.enter_async_context(Containers.of(self._engine, there))
            for at_once in self._lengths.at_once:
                for turn in range(self._lengths.turns):
                    self._say(f"{case.name}, {at_once} at once, turn {turn + 1} of {self._lengths.turns}")
                    await self._bare(programs, case, at_once)
                    some_made = await self._containers(containers, at_once)
                    some = await self._one_after_the_other(case, at_once)
                    if at_once == 1:
                        lives += some
                        made += some_made
            self._say("what a runner's calls to a container take")
            calls = await runner_calls(self._engine, there, containers.network, case, self._lengths.calls)
        self._steps[f"{case.name}, one at a time: cutor's steps"] = life_steps(lives)
        self._steps["one at a time: a runner's calls to a container"] = calls
        self._steps["one at a time: the calls of a container, cheapest"] = steps(made)

    async def _paused(self) -> None:
        """What somebody waits who comes alone."""
        self._say(f"{PAUSED}: one at a time, a second between two, for {self._lengths.paused_s:g} s")
        work = self._producers.with_pauses(cases.PYTHON, PAUSE_S, self._lengths.paused_s)
        self._steps[f"{PAUSED}: cutor's steps"] = life_steps(await self._through(PAUSED, 1, work))

    async def _compiled(self, there: There, case: Case) -> None:
        """A case with a compile stage, one at a time."""
        lives: list[Life] = []
        async with Programs.of(self._engine, there, case) as programs:
            for turn in range(self._lengths.turns):
                self._say(f"{case.name}, one at a time, turn {turn + 1} of {self._lengths.turns}")
                await self._bare(programs, case, 1)
                lives += await self._one_after_the_other(case, 1)
        self._steps[f"{case.name}, one at a time: cutor's steps"] = life_steps(lives)

    async def _bare(self, programs: Programs, case: Case, at_once: int) -> None:
        for way in WAYS:
            times_ms, seconds = await programs.measure(way, at_once, self._lengths.program_s / self._lengths.turns)
            self._collected.add(way, case.name, at_once, times_ms, seconds)

    async def _containers(self, containers: Containers, at_once: int) -> list[dict[str, float]]:
        """Measure both kinds of container; return what each call of the cheapest ones took."""
        seconds = self._lengths.container_s / self._lengths.turns
        cheapest, took_s = await containers.measure(containers.cheapest, at_once, seconds)
        self._collected.add("container, cheapest", cases.PYTHON.name, at_once, [sum(one.values()) for one in cheapest], took_s)
        own, took_s = await containers.measure(containers.own, at_once, seconds)
        self._collected.add("container, cutor's", cases.PYTHON.name, at_once, [sum(one.values()) for one in own], took_s)
        return cheapest

    async def _one_after_the_other(self, case: Case, at_once: int) -> list[Life]:
        seconds = self._lengths.cutor_s / self._lengths.turns
        return await self._through(case.name, at_once, self._producers.one_after_the_other(case, at_once, seconds))

    async def _stream(self) -> None:
        """Hand in at a steady rate that cutor can bear."""
        hellos = [one for one in self._collected.measured() if (one.what, one.case) == ("cutor", cases.PYTHON.name)]
        rate = STREAM_SHARE * max(one.per_second for one in hellos)
        self._say(f"{STREAM}: {rate:.1f} submissions a second, for {self._lengths.stream_s:g} s")
        await self._through(STREAM, 0, self._producers.stream(cases.PYTHON, rate, self._lengths.stream_s))

    async def _through(self, case: str, at_once: int, work: Awaitable[tuple[list[Life], float]]) -> list[Life]:
        """Have submissions go through cutor, and note how long they took and who used the CPUs meanwhile."""
        before = self._watch.now()
        lives, seconds = await work
        after = self._watch.now()
        self._collected.add("cutor", case, at_once, [life.took_ms for life in lives], seconds)
        used = {who: cpu_s - before.get(who, 0.0) for who, cpu_s in after.items()}
        used |= {PROGRAMS: sum(life.programs_cpu_s() for life in lives), OTHERS: used.pop(OTHERS)}
        former = self._usage.get((case, at_once))
        now = Usage(case=case, at_once=at_once, submissions=len(lives), seconds=seconds, cpus=os.cpu_count() or 1, cpu_s=used)
        self._usage[case, at_once] = now if former is None else former.plus(now)
        return lives

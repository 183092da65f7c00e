"""A Docker that is gone, or stands still, costs no submission an attempt; and what needs nothing of it goes on.

Roles on a real server, and the builder's own step, by a line to Docker that can be cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from cutor.bus.connection import Bus
from cutor.containers.facts import Facts
from cutor.journal.environments import Environments
from cutor.journal.journal import Journal
from cutor.journal.stack_policy import publish_policy
from cutor.model.limits import Policy
from cutor.model.subjects import Address
from cutor.roles.builder import BuildStep, Wanted
from cutor.roles.step import Arrival, LeasedStep, LeasedWork, PutOff, WorkerUnable
from cutor.roles.sweep import check_engine
from tests.integration.stage_support import connected
from tests.integration.test_role_claims import built
from tests.integration.test_role_requests import build_step
from tests.integration.test_runner_containers import Line, engine_by
from tests.scripted_roles import PATIENCE_S, end, request, role, set_ack_wait, until
from tests.unit.test_environments import BUILT

OTHER_SHELL = {"shell.nix": b"{ } # of another environment"}


@pytest.fixture
async def journal(own_bus: Bus) -> Journal:
    await set_ack_wait(own_bus, 240.0)
    journal = Journal(own_bus)
    await publish_policy(journal.bus, Policy(max_leases=3))
    return journal


class Halting(Line):
    """A line on which nothing comes through for a while, and nothing ends."""

    def __init__(self) -> None:
        super().__init__()
        self.goes = asyncio.Event()
        self.goes.set()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:  # type: ignore[override]
        with suppress(OSError):
            while data := await reader.read(65_536):
                await self.goes.wait()
                writer.write(data)
                await writer.drain()
            writer.write_eof()


class Stepping:
    """The builder's own step, but for builds; what it was asked, and answered, is counted."""

    def __init__(self, step: BuildStep) -> None:
        self._step = step
        self.put_off: asyncio.Queue[LeasedWork | PutOff] = asyncio.Queue()
        self.unable: asyncio.Queue[WorkerUnable] = asyncio.Queue()

    async def keep_facts(self, facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
        """Know what a hit needs, and hear no notice of what others do to images and volumes."""
        monkeypatch.setattr(facts, "_noticed", lambda _notice: None)
        monkeypatch.setattr(facts, "_changed", lambda **_more: None)
        await self._step.check()
        await self._step._key({})

    async def check(self) -> None:
        try:
            await self._step.check()
        except WorkerUnable as error:
            self.unable.put_nowait(error)
            raise

    async def approach(self, arrival: Arrival) -> LeasedWork | PutOff:
        found = await self._step.approach(arrival)
        if isinstance(found, str):
            self.put_off.put_nowait(found)
        return found

    async def __call__(self, leased: LeasedStep) -> None:
        raise AssertionError("what is done is what `approach` returned")


async def listened_to(facts: Facts, *, listening: bool = True) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while facts.listening is not listening:
            await asyncio.sleep(0.01)


@asynccontextmanager
async def builder(
    journal: Journal, line: Line, path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Stepping, Facts]]:
    """A builder by a line to Docker, in whose log the environment of `tests.scripted_roles.request` stands."""

    async def instead(_wanted: Wanted, leased: LeasedStep) -> None:
        await end(leased)

    monkeypatch.setattr("cutor.roles.ability.PAUSES_S", (0.05,))
    monkeypatch.setattr("cutor.containers.facts.LASTS_S", 3600.0)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(connected())
        engine = await stack.enter_async_context(engine_by(line, path))
        facts = await stack.enter_async_context(Facts.of(engine))
        await listened_to(facts)
        step = build_step(engine)
        step._facts = facts
        monkeypatch.setattr(step, "_build", instead)
        key = await step._key({"shell.nix": b"{}"})
        await Environments(journal.bus).append_built(msgspec.structs.replace(BUILT, key=key))
        stepping = Stepping(step)
        await stack.enter_async_context(role(journal, stepping))
        yield stepping, facts


async def hand_in_another(journal: Journal) -> Address:
    """Hand in a submission of an environment that has to be built."""
    wanted = msgspec.structs.replace(request("miss"), files={**request("miss").files, **OTHER_SHELL})
    return (await journal.submit(wanted)).address


async def test_a_docker_that_is_gone_costs_a_builder_no_lease(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Line()
    async with builder(journal, line, tmp_path / "docker.sock", monkeypatch) as (stepping, facts):
        line.away()
        await listened_to(facts, listening=False)
        hit, miss = (await journal.submit(request("hit"))).address, await hand_in_another(journal)
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(3):
                await stepping.unable.get()
        for address in (hit, miss):
            assert (await journal.known(address)).attempts.builder == 0
        line.back()
        assert (await until(journal, hit, built)).attempts.builder == 1
        assert (await until(journal, miss, lambda state: state.ended)).attempts.builder == 1


async def test_while_docker_stands_still_what_stands_is_reported_and_what_does_not_costs_no_lease(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cutor.roles.sweep.CHECK_S", 0.2)
    monkeypatch.setattr("cutor.roles.sweep.ANSWERED_HERE_S", 0.0)
    line = Halting()
    async with builder(journal, line, tmp_path / "docker.sock", monkeypatch) as (stepping, facts):
        await stepping.keep_facts(facts, monkeypatch)
        line.goes.clear()
        hit, miss = (await journal.submit(request("hit"))).address, await hand_in_another(journal)
        assert (await until(journal, hit, built)).attempts.builder == 1
        async with asyncio.timeout(PATIENCE_S):
            assert {await stepping.put_off.get() for _ in range(2)} == {"later"}
        assert (await journal.known(miss)).attempts.builder == 0
        assert stepping.unable.empty()
        assert facts.listening
        line.goes.set()
        assert (await until(journal, miss, lambda state: state.ended)).attempts.builder == 1


async def test_an_answer_counts_only_while_the_end_of_docker_would_have_been_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a runner looks: it has just made a container, and Docker is killed."""
    line, asked = Line(), 0
    async with connected(), engine_by(line, tmp_path / "docker.sock") as engine, Facts.of(engine) as facts:
        await listened_to(facts)
        ping: Callable[[], Awaitable[bool]] = engine.ping

        async def counted() -> bool:
            nonlocal asked
            asked += 1
            return await ping()

        monkeypatch.setattr(engine, "ping", counted)
        monkeypatch.setattr("cutor.roles.sweep.ANSWERED_HERE_S", PATIENCE_S)
        await engine.list()
        await check_engine(engine, facts)
        assert asked == 0
        line.away()
        await listened_to(facts, listening=False)
        assert engine.answered_within(PATIENCE_S)
        with pytest.raises(WorkerUnable, match="no Docker Engine answers"):
            await check_engine(engine, facts)
        assert asked == 1

"""The requests of one submission in an environment that stands are those of docs/explanation/path.md: counted, never timed."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec
import pytest
from nats.aio.msg import Msg

from cutor.bus.connection import Bus
from cutor.client.client import Client
from cutor.containers.engine import Engine
from cutor.containers.facts import Facts
from cutor.journal.environments import Environments
from cutor.journal.journal import Journal
from cutor.journal.stack_policy import publish_policy
from cutor.model.events import Finished, Stage
from cutor.model.limits import Policy
from cutor.model.subjects import Address
from cutor.roles.builder import BuildStep
from cutor.roles.results import Results
from cutor.roles.standing import Standing
from cutor.roles.step import Arrival, LeasedStep, LeasedWork, PutOff
from tests.integration.stage_support import connected
from tests.integration.test_role_requests import SHELL, build_step
from tests.nats_server import OwnServer
from tests.scripted_roles import PATIENCE_S, role, until
from tests.unit.test_environments import BUILT

PAGE = Path(__file__).parents[2] / "docs/explanation/path.md"
FILES = [{"name": "shell.nix", "content": SHELL["shell.nix"].decode()}, {"name": "cutor-run.sh", "content": "true"}]
ROW = re.compile(r"^\| (producer|builder|runner) \| ([^|]+) \|[^|]*\| (\d+) \|", re.MULTILINE)


def name_of(subject: str) -> str:
    """Return what the page calls a request."""
    if subject.startswith("cutor.ev."):
        return f"append `{subject.rpartition('.')[2]}`"
    if found := re.match(r"\$JS\.API\.(?:DIRECT\.GET|STREAM\.MSG\.GET)\.(\w+)", subject):
        return f"read {found[1]}"
    return "acknowledge" if subject.startswith("$JS.ACK.") else subject


class Requests:
    """What one connection asks for from now on: requests, each once however often it is sent; answers; subscriptions."""

    def __init__(self, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counted: Counter[str] = Counter()
        self._link = bus.link
        for name in ("ask", "ask_many"):
            monkeypatch.setattr(bus.link, name, partial(self._asked, getattr(bus.link, name)))
        monkeypatch.setattr(bus.link, "send", partial(self._sent, bus.link.send))
        monkeypatch.setattr(bus.link, "subscribe_raw", partial(self._subscribed, bus.link.subscribe_raw))

    async def _asked(self, ask: object, subject: str, body: bytes = b"", **more: object) -> Msg:
        if body != b"+WPI":
            self.counted[name_of(subject)] += 1
        return await ask(subject, body, **more)  # type: ignore[operator, no-any-return]

    async def _sent(
        self, send: object, subject: str, body: bytes = b"", *, reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        if not reply and not subject.startswith("$JS.API.CONSUMER.MSG.NEXT."):
            self.counted[name_of(subject)] += 1
        await send(subject, body, reply=reply, headers=headers)  # type: ignore[operator]

    async def _subscribed(self, subscribe: object, subject: str, handler: object) -> object:
        self.counted["subscribe"] += 1
        return await subscribe(subject, handler)  # type: ignore[operator]


class Builder:
    """The builder's own step: what it finds is reported by itself."""

    def __init__(self, step: BuildStep) -> None:
        self._step = step

    async def check(self) -> None:
        await self._step.check()

    async def approach(self, arrival: Arrival) -> LeasedWork | PutOff:
        return await self._step.approach(arrival)

    async def __call__(self, leased: LeasedStep) -> None:
        raise AssertionError("what is done is what `approach` returned")


@asynccontextmanager
async def roles(own_server: OwnServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[dict[str, Requests]]:
    """A builder, and a runner without containers that asks the log as a runner does; each over a connection of its own."""
    standing, counted = Standing(), {}
    async with AsyncExitStack() as stack:
        journals = {}
        for name in ("builder", "runner"):
            journals[name] = Journal(await stack.enter_async_context(Bus.connect(own_server.url, name=name)))
        engine = await stack.enter_async_context(Engine.connect())
        step = build_step(engine)
        step._facts = await stack.enter_async_context(Facts.of(engine))
        key = await step._key(SHELL)
        await Environments(journals["builder"].bus).append_built(msgspec.structs.replace(BUILT, key=key))
        await stack.enter_async_context(step.standing.following(journals["builder"]))
        await stack.enter_async_context(standing.following(journals["runner"]))

        async def run(leased: LeasedStep) -> None:
            assert leased.state.environment is not None
            known = await standing.find(leased.journal.bus, leased.state.environment.key)
            assert known is not None
            await leased.journal.contents.load_request(leased.state.address, leased.state.request)
            await standing.variables(leased.journal, known.built)
            async with Results(leased) as results:
                await results.add(Stage(outcome="OK", limits=leased.policy.limits.run.default))
            await leased.report(Finished(lease=leased.lease, outcome="OK"))

        await stack.enter_async_context(role(journals["builder"], Builder(step), "builder"))
        await stack.enter_async_context(role(journals["runner"], run, "runner", worker="w2"))
        for name, journal in journals.items():
            counted[name] = Requests(journal.bus, monkeypatch)
        yield counted


async def test_the_requests_of_a_submission_are_those_of_the_page(
    own_server: OwnServer, own_bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(own_bus)
    await publish_policy(journal.bus, Policy())
    async with connected(), roles(own_server, monkeypatch) as counted, Client(own_server.url) as client:
        counted["producer"] = Requests(client.journal.bus, monkeypatch)
        async with asyncio.timeout(PATIENCE_S):
            while True:  # until what stands is known: not within a second of its event
                for requests in counted.values():
                    requests.counted.clear()
                receipt = await client.submit({"files": FILES, "test_cases": [{}]})
                result = await client.result(receipt.id, wait=True)
                assert result.outcome == "OK"
                address = (await journal.state(Address("default", receipt.id))).address  # type: ignore[union-attr]
                await until(journal, address, lambda state: state.cleaned_ns is not None)
                if not any("ENVIRONMENTS" in name for requests in counted.values() for name in requests.counted):
                    break
                await asyncio.sleep(0.1)
            while not all(counted[name].counted["acknowledge"] for name in ("builder", "runner")):
                await asyncio.sleep(0.01)
    del counted["producer"].counted["read EVENTS"]  # as events come: the more, the further apart they are
    told = {who: Counter[str]() for who in counted}
    for who, what, times in ROW.findall(PAGE.read_text()):
        told[who][what.strip()] += int(times)
    assert told == {who: requests.counted for who, requests in counted.items()}

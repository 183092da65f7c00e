"""NATS away, slow, frozen, or gone in the midst of an append: roles go on, and every submission ends once.

A proxy stands between each role and a real server. What stands in the log, the tests read past the proxy.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cutor.client.client import Client
from cutor.config import Config
from cutor.containers.engine import ContainerSummary, Engine
from cutor.journal.journal import Journal
from cutor.journal.stack_policy import publish_policy
from cutor.model.limits import Policy
from cutor.model.subjects import Address
from cutor.roles.settings import RunnerSettings
from tests.fault.proxy import Proxy
from tests.fault.views import differences
from tests.live_stack import surroundings
from tests.nats_away import PATIENCE_S, TERMINAL, frozen, nobody, request
from tests.nats_server import OwnServer, apply_streams


@dataclass
class Roles:
    """Builder, runner and projector as processes of their own, each with a proxy before the server."""

    own: OwnServer
    home: Path
    client: Client
    journal: Journal
    proxies: dict[str, Proxy]
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)

    async def start(self, role: str) -> None:
        """Start a role, and wait until it has connected."""
        log = (self.home / f"{role}.log").open("ab")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cutor", role, "--data", str(self.home / role)),
            env=surroundings(self.home) | {"CUTOR_SERVER": self.proxies[role].url(self.own.url)},
            stdout=log,
            stderr=log,
        )
        log.close()
        self.processes.append(process)
        async with asyncio.timeout(PATIENCE_S):
            while not self.proxies[role].connections:
                assert process.returncode is None, self.log(role)
                await asyncio.sleep(0.05)

    def log(self, role: str) -> str:
        """What a role has said."""
        return (self.home / f"{role}.log").read_text()

    async def stop(self) -> None:
        """End the roles as an operator does; none of them crashed."""
        for process in self.processes:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
        codes = [await asyncio.wait_for(process.wait(), PATIENCE_S) for process in self.processes]
        assert codes == [0] * len(codes), [self.log(role) for role in self.proxies]

    async def submit(self, run: str = "echo done", **more: Any) -> str:
        """Hand in a submission that compiles and runs; return its id."""
        document = json.loads(request(run, **more))
        document["files"].append({"name": "cutor-compile.sh", "content": "true"})
        return (await self.client.submit(document)).id

    async def ended(self, identity: str, *, attempts: int = 2) -> None:
        """Wait for a submission's end: well, once, in so many attempts at the most, cleaned in the end."""
        result = await self.client.result(identity, wait=True, timeout_s=PATIENCE_S)
        assert result.outcome == "OK", (result, self.log("builder"), self.log("runner"))
        assert max(result.attempts.builder, result.attempts.runner) <= attempts, result.attempts
        async with asyncio.timeout(PATIENCE_S):
            while not (await self.client.result(identity)).cleaned_at:
                await asyncio.sleep(0.1)
        kinds = await self.kinds(identity)
        assert [kind for kind in kinds if kind in TERMINAL] == ["finished"]
        assert kinds.count("cleaned") == 1

    async def kinds(self, identity: str) -> list[str]:
        """The kinds of a submission's events, in order."""
        entries = await self.journal.entries(Address("default", identity))
        return [entry.stored.subject.rpartition(".")[2] for entry in entries]

    async def leased(self, identity: str) -> None:
        """Wait until a runner works on a submission."""
        async for update in self.client.watch(identity):
            if update.kind == "leased" and update.what.startswith("runner"):
                return

    async def built(self, identity: str) -> None:
        """Wait until a submission's environment is there, so that it waits for a runner."""
        async with asyncio.timeout(PATIENCE_S):
            while "cache-built" not in await self.kinds(identity):
                await asyncio.sleep(0.05)

    @staticmethod
    def serving(found: Sequence[ContainerSummary]) -> bool:
        """Return whether a submission has a container: those of a runner are more then than may stand ready."""
        roles = Counter(one.labels["cutor.role"] for one in found)
        return roles["builder"] > 0 or roles["runner"] > RunnerSettings().most_ready

    async def nothing_left(self) -> None:
        """Check that no submission has a container, and that the views are those of a rebuild."""
        async with Engine.connect() as engine, asyncio.timeout(PATIENCE_S):
            for role in ("builder", "runner"):
                instance = (self.home / role / "instance").read_text().strip()
                while self.serving(await engine.list(instance)):
                    await asyncio.sleep(0.1)
        assert await differences(self.journal.bus, self.home / "projector" / "projections.duckdb") == []


@asynccontextmanager
async def roles(home: Path) -> AsyncIterator[Roles]:
    """A server and its roles; at the end they stop in order, and nothing is left."""
    await asyncio.to_thread(home.mkdir)
    own = OwnServer(home / "nats")
    await own.start()
    assert own.server
    try:
        await apply_streams(own.url)
        names = ("builder", "runner", "projector")
        async with Proxy(own.port) as one, Proxy(own.port) as two, Proxy(own.port) as three, Client(own.url) as client:
            await publish_policy(client.journal.bus, Policy(tenants={"default": 1}))
            found = Roles(own, home, client, client.journal, dict(zip(names, (one, two, three), strict=True)))
            try:
                await asyncio.gather(*(found.start(name) for name in names))
                await found.ended(await found.submit(), attempts=1)
                yield found
                await found.nothing_left()
                await found.stop()
            finally:
                for process in found.processes:
                    if process.returncode is None:
                        process.kill()
                        await process.wait()
    finally:
        await own.server.stop()


APPENDS: Final = [
    ("builder", "leased"),
    ("builder", "cache-built"),
    ("runner", "leased"),
    ("runner", "compiled"),
    ("runner", "ran"),
    ("runner", "finished"),
    ("runner", "cleaned"),
]


async def test_a_connection_that_breaks_in_any_append_of_a_role_costs_nothing(tmp_path: Path) -> None:
    async with roles(tmp_path / "roles") as found:
        for how in ("cut_after", "cut_within"):
            for role, kind in APPENDS:
                pattern = rb"cutor\.ev\.\S+\." + kind.encode() + b" "
                trap = getattr(found.proxies[role], how)(pattern)
                identity = await found.submit()
                await found.ended(identity, attempts=1)
                assert trap.sprung.is_set(), (role, kind)


async def test_a_server_that_is_killed_and_started_again_is_found_again_idle_and_at_work(tmp_path: Path) -> None:
    async with roles(tmp_path / "roles") as found:
        await found.own.kill()
        await found.own.start()
        await found.ended(await found.submit())
        running = await found.submit(SLOW_RUN)
        await found.leased(running)
        queued = await found.submit()
        await found.own.kill()
        await asyncio.sleep(1)
        await found.own.start()
        for identity in (running, queued):
            await found.ended(identity)


SLOTS: Final = Config().runner.slots
SLOW_RUN: Final = "end=$((SECONDS + 4)); while [ $SECONDS -lt $end ]; do :; done; echo done"


async def away_for(home: Path, seconds: float, fault: Callable[[Proxy], None]) -> None:
    """A submission in each slot of the runner, one that waits for a slot, and no server for so long.

    The runner loses it first: so nothing that is built from then on can be anything but queued.
    """
    async with roles(home) as found:
        running = [await found.submit(SLOW_RUN) for _ in range(SLOTS)]
        for identity in running:
            await found.leased(identity)
        fault(found.proxies["runner"])
        queued = await found.submit()
        await found.built(queued)
        for proxy in found.proxies.values():
            fault(proxy)
        await asyncio.sleep(seconds)
        assert await found.kinds(queued) == ["submitted", "leased", "cache-built"]
        for proxy in found.proxies.values():
            proxy.resume()
        for identity in (*running, queued):
            await found.ended(identity)


async def slow(home: Path) -> None:
    """A whole submission, every message half a second late."""
    async with roles(home) as found:
        for proxy in found.proxies.values():
            proxy.delay(500)
        await found.ended(await found.submit())
        for proxy in found.proxies.values():
            proxy.delay(0)


async def test_a_minute_without_it_a_frozen_one_and_a_slow_one(tmp_path: Path) -> None:
    """Side by side, each with a server and roles of its own: most of it is waiting."""
    async with asyncio.TaskGroup() as group:
        group.create_task(away_for(tmp_path / "gone", 60, nobody))
        group.create_task(away_for(tmp_path / "frozen", 20, frozen))
        group.create_task(slow(tmp_path / "slow"))

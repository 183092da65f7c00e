"""Two builder processes on one store: identical environments are built once, whatever becomes of who builds them; what is not
to be kept can be collected. Real builds, on a small store of this module's own.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from cutor import Client
from cutor.bus.connection import Bus
from cutor.config import Config
from cutor.containers.engine import Engine
from cutor.journal.environments import Environments
from cutor.journal.stack_policy import publish_policy
from cutor.model.build_progress import BuildProgress
from cutor.model.environments import EnvironmentBuilding, EnvironmentBuilt, EnvironmentEvent, EnvironmentRemoved
from cutor.model.messages import Unreadable, read_environment
from cutor.model.result import Result
from cutor.nix.settings import NixSettings
from tests.live_stack import surroundings
from tests.nats_server import OwnServer
from tests.processes import SLEEP, waking
from tests.stores import Fill, lent_store, run_in_store

pytestmark = pytest.mark.timeout(1200)
PATIENCE_S = 300.0
SHELL = """
{ pkgs ? import <nixpkgs> { } }:
let made = pkgs.runCommand "made-@" { } "mkdir $out; echo @ > $out/token"; in
pkgs.mkShell { MADE = made; shellHook = ''LASTS; EXIT''; }
"""
READ = 'read -r token < "$MADE/token"; echo "$token"\n'


@pytest.fixture(scope="module")
def store(foundation: Fill) -> Iterator[NixSettings]:
    """Volumes of this module's own, with what every environment rests on."""
    with lent_store(foundation) as settings:
        yield settings


@dataclass
class Roles:
    """Role processes on one server and one store."""

    home: Path
    server: str
    store: NixSettings

    async def start(self, role: str, name: str, nix: str = "") -> Process:
        """Start a role, with some settings of Nix more; it is ready once it takes something up."""
        home = self.home / name
        home.mkdir(exist_ok=True)
        config = home / "config.toml"
        config.write_text(
            f'[docker]\nimage = "{self.store.image}"\n[builder]\nslots = 2\n[runner]\nslots = 2\n'
            f'[nix]\nstore_volume = "{self.store.store_volume}"\nvar_volume = "{self.store.var_volume}"\n{nix}'
        )
        environment = surroundings(home) | {"CUTOR_SERVER": self.server, "CUTOR_CONFIG": str(config)}
        command = ["-m", "cutor", role, "--worker", name]
        with (home / "log").open("ab") as log:
            return await asyncio.create_subprocess_exec(sys.executable, *command, env=environment, stdout=log, stderr=log)

    @asynccontextmanager
    async def running(self, role: str, name: str, nix: str = "") -> AsyncIterator[Process]:
        """A role that ends with the block, if it has not before."""
        process = await self.start(role, name, nix)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
                await asyncio.wait_for(process.wait(), PATIENCE_S)


class Site:
    """Two builders and a runner, a client, and what the log says of environments."""

    def __init__(self, roles: Roles, bus: Bus, client: Client, builders: dict[str, Process]) -> None:
        self.roles = roles
        self.bus = bus
        self.client = client
        self.builders = builders

    async def submit(self, token: str, *, lasts: bool = False, fails: bool = False, cache: bool = True) -> str:
        """Hand in a submission that reads a token from its environment; return its id. Who builds one that lasts is woken."""
        shell = (
            SHELL.replace("@", token).replace("LASTS", SLEEP if lasts else "true").replace("EXIT", "exit 1" if fails else "")
        )
        files = {"shell.nix": shell, "cutor-run.sh": READ}
        request: dict[str, Any] = {
            "files": [{"name": name, "content": content} for name, content in files.items()],
            "test_cases": [{"expected_output": f"{token}\n"}],
            "limits": {"dependencies": {"wall_time_ms": 600_000}},
            "cache": cache,
        }
        return (await self.client.submit(request)).id

    async def waits(self, identity: str) -> None:
        """Wait until it waits in a builder for what another one builds: that has no lease, so it is in no log of events."""
        line = f"default/{identity}: another submission builds the same environment"
        async with asyncio.timeout(PATIENCE_S):
            while not any(line in (self.roles.home / name / "log").read_text() for name in self.builders):
                await asyncio.sleep(0.05)

    async def result(self, identity: str) -> Result:
        return await self.client.result(identity, wait=True, timeout_s=PATIENCE_S)

    async def results(self, identities: list[str]) -> list[Result]:
        return await asyncio.gather(*map(self.result, identities))

    async def leased(self, identity: str) -> None:
        """Wait until a builder has it."""
        async with asyncio.timeout(PATIENCE_S):
            while not (await self.client.result(identity)).attempts.builder:
                await asyncio.sleep(0.05)

    async def events(self, key: str = "") -> list[EnvironmentEvent]:
        """Return what the log says of environments; of one key, or of all."""
        read = [read_environment(stored.subject, stored.body) async for stored in self.bus.read("ENVIRONMENTS")]
        return [event for event in read if not isinstance(event, Unreadable) and event.key.startswith(key)]

    async def claim(self) -> EnvironmentBuilding:
        """Wait for the first claim, and for the container in which its owner builds."""
        async with asyncio.timeout(PATIENCE_S), Engine.connect() as engine:
            while True:
                claims = [event for event in await self.events() if isinstance(event, EnvironmentBuilding)]
                containers = await engine.list()
                if claims and any(one.labels.get("cutor.submission") == str(claims[0].owner) for one in containers):
                    return claims[0]
                await asyncio.sleep(0.05)


NO_ROOM: Final = "min_free_bytes = 1_125_899_906_842_624\n"
SEVERAL_ATTEMPTS_S: Final = 10.0
"""Three attempts took five seconds where each cost a lease."""


async def test_a_store_volume_without_room_parks_nobody_and_who_follows_is_told(
    own_server: OwnServer, own_bus: Bus, store: NixSettings, tmp_path: Path
) -> None:
    """It is the host's fault, and may last: what needs no build goes on, the rest waits until there is room."""
    roles, known, cold = Roles(tmp_path, own_server.url, store), fresh(), [fresh(), fresh()]
    await publish_policy(own_bus, Config(max_leases=3).policy())
    async with Client(own_server.url) as client, roles.running("runner", "r"):
        site = Site(roles, own_bus, client, {})
        async with roles.running("builder", "b"):
            assert (await site.result(await site.submit(known))).outcome == "OK"
        async with roles.running("builder", "b", NO_ROOM):
            waiting = [await site.submit(cold[0])]
            await told(client, waiting[0], "waiting: the builder's host has no room for builds")
            waiting += [await site.submit(token) for token in (*cold, cold[1])]
            waiting += [await site.submit(cold[1], cache=False)]
            await told(client, waiting[-1], "waiting: the builder's host has no room for builds")
            assert (await site.result(await site.submit(known))).outcome == "OK"
            await asyncio.sleep(SEVERAL_ATTEMPTS_S)
            states = [await client.result(identity) for identity in waiting]
            assert {state.status for state in states} == {"SUBMITTED"}
            assert all(state.attempts.builder == 0 for state in states)
        assert "no room for builds" in (tmp_path / "b/log").read_text()
        async with roles.running("builder", "b"):
            assert [result.outcome for result in await site.results(waiting)] == ["OK"] * len(waiting)


async def told(client: Client, identity: str, text: str) -> None:
    """Wait until who follows a submission is told this."""
    async with asyncio.timeout(PATIENCE_S), aclosing(client.follow(identity)) as news:
        async for one in news:
            if isinstance(one, BuildProgress) and text in one.text:
                return


@pytest.fixture
async def site(own_server: OwnServer, own_bus: Bus, store: NixSettings, tmp_path: Path) -> AsyncIterator[Site]:
    roles = Roles(tmp_path, own_server.url, store)
    await publish_policy(own_bus, Config(max_leases=3).policy())
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(own_server.url))
        builders = {name: await stack.enter_async_context(roles.running("builder", name)) for name in ("b1", "b2")}
        await stack.enter_async_context(roles.running("runner", "r"))
        yield Site(roles, own_bus, client, builders)
    async with Engine.connect() as engine:
        left = [one.name for one in await engine.list() if one.labels.get("cutor.data", "").startswith(str(tmp_path))]
    assert left == [], "containers were left behind"


def kinds(events: list[EnvironmentEvent], kind: type[EnvironmentEvent]) -> int:
    return sum(isinstance(event, kind) for event in events)


def fresh() -> str:
    return f"t{secrets.token_hex(4)}"


async def test_twenty_identical_submissions_to_two_builders_are_one_build(site: Site) -> None:
    token = fresh()
    identities = [await site.submit(token) for _ in range(20)]
    results = await site.results(identities)
    assert [result.outcome for result in results] == ["OK"] * 20
    events = await site.events()
    assert (kinds(events, EnvironmentBuilding), kinds(events, EnvironmentBuilt)) == (1, 1)
    hits = sorted(result.environment.hit for result in results if result.environment is not None)
    assert hits == [False] + [True] * 19
    messages = {result.dependencies.message for result in results if result.dependencies is not None}
    assert "another submission built the environment meanwhile" in messages
    assert not any(identity in str(message) for message in messages for identity in identities)


async def test_the_builder_of_the_owner_is_killed_and_another_builds(site: Site) -> None:
    """Its container dies with it, and its delivery goes on when its clock has run out, or when it starts again, as here."""
    token = fresh()
    identities = [await site.submit(token, lasts=True) for _ in range(6)]
    claim = await site.claim()
    name = claim.worker.partition("-")[0]
    for identity in identities:
        if identity != claim.id:
            await site.waits(identity)
    site.builders[name].kill()
    await site.builders[name].wait()
    async with site.roles.running("builder", name), waking(f"-made-{token}"):
        results = await site.results(identities)
    assert [result.outcome for result in results] == ["OK"] * 6
    events = await site.events()
    assert (kinds(events, EnvironmentBuilding), kinds(events, EnvironmentBuilt)) == (2, 1)


async def test_a_cancelled_owner_is_followed_by_one_of_those_who_wait(site: Site) -> None:
    token = fresh()
    identities = [await site.submit(token, lasts=True) for _ in range(4)]
    claim = await site.claim()
    await site.client.cancel(claim.id)
    rest = [identity for identity in identities if identity != claim.id]
    async with waking(f"-made-{token}"):
        assert [result.outcome for result in await site.results(rest)] == ["OK"] * 3
    events = await site.events()
    assert (kinds(events, EnvironmentBuilding), kinds(events, EnvironmentBuilt)) == (2, 1)


async def test_after_the_owners_failure_each_fails_by_itself(site: Site) -> None:
    token = fresh()
    identities = [await site.submit(token, lasts=True, fails=True) for _ in range(4)]
    claim = await site.claim()
    for identity in identities:
        if identity != claim.id:
            await site.waits(identity)
    async with waking(f"-made-{token}"):
        results = await site.results(identities)
    assert [result.outcome for result in results] == ["DEPENDENCY_ERROR"] * 4
    events = await site.events()
    assert (kinds(events, EnvironmentBuilding), kinds(events, EnvironmentBuilt)) == (1, 0)


async def test_a_cancelled_waiter_ends_at_once(site: Site) -> None:
    token = fresh()
    identities = [await site.submit(token, lasts=True) for _ in range(2)]
    claim = await site.claim()
    (waits,) = (identity for identity in identities if identity != claim.id)
    await site.waits(waits)
    await site.client.cancel(waits)
    result = await site.result(waits)
    owner = await site.client.result(claim.id)
    assert (result.outcome, owner.status) == ("CANCELLED", "SUBMITTED")
    assert result.attempts.builder == 0
    async with waking(f"-made-{token}"):
        assert (await site.result(claim.id)).outcome == "OK"


async def stands(store: NixSettings, token: str) -> bool:
    """Collect garbage, and return whether an environment's own path is in the store then."""
    async with Engine.connect() as engine:
        script = f"NIX_REMOTE=local HOME=/tmp nix-store --gc >&2; ls -d /nix/store/*-made-{token} || true"
        return bool(await run_in_store(engine, script, store))


async def removed(site: Site, count: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while kinds(await site.events(), EnvironmentRemoved) < count:
            await asyncio.sleep(0.1)


async def roots(store: NixSettings) -> set[str]:
    async with Engine.connect() as engine:
        return set((await run_in_store(engine, "ls /nix/var/nix/gcroots/cutor", store)).split())


async def test_what_is_not_to_be_kept_can_be_collected_when_its_submission_is_clean(site: Site, store: NixSettings) -> None:
    token, kept = fresh(), fresh()
    first = await site.result(await site.submit(kept))
    alone = await site.result(await site.submit(token, cache=False))
    assert (first.outcome, alone.outcome) == ("OK", "OK")
    assert first.environment is not None
    assert alone.environment is not None
    key = alone.environment.key
    await removed(site, 1)
    async with asyncio.timeout(PATIENCE_S):
        while key in await roots(store):
            await asyncio.sleep(0.1)
    assert first.environment.key in await roots(store)
    assert (await stands(store, token), await stands(store, kept)) == (False, True)
    (built,) = [event for event in await site.events(key) if isinstance(event, EnvironmentBuilt)]
    assert built.private_to == f"default/{alone.id}"
    assert await Environments(site.bus).find(key) is None
    again = await site.result(await site.submit(kept, cache=False))
    assert again.environment is not None
    assert again.environment.hit


async def test_a_builder_that_was_killed_removes_in_its_next_life_what_was_not_to_be_kept(
    site: Site, store: NixSettings
) -> None:
    token = fresh()
    identity = await site.submit(token, cache=False)
    async with asyncio.timeout(PATIENCE_S):
        while not kinds(await site.events(), EnvironmentBuilt):
            await asyncio.sleep(0.02)
    for process in site.builders.values():
        process.kill()
    for process in site.builders.values():
        await process.wait()
    async with site.roles.running("builder", "b1"), site.roles.running("builder", "b2"):
        result = await site.result(identity)
        assert result.outcome == "OK"
        assert result.environment is not None
        async with asyncio.timeout(PATIENCE_S):
            while result.environment.key in await roots(store):
                await asyncio.sleep(0.2)
        assert not await stands(store, token)

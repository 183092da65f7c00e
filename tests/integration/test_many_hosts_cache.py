"""Two hosts and a binary cache: one builds, the other runs what it never built. What docs/how-to/many-hosts.md says, tried."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from cutor import Client
from cutor.bus.connection import Bus
from cutor.containers.engine import Engine
from cutor.journal.journal import Journal
from cutor.model.subjects import Address
from cutor.nix.cache_session import CacheSession
from cutor.nix.settings import NixSettings
from tests.cache_server import cache_server
from tests.files import beneath
from tests.integration.test_cache_copies import open_directory, run
from tests.integration.test_many_hosts import PATIENCE_S, Host, publish, request, result, seen, workers
from tests.nats_server import OwnServer, server_in
from tests.processes import command_of, descendants, init_of
from tests.stores import lent_store, lent_store_async, run_in_store

SLOW: Final = """
{ pkgs ? import <nixpkgs> { } }:
pkgs.mkShell { made = pkgs.runCommand "slow-@" { } "mkdir $out; echo building; sleep 60"; }
"""

SEVERAL_ATTEMPTS_S: Final = 15.0
"""Each attempt took two seconds or three where all of them cost a lease."""


@pytest.fixture
def empty_volumes(nix_set_up: None) -> Iterator[NixSettings]:
    """The store of a host that never built anything."""
    with lent_store() as settings:
        yield settings


@pytest.fixture(scope="module")
def keys(nix_settings: NixSettings, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """The file of a secret key, the public key, and that of another pair."""

    async def make() -> tuple[str, str]:
        async with (
            Engine.connect() as engine,
            CacheSession(engine, nix_settings, instance="test-keys", user="command") as session,
        ):
            return await session.key_pair("test-1")

    (secret, public), (_, other) = asyncio.run(make()), asyncio.run(make())
    file = tmp_path_factory.mktemp("keys") / "key"
    file.touch(0o600)
    file.write_text(secret)
    return file, public, other


@pytest.fixture
def hosts(
    own_server: OwnServer, tmp_path: Path, nix_settings: NixSettings, empty_volumes: NixSettings, keys: tuple[Path, str, str]
) -> tuple[Host, Host]:
    """A host with a builder, and one with a runner, which share a directory."""
    return hosts_in(tmp_path, own_server.url, nix_settings, empty_volumes, keys)


def hosts_in(home: Path, server: str, full: NixSettings, empty: NixSettings, keys: tuple[Path, str, str]) -> tuple[Host, Host]:
    """As `hosts`: the builder's volumes are ``full`` of what set-up made, the runner's are ``empty``."""
    home.mkdir(exist_ok=True)
    directory = open_directory(home / "cache")
    file, public, _ = keys
    builder = f'cache_url = "file://{directory}"\ncache_secret_key_file = "{file}"\n'
    runner = f'cache_url = "file://{directory}"\ncache_public_keys = ["{public}"]\n'
    return Host(home / "a", server, full, builder), Host(home / "b", server, empty, runner)


def fresh() -> dict[str, Any]:
    """A submission whose environment no host has."""
    return request(f"e{secrets.token_hex(6)}")


async def events(client: Client, identity: str) -> list[str]:
    return [update.kind async for update in client.watch(identity)]


async def test_a_runner_without_a_builder_runs_what_another_host_built(
    hosts: tuple[Host, Host], own_bus: Bus, own_server: OwnServer
) -> None:
    """At once, without a loss; several submissions of one environment, too; and once fetched, without the cache."""
    a, b = hosts
    await publish(own_bus, max_leases=1)
    async with Client(own_server.url) as client, b.running("runner"), a.running("builder"):
        one = fresh()
        identities = [(await client.submit(one)).id for _ in range(3)] + [(await client.submit(fresh())).id]
        for identity in identities:
            ended = await result(client, identity)
            assert (ended.outcome, ended.attempts.builder, ended.attempts.runner) == ("OK", 1, 1), ended
            assert "cache-lost" not in await events(client, identity)
            assert await workers(client, identity) == ["builder-of-a", "runner-of-b"]
        for narinfo in (b.home.parent / "cache").glob("*.narinfo"):
            narinfo.unlink()
        ended = await result(client, (await client.submit(one)).id)
        assert ended.environment is not None
        assert (ended.outcome, ended.environment.hit) == ("OK", True)


async def test_what_is_not_to_be_kept_goes_from_the_host_that_built_it_and_from_the_one_that_fetched_it(
    hosts: tuple[Host, Host], own_bus: Bus, own_server: OwnServer
) -> None:
    a, b = hosts
    await publish(own_bus, max_leases=1)
    async with Client(own_server.url) as client, a.running("builder"), b.running("runner"):
        ended = await result(client, (await client.submit(fresh() | {"cache": False})).id)
        assert ended.environment is not None
        assert (ended.outcome, ended.environment.hit) == ("OK", False)
        assert "fetched in" in (b.home / "runner.log").read_text()
        async with asyncio.timeout(PATIENCE_S), Engine.connect() as engine:
            for host in hosts:
                script = f"ls -d /nix/var/nix/gcroots/cutor/{ended.environment.key} || true"
                while await run_in_store(engine, script, host.volumes) or any(
                    path.parent.name.startswith("private-") for path in beneath(host.home)
                ):
                    await asyncio.sleep(0.2)


async def test_what_is_signed_by_another_key_is_refused_and_the_reason_told(
    hosts: tuple[Host, Host], own_bus: Bus, own_server: OwnServer, keys: tuple[Path, str, str]
) -> None:
    a, b = hosts
    distrusting = replace(b, nix=b.nix.replace(keys[1], keys[2]))
    await publish(own_bus, max_leases=1)
    async with Client(own_server.url) as client, a.running("builder"), distrusting.running("runner"):
        identity = (await client.submit(fresh())).id
        ended = await result(client, identity)
        assert ended.status == "PARKED"
        lost = [update.what async for update in client.watch(identity) if update.kind == "cache-lost"]
    assert len(lost) == 2
    assert "lost 2 times between build and run; the last: /nix/store/" in str(ended.message)
    assert "lacks a signature by a trusted key (nix.cache_public_keys of the host that fetched it" in str(ended.message)
    assert all("fetching it failed" in what and "lacks a signature by a trusted key" in what for what in lost)
    assert "lacks a signature by a trusted key" in (b.home / "runner.log").read_text()


async def test_a_builder_that_cannot_publish_warns_and_serves_its_own_host(
    hosts: tuple[Host, Host], own_bus: Bus, own_server: OwnServer, keys: tuple[Path, str, str]
) -> None:
    a, _ = hosts
    await publish(own_bus, max_leases=1)
    (a.home.parent / "open").write_bytes(keys[0].read_bytes())
    (a.home.parent / "open").chmod(0o644)
    careless = replace(a, nix=a.nix.replace(str(keys[0]), str(a.home.parent / "open")))
    async with Client(own_server.url) as client, careless.running("builder"), careless.running("runner"):
        assert (await result(client, (await client.submit(fresh())).id)).outcome == "OK"
    log = (a.home / "builder.log").read_text()
    assert "could not be published to the cache" in log
    assert "chmod 0600" in log
    assert list((a.home.parent / "cache").iterdir()) == []


async def test_a_publication_that_fails_for_a_while_loses_an_environment_once_and_parks_nobody(
    hosts: tuple[Host, Host], own_bus: Bus, own_server: OwnServer, keys: tuple[Path, str, str]
) -> None:
    """The runner is on another host: it misses what was not published. That is not said to stand again before it is."""
    a, b = hosts
    key = a.home.parent / "open"
    key.write_bytes(keys[0].read_bytes())
    key.chmod(0o644)
    careless = replace(a, nix=a.nix.replace(str(keys[0]), str(key)))
    await publish(own_bus, max_leases=3)
    async with Client(own_server.url) as client, careless.running("builder"), b.running("runner"):
        identities = [(await client.submit(fresh() | more)).id for more in ({}, {"cache": False})]
        for identity in identities:
            async with asyncio.timeout(PATIENCE_S):
                while not (await Journal(own_bus).known(Address("default", identity))).environment_losses:
                    await asyncio.sleep(0.1)
        key.chmod(0o600)
        for identity in identities:
            ended = await result(client, identity)
            assert ended.outcome == "OK", ended
            assert (await events(client, identity)).count("cache-lost") == 1


async def test_a_cache_that_takes_nothing_for_a_while_parks_nobody_with_as_many_builders_as_leases(
    hosts: tuple[Host, Host], own_bus: Bus, own_server: OwnServer, keys: tuple[Path, str, str]
) -> None:
    """What one of them could not publish, none of them tries again at once."""
    a, b = hosts
    key = a.home.parent / "open"
    key.write_bytes(keys[0].read_bytes())
    key.chmod(0o644)
    careless = [replace(a, home=a.home.with_name(name), nix=a.nix.replace(str(keys[0]), str(key))) for name in ("a", "c", "d")]
    await publish(own_bus, max_leases=3)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(own_server.url))
        for host in careless:
            await stack.enter_async_context(host.running("builder"))
        await stack.enter_async_context(b.running("runner"))
        identity = (await client.submit(fresh())).id
        async with asyncio.timeout(PATIENCE_S):
            while (await client.result(identity)).attempts.builder < 2:
                await asyncio.sleep(0.1)
        await asyncio.sleep(SEVERAL_ATTEMPTS_S)
        key.chmod(0o600)
        ended = await result(client, identity)
        assert (ended.outcome, ended.attempts.builder) == ("OK", 3), ended


async def test_a_cache_that_does_not_answer_keeps_no_build_from_its_slot(
    hosts: tuple[Host, Host], own_bus: Bus, own_server: OwnServer
) -> None:
    """The builder has one slot; what it built waits for the cache without it."""
    a, _ = hosts
    await publish(own_bus, max_leases=1)
    async with cache_server(a.home.parent / "cache") as server, Client(own_server.url) as client:
        (server.directory / "nix-cache-info").write_text("StoreDir: /nix/store\n")
        server.faults.stalls_at = "nix-cache-info"
        web = f'cache_url = "{server.url}"\ncache_network = "{server.network}"\n'
        a = replace(a, nix=web + a.nix.partition("\n")[2])
        async with a.running("runner"), a.running("builder"):
            first = (await client.submit(fresh())).id
            assert await asyncio.to_thread(server.faults.stalled.wait, PATIENCE_S)
            second = (await client.submit(fresh())).id
            async with asyncio.timeout(PATIENCE_S):
                while not (await client.result(second)).attempts.builder:
                    await asyncio.sleep(0.1)
            assert (await client.result(first)).status == "SUBMITTED"
            server.faults.stalls_at = None
            server.faults.go_on.set()
            for identity in (first, second):
                assert (await result(client, identity)).outcome == "OK"


UNREADABLE: Final = {
    "nothing-at-all": ("/", 2 * SEVERAL_ATTEMPTS_S),
    "not-what-it-has": (".narinfo", SEVERAL_ATTEMPTS_S),
    "no-archives": ("/nar/", SEVERAL_ATTEMPTS_S),
}
"""What a cache fails to give, and for how long."""


async def test_a_cache_that_cannot_be_read_for_a_while_loses_nothing_and_parks_nobody(
    tmp_path: Path, nix_settings: NixSettings, keys: tuple[Path, str, str]
) -> None:
    """Its read side alone fails, or a part of it that a proxy in front of it does not have, for longer than all leases and
    losses would last at once; then what waited is fetched. All at one time, on hosts of their own: what they do is wait."""

    async def one(home: Path, fails_at: str, seconds: float) -> None:
        async with server_in(home / "nats") as own, lent_store_async() as empty:
            await unreadable(hosts_in(home, own.url, nix_settings, empty, keys), own.url, fails_at, seconds)

    async with asyncio.TaskGroup() as all_of_them:
        for name, (fails_at, seconds) in UNREADABLE.items():
            all_of_them.create_task(one(tmp_path / name, fails_at, seconds), name=name)


async def unreadable(hosts: tuple[Host, Host], url: str, fails_at: str, seconds: float) -> None:
    a, b = hosts
    async with cache_server(a.home.parent / "cache") as server, Client(url) as client:
        await publish(client.journal.bus, max_leases=2)
        web = f'cache_url = "{server.url}"\ncache_network = "{server.network}"\n'
        b = replace(b, nix=web + b.nix.partition("\n")[2])
        server.faults.fails_at = fails_at
        async with a.running("builder"), b.running("runner"):
            identity = (await client.submit(fresh())).id
            async with asyncio.timeout(PATIENCE_S):
                while not (await client.result(identity)).attempts.runner:
                    await asyncio.sleep(0.1)
            await asyncio.sleep(seconds)
            waiting = await client.result(identity)
            assert (waiting.status, waiting.attempts.runner) == ("DEPENDENCIES_INSTALLED", 1)
            server.faults.fails_at = None
            assert (await result(client, identity)).outcome == "OK"
            assert "cache-lost" not in await events(client, identity)
    assert "the cache does not answer" in (b.home / "runner.log").read_text()


async def test_a_runner_without_room_fetches_nothing_and_loses_nothing_until_there_is_some(
    hosts: tuple[Host, Host], own_bus: Bus, own_server: OwnServer
) -> None:
    """It is the host's fault, and may last: it costs one lease, and no ``cache-lost``. What needs no fetch goes on."""
    a, b = hosts
    full = replace(b, nix=f"{b.nix}min_free_bytes = 1_125_899_906_842_624\n")
    await publish(own_bus, max_leases=2)
    async with Client(own_server.url) as client, a.running("builder"):
        known = fresh()
        async with b.running("runner"):
            assert (await result(client, (await client.submit(known)).id)).outcome == "OK"
        async with full.running("runner"):
            one = fresh()
            waiting = [(await client.submit(one)).id for _ in range(2)]
            async with asyncio.timeout(PATIENCE_S):
                while not (await client.result(waiting[0])).attempts.runner:
                    await asyncio.sleep(0.1)
            await asyncio.sleep(SEVERAL_ATTEMPTS_S)
            assert (await result(client, (await client.submit(known)).id)).outcome == "OK"
            states = [await client.result(identity) for identity in waiting]
            assert {state.status for state in states} == {"DEPENDENCIES_INSTALLED"}
            assert max(state.attempts.runner for state in states) == 1
        assert "no room for fetches" in (b.home / "runner.log").read_text()
        async with b.running("runner"):
            for identity in waiting:
                assert (await result(client, identity)).outcome == "OK"
                assert "cache-lost" not in await events(client, identity)


async def test_a_runner_that_is_killed_while_it_fetches_goes_on_where_it_was(
    hosts: tuple[Host, Host], own_bus: Bus, own_server: OwnServer, nix_settings: NixSettings
) -> None:
    """Over HTTP, by a server that stalls in the midst of a path: nothing of it is left, and the next life fetches it."""
    a, b = hosts
    await publish(own_bus, max_leases=3)
    async with cache_server(a.home.parent / "cache") as server, Client(own_server.url) as client, Engine.connect() as engine:
        web = f'cache_url = "{server.url}"\ncache_network = "{server.network}"\n'
        b = replace(b, nix=web + b.nix.partition("\n")[2])
        server.faults.stalls_at = ".nar.zst"
        async with a.running("builder"):
            identity = (await client.submit(fresh())).id
            async with b.running("runner", ending=-signal.SIGKILL) as runner:
                assert await asyncio.to_thread(server.faults.stalled.wait, PATIENCE_S)
                roles = {one.labels["cutor.role"] for one in await engine.list(instance_of(b))}
                assert roles - {"runner"} == {"pause", "store"}, "beside those that stand ready"
                runner.kill()
                await runner.wait()
            server.faults.stalls_at = None
            async with b.running("runner"):
                ended = await result(client, identity)
                assert ended.outcome == "OK", ended
            assert "cache-lost" not in await events(client, identity)
        assert await engine.list(instance_of(b)) == []


def instance_of(host: Host) -> str:
    """Return the label of the containers of the one role that ran on a host."""
    (file,) = host.home.rglob("instance")
    return file.read_text().strip()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look into the memory of what runs in a container")
async def test_no_build_container_ever_has_the_secret_key(
    hosts: tuple[Host, Host], own_bus: Bus, own_server: OwnServer, keys: tuple[Path, str, str]
) -> None:
    """Neither in its description, nor in a file, an argument, a variable or the memory of anything that runs in it."""
    a, _ = hosts
    await publish(own_bus, max_leases=1)
    secret = keys[0].read_bytes().partition(b":")[2][:40]
    async with Client(own_server.url) as client, Engine.connect() as engine, a.running("builder"):
        token = secrets.token_hex(8)
        identity = (await client.submit(slow(token))).id
        await seen(client, identity, "leased")
        async with asyncio.timeout(PATIENCE_S):
            while not (found := await at_work(engine, a)):
                await asyncio.sleep(0.2)
        described = await asyncio.to_thread(run, "docker", "inspect", found)
        mounts = {mount["Destination"] for mount in json.loads(described)[0]["Mounts"]}
        assert mounts == {"/nix/store", "/nix/var", "/packages"}
        assert secret.decode() not in described
        looked, having = await asyncio.to_thread(processes_with, secret, found)
        assert looked >= 5
        assert having == []
        assert (await asyncio.to_thread(processes_with, token.encode(), found))[1], "who looks finds what is there"
        assert await asyncio.to_thread(files_with, secret, found) == ""
        await client.cancel(identity)


def slow(token: str) -> dict[str, Any]:
    files = {"shell.nix": SLOW.replace("@", token), "cutor-run.sh": "true"}
    return {"files": [{"name": name, "content": content} for name, content in files.items()], "test_cases": [{}]}


async def at_work(engine: Engine, host: Host) -> str | None:
    """Return the build container of a host once its builder is at work in it."""
    builders = [one.name for one in await engine.list(instance_of(host)) if one.labels["cutor.role"] == "builder"]
    return next((name for name in builders if sleeps(name)), None)


def sleeps(container: str) -> bool:
    return any("sleep" in word for pid in descendants(init_of(container)) for word in command_of(pid))


def processes_with(secret: bytes, container: str) -> tuple[int, list[str]]:
    """Return how many processes of a container were looked at, and which have the secret in memory they may read."""
    having, looked = [], 0
    init = init_of(container)
    for pid in (init, *descendants(init)):
        try:
            if memory_has(pid, secret):
                having.append(" ".join(command_of(pid)))
            looked += 1
        except OSError:
            continue  # it has ended
    return looked, having


def memory_has(pid: int, secret: bytes) -> bool:
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, *rest = line.split()
            if rights[0] != "r" or rest[-1] in {"[vvar]", "[vsyscall]", "[vvar_vclock]"}:
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            try:
                memory.seek(start)
                if secret in memory.read(end - start):
                    return True
            except (OSError, ValueError):
                continue  # pages that nobody has written
    return False


def files_with(secret: bytes, container: str) -> str:
    """Return the files of a container's own file systems that have the secret in them, the store apart."""
    root = f"/proc/{init_of(container)}/root"
    places = [f"{root}/{name}" for name in ("run", "tmp", "build", "environment", "etc", "nix/var")]
    command = ["grep", "-rlsF", "-D", "skip", "--", secret.decode(), *places]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout

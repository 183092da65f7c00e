"""Several hosts on one NATS: each has Nix volumes of its own, and an environment is where it was built.

Two hosts on one machine: roles with directories and volumes of their own. What docs/how-to/many-hosts.md says, tried.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cutor import Client
from cutor.bus.connection import Bus
from cutor.config import Config
from cutor.journal.stack_policy import publish_policy
from cutor.model.result import Result
from cutor.nix.settings import NixSettings
from tests.live_stack import surroundings
from tests.nats_server import OwnServer
from tests.stores import copy_store, lent_store, section

SHELL = (
    '{{ pkgs ? import <nixpkgs> {{ }} }}: pkgs.mkShell {{ WHERE = "{where}"; packages = [ (pkgs.writeText "{where}" "") ]; }}'
)
PATIENCE_S = 240.0


@pytest.fixture(scope="module")
def other_volumes(nix_set_up: None) -> Iterator[NixSettings]:
    """The volumes of a second host, as set-up left them there."""
    with lent_store(copy_store) as settings:
        yield settings


@dataclass(frozen=True)
class Host:
    """A host: its volumes, a directory for its roles, and lines of its configuration's section ``[nix]``."""

    home: Path
    server: str
    volumes: NixSettings
    nix: str = ""

    @asynccontextmanager
    async def running(self, role: str, ending: int | None = 0) -> AsyncIterator[asyncio.subprocess.Process]:
        """A role on this host; it ends with the block, with this exit code, if that is not null."""
        self.home.mkdir(exist_ok=True)
        config = self.home / "config.toml"
        config.write_text(f'[docker]\nimage = "{self.volumes.image}"\n{section(self.volumes)}{self.nix}')
        environment = surroundings(self.home) | {"CUTOR_SERVER": self.server, "CUTOR_CONFIG": str(config)}
        command = ["-m", "cutor", role, "--worker", f"{role}-of-{self.home.name}"]
        with (self.home / f"{role}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(sys.executable, *command, env=environment, stdout=log, stderr=log)
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            ended = await asyncio.wait_for(process.wait(), PATIENCE_S)
        assert ending is None or ended == ending, (self.home / f"{role}.log").read_text()


@pytest.fixture
def hosts(own_server: OwnServer, tmp_path: Path, nix_settings: NixSettings, other_volumes: NixSettings) -> tuple[Host, Host]:
    a, b = (tmp_path / name for name in ("a", "b"))
    return Host(a, own_server.url, nix_settings), Host(b, own_server.url, other_volumes)


async def publish(bus: Bus, max_leases: int) -> None:
    await publish_policy(bus, Config(max_leases=max_leases).policy())


def request(where: str) -> dict[str, Any]:
    """A submission whose environment no host has yet."""
    files = {"shell.nix": SHELL.format(where=where), "cutor-run.sh": 'echo "$WHERE"'}
    return {
        "files": [{"name": name, "content": content} for name, content in files.items()],
        "test_cases": [{"expected_output": f"{where}\n"}],
    }


async def seen(client: Client, identity: str, kind: str) -> None:
    """Wait for an event of a submission."""
    async with asyncio.timeout(PATIENCE_S):
        async for update in client.watch(identity):
            if update.kind == kind:
                return
    raise AssertionError(f"{identity} ended without {kind}")


async def result(client: Client, identity: str) -> Result:
    return await client.result(identity, wait=True, timeout_s=PATIENCE_S)


async def workers(client: Client, identity: str) -> list[str]:
    """Who took the leases of a submission, in order, without their instances."""
    leased = [update.what async for update in client.watch(identity) if update.kind == "leased"]
    return [next(word.rpartition("-")[0] for word in what.split() if "-of-" in word) for what in leased]


async def test_an_environment_that_another_host_built_is_built_again_where_it_is_needed(
    hosts: tuple[Host, Host], own_bus: Bus, own_server: OwnServer
) -> None:
    """Lost while the builder of A takes it, again and again; found once the builder of B has taken it, and from then on."""
    a, b = hosts
    await publish(own_bus, max_leases=100)
    where = f"e{secrets.token_hex(6)}"
    async with Client(own_server.url) as client, b.running("runner"):
        async with a.running("builder"):
            first = (await client.submit(request(where))).id
            await seen(client, first, "cache-lost")
        async with b.running("builder"):
            ended = await result(client, first)
            assert ended.outcome == "OK", ended
            took = await workers(client, first)
            assert "builder-of-a" in took
            assert took[-2:] == ["builder-of-b", "runner-of-b"]
        async with a.running("builder"):
            again = (await client.submit(request(where))).id
            ended = await result(client, again)
            assert ended.environment is not None
            assert (ended.outcome, ended.environment.hit) == ("OK", True)
            assert await workers(client, again) == ["builder-of-a", "runner-of-b"]


async def test_a_runner_on_a_host_without_a_builder_parks_what_it_gets(
    hosts: tuple[Host, Host], own_bus: Bus, own_server: OwnServer
) -> None:
    a, b = hosts
    await publish(own_bus, max_leases=3)
    async with Client(own_server.url) as client, a.running("builder"), b.running("runner"):
        ended = await result(client, (await client.submit(request(f"e{secrets.token_hex(6)}"))).id)
    assert ended.status == "PARKED"
    assert "the environment was lost 4 times between build and run; the last: /nix/store/" in str(ended.message)


async def test_two_pairs_on_one_server_end_every_submission(
    hosts: tuple[Host, Host], own_bus: Bus, own_server: OwnServer
) -> None:
    """Some environments, two submissions each, wherever they are built and run."""
    await publish(own_bus, max_leases=8)
    a, b = hosts
    async with (
        Client(own_server.url) as client,
        a.running("builder"),
        a.running("runner"),
        b.running("builder"),
        b.running("runner"),
    ):
        identities = []
        for _ in range(3):
            where = f"e{secrets.token_hex(6)}"
            identities += [(await client.submit(request(where))).id for _ in range(2)]
        ended = [await result(client, identity) for identity in identities]
    assert [one.outcome for one in ended] == ["OK"] * 6

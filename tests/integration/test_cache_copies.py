"""Environments through a binary cache, from one host's store to another's: two stores with volumes of their own."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from aiodocker import Docker
from msgspec.structs import replace

from cutor.containers.errors import ContainerError, EngineRefused
from cutor.nix.cache import CachePlace, place_of, public_half
from cutor.nix.cache_session import CacheSession
from cutor.nix.report import BuiltEnvironment
from cutor.nix.settings import NixSettings
from cutor.nix.store_session import Full, GaveWay, Gone, Refused, StoreSession
from tests.cache_server import cache_server
from tests.nix_builds import Builds
from tests.processes import descendants, init_of
from tests.stores import lent_store, make_store, own_volumes, remove_store, run_in_store

SHELL: Final = """
{ pkgs ? import <nixpkgs> { } }:
let
  other = pkgs.runCommand "other-@" { } "mkdir $out; echo other @ > $out/token";
  made = pkgs.runCommand "made-@" { inherit other; } "mkdir $out; echo @ > $out/token; echo ${other} > $out/other";
in
pkgs.mkShell { MADE = made; }
"""
PATIENCE_S: Final = 240.0
LOOK: Final = """
/usr/bin/python3 -S -E - <<'END'
import sys
sys.path.insert(0, "/opt/cutor")
from cutor.jail.inside.closure import look_at
print(look_at(b"@")[1] or "whole")
END
"""

ALONE: Final = """
/usr/bin/python3 -S -E - <<'END'
import sys
sys.path.insert(0, "/opt/cutor")
from cutor.nix.inside.store import hold_lock
with hold_lock(lambda: None).alone():
    print("alone")
END
"""


@dataclass(frozen=True)
class Hosts:
    """A builder's store and a runner's, a directory that both have as their cache, and a key pair."""

    builds: Builds
    runner: NixSettings
    directory: Path
    secret: str
    public: str

    @property
    def place(self) -> CachePlace:
        return place_of("the test", f"file://{self.directory}", "none")

    @asynccontextmanager
    async def session(self, settings: NixSettings) -> AsyncIterator[CacheSession]:
        async with CacheSession(self.builds.engine, settings, instance=self.builds.instance, user="command") as session:
            yield session

    async def built(self) -> BuiltEnvironment:
        """An environment that only the builder's host has."""
        return await self.builds.built(SHELL.replace("@", secrets.token_hex(4)))

    async def publish(self, built: BuiltEnvironment, place: CachePlace | None = None) -> None:
        async with self.session(self.builds.settings) as session:
            await session.publish(place or self.place, self.secret, built.closure)

    async def fetch(self, built: BuiltEnvironment, place: CachePlace | None = None, key: str | None = None) -> None:
        async with self.session(self.runner) as session:
            await session.fetch(place or self.place, [key or self.public], built.key, built.closure)

    async def look_at_signatures(self, *keys: str) -> None:
        async with self.session(self.runner) as session:
            await session.probe(self.place, write=False, public_keys=keys)

    async def refused(self, built: BuiltEnvironment, why: str, place: CachePlace | None = None, key: str | None = None) -> None:
        """Check that a fetch is refused, and that the runner's host does not take what came of it for the environment."""
        with pytest.raises(Refused) as caught:
            await self.fetch(built, place, key)
        assert why in str(caught.value)
        assert "\n" not in str(caught.value)
        assert await self.look(built) != "whole"
        assert built.key not in {one.key for one in (await self.inventory()).keys}

    async def on_runner(self, script: str) -> str:
        return await run_in_store(self.builds.engine, script, self.runner)

    async def look(self, built: BuiltEnvironment) -> str:
        """What the init of a runner's container finds of an environment."""
        return (await self.on_runner(LOOK.replace("@", "\\n".join(built.closure)))).strip()

    async def inventory(self) -> Any:
        async with StoreSession(self.builds.engine, self.runner, instance=self.builds.instance, user="command") as session:
            return await session.inventory()

    def own(self, built: BuiltEnvironment, name: str = "made") -> str:
        return next(path for path in built.closure if f"-{name}-" in path)

    def narinfo(self, path: str) -> Path:
        return self.directory / f"{path.removeprefix('/nix/store/')[:32]}.narinfo"

    def nar(self, path: str) -> Path:
        (line,) = (line for line in self.narinfo(path).read_text().splitlines() if line.startswith("URL: "))
        return self.directory / line.removeprefix("URL: ")


def run(*command: str) -> str:
    """Run a program that must succeed; return what it prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def open_directory(directory: Path) -> Path:
    """Make a directory that the store's owner may use, as whom Nix writes in it."""
    directory.mkdir()
    directory.chmod(0o777)
    return directory


@pytest.fixture(scope="module")
def runner_settings(nix_set_up: None) -> Iterator[NixSettings]:
    """The store of a host that never built anything."""
    with lent_store() as settings:
        yield settings


@pytest.fixture
async def hosts(builds: Builds, runner_settings: NixSettings, tmp_path: Path) -> Hosts:
    async with CacheSession(builds.engine, builds.settings, instance=builds.instance, user="command") as session:
        secret, public = await session.key_pair("test-1")
    return Hosts(builds, runner_settings, open_directory(tmp_path / "cache"), secret, public)


async def test_what_one_host_built_another_one_fetches(hosts: Hosts) -> None:
    built = await hosts.built()
    assert await hosts.look(built) in built.closure
    await hosts.publish(built)
    await hosts.fetch(built)
    assert await hosts.look(built) == "whole"
    inventory = await hosts.inventory()
    (rooted,) = (one for one in inventory.keys if one.key == built.key)
    assert sorted(inventory.paths[index] for index in rooted.closure) == list(built.closure)
    assert await hosts.on_runner(f"cat {hosts.own(built)}/other") == f"{hosts.own(built, 'other')}\n"
    paths = " ".join(built.closure)
    await hosts.on_runner(f"NIX_REMOTE=local HOME=/tmp nix-store --verify-path {paths}")
    await hosts.publish(built)
    await hosts.fetch(built)
    assert all("Sig: test-1:" in hosts.narinfo(path).read_text() for path in built.closure)
    assert all(hosts.nar(path).suffix == ".zst" for path in built.closure)


async def test_a_new_volume_can_be_the_cache(hosts: Hosts) -> None:
    place = place_of("the test", f"volume:cutor-test-cache-{secrets.token_hex(4)}", "none")
    built = await hosts.built()
    try:
        async with hosts.session(hosts.builds.settings) as session:
            await session.probe(place, write=True)
        await hosts.publish(built, place)
        await hosts.fetch(built, place)
        assert await hosts.look(built) == "whole"
    finally:
        await asyncio.to_thread(run, "docker", "volume", "rm", place.source)


def strip_signatures(hosts: Hosts, built: BuiltEnvironment) -> None:
    for path in built.closure:
        lines = hosts.narinfo(path).read_text().splitlines(keepends=True)
        hosts.narinfo(path).write_text("".join(line for line in lines if not line.startswith("Sig:")))


def swap_nars(hosts: Hosts, built: BuiltEnvironment) -> None:
    shutil.copyfile(hosts.nar(hosts.own(built, "other")), hosts.nar(hosts.own(built)))


def swap_nars_and_say_so(hosts: Hosts, built: BuiltEnvironment) -> None:
    """Altered, and the digest with it: only the signature can tell."""
    swap_nars(hosts, built)
    texts = {name: hosts.narinfo(hosts.own(built, name)).read_text() for name in ("made", "other")}
    fields = {name: dict(line.split(": ", 1) for line in text.splitlines()) for name, text in texts.items()}
    altered = texts["made"]
    for field in ("NarHash", "NarSize", "FileHash", "FileSize"):
        altered = altered.replace(f"{field}: {fields['made'][field]}", f"{field}: {fields['other'][field]}")
    assert altered != texts["made"]
    hosts.narinfo(hosts.own(built)).write_text(altered)


def damage_nar(hosts: Hosts, built: BuiltEnvironment) -> None:
    nar = hosts.nar(hosts.own(built))
    nar.write_bytes(nar.read_bytes()[:-9])


def remove_narinfo(hosts: Hosts, built: BuiltEnvironment) -> None:
    hosts.narinfo(hosts.own(built)).unlink()


def remove_every_narinfo(hosts: Hosts, built: BuiltEnvironment) -> None:
    """As in a cache that came after the environment."""
    for path in built.closure:
        hosts.narinfo(path).unlink()


ATTACKS: Final[dict[str, tuple[Callable[[Hosts, BuiltEnvironment], None], str]]] = {
    "unsigned": (strip_signatures, "lacks a signature by a trusted key"),
    "another archive": (swap_nars, "hash mismatch"),
    "another archive and its digest": (swap_nars_and_say_so, "lacks a signature by a trusted key"),
    "cut short": (damage_nar, ""),
    "not there": (remove_narinfo, "the cache lacks made-"),
    "nothing of it there": (remove_every_narinfo, "the cache lacks "),
}


@pytest.mark.parametrize("name", ATTACKS)
async def test_what_is_not_what_was_signed_is_refused(hosts: Hosts, name: str) -> None:
    """And what came of it is no environment to a runner, though it may be on the disk; put right, it is fetched."""
    attack, why = ATTACKS[name]
    built = await hosts.built()
    await hosts.publish(built)
    kept = hosts.directory.with_name("kept")
    shutil.copytree(hosts.directory, kept)
    attack(hosts, built)
    await hosts.refused(built, why)
    async with StoreSession(hosts.builds.engine, hosts.runner, instance=hosts.builds.instance, user="command") as session:
        await session.collect()
    left = await hosts.on_runner(f"for path in {' '.join(built.closure)}; do if [ -e $path ]; then echo $path; fi; done")
    assert set(left.split()) <= set((await hosts.inventory()).paths), "a collection deletes what is left of a refusal"
    shutil.copytree(kept, hosts.directory, dirs_exist_ok=True)
    await hosts.fetch(built)
    assert await hosts.look(built) == "whole"
    assert await hosts.on_runner(f"cat {hosts.own(built)}/other") == f"{hosts.own(built, 'other')}\n"


@pytest.mark.parametrize("damage", [lambda nar: nar.unlink(), lambda nar: nar.write_bytes(nar.read_bytes()[:-9])])
async def test_what_a_mounted_cache_has_no_archive_of_is_published_again(
    hosts: Hosts, damage: Callable[[Path], object]
) -> None:
    """As where files were deleted by age: archives that several paths share are older than what is said of the latest."""
    built = await hosts.built()
    await hosts.publish(built)
    damage(hosts.nar(hosts.own(built)))
    await hosts.refused(built, "")
    await hosts.publish(built)
    await hosts.fetch(built)
    assert await hosts.look(built) == "whole"


async def test_a_signature_by_another_key_does_not_count(hosts: Hosts) -> None:
    built = await hosts.built()
    await hosts.publish(built)
    async with hosts.session(hosts.builds.settings) as session:
        _, other = await session.key_pair("test-1")
    await hosts.refused(built, "lacks a signature by a trusted key", key=other)
    await hosts.fetch(built)


async def test_whose_signatures_a_cache_has_is_seen_without_a_fetch(hosts: Hosts) -> None:
    await hosts.look_at_signatures(hosts.public)
    await hosts.publish(await hosts.built())
    async with hosts.session(hosts.builds.settings) as session:
        _, other = await session.key_pair("test-1")
    async with hosts.session(hosts.builds.settings) as session:
        _, third = await session.key_pair("test-2")
    await hosts.look_at_signatures(hosts.public)
    await hosts.look_at_signatures(third, hosts.public)
    with pytest.raises(Refused, match=r"none of the [1-8] store paths that were looked at is signed by a trusted key"):
        await hosts.look_at_signatures(other)


async def test_a_cache_that_was_never_used_and_one_that_is_not_there(hosts: Hosts) -> None:
    built = await hosts.built()
    await hosts.refused(built, "nothing was published to the cache yet")
    nowhere = place_of("the test", f"file://{hosts.directory}/nowhere", "none")
    with pytest.raises(EngineRefused, match="nowhere"):
        await hosts.fetch(built, nowhere)
    hosts.directory.chmod(0o700)
    with pytest.raises(Refused, match="uid 200000 of the host, the owner of the store, has no access"):
        async with hosts.session(hosts.runner) as session:
            await session.probe(hosts.place, write=False)


async def test_a_cache_over_http_is_published_to_and_fetched_from(hosts: Hosts) -> None:
    built, other = [await hosts.built() for _ in range(2)]
    async with cache_server(hosts.directory) as server:
        place = place_of("the test", server.url, server.network)
        async with hosts.session(hosts.runner) as session:
            await session.probe(place, write=False)
        await hosts.publish(built)  # into the directory that is served
        await hosts.fetch(built, place)
        assert await hosts.look(built) == "whole"
        await hosts.publish(other, place)
        strip_signatures(hosts, other)
        await hosts.refused(other, "lacks a signature by a trusted key", place)
        shutil.rmtree(hosts.directory / "nar")
        for path in other.closure:
            hosts.narinfo(path).unlink()
        await hosts.refused(other, "the cache lacks ", place)
    built = await hosts.built()
    with pytest.raises(ContainerError):
        await hosts.fetch(built, place)  # neither server nor network is there any more


async def test_a_fetch_that_is_killed_in_the_midst_is_no_environment_and_is_done_again(hosts: Hosts) -> None:
    built = await hosts.built()
    await hosts.publish(built)
    async with cache_server(hosts.directory) as server:
        place = place_of("the test", server.url, server.network)
        server.faults.stalls_at = hosts.nar(hosts.own(built)).name
        fetching = asyncio.create_task(hosts.fetch(built, place))
        assert await asyncio.to_thread(server.faults.stalled.wait, PATIENCE_S)
        (container,) = await hosts.builds.engine.list(hosts.builds.instance)
        await hosts.builds.engine.remove(container.id)
        with pytest.raises(ContainerError):
            await fetching
        assert (await hosts.look(built)).partition(" ")[0] in built.closure
        assert built.key not in {one.key for one in (await hosts.inventory()).keys}
        server.faults.stalls_at = None
        await asyncio.gather(*(hosts.fetch(built, place) for _ in range(2)))
    assert await hosts.look(built) == "whole"


async def test_what_somebody_deleted_by_hand_is_fetched_again(hosts: Hosts) -> None:
    """Though the database promises it."""
    built = await hosts.built()
    await hosts.publish(built)
    await hosts.fetch(built)
    path = hosts.own(built)
    await hosts.on_runner(f"chmod -R u+w {path}; rm -rf {path}")
    assert await hosts.look(built) == path
    await hosts.fetch(built)
    assert await hosts.look(built) == "whole"


async def test_a_copy_that_takes_too_long_is_given_up(hosts: Hosts) -> None:
    built = await hosts.built()
    await hosts.publish(built)
    async with cache_server(hosts.directory) as server:
        server.faults.stalls_at = ".nar.zst"
        settings = replace(hosts.runner, cache_timeout_ms=3000)
        place = place_of("the test", server.url, server.network)
        async with hosts.session(settings) as session:
            with pytest.raises(Refused, match="took longer than 3 s"):
                await session.fetch(place, [hosts.public], built.key, built.closure)


async def test_a_volume_that_a_fetch_fills_is_told_as_full(hosts: Hosts) -> None:
    """The volume is of 8 MiB, in memory."""
    built = await hosts.built()
    await hosts.publish(built)
    small = own_volumes("small-")
    try:
        options = {"type": "tmpfs", "device": "tmpfs", "o": "size=8m,uid=200000,gid=200000,mode=1775"}
        async with Docker() as docker:
            await docker.volumes.create({"Name": small.store_volume, "Driver": "local", "DriverOpts": options})
        await make_store(small)
        async with hosts.session(small) as session:
            with pytest.raises(Full, match="No space left on device") as caught:
                await session.fetch(hosts.place, [hosts.public], built.key, built.closure)
        assert 0 <= caught.value.present_bytes < built.closure_bytes
    finally:
        await remove_store(small)


async def test_a_publication_that_hangs_gives_way_to_who_waits_to_be_alone_with_the_store(hosts: Hosts) -> None:
    """A garbage collection, say; what is gone behind it is told as that."""
    built = await hosts.built()
    async with cache_server(hosts.directory) as server:
        (hosts.directory / "nix-cache-info").write_text("StoreDir: /nix/store\n")
        server.faults.stalls_at = "nix-cache-info"
        place = place_of("the test", server.url, server.network)
        publishing = asyncio.create_task(hosts.publish(built, place))
        assert await asyncio.to_thread(server.faults.stalled.wait, PATIENCE_S)
        async with asyncio.timeout(PATIENCE_S):
            printed = await run_in_store(hosts.builds.engine, ALONE, hosts.builds.settings)
        assert printed == "alone\n"
        with pytest.raises(GaveWay):
            await publishing
    with pytest.raises(Gone, match="is not in the store any more"):
        await hosts.publish(replace(built, closure=(f"/nix/store/{'0' * 32}-gone",)))


async def test_the_secret_key_is_in_no_argument_variable_or_description(hosts: Hosts) -> None:
    """Of the container that signs, while it does."""
    built = await hosts.built()
    secret = hosts.secret.partition(":")[2]
    async with cache_server(hosts.directory) as server:
        server.faults.stalls_at = "nix-cache-info"
        (hosts.directory / "nix-cache-info").write_text("StoreDir: /nix/store\n")
        publishing = asyncio.create_task(hosts.publish(built, place_of("the test", server.url, server.network)))
        assert await asyncio.to_thread(server.faults.stalled.wait, PATIENCE_S)
        (container,) = await hosts.builds.engine.list(hosts.builds.instance)
        described = await asyncio.to_thread(run, "docker", "inspect", container.id)
        assert json.loads(described)[0]["Config"]["Labels"]["cutor.role"] == "store"
        assert secret not in described
        assert secret.encode() not in arguments_and_variables(container.name)
        server.faults.stalls_at = None
        server.faults.go_on.set()
        await publishing


def arguments_and_variables(container: str) -> bytes:
    """Return what any user of the host may see, and what processes hand on, of all processes of a container."""
    init = init_of(container)
    found = []
    for pid in (init, *descendants(init)):
        with suppress(OSError):  # it has ended
            found += [Path(f"/proc/{pid}/{file}").read_bytes() for file in ("cmdline", "environ")]
    assert len(found) >= 6, "process 1, the init and Nix"
    return b"\0".join(found)


async def test_the_public_key_is_half_of_the_secret_one(hosts: Hosts) -> None:
    assert public_half(hosts.secret) == hosts.public

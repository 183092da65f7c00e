"""Jobs on the store, in containers: what it holds, what releasing and collecting delete, who waits for whom, who misbehaves."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec.structs import replace

from cutor.config import Config
from cutor.containers import host_config
from cutor.containers.errors import SessionFault
from cutor.containers.host_config import ContainerSpec, Identity, use_mark
from cutor.jail.inside.protocol import PROTOCOL_VERSION, encode
from cutor.nix import store_session
from cutor.nix.inside.store import HALF_MADE, ROOTS
from cutor.nix.report import BuiltEnvironment
from cutor.nix.settings import NixSettings
from cutor.nix.store_report import Inventory, RootedKey
from cutor.nix.store_session import Choose, StoreBusy, StoreSession
from cutor.process.context import RoleContext
from cutor.roles.private import Release, releasing
from tests.nix_builds import Builds, new_key
from tests.processes import descendants, init_of
from tests.stores import Fill, lent_store

SHELL: Final = """
{ pkgs ? import <nixpkgs> { } }:
let made = pkgs.runCommand "made-@" { } "mkdir $out; echo @ > $out/token"; in
pkgs.mkShell { MADE = made; }
"""
HOLD: Final = """
import fcntl, os, sys
lock = os.open("/nix/var/cutor/builds.lock", os.O_RDWR)
fcntl.flock(lock, fcntl.LOCK_SH)
print("held", flush=True)
sys.stdin.read()
"""
LEFT: Final = str(ROOTS / f"{HALF_MADE}left")
"""Of a build that was killed while it made roots."""
PATIENCE_S: Final = 240.0
FLOCK: Final = "73"


class Store:
    """Jobs on a small store of this module's own."""

    def __init__(self, builds: Builds, settings: NixSettings) -> None:
        self.builds = builds
        builds.settings = self.settings = settings

    def session(self, **more: Any) -> StoreSession:
        return StoreSession(self.builds.engine, self.settings, instance=self.builds.instance, user="command", **more)

    async def inventory(self) -> Inventory:
        async with self.session() as session:
            return await session.inventory()

    async def build(self, token: str) -> BuiltEnvironment:
        return await self.builds.built(SHELL.replace("@", token))

    async def there(self, path: str) -> bool:
        return bool(await self.builds.in_store(f"if [ -e {path} ]; then echo there; fi"))


@pytest.fixture(scope="module")
def small_settings(foundation: Fill) -> Iterator[NixSettings]:
    """Volumes of this module's own, with what every environment rests on."""
    with lent_store(foundation) as settings:
        yield settings


@pytest.fixture
def store(builds: Builds, small_settings: NixSettings) -> Iterator[Store]:
    """A store of this module's own, and its builds."""
    shared = builds.settings
    yield Store(builds, small_settings)
    builds.settings = shared


def token() -> str:
    return f"t{secrets.token_hex(4)}"


def these(*keys: str) -> Choose:
    """Return what chooses some keys, whatever has roots."""

    async def choose(_rooted: Mapping[str, int]) -> list[str]:
        return [*keys]

    return choose


def of_key(inventory: Inventory, key: str) -> RootedKey:
    (found,) = (one for one in inventory.keys if one.key == key)
    return found


def own_path(environment: BuiltEnvironment) -> str:
    return next(path for path in environment.closure if "-made-" in path)


async def test_the_inventory_agrees_with_what_was_built(store: Store) -> None:
    built = await store.build(token())
    inventory = await store.inventory()
    rooted = of_key(inventory, built.key)
    assert [inventory.paths[index] for index in rooted.closure] != []
    assert sorted(inventory.paths[index] for index in rooted.closure) == list(built.closure)
    assert sum(inventory.nar_bytes[index] for index in rooted.closure) == built.closure_bytes
    assert list(rooted.closure) == sorted(rooted.closure)
    listed = await store.builds.in_store(
        "NIX_REMOTE=local HOME=/tmp nix --extra-experimental-features nix-command path-info --all"
    )
    assert sorted(inventory.paths) == sorted(listed.split())
    assert inventory.whole
    assert 0 < inventory.free_bytes <= inventory.size_bytes


async def test_what_only_a_released_key_kept_is_collected_and_nothing_else(store: Store) -> None:
    kept, released, removed = [await store.build(token()) for _ in range(3)]
    async with store.session() as session:
        assert (await session.release([released.key, new_key()])).keys == (released.key,)
    before = await store.inventory()
    assert {kept.key, removed.key} <= {one.key for one in before.keys}
    assert released.key not in {one.key for one in before.keys}
    assert await store.there(own_path(released)), "a release deletes nothing"
    counts: list[int] = []
    async with store.session() as session:
        collected = await session.collect(these(removed.key, new_key()), counts.append)
    after = await store.inventory()
    assert collected.keys == (removed.key,)
    assert {own_path(released), own_path(removed)} <= set(before.paths) - set(after.paths)
    assert set(kept.closure) <= set(after.paths)
    assert collected.paths == len(before.paths) - len(after.paths) == len(set(before.paths) - set(after.paths))
    assert collected.nar_bytes == sum(before.nar_bytes) - sum(after.nar_bytes)
    assert counts == sorted(counts)
    assert not any(path.endswith(".drv") for path in after.paths), "derivations are nobody's roots"
    live = {index for one in after.keys for index in one.closure} | set(after.others)
    assert live == set(range(len(after.paths))), "a collection leaves what is rooted, and that alone"
    again = await store.build((await store.builds.in_store(f"cat {own_path(kept)}/token")).strip())
    assert own_path(again) == own_path(kept)


async def test_a_key_that_is_none_is_refused_and_nothing_removed(store: Store) -> None:
    built = await store.build(token())
    async with store.session() as session:
        with pytest.raises(SessionFault, match="is not the key of an environment"):
            await session.release(["../../../../nix"])
    assert of_key(await store.inventory(), built.key)


async def test_a_collection_asks_what_is_to_go_once_it_is_alone_with_the_store(store: Store) -> None:
    """Nobody makes or removes roots between what it tells and what it is told; what it is not told stays."""
    built, other = await store.build(token()), await store.build(token())
    building: list[asyncio.Task[BuiltEnvironment]] = []

    async def choose(rooted: Mapping[str, int]) -> list[str]:
        assert {built.key, other.key} <= rooted.keys()
        building.append(asyncio.create_task(store.build(token())))
        done, _ = await asyncio.wait(building, timeout=3)
        assert not done, "a build went on beside a collection"
        return [built.key]

    async with store.session() as session:
        assert (await session.collect(choose)).keys == (built.key,)
    async with asyncio.timeout(PATIENCE_S):
        later = await building[0]
    assert {other.key, later.key} <= {one.key for one in (await store.inventory()).keys}


def role_release(store: Store) -> Release:
    """Return what a builder of the store removes roots with."""
    config = Config(nix=replace(store.settings, collection_timeout_ms=3000))
    context = RoleContext("", store.builds.instance, "w", config, lambda: None, asyncio.Event())
    return releasing(store.builds.engine, context, "builder")


async def test_a_role_removes_no_roots_beside_a_collection(store: Store) -> None:
    """Its label may say that they stay, and a run that began since goes by that."""
    built, held = await store.build(token()), {}

    async def choose(_rooted: Mapping[str, int]) -> list[str]:
        held.update(await role_release(store)([built.key]))
        return []

    async with store.session() as session:
        assert (await session.collect(choose, keeps=[built.key])).keys == ()
    assert held == {built.key: "a collection is at work"}
    assert await role_release(store)([built.key]) == {}
    assert built.key not in {one.key for one in (await store.inventory()).keys}


async def test_a_role_removes_no_roots_under_a_run(store: Store) -> None:
    """That of a lease that is over, say, whose runner has not heard of it."""
    built, other = await store.build(token()), await store.build(token())
    mark = use_mark(Identity("test-session", token()), store.settings.store_volume, built.key)
    await store.builds.engine.make_volume(mark)
    try:
        assert await role_release(store)([built.key, other.key]) == {built.key: "something runs in it"}
        left = {one.key for one in (await store.inventory()).keys}
        assert (built.key in left, other.key in left) == (True, False)
    finally:
        await store.builds.engine.remove_volume(mark.name)
    assert await role_release(store)([built.key]) == {}


async def test_a_collection_that_is_told_nothing_does_nothing(store: Store) -> None:
    built = await store.build(token())

    async def choose(_rooted: Mapping[str, int]) -> list[str]:
        raise KeyError("not now")

    with pytest.raises(KeyError, match="not now"):
        async with store.session() as session:
            await session.collect(choose)
    assert of_key(await store.inventory(), built.key)


async def test_a_collection_waits_for_builds_and_gives_up_in_time(store: Store) -> None:
    built = await store.build(token())
    waits: list[bool] = []
    async with store.builds.holding(["/usr/bin/python3", "-S", "-c", HOLD]) as holder:
        assert await holder.receive() == b"held\n"
        async with store.session(wait_s=1.0, on_wait=lambda: waits.append(True)) as session:
            with pytest.raises(StoreBusy, match="was in use for longer than 1 s"):
                await session.collect(these(built.key))
        assert of_key(await store.inventory(), built.key), "nothing was done, and who only looks waits for nobody"
        waiting = asyncio.create_task(store.build(token()))
        await waiting  # a collection that gave up is in nobody's way
        async with store.session(on_wait=lambda: waits.append(True)) as session:
            collecting = asyncio.create_task(session.collect(these(built.key)))
            done, _ = await asyncio.wait({collecting}, timeout=2)
            assert not done, "it collected beside a build"
            await holder.close_stdin()
            assert (await collecting).keys == (built.key,)
    assert waits
    assert not await store.there(own_path(built))


async def test_who_waits_for_nobody_collects_if_nobody_is_at_work(store: Store) -> None:
    """What dead builds left is removed first; that is nobody's work."""
    built = await store.build(token())
    async with store.builds.holding(["/usr/bin/python3", "-S", "-c", HOLD]) as holder:
        assert await holder.receive() == b"held\n"
        async with store.session(wait_s=0) as session:
            with pytest.raises(StoreBusy, match=r"the Nix store of this host is in use \(builds"):
                await session.collect(these(built.key))
    assert of_key(await store.inventory(), built.key)
    waits: list[bool] = []
    await store.builds.in_store(f"mkdir {LEFT}")
    async with store.session(wait_s=0, on_wait=lambda: waits.append(True)) as session:
        assert (await session.collect(these(built.key))).keys == (built.key,)
    assert waits == []
    assert not await store.there(LEFT)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may see what runs in a container")
async def test_a_container_ends_with_its_host_even_while_it_waits(store: Store) -> None:
    await store.build(token())
    async with store.builds.holding(["/usr/bin/python3", "-S", "-c", HOLD]) as holder:
        assert await holder.receive() == b"held\n"
        async with store.session() as session:
            collecting = asyncio.create_task(session.collect())
            async with asyncio.timeout(PATIENCE_S):
                while session._child is None or not waits_for_lock(session._child.name):
                    await asyncio.sleep(0.1)
                await session._child.close_stdin()
                with pytest.raises(SessionFault, match="the container ended with 3"):
                    await collecting


def waits_for_lock(container: str) -> bool:
    """Return whether a process of a container waits for a file lock: Linux tells in which call a process sleeps."""
    for pid in descendants(init_of(container)):
        with suppress(OSError):
            if Path(f"/proc/{pid}/syscall").read_text().split()[0] == FLOCK:
                return True
    return False


def saying(**header: object) -> str:
    """Return a script that sends one frame after it was ready."""
    ready = {"type": "ready", "protocol": PROTOCOL_VERSION, "nix_version": "nix (Nix) 2.34.8"}
    frames = b"".join(encode(one) for one in (ready, {"type": "begun"}, header))
    return f"base64 -d <<< {base64.b64encode(frames).decode()}"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("printf garbage-garbage-garbage", "broke the protocol"),
        ("echo trouble >&2; exit 7", "ended without a result: the container ended with 7; it printed: 'trouble'"),
        ("sleep 30", "said nothing for 2 s"),
        (saying(type="fault", message="no more disk here"), "the store container failed: no more disk here"),
        (saying(type="advanced", count=1), "sent Advanced where it may not"),
        (saying(type="released", keys=[]), "sent ReleasedHeader where it may not"),
        (saying(type="rooted", key=None, made_at_s=-1), "broke the protocol"),
    ],
)
async def test_a_container_that_misbehaves_is_a_fault_of_ours(
    store: Store, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    def other(*args: object, **kwargs: object) -> ContainerSpec:
        spec = original(*args, **kwargs)  # type: ignore[arg-type]
        spec.body["Cmd"] = ["/usr/bin/bash", "-c", script]
        return spec

    original = host_config.store_spec
    monkeypatch.setattr(store_session, "store_spec", other)
    patience_ms = 2000 if script.startswith("sleep") else 120_000  # a busy machine takes its time for what is said at once
    store.settings = replace(store.settings, start_timeout_ms=patience_ms)
    with pytest.raises(SessionFault) as caught:
        await store.inventory()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)

"""A store of the test's own: cold builds, the lock against garbage collection, half-made roots, containers that misbehave."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import signal
import time

import pytest
from msgspec.structs import replace

from cutor.containers import host_config
from cutor.containers.errors import ContainerError, SessionFault
from cutor.containers.host_config import ContainerSpec
from cutor.jail.inside.protocol import PROTOCOL_VERSION, encode
from cutor.model.limits import MIB
from cutor.nix import session
from tests.fault.stack import jails_of
from tests.nix_builds import Builds, new_key, variables

SHELL = '{ pkgs ? import <nixpkgs> { } }: pkgs.mkShell { shellHook = "export A=1"; }'

COLLECTOR = """
import fcntl, os, sys
os.makedirs("/nix/var/cutor", exist_ok=True)
lock = os.open("/nix/var/cutor/builds.lock", os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(lock, fcntl.LOCK_EX)
os.makedirs("/nix/var/nix/gcroots/cutor/.half-made-0", exist_ok=True)
print("locked", flush=True)
sys.stdin.read()
"""


async def test_a_build_waits_for_a_collection_and_clears_what_dead_builds_left(empty_store: Builds) -> None:
    builds = empty_store
    async with builds.holding(["/usr/bin/python3", "-S", "-c", COLLECTOR]) as collector:
        assert await collector.receive() == b"locked\n"
        builds.settings = replace(builds.settings, start_timeout_ms=3000, collection_timeout_ms=400)
        with pytest.raises(SessionFault, match="did not become ready in time"):
            await builds.build(SHELL)
        builds.settings = replace(builds.settings, start_timeout_ms=120_000, collection_timeout_ms=120_000)
        waiting = asyncio.create_task(builds.build(SHELL))
        done, _ = await asyncio.wait({waiting}, timeout=3)
        assert not done, "a build ran while the store was being collected"
        await collector.close_stdin()
        report = await waiting
    assert variables(report.environment)["A"] == b"1"  # type: ignore[union-attr]
    assert b"building" in report.report.stderr, "the store was empty"
    listing = await builds.in_store("ls -A /nix/var/nix/gcroots/cutor")
    assert ".half-made-0" in listing, "a build that had to wait was not alone"
    await builds.built(SHELL)
    assert ".half-made-0" not in await builds.in_store("ls -A /nix/var/nix/gcroots/cutor")


async def test_what_a_killed_build_left_is_removed_by_the_next_one_that_is_alone(own_store: Builds) -> None:
    builds = own_store
    hostile = "mkdir $out; head -c 1M /dev/zero > $out/big; ln -s / $out/root; chmod 0 $out; echo cut; sleep 60"
    text = f'{{ pkgs ? import <nixpkgs> {{ }} }}: pkgs.mkShell {{ packages = [ (pkgs.runCommand "cut" {{ }} "{hostile}") ]; }}'
    for package in ("bash", "coreutils"):  # so that the limit is used up by the derivation that hangs
        await builds.built(SHELL.replace("shellHook", f"inherit (pkgs) {package}; shellHook"))
    started = asyncio.Event()
    task = asyncio.create_task(builds.build(text, on_progress=lambda piece: started.set() if b"cut\n" in piece else None))
    await asyncio.wait_for(started.wait(), 180)
    (container,) = await builds.engine.list(builds.instance)
    await builds.engine.remove(container.id)  # SIGKILL to all in it: a build that is stopped may have the time to tidy up
    with pytest.raises(ContainerError):
        await task
    left = "cd /nix/store; shopt -s nullglob; echo *.drv.chroot .removing* *.lock"
    assert "-cut.drv.chroot" in await builds.in_store(left)
    await builds.built(SHELL)
    assert await builds.in_store(left) == "\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may kill what runs in a container")
async def test_a_daemon_that_dies_is_no_fault_of_the_submission(builds: Builds) -> None:
    text = '{ pkgs ? import <nixpkgs> { } }: pkgs.mkShell { x = pkgs.runCommand "cut@" { } "echo cut; sleep 60"; }'
    started = asyncio.Event()
    build = builds.build(
        text.replace("@", secrets.token_hex(4)), on_progress=lambda piece: started.set() if b"cut\n" in piece else None
    )
    task = asyncio.create_task(build)
    await asyncio.wait_for(started.wait(), 180)
    (container,) = await builds.engine.list(builds.instance)
    daemon, _evaluation = jails_of(container.name)
    os.kill(daemon, signal.SIGKILL)
    with pytest.raises(SessionFault, match="nix-daemon"):
        await task


async def test_an_output_named_like_a_builders_directory_is_kept(own_store: Builds) -> None:
    builds = own_store
    token = secrets.token_hex(4)
    text = (
        "{ pkgs ? import <nixpkgs> { } }: let"
        f' evil = pkgs.runCommand "evil.drv.chroot" {{ }} "mkdir $out; echo {token} > $out/token"; in'
        ' pkgs.mkShell { shellHook = "export TOKEN=$(cat ${evil}/token)"; PATH_OF_IT = evil; }'
    ).replace("$(cat", "$(${pkgs.coreutils}/bin/cat")
    for _ in range(3):
        environment = await builds.built(text)
        assert variables(environment)["TOKEN"] == token.encode()
        path = variables(environment)["PATH_OF_IT"].decode()
        assert path.endswith("-evil.drv.chroot")
        assert path in environment.closure
        await builds.built(SHELL)
        assert await builds.in_store(f"cat {path}/token") == f"{token}\n"


PLANT = """
import os
drv = next(entry.name for entry in os.scandir("/nix/store") if entry.name.endswith(".drv"))
os.makedirs(f"/nix/store/{drv}.chroot/root/deep")
for number in range(50_000):
    place = "deep/" if number % 2 else ""
    os.mknod(f"/nix/store/{drv}.chroot/root/{place}{number:0240}")
print(len(drv))
"""
LEFT = """
import os
tops = [path.name for path in os.scandir("/nix/store") if path.name.endswith(".chroot") or path.name.startswith(".removing-")]
print(*tops, sum(len(files) for top in tops for _, _, files in os.walk(f"/nix/store/{top}")))
"""


async def test_what_a_hostile_builder_left_does_not_stop_the_next_builds(own_store: Builds) -> None:
    """50,000 files with long names: removed from build to build, each of which has its memory and loses a second at most."""
    builds = own_store
    await builds.built(SHELL)
    assert await builds.in_store(f"/usr/bin/python3 -S - <<'END'\n{PLANT}\nEND")
    counts = [50_000]
    while counts[-1]:
        started = time.monotonic()
        await builds.built(SHELL, memory_bytes=64 * MIB)
        assert time.monotonic() - started < 60
        *tops, count = (await builds.in_store(f"/usr/bin/python3 -S - <<'END'\n{LEFT}\nEND")).split()
        assert not [top for top in tops if top.endswith(".chroot")], "in the way of the derivation's own build"
        counts.append(int(count))
        assert counts[-1] < counts[-2]


def saying(**header: object) -> str:
    """Return a script that sends one frame."""
    return f"base64 -d <<< {base64.b64encode(encode(header)).decode()}"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("printf garbage-garbage-garbage", "broke the protocol"),
        ("echo trouble >&2; exit 7", "ended without a result: the container ended with 7; it printed: 'trouble'"),
        ("sleep 30", "did not become ready in time"),
        (saying(type="fault", message="no more disk here"), "the build container failed: no more disk here"),
        (saying(type="progress"), "sent Progress where it may not"),
        (saying(type="mending", missing="/nix/store/x", count=1), "sent Mending where it may not"),
        (saying(type="ready", protocol=999, nix_version="nix (Nix) 2.34.8"), "speaks protocol 999"),
        (saying(type="ready", protocol=PROTOCOL_VERSION, nix_version="nix (Nix) 2.34.4"), "no safe Nix"),
    ],
)
async def test_a_container_that_misbehaves_is_a_fault_of_ours(
    builds: Builds, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    def other(*args: object, **kwargs: object) -> ContainerSpec:
        spec = original(*args, **kwargs)  # type: ignore[arg-type]
        spec.body["Cmd"] = ["/usr/bin/bash", "-c", script]
        return spec

    original = host_config.builder_spec
    monkeypatch.setattr(session, "builder_spec", other)
    patience_ms = 2000 if script.startswith("sleep") else 120_000  # a busy machine takes its time for what is said at once
    builds.settings = replace(builds.settings, start_timeout_ms=patience_ms)
    with pytest.raises(SessionFault) as caught:
        await builds.build(SHELL, key=new_key())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)

"""What holds should a jail not: nobody in a build container is root on the host, and the daemon trusts no client.

And what builds of every bad end leave behind is the store that Nix's database describes.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import struct
from typing import Any, Final

import msgspec
import pytest
from aiodocker import Docker
from msgspec.structs import replace

from cutor.containers.host_config import BUILD_UID
from cutor.jail.inside.protocol import FrameReader
from cutor.model.limits import MIB
from cutor.model.outcome import classify
from cutor.nix.inside.namespace import ID_COUNT, NOBODY
from cutor.nix.session import encode_job
from tests.nix_builds import LIMIT, Builds, new_key
from tests.processes import Sleep
from tests.stores import builder_container

CLIENT: Final = """
import json, os, subprocess, sys
sys.path[0] = "/opt/cutor"
from cutor.jail.inside.host_link import HostLink
from cutor.nix.inside import daemon, namespace, store
from cutor.nix.inside.job import decode_job

BUILD = ["/usr/bin/nix-build", "--no-out-link"]
NIX = ["/usr/bin/nix", "--extra-experimental-features", "nix-command"]

def told(command, given=b""):
    variables = daemon.CLIENT_VARIABLES | {"HOME": "/tmp"}
    who = {"user": namespace.JAIL_ID, "group": namespace.JAIL_ID, "extra_groups": []}
    done = subprocess.run(command, input=given, env=variables, capture_output=True, **who)
    return {"code": done.returncode, "stdout": done.stdout.decode(), "stderr": done.stderr.decode()}

def client():
    link = HostLink()
    lock = store.hold_lock(lambda: None)
    command = link.next()
    job = decode_job(command)
    files = dict(job.files)
    running = daemon.start(job.daemon_configuration, job.limits.file_size_bytes, job.limits.open_files)
    given = {"post-build-hook": "/bin/sh", "substituters": "file:///tmp", "trusted-public-keys": "k:x"}
    options = [word for pair in given.items() for word in ("--option", *pair)]
    said = {
        "info": told([*NIX, "store", "info", "--json"]),
        "import": told(["/usr/bin/nix-store", "--import"], files["export"]),
        "unsandboxed": told([*BUILD, "--option", "sandbox", "false", "-E", files["probe"].decode()]),
        "hook": told([*BUILD, *options, "-E", files["plain"].decode()]),
        "settings": told([*NIX, "config", "show", "--json"]),
    }
    running.stop()
    link.send({"type": "said"}, [json.dumps(said).encode()])
    return 0

if "CUTOR_IN_NAMESPACE" in os.environ:
    sys.exit(client())
os.environ["CUTOR_IN_NAMESPACE"] = "1"
sys.exit(namespace.run_in_namespace(lambda: os.execv(sys.executable, sys.orig_argv)))
"""
"""A client of the daemon as the user whom evaluations run as, with what no user of cutor's gets: commands of its own."""

PROBE: Final = """derivation { name = "probe-@"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c"
  "[ -e /opt/cutor ] || [ -e /nix/var ] && echo outside > $out || echo inside > $out; echo said $(<$out) >&2" ]; }"""
PLAIN: Final = (
    'derivation { name = "plain-@"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo > $out" ]; }'
)


def archive(path: str, content: bytes) -> bytes:
    """Return the export of a store path that nobody signed, as `nix-store --import` takes it."""

    def word(data: bytes) -> bytes:
        return struct.pack("<Q", len(data)) + data + bytes(-len(data) % 8)

    nar = b"".join(map(word, (b"nix-archive-1", b"(", b"type", b"regular", b"contents", content, b")")))
    about = struct.pack("<Q", 0x4558494E) + word(path.encode()) + struct.pack("<Q", 0) + word(b"") + struct.pack("<Q", 0)
    return struct.pack("<Q", 1) + nar + about + struct.pack("<Q", 0)


async def said_to_a_client(builds: Builds, files: dict[str, bytes]) -> dict[str, Any]:
    child = await builds.engine.start(builder_container(["/usr/bin/python3", "-S", "-E", "-c", CLIENT], builds.settings))
    try:
        await child.send(encode_job(builds.settings, new_key(), files, LIMIT))
        reader = FrameReader()
        while not (frames := reader.feed(data := await child.receive())):
            assert data, child.stderr_tail.decode()
    finally:
        await child.remove()
    return dict(msgspec.json.decode(frames[0].body))


async def test_the_daemon_trusts_no_client(builds: Builds) -> None:
    token = secrets.token_hex(4).replace("e", "f")  # the base 32 of Nix's paths has no "e"
    forged = f"/nix/store/{'0' * 24}{token}-forged"
    said = await said_to_a_client(
        builds,
        {
            "export": archive(forged, b"poison"),
            "probe": PROBE.replace("@", token).encode(),
            "plain": PLAIN.replace("@", token).encode(),
        },
    )
    assert '"trusted":false' in said["info"]["stdout"].replace(" ", ""), said["info"]
    assert said["import"]["code"] != 0
    assert "lacks a signature by a trusted key" in said["import"]["stderr"], said["import"]
    assert "said inside" in said["unsandboxed"]["stderr"], said["unsandboxed"]
    for option in ("sandbox", "post-build-hook", "substituters", "trusted-public-keys"):
        where = said["unsandboxed" if option == "sandbox" else "hook"]["stderr"]
        named = "untrusted substituter" if option == "substituters" else f"setting '{option}'"
        assert re.search(rf"ignoring .*{named}.*not a trusted user", where), (option, where)
    assert await builds.in_store(f"test -e {forged} && echo there || true") == ""


async def test_the_daemon_is_set_up_as_the_image_says(builds: Builds) -> None:
    said = await said_to_a_client(builds, {"export": b"", "probe": PLAIN.encode(), "plain": PLAIN.encode()})
    settings = {name: entry["value"] for name, entry in msgspec.json.decode(said["settings"]["stdout"]).items()}
    expected = {
        "trusted-users": [],
        "sandbox": True,
        "sandbox-fallback": False,
        "require-sigs": True,
        "filter-syscalls": True,
        "substituters": [],
        "builders": "",
        "post-build-hook": "",
        "min-free": 0,
        "experimental-features": [],
    }
    found = {name: settings[name] for name in expected}
    found["experimental-features"] = [
        name for name in found["experimental-features"] if name != "nix-command"
    ]  # the client's own
    assert found == expected


async def users_of(builds: Builds) -> list[tuple[int, int, str]]:
    """Return uid and gid on the host, and the command, of every process in the one container there is."""
    (container,) = await builds.engine.list(builds.instance)
    async with Docker() as docker:
        listed = await docker._query_json(f"containers/{container.id}/top", params={"ps_args": "-eo uid,gid,pid,args"})
    return [(int(uid), int(gid), command) for uid, gid, _, command in listed["Processes"]]


SLEEPERS: Final = {
    "builder": 'A = pkgs.runCommand "seen-@" { } "SLEEP; touch $out";',
    "hook": 'B = "@"; shellHook = "SLEEP";',
}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may wake what runs in a container")
@pytest.mark.parametrize("who", SLEEPERS)
async def test_nobody_in_a_build_container_is_root_on_the_host(builds: Builds, who: str) -> None:
    sleep = Sleep()
    attributes = SLEEPERS[who].replace("@", secrets.token_hex(4)).replace("SLEEP", sleep.script)
    task = asyncio.create_task(builds.build(f"{{ pkgs ? import <nixpkgs> {{ }} }}: pkgs.mkShell {{ {attributes} }}"))
    while not sleep.pids:
        assert not task.done(), await task
        await asyncio.sleep(0.2)
    everybody = await users_of(builds)
    sleep.wake()
    await task
    mapped = range(BUILD_UID, BUILD_UID + ID_COUNT)
    outside = [(uid, gid) for uid, gid, _ in everybody if uid not in mapped or gid not in mapped]
    assert outside == [(NOBODY, NOBODY)], everybody  # the parent that only waits
    own = {uid for uid, _, command in everybody if command.startswith("sleep ")}
    assert own
    assert BUILD_UID not in own, "what is a user's is not the owner of the store, either"


BAD_ENDS: Final = {
    "killed at its time": ("mkdir $out; echo half > $out/file; sleep 60", {"wall_time_ms": 2500}, "TLE_WALL"),
    "killed for its memory": ("x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; echo > $out; done", {"memory_bytes": 128 * MIB}, "MLE"),
    "killed for its output": ("echo half > $out; while :; do echo yes; done", {"stderr_bytes": 50_000}, "OLE"),
    "killed for what it adds": ("head -c 200M /dev/zero > $out; sleep 60", {}, "FSE"),
    "failed": ("mkdir $out; chmod 000 $out; exit 1", {}, "RE"),
}


async def test_the_store_is_the_one_that_nix_describes_after_every_bad_end(own_store: Builds) -> None:
    """`nix-store --verify --check-contents` finds nothing, and there is nothing else; roots are those of good builds alone."""
    builds = own_store
    builds.settings = replace(builds.settings, store_bytes=100 * MIB)
    good = '{ pkgs ? import <nixpkgs> { } }: pkgs.mkShell { A = pkgs.runCommand "good-@" { } "echo good > $out"; }'
    key = new_key()
    await builds.build(good.replace("@", "1"), key=key)
    for script, limits, outcome in BAD_ENDS.values():
        text = f"{{ pkgs ? import <nixpkgs> {{ }} }}: pkgs.mkShell {{ A = pkgs.runCommand \"bad\" {{ }} ''{script}''; }}"
        failed = await builds.failed(text, **limits)
        assert classify(failed.report) == outcome, failed
    await builds.built(good.replace("@", "2"))
    verified = await builds.in_store("NIX_REMOTE=local HOME=/tmp nix-store --verify --check-contents 2>&1")
    assert not [line for line in verified.splitlines() if "missing" in line or "modified" in line or "error" in line], verified
    there = {name for name in (await builds.in_store("ls -A /nix/store")).split() if not name.endswith(".lock")}
    known = await builds.in_store("NIX_REMOTE=local HOME=/tmp nix --extra-experimental-features nix-command path-info --all")
    assert there - {".links"} == {path.rpartition("/")[2] for path in known.split()}, "nothing but what is valid is left"
    roots = (await builds.in_store("ls /nix/var/nix/gcroots/cutor")).split()
    assert len(roots) == 2
    assert key in roots

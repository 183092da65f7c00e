"""Environments that vanish between their build and the end of a run: found, built again, bounded. On a stack of its own.

The stack's store begins empty, so it is small. What an operator does to volumes is done to these: paths deleted by hand, roots
removed and garbage collected, either volume put back from a copy that knows nothing of the environment.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
from aiodocker import Docker
from aiodocker.volumes import DockerVolume

from cutor.containers.engine import Engine
from cutor.nix.settings import NixSettings
from tests.bare_stack import User
from tests.child_image import IMAGE
from tests.integration.live_submissions import document, ended, hand_in, kinds, submit_all
from tests.processes import pids
from tests.stores import Fill, copy_store, own_volumes, remove_store, run_in_store, store_container

MAX_LEASES: Final = 2
PATIENCE_S: Final = 180.0
LONGEST_S: Final = 580.0
CONFIG = """
max_leases = {leases}
[nix]
store_volume = "{store}"
var_volume = "{var}"
[builder]
slots = 2
[runner]
slots = 3
pool_maximum = 0
"""
"""Containers that stand ready would keep the volume from being removed."""
SHELL = """
{ pkgs ? import <nixpkgs> { } }:
let made = pkgs.runCommand "made-@" { } "mkdir $out; echo @ > $out/token"; in
pkgs.mkShell { MADE = made; }
"""
READ = 'read -r token < "$MADE/token"; echo "$token"\n'
WAIT_UNTIL_IT_VANISHES = """\
if [ "$(stat -c %Z "$MADE")" -ge "$(cat deadline)" ]; then exec bash after; fi
set -- "$MADE"/*
while [ -e "$1" ]; do set -- "$MADE"/*; done
"""
"""In the first attempt; in the second one the environment is younger than the submission. The directory is listed, because a
name that a program has looked up once is there for it as long as it runs (the store is masked by an overlay)."""
VANDAL = """
remove() { if [ -e "$1" ]; then chmod -R u+w "$1"; rm -rf "$1"; fi; }
echo begun; while :; do for path in PATH_TO_REMOVE; do remove "$path"; done; done
"""


class LostStack:
    """A running stack, its volumes, and a copy of these from before any test."""

    def __init__(self, user: User, settings: NixSettings, copy: NixSettings) -> None:
        self.user = user
        self.settings = settings
        self.copy = copy

    def in_store(self, script: str) -> str:
        """Run a script of bash as the owner of the store volumes; return what it prints."""

        async def run() -> str:
            async with Engine.connect() as engine:
                return await run_in_store(engine, script, self.settings)

        return asyncio.run(run())

    def delete(self, *patterns: str) -> None:
        """Delete store paths by hand."""
        names = " ".join(f"/nix/store/{pattern}" for pattern in patterns)
        self.in_store(f"for path in {names}; do chmod -R u+w $path; rm -rf $path; done")

    def collect(self) -> None:
        """Remove every root of an environment, and collect garbage. The package set is kept by the test: it takes a minute."""
        self.in_store("rm -rf /nix/var/nix/gcroots/cutor; NIX_REMOTE=local HOME=/tmp nix-store --gc 2>&1")

    def put_back(self, *, var: bool) -> None:
        """Replace the store's volume by one with the copy's content, and that of the database, too, if wanted."""

        async def run() -> None:
            await wait_for_no_container(self.instance)
            async with Docker() as docker:
                for name in (self.settings.store_volume, self.settings.var_volume)[: 1 + var]:
                    await DockerVolume(docker, name).delete()
            kept = self.settings if var else NixSettings(image=IMAGE, store_volume=self.settings.store_volume, var_volume=SPARE)
            await copy_store(kept, self.copy.store_volume, self.copy.var_volume)
            if not var:
                async with Docker() as docker:
                    await DockerVolume(docker, SPARE).delete()

        asyncio.run(run())

    def cutor(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run the command as a user of this stack."""
        return self.user.stack.cutor(*arguments, stdin=stdin, timeout_s=LONGEST_S)

    @property
    def instance(self) -> str:
        """The label of the stack's containers."""
        return self.user.stack.instance

    def submit(self, token: str, run: str = READ, **files: str) -> dict[str, Any]:
        """Submit a request whose environment is that of ``token``; return its result, once nothing is left of it."""
        [result] = submit_all(self.user.stack, [request_for(token, run, **files)], timeout_s=LONGEST_S)
        return result

    def begin(self, token: str, run: str = READ, **files: str) -> str:
        """Submit as `submit` does, and return the id at once."""
        return hand_in(self.user.stack, request_for(token, run, **files))

    def ended(self, identity: str) -> dict[str, Any]:
        """Return a submission's result once nothing is left of it."""
        return ended(self.user.stack, identity, timeout_s=LONGEST_S)

    def events(self, identity: str) -> list[dict[str, Any]]:
        """Return a submission's events as `cutor events` lists them."""
        listed: list[dict[str, Any]] = json.loads(self.cutor("events", identity, "--json").stdout)
        return listed

    def kinds(self, identity: str) -> list[str]:
        """Return the kinds of a submission's events, which is cleaned."""
        found = kinds(self.user.stack, identity)
        assert "cleaned" in found
        return found


def request_for(token: str, run: str, **files: str) -> dict[str, Any]:
    """Return a request whose environment is that of ``token``."""
    limits = {kind: {"wall_time_ms": 120_000, "cpu_time_ms": 120_000} for kind in ("compile", "run")}
    return document(
        run,
        shell=SHELL.replace("@", token),
        files=files,
        test_cases=[{"expected_output": f"{token}\n"}],
        limits=limits | {"dependencies": {"wall_time_ms": 600_000}},
    )


pytestmark = pytest.mark.timeout(1200)  # the first one has the package set built, on a machine that may be busy
KEPT: Final = "/nix/var/nix/gcroots/kept-by-the-test"
SPARE: Final = f"cutor-test-var-{secrets.token_hex(4)}"


async def wait_for_no_container(instance: str) -> None:
    """Wait until no submission of a stack has a container: a volume in use cannot be removed."""
    async with Engine.connect() as engine, asyncio.timeout(PATIENCE_S):
        while any(one.labels["cutor.role"] != "pause" for one in await engine.list(instance)):
            await asyncio.sleep(0.1)


@pytest.fixture(scope="module")
def lost(foundation: Fill, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LostStack]:
    """A stack on a small store of its own, in which one environment was built, and a copy of that store."""
    settings, copy = own_volumes(), own_volumes("kept-")
    user = User(tmp_path_factory.mktemp("lost"))
    config = user.home / "config.toml"
    config.write_text(CONFIG.format(leases=MAX_LEASES, store=settings.store_volume, var=settings.var_volume))
    try:
        asyncio.run(foundation(settings))
        started = user.up("--config", str(config), roles=("builder", "runner"))
        assert started.returncode == 0, started.stderr
        stack = LostStack(user, settings, copy)
        assert stack.submit("first")["outcome"] == "OK"
        stack.in_store(f"cp -a /nix/var/nix/gcroots/cutor {KEPT}")
        asyncio.run(wait_for_no_container(stack.instance))
        asyncio.run(copy_store(copy, settings.store_volume, settings.var_volume))
        yield stack
    finally:
        if (user.stack.data / "lock").exists():
            user.down()
        for volumes in (settings, copy):
            asyncio.run(remove_store(volumes))


def once_lost(stack: LostStack, result: dict[str, Any]) -> None:
    """Check a submission whose environment was lost once, and that ended well."""
    assert (result["outcome"], [stage["outcome"] for stage in result["run"]]) == ("OK", ["OK"]), result
    assert result["attempts"] == {"builder": 2, "runner": 2}
    assert result["environment"]["hit"] is False
    kinds = stack.kinds(result["id"])
    assert kinds.count("cache-lost") == 1
    assert kinds.count("cache-built") == 2
    assert (kinds.count("finished"), kinds.count("parked"), kinds[-1]) == (1, 0, "cleaned")


LOSSES: Final[dict[str, Callable[[LostStack, str], None]]] = {
    "collected": lambda stack, token: stack.collect(),
    "a path deleted": lambda stack, token: stack.delete(f"*-made-{token}"),
    "a path of the package set deleted": lambda stack, token: stack.delete("*-bash-5*[0-9]"),
    "a path and derivations deleted": lambda stack, token: stack.delete(f"*-made-{token}*", "*-nix-shell.drv"),
    "store put back": lambda stack, token: stack.put_back(var=False),
    "store and database put back": lambda stack, token: stack.put_back(var=True),
}


@pytest.mark.parametrize("name", LOSSES)
def test_an_environment_that_went_between_build_and_run_is_built_again(lost: LostStack, name: str) -> None:
    token = f"t{secrets.token_hex(4)}"
    assert lost.submit(token)["environment"]["hit"] is False
    LOSSES[name](lost, token)
    once_lost(lost, lost.submit(token))
    again = lost.submit(token)
    assert (again["outcome"], again["environment"]["hit"], again["attempts"]) == ("OK", True, {"builder": 1, "runner": 1})


@pytest.mark.parametrize("stage", ["compile", "run"])
@pytest.mark.parametrize("after", [pytest.param("exit 9\n", id="fails"), pytest.param("echo TOKEN\n", id="ends-well")])
def test_what_a_stage_says_that_lost_its_environment_is_not_believed(lost: LostStack, stage: str, after: str) -> None:
    """Whether it fails for want of it, or ends well all the same."""
    token = f"t{secrets.token_hex(4)}"
    lost.submit(token)
    deadline = int(lost.in_store(f"date +%s -d @$(stat -c %Z /nix/store/*-made-{token})")) + 1
    while time.time() <= deadline:
        time.sleep(0.1)
    program = WAIT_UNTIL_IT_VANISHES + after.replace("TOKEN", token)
    files = {"deadline": str(deadline), "after": READ}
    script = {"compile": "cutor-compile.sh", "run": "cutor-run.sh"}[stage]
    files |= {"cutor-compile.sh": program} if stage == "compile" else {}
    identity = lost.begin(token, READ if stage == "compile" else program, **files)
    deadline_s = time.monotonic() + PATIENCE_S
    while not pids(environment=f"-made-{token}", command=script.encode()):
        assert time.monotonic() < deadline_s, "the stage did not begin"
        time.sleep(0.05)
    lost.delete(f"*-made-{token}")
    result = lost.ended(identity)
    once_lost(lost, result)
    assert "ran" not in lost.kinds(result["id"])[: lost.kinds(result["id"]).index("cache-lost")]


@contextmanager
def vandal(stack: LostStack, path: str) -> Iterator[None]:
    """Remove a path whenever it is there, from another container, until the block ends."""
    begun, stop = threading.Event(), threading.Event()

    async def run() -> None:
        async with Engine.connect() as engine:
            command = ["/usr/bin/bash", "-c", VANDAL.replace("PATH_TO_REMOVE", path)]
            async with store_container(engine, command, stack.settings) as child:
                await child.receive()
                begun.set()
                await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        assert begun.wait(PATIENCE_S)
        yield
    finally:
        stop.set()
        thread.join()


def test_an_environment_that_vanishes_every_time_ends_parked_and_says_why(lost: LostStack) -> None:
    token = f"t{secrets.token_hex(4)}"
    lost.submit(token)
    with vandal(lost, f"/nix/store/*-made-{token}"):
        result = lost.submit(token)
    assert (result["outcome"], result["status"]) == ("PARKED", "PARKED"), result
    assert "\n" not in result["message"]
    kinds = lost.kinds(result["id"])
    assert kinds.count("parked") == 1
    assert kinds.count("cache-lost") <= MAX_LEASES + 1
    assert result["attempts"]["builder"] <= MAX_LEASES + kinds.count("cache-lost")
    (parked,) = (event for event in lost.events(result["id"]) if event["kind"] == "parked")
    assert parked["event"]["stage"] == "dependencies"
    assert lost.submit(token)["outcome"] == "OK", "afterwards it is built as ever"


def test_others_with_the_same_environment_and_with_another_are_not_disturbed(lost: LostStack) -> None:
    token, other = (f"t{secrets.token_hex(4)}" for _ in range(2))
    submit_all(lost.user.stack, [request_for(one, READ) for one in (token, other)], timeout_s=LONGEST_S)
    lost.delete(f"*-made-{token}", "*-bash-5*[0-9]")
    handed_in = [lost.begin(one) for one in (token, token, other, token, other)]
    new = lost.submit(f"t{secrets.token_hex(4)}")
    assert new["outcome"] == "OK"
    for identity in handed_in:
        result = lost.ended(identity)
        assert result["outcome"] == "OK", result
        assert result["attempts"]["builder"] <= MAX_LEASES + 1
        assert lost.kinds(identity).count("finished") == 1

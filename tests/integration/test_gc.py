"""``cutor gc`` on a stack of its own, with a store of its own: what goes, what stays, and never under who is at work.

The environment `first` is pinned: it keeps what all others share, so that each builds in a second.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from cutor.bus.connection import Bus
from cutor.containers.engine import Engine
from cutor.containers.labels import COLLECTS_LABEL, ENVIRONMENT_LABEL
from cutor.model.collection import Wish
from cutor.nix.settings import NixSettings
from cutor.nix.store_report import Inventory
from cutor.nix.store_session import StoreSession
from cutor.operations.collection import Collector, Done, Place
from tests.bare_stack import User
from tests.integration.live_submissions import document, ended, hand_in, kinds, submit_all
from tests.integration.test_cache_copies import open_directory
from tests.processes import SLEEP, command_of, descendants, init_of, kill, pids, sleepers, wake
from tests.stores import Fill, lent_store, run_in_store, store_container

pytestmark = pytest.mark.timeout(1200)  # the first build makes the package set, on a machine that may be busy

PATIENCE_S: Final = 240.0
LONGEST_S: Final = 580.0
CONFIG: Final = """
[nix]
store_volume = "{store}"
var_volume = "{var}"
{nix}
[builder]
slots = 2
[runner]
slots = 3
pool_minimum = 1
pool_maximum = 2
"""
"""A collection sees the runs of containers that were made ahead, and of those that were made when they were wanted."""
SHELL: Final = """
{ pkgs ? import <nixpkgs> { } }:
let made = pkgs.runCommand "made-@" { } "mkdir $out; TAKES echo @ > $out/token"; in
pkgs.mkShell { MADE = made; }
"""
READ: Final = 'read -r token < "$MADE/token"; echo "$token"\n'
ENDLESS: Final = 'while read -r token < "$MADE/token"; do set -- "$MADE"/*; [ -e "$1" ] || exit 9; done; exit 9\n'
"""Ends only when its environment goes. It lists what it uses again and again: a name that a program has looked up once may be
there for it as long as it runs."""
HOLD: Final = """
import fcntl, os, sys
lock = os.open("/nix/var/cutor/builds.lock", os.O_RDWR)
fcntl.flock(lock, fcntl.LOCK_SH)
print("held", flush=True)
sys.stdin.read()
"""
AGED: Final = "touch -d '2 hours ago' /nix/var/nix/gcroots/cutor/{key}"


class GcStack:
    """A running stack and its store."""

    def __init__(self, user: User, settings: NixSettings) -> None:
        self.user = user
        self.settings = settings

    def cutor(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run the command as a user of this stack."""
        return self.user.stack.cutor(*arguments, stdin=stdin, timeout_s=LONGEST_S)

    def json(self, *arguments: str, stdin: bytes = b"") -> Any:
        """Run a command that must do well, and return what it prints as JSON."""
        done = self.cutor(*arguments, "--json", stdin=stdin)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return json.loads(done.stdout)

    def gc(self, *arguments: str) -> Any:
        """Collect, without a question."""
        return self.json("gc", "--yes", *arguments)

    def submit(self, token: str, run: str = READ, **more: Any) -> dict[str, Any]:
        """Submit a request in the environment of ``token``; return its result, once nothing is left of it."""
        return self.submit_all([token], run, **more)[0]

    def submit_all(
        self, tokens: Sequence[str], run: str = READ, *, takes: str = "", cache: bool = True, name: str | None = None
    ) -> list[dict[str, Any]]:
        """Submit a request in the environment of each token, all at one time; return their results as `submit`."""
        requests = [request_for(one, run, takes=takes, cache=cache) for one in tokens]
        return submit_all(self.user.stack, requests, name=name, timeout_s=LONGEST_S)

    def begin(self, token: str, run: str = READ, *, name: str | None = None, **more: Any) -> str:
        """Submit as `submit` does, and return the id at once."""
        return hand_in(self.user.stack, request_for(token, run, **more), name=name)

    def keys(self, *tokens: str, **more: Any) -> list[str]:
        """Build the environments of some tokens, at one time; return their keys."""
        results = self.submit_all(tokens, **more)
        assert [result["outcome"] for result in results] == ["OK"] * len(tokens), results
        return [str(result["environment"]["key"]) for result in results]

    def key(self, token: str, **more: Any) -> str:
        """Build the environment of a token, and return its key."""
        return self.keys(token, **more)[0]

    def ended(self, identity: str) -> dict[str, Any]:
        """Return a submission's result once nothing is left of it."""
        return ended(self.user.stack, identity, timeout_s=LONGEST_S)

    def kinds(self, identity: str) -> list[str]:
        """Return the kinds of a submission's events."""
        return kinds(self.user.stack, identity)

    def in_store(self, script: str) -> str:
        """Run a script of bash as the owner of the store volumes; return what it prints."""

        async def run() -> str:
            async with Engine.connect() as engine:
                return await run_in_store(engine, script, self.settings)

        return asyncio.run(run())

    def there(self, *tokens: str) -> list[bool]:
        """Return whether what is made for each token is in the store."""
        names = " ".join(f"/nix/store/*-made-{one}" for one in tokens)
        found = self.in_store(f"ls -d {names} 2>/dev/null || true").split()
        return [any(path.endswith(f"-made-{one}") for path in found) for one in tokens]

    def check_sound(self) -> None:
        """Check that database and disk agree, and that nothing that was half done is left."""
        script = "NIX_REMOTE=local HOME=/tmp nix-store --verify --check-contents 2>&1; ls -A /nix/var/nix/gcroots/cutor"
        said = self.in_store(script)
        assert "path" not in said.replace("reading the Nix store", "").replace("checking path existence", ""), said

    def containers(self, label: str) -> list[str]:
        """Return the names of this stack's containers with a label."""

        async def listed() -> list[str]:
            async with Engine.connect() as engine:
                return [one.name for one in await engine.list(self.user.stack.instance) if label in one.labels]

        return asyncio.run(listed())

    def used(self) -> list[str]:
        """Return the keys of environments that this stack's runner says it uses."""

        async def listed() -> list[str]:
            async with Engine.connect() as engine:
                return [one.labels[ENVIRONMENT_LABEL] for one in await engine.marks(self.user.stack.instance)]

        return asyncio.run(listed())

    @asynccontextmanager
    async def collector(self) -> AsyncIterator[Collector]:
        """Lend a collector for this stack."""
        place = Place(self.settings, self.user.stack.instance, self.user.stack.data)
        async with Bus.connect(self.user.stack.server, name="test") as bus, Engine.connect() as engine:
            yield Collector(bus, engine, place)


def request_for(token: str, run: str, *, takes: str = "", cache: bool = True) -> dict[str, Any]:
    """Return a request in the environment of a token."""
    shell = SHELL.replace("@", token).replace("TAKES", takes)
    limits = {"run": {"wall_time_ms": 120_000, "cpu_time_ms": 120_000}, "dependencies": {"wall_time_ms": 600_000}}
    cases = [{"expected_output": f"{token}\n"}]
    return document(run, shell=shell, test_cases=cases, cache=cache, limits=limits)


def token() -> str:
    return f"t{secrets.token_hex(4)}"


def until(holds: Callable[[], object], what: str, *, every_s: float = 0.05) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(every_s)


@pytest.fixture(scope="module")
def gc_settings(foundation: Fill) -> Iterator[NixSettings]:
    """A store of this module's own, with what every environment rests on."""
    with lent_store(foundation) as settings:
        yield settings


@contextmanager
def running(directory: Path, settings: NixSettings, *roles: str, nix: str = "") -> Iterator[GcStack]:
    """Lend a stack on a store; ``nix`` are more settings of environments."""
    user = User(directory)
    config = user.home / "config.toml"
    config.write_text(CONFIG.format(store=settings.store_volume, var=settings.var_volume, nix=nix))
    try:
        started = user.up("--config", str(config), roles=roles)
        assert started.returncode == 0, started.stderr
        yield GcStack(user, settings)
    finally:
        ended = user.down()
        assert ended.returncode == 0, ended.stderr


@pytest.fixture(scope="module")
def stack(gc_settings: NixSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcStack]:
    """A stack whose environment `first` is built, and pinned."""
    with running(tmp_path_factory.mktemp("gc"), gc_settings, "builder", "runner", "projector") as stack:
        stack.cutor("env", "pin", stack.key("first"))
        yield stack


def runs(token: str) -> bool:
    """Return whether a run of an environment goes on on this machine."""
    return bool(pids(environment=f"-made-{token}", command=b"cutor-run.sh"))


@contextmanager
def endless_run(stack: GcStack, of: str) -> Iterator[str]:
    """A run that goes on for as long as the block lasts, and would end if its environment went."""
    identity = stack.begin(of, ENDLESS)
    until(lambda: runs(of), "the run did not begin")
    try:
        yield identity
        assert runs(of), "the run has lost its environment"
        assert "finished" not in stack.kinds(identity)
    finally:
        stack.cutor("cancel", identity)
        until(lambda: "cleaned" in stack.kinds(identity), "the run was not cleaned")


async def inventory_of(settings: NixSettings) -> Inventory:
    async with (
        Engine.connect() as engine,
        StoreSession(engine, settings, instance="test-gc", user="command") as store,
    ):
        return await store.inventory()


# -- what goes, and what stays ------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_then_goes_to_the_byte_and_changes_nothing(stack: GcStack) -> None:
    tokens = [token() for _ in range(3)]
    keys = set(stack.keys(*tokens))
    dry = stack.json("gc", "--dry-run", "--all")
    assert dry["done"] is None
    assert {one["key"] for one in dry["plan"]["take"]} == keys
    assert {one["because"] for one in dry["plan"]["keep"]} == {"pinned"}
    assert stack.there(*tokens) == [True] * 3
    assert [result["environment"]["hit"] for result in stack.submit_all(tokens)] == [True] * 3
    done = stack.gc("--all")
    plan = done["plan"]
    assert set(done["done"]["removed"]) == keys
    assert done["done"]["collected"]["nar_bytes"] == plan["store_bytes"] - plan["left_bytes"]
    after = asyncio.run(inventory_of(stack.settings))
    assert sum(after.nar_bytes) == plan["left_bytes"]
    assert stack.there(*tokens, "first") == [False] * 3 + [True]
    stack.check_sound()


def test_what_was_collected_is_built_again_when_it_is_wanted(stack: GcStack) -> None:
    one = token()
    key = stack.key(one)
    stack.gc("--all")
    again = stack.submit(one)
    assert (again["outcome"], again["environment"]) == ("OK", again["environment"] | {"key": key, "hit": False})
    assert again["attempts"] == {"builder": 1, "runner": 1}
    [entry] = [entry for entry in stack.json("env", "list") if entry["key"] == key]
    assert (entry["builds"], entry["uses"], entry["hits"], entry["removed"]) == (2, 2, 0, False)


def test_by_size_the_ones_touched_longest_ago_go_and_pinned_ones_stay(stack: GcStack) -> None:
    stack.gc("--all")
    large = "head -c 3000000 /dev/zero > $out/zero;"
    keys = stack.keys(token(), token(), takes=large)
    time.sleep(1)  # it is by whole seconds that touches are compared
    keys.append(stack.key(token(), takes=large))
    stack.cutor("env", "pin", keys[0])
    dry = stack.json("gc", "--dry-run", "--all")["plan"]
    sizes = {one["key"]: one["frees_bytes"] for one in dry["take"]}
    assert set(sizes) == set(keys[1:])
    wanted = dry["left_bytes"] + sizes[keys[2]]
    taken = stack.gc("--max-size", f"{wanted}B")["done"]["removed"]
    assert taken == [keys[1]]
    assert stack.gc("--max-size", f"{wanted}B")["plan"]["take"] == []
    nothing_more = stack.json("gc", "--dry-run", "--max-size", "1B")["plan"]
    assert {one["key"] for one in nothing_more["take"]} == {keys[2]}
    assert nothing_more["left_bytes"] > 1
    stack.cutor("env", "unpin", keys[0])


def test_by_age_go_those_that_nothing_touched_for_so_long(stack: GcStack) -> None:
    key = stack.key(token())
    assert key not in stack.gc("--older-than", "1d")["done"]["removed"]
    assert key in stack.gc("--older-than", "0s")["done"]["removed"]


def test_without_a_wish_goes_what_nothing_keeps_alone(stack: GcStack) -> None:
    kept, given_up, private = (token() for _ in range(3))
    _, removed = stack.keys(kept, given_up)
    assert stack.cutor("env", "remove", removed).returncode == 0
    result = stack.submit(private, cache=False)
    assert result["outcome"] == "OK"
    until(lambda: stack.json("env", "show", result["environment"]["key"])["environment"]["removed"], "it was not given up")
    done = stack.gc()
    assert done["done"]["removed"] == []
    assert stack.there(kept, given_up, private) == [True, False, False]
    assert stack.submit(kept)["environment"]["hit"] is True


# -- never under who is at work -----------------------------------------------------------------------------------------


def test_a_collection_beside_a_long_run_spares_its_environment_and_takes_others(stack: GcStack) -> None:
    used, other = token(), token()
    stack.keys(used, other)
    with endless_run(stack, used):
        done = stack.gc("--all")
        identity = stack.begin(other)
        assert "in use" in {one["because"] for one in done["plan"]["keep"]}
        removal = stack.json("env", "remove", next(one["key"] for one in done["plan"]["keep"] if one["because"] == "in use"))
        assert removal[0]["held"] == "something runs in it"
        stack.gc("--all")
    assert stack.ended(identity)["outcome"] == "OK"
    stack.gc("--all")
    assert stack.there(used) == [False]


async def test_a_run_that_begins_between_plan_and_collection_is_seen(stack: GcStack) -> None:
    """The first order: the run's container is there when the collection looks."""
    one = token()
    key = await asyncio.to_thread(stack.key, one)
    async with stack.collector() as collector:
        planned = await collector.plan(Wish(everything=True))
        assert key in {taken.key for taken in planned.plan.take}
        run = endless_run(stack, one)
        await asyncio.to_thread(run.__enter__)
        try:
            done = Done()
            await collector.collect(planned, done)
            assert [(spared.key, "in use" in spared.because) for spared in done.spared] == [(key, True)]
            assert done.collected is not None
            assert key not in done.collected.keys
        finally:
            await asyncio.to_thread(run.__exit__, None, None, None)


async def test_a_run_that_begins_under_a_collection_waits_and_sees_what_is_missing(stack: GcStack) -> None:
    """The second order: the collection's container is there when the run looks. It is another stack's: no log tells of it."""
    one = token()
    key = await asyncio.to_thread(stack.key, one)
    begun: list[str] = []

    async def begin_a_run(_rooted: Mapping[str, int]) -> list[str]:
        begun.append(await asyncio.to_thread(stack.begin, one))
        await asyncio.to_thread(until, stack.used, "no mark of the run came")
        for _ in range(20):
            await asyncio.sleep(0.1)
            assert not runs(one)
        return [key]

    async with (
        Engine.connect() as engine,
        StoreSession(engine, stack.settings, instance="test-gc", user="command") as store,
    ):
        first = {entry.key for entry in (await inventory_of(stack.settings)).keys} - {key}
        collected = await store.collect(begin_a_run, keeps=first)
        assert collected.keys == (key,)
    result = await asyncio.to_thread(stack.ended, begun[0])
    assert (result["outcome"], result["attempts"]) == ("OK", {"builder": 2, "runner": 2})
    assert (await asyncio.to_thread(stack.kinds, begun[0])).count("cache-lost") == 1


def test_a_run_whose_environment_is_kept_does_not_wait_for_a_collection(stack: GcStack) -> None:
    one = token()
    stack.key(one)
    with holding(stack), collection(stack) as process:
        assert stack.submit(one)["environment"]["hit"] is True
        assert process.poll() is None, "the collection waits for what is at work"


def test_a_run_whose_environment_has_no_roots_any_more_is_waited_for(stack: GcStack) -> None:
    """As a collection leaves it that was killed by force before it deleted, and another stack's run finds it."""
    one = token()
    key = stack.key(one)
    with endless_run(stack, one):
        stack.in_store(f"rm -r /nix/var/nix/gcroots/cutor/{key}")
        refused = stack.cutor("gc", "--yes", "--wait", "2")
        assert refused.returncode == 4, refused.stderr
        assert b"runs go on in environments whose roots are gone" in refused.stderr
        assert stack.there(one) == [True]
    stack.gc()
    assert stack.there(one) == [False]


def test_a_collection_that_does_not_get_the_store_gives_nothing_up(stack: GcStack) -> None:
    one = token()
    key = stack.key(one)
    with holding(stack):
        refused = stack.cutor("gc", "--yes", "--all", "--wait", "2")
        assert (refused.returncode, b"given up" in refused.stdout) == (4, False), refused
        assert b"was in use for longer than 2 s" in refused.stderr
    assert stack.submit(one)["environment"] | {"derivation": ""} == {"key": key, "derivation": "", "hit": True}


def test_roots_are_not_removed_beside_a_collection(stack: GcStack) -> None:
    """It may have looked for who removes roots already, and a run that begins trusts what its label says it keeps."""
    one = token()
    key = stack.key(one)
    with holding(stack), collection(stack) as process:
        until(lambda: running_collections(stack), "no collection runs")
        [removal] = stack.json("env", "remove", key)
        assert (removal["removed"], removal["held"]) == (True, "a collection is at work")
        assert process.poll() is None, process.communicate()
        assert key in stack.in_store("ls /nix/var/nix/gcroots/cutor")
    stack.gc()
    assert stack.there(one) == [False]


def test_what_submissions_wait_with_for_a_runner_stays(gc_settings: NixSettings, tmp_path: Path) -> None:
    """One that others may use, and one of a submission alone."""
    with running(tmp_path, gc_settings, "builder", "projector") as stack:
        tokens = [token(), token()]
        waiting = [stack.begin(one, cache=cache) for one, cache in zip(tokens, (True, False), strict=True)]
        until(lambda: all("cache-built" in stack.kinds(one) for one in waiting), "they were not built")
        kept = {kept["key"] for kept in stack.gc("--all")["plan"]["keep"] if kept["because"] == "in use"}
        entries = stack.json("env", "list")
        assert {entry["key"] for entry in entries} == kept
        assert [entry["waiting"] for entry in entries] == [1, 1]
        assert {entry["private_to"] for entry in entries} == {None, f"default/{waiting[1]}"}
        assert stack.there(*tokens) == [True] * 2
        for identity in waiting:
            assert stack.cutor("cancel", identity).returncode == 0
        stack.gc("--all")
        assert stack.there(*tokens) == [False] * 2


def test_a_collection_waits_for_a_long_build_and_takes_nothing_of_it(stack: GcStack) -> None:
    one = token()
    identity = stack.begin(one, takes=f"{SLEEP};")
    until(lambda: any("-builder-" in name for name in stack.containers("cutor.submission")), "the build did not begin")
    until(lambda: sleepers(f"name=made-{one}"), "the builder did not begin")
    refused = stack.cutor("gc", "--all", "--yes", "--wait", "1")
    assert refused.returncode == 4, refused.stderr
    assert b"was in use for longer than 1 s" in refused.stderr
    with collection(stack, "--all") as process:
        time.sleep(1)
        assert process.poll() is None, process.communicate()
        assert sleepers(f"name=made-{one}"), "the build goes on, so it was none of the plan's, which has been made"
        wake(f"name=made-{one}")
        out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, (out, err)
    result = stack.ended(identity)
    assert (result["outcome"], result["attempts"]) == ("OK", {"builder": 1, "runner": 1}), result
    assert "cache-lost" not in stack.kinds(identity)
    assert stack.there(one) == [True]
    stack.check_sound()


# -- stopped in the midst -----------------------------------------------------------------------------------------------


@contextmanager
def holding(stack: GcStack) -> Iterator[None]:
    """Somebody is at work in the store, as a build is, while the block lasts."""
    loop = asyncio.new_event_loop()

    async def begin() -> Any:
        engine = Engine.connect()
        child = store_container(await engine.__aenter__(), ["/usr/bin/python3", "-c", HOLD], stack.settings)
        assert await (await child.__aenter__()).receive() == b"held\n"
        return engine, child

    engine, child = loop.run_until_complete(begin())
    try:
        yield
    finally:
        loop.run_until_complete(child.__aexit__(None, None, None))
        loop.run_until_complete(engine.__aexit__(None, None, None))
        loop.close()


@contextmanager
def collection(stack: GcStack, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A collection whose container is there; it may wait for who is at work in the store."""
    command = [sys.executable, "-m", "cutor", "gc", "--yes", "--json", *arguments]
    process = subprocess.Popen(
        command, env=stack.user.stack.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    try:
        until(lambda: stack.containers(COLLECTS_LABEL) or process.poll() is not None, "no collection began")
        yield process
    finally:
        process.kill()
        process.communicate()
        until(lambda: not running_collections(stack), "the collection's container does not end")


def running_collections(stack: GcStack) -> list[str]:
    async def listed() -> list[str]:
        async with Engine.connect() as engine:
            found = await engine.labelled(COLLECTS_LABEL, stack.settings.store_volume)
            return [one.name for one in found if one.state == "running"]

    return asyncio.run(listed())


async def test_what_was_given_up_by_a_collection_that_failed_goes_with_the_next(stack: GcStack) -> None:
    """Stopped behind what it tells the log, and before it removes a root: the next one knows of both."""
    one = token()
    key = await asyncio.to_thread(stack.key, one)
    done = Done()

    def fail(_count: int) -> None:
        if key in done.removed:
            raise KeyError("the end")

    async with stack.collector() as collector:
        planned = await collector.plan(Wish(everything=True))
        with pytest.raises(KeyError, match="the end"):
            await collector.collect(planned, done, on_removed=fail)
    assert done.collected is None
    assert key in {rooted.key for rooted in (await inventory_of(stack.settings)).keys}
    assert (await asyncio.to_thread(stack.gc))["done"]["removed"] == []
    assert await asyncio.to_thread(stack.there, one) == [False]


def test_a_collection_that_is_stopped_while_it_waits_has_changed_nothing(stack: GcStack) -> None:
    one = token()
    key = stack.key(one)
    with holding(stack):
        for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            stop_while_it_waits(stack, stop)
            assert stack.submit(one)["environment"]["hit"] is True, stop
    assert key in stack.gc("--all")["done"]["removed"]
    assert stack.there(one) == [False]
    assert stack.containers(COLLECTS_LABEL) == []
    stack.check_sound()


def stop_while_it_waits(stack: GcStack, stop: signal.Signals) -> None:
    """Begin a collection, and stop it."""
    with collection(stack, "--all") as process:
        until(lambda: running_collections(stack), "no collection runs")
        process.send_signal(stop)
        out, err = process.communicate(timeout=PATIENCE_S)
        if stop == signal.SIGKILL:
            assert process.returncode == -signal.SIGKILL
        else:
            assert (process.returncode, err.strip()) == (130, b"cutor: interrupted")
            document = json.loads(out)
            assert document["error"] == {"message": "interrupted", "exit_code": 130}
            assert document["done"] == {"removed": [], "spared": [], "collected": None}
            assert stack.containers(COLLECTS_LABEL) == []


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["ctrl-c", "term", "kill"])
def test_a_collection_that_is_stopped_while_it_deletes_leaves_log_and_store_sound(stack: GcStack, stop: signal.Signals) -> None:
    tokens = [token() for _ in range(2)]
    many = "mkdir $out/many; for n in $(seq 4000); do echo $n > $out/many/$n; done;"
    keys = stack.keys(*tokens, takes=many)
    with collection(stack, "--all") as process:
        deleting(stack, process)
        process.send_signal(stop)
        out, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode in (0, -stop if stop == signal.SIGKILL else 130)
        if stop != signal.SIGKILL:
            assert sorted(json.loads(out)["done"]["removed"]) == sorted(keys)
    entries = {key: stack.json("env", "show", key)["environment"]["removed"] for key in keys}
    assert entries == dict.fromkeys(keys, True)
    stack.gc()
    assert stack.there(*tokens) == [False] * 2
    stack.check_sound()


def test_a_collection_that_fails_says_what_it_has_given_up_by_then(stack: GcStack) -> None:
    one = token()
    key = stack.key(one, takes="mkdir $out/many; for n in $(seq 4000); do echo $n > $out/many/$n; done;")
    with collection(stack, "--all") as process:
        assert kill(deleting(stack, process))
        out, err = process.communicate(timeout=PATIENCE_S)
    document = json.loads(out)
    assert (process.returncode, document["error"]["exit_code"]) == (3, 3), (out, err)
    assert "ended without a result" in document["error"]["message"]
    assert key in {taken["key"] for taken in document["plan"]["take"]}
    assert key in document["done"]["removed"]
    assert document["done"]["collected"] is None
    stack.gc()
    assert stack.there(one) == [False]


def deleting(stack: GcStack, process: subprocess.Popen[bytes]) -> int:
    """Wait until Nix deletes in the container of this collection, or it has ended; return the container's first process."""
    until(lambda: running_collections(stack) or process.poll() is not None, "no collection runs")
    init = next((init_of(one) for one in running_collections(stack)), 0)

    def deletes() -> bool:
        return any("nix-store\0--gc" in "\0".join(command_of(pid)) for pid in descendants(init))

    until(lambda: deletes() or process.poll() is not None, "nothing is deleted", every_s=0.005)
    return init


# -- stacks that share a store ------------------------------------------------------------------------------------------


def test_another_stacks_environments_are_left_alone_unless_told_otherwise(stack: GcStack, tmp_path: Path) -> None:
    own, theirs = token(), token()
    stack.key(own)
    with running(tmp_path, stack.settings, "builder", "runner") as other:
        key = other.key(theirs)
        done = stack.gc("--all")
        assert {"key": key, "because": "just built"} in done["plan"]["keep"]
        stack.in_store(AGED.format(key=key))
        done = stack.gc("--all")
        assert {"key": key, "because": "another stack's"} in done["plan"]["keep"]
        assert stack.there(own, theirs) == [False, True]
        assert other.submit(theirs)["environment"]["hit"] is True
        with endless_run(other, theirs):
            done = stack.gc("--all", "--unknown")
            assert {"key": key, "because": "in use"} in done["plan"]["keep"]
        done = stack.gc("--all", "--unknown")
        assert key in {one["key"] for one in done["plan"]["take"]}
        assert stack.there(theirs) == [False]
        again = other.submit(theirs)
        assert (again["outcome"], again["attempts"]) == ("OK", {"builder": 2, "runner": 2}), (
            "it is missed once, and built again"
        )


def test_what_a_submission_alone_has_is_its_own_beside_one_of_its_name_in_another_stack(stack: GcStack, tmp_path: Path) -> None:
    one, name = token(), f"s{secrets.token_hex(4)}"
    with running(tmp_path, stack.settings, "builder") as other:
        other.begin(one, cache=False, name=name)
        until(lambda: "cache-built" in other.kinds(name), "it was not built")
        theirs = other.json("status", name)["environment"]["key"]
        ours = stack.submit(one, cache=False, name=name)
        assert ours["outcome"] == "OK"
        key = ours["environment"]["key"]
        until(lambda: key not in stack.in_store("ls /nix/var/nix/gcroots/cutor"), "its roots were not removed")
        assert theirs in stack.in_store("ls /nix/var/nix/gcroots/cutor")
        stack.gc("--all")
        assert stack.there(one) == [True]


def test_from_this_host_alone_the_log_is_not_told_and_the_cache_gives_it_back(stack: GcStack, tmp_path: Path) -> None:
    refused = stack.cutor("gc", "--yes", "--all", "--local")
    assert (refused.returncode, b"needs a binary cache" in refused.stderr) == (2, True)
    public = stack.json("env", "cache-key", "test-1", str(tmp_path / "key"))["public_key"]
    cache = open_directory(tmp_path / "cache")
    nix = f'cache_url = "file://{cache}"\ncache_secret_key_file = "{tmp_path / "key"}"\ncache_public_keys = ["{public}"]'
    with running(tmp_path, stack.settings, "builder", "runner", "projector", nix=nix) as other:
        one = token()
        key = other.key(one)
        done = other.gc("--all", "--local")["done"]
        assert (done["removed"], done["collected"]["keys"]) == ([], [key])
        assert other.there(one) == [False]
        [entry] = other.json("env", "list")
        assert (entry["key"], entry["removed"]) == (key, False)
        again = other.submit(one)
        assert (again["outcome"], again["environment"]["hit"]) == ("OK", True)
        assert again["attempts"] == {"builder": 1, "runner": 1}
        assert other.there(one) == [True]


def test_on_a_terminal_somebody_is_asked(stack: GcStack) -> None:
    one = token()
    stack.key(one)
    for answer, gone in (("n", False), ("y", True)):
        said = collected_on_a_terminal(stack, answer)
        assert re.search(rb"would go: \d.* of \d environments?", said), said
        assert (re.search(rb"deleted \d", said) is not None, stack.there(one)) == (gone, [not gone])
        assert (b"nothing is deleted" in said) is not gone


def collected_on_a_terminal(stack: GcStack, answer: str) -> bytes:
    """Collect on a terminal, where this is answered; return what is said there."""
    main, terminal = os.openpty()
    command = [sys.executable, "-m", "cutor", "gc", "--all"]
    process = subprocess.Popen(command, env=stack.user.stack.environment, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    said = b""
    with suppress(OSError):  # the end of a terminal
        while piece := os.read(main, 4096):
            said += piece
            if b"Delete this?" in said and b"[y/N]" in said and answer:
                os.write(main, f"{answer}\n".encode())
                answer = ""
    os.close(main)
    assert process.wait(PATIENCE_S) == 0, said
    return said


def test_who_can_not_be_asked_has_to_say_yes(stack: GcStack) -> None:
    refused = stack.cutor("gc", "--all")
    assert (refused.returncode, refused.stdout) == (2, b"")
    assert b"--yes" in refused.stderr
    for odd in ("30", "d", "-1d", "1.5GiB"):
        assert stack.cutor("gc", "--older-than", odd).returncode == 2
        assert stack.cutor("gc", "--max-size", odd).returncode == 2

"""`cutor up --restore` and `--durable`: a stack that begins with a backup, and one that acknowledges what is on the disk."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cutor import Client
from cutor.bus.bodies import Bodies
from cutor.bus.connection import Bus
from cutor.bus.embedded import EmbeddedServer
from cutor.bus.server_file import sync_interval_of
from cutor.bus.topology import apply, default_text, parse
from cutor.journal import backup
from cutor.stack.lock import read_holder
from tests.bare_stack import User, one_line, request
from tests.ports import free_port
from tests.processes import descendants, kill, name_of

QUICK = {
    "files": [
        {"name": "shell.nix", "content": "{ pkgs ? import <nixpkgs> { } }: pkgs.mkShell { }"},
        {"name": "cutor-run.sh", "content": "cat"},
    ],
    "test_cases": [{"input": "in\n", "expected_output": "in\n"}],
}


def submitted(user: User, identity: str) -> None:
    done = user.cutor("submit", "-", "--id", identity, stdin=request())
    assert done.returncode == 0, done.stderr


def status(user: User, identity: str) -> str:
    done = user.cutor("status", identity, "--json")
    assert done.returncode in {0, 1}, done.stderr
    return str(json.loads(done.stdout)["status"])


@pytest.fixture
def backed_up(user: User) -> Path:
    """The backup of a stack that is stopped; two submissions are in it, one of them cancelled."""
    directory = user.home / "backup"
    assert user.up().returncode == 0
    for identity in ("queued", "ended"):
        submitted(user, identity)
    assert user.cutor("cancel", "ended").returncode == 0
    done = user.cutor("streams", "backup", str(directory))
    assert done.returncode == 0, done.stderr
    submitted(user, "too-late")
    assert user.down().returncode == 0
    return directory


def restored(user: User, directory: Path) -> User:
    """Another user of this machine with a stack from that backup."""
    (user.home / "second").mkdir(exist_ok=True)
    other = User(user.home / "second")
    started = other.up("--restore", str(directory))
    assert started.returncode == 0, started.stderr
    return other


def test_a_stack_begins_with_a_backup(user: User, backed_up: Path) -> None:
    other = restored(user, backed_up)
    try:
        assert (status(other, "queued"), status(other, "ended")) == ("SUBMITTED", "CANCELLED")
        assert "too-late" in one_line(other.cutor("status", "too-late"), 2), "nobody knows it here"
        submitted(other, "queued")
        submitted(other, "too-late")
        assert status(other, "too-late") == "SUBMITTED"
        log = (other.stack.data / "log" / "supervisor.log").read_text()
        assert f"restoring the streams of {backed_up}" in log
        assert "the streams are restored as they were at" in log
        assert not (other.stack.data / "restoring").exists()
        assert other.down().returncode == 0
        assert other.up().returncode == 0, "the next start has nothing to restore"
        assert status(other, "ended") == "CANCELLED"
    finally:
        assert other.down().returncode == 0
    assert "has streams already: `--restore` takes one without any (`--data NEW`)" in one_line(
        other.up("--restore", str(backed_up)), 2
    )


def test_a_stack_that_would_work_beside_the_one_that_its_backup_is_of_is_refused(user: User, backed_up: Path) -> None:
    new = user.home / "new"

    def up(data: Path, roles: str) -> subprocess.CompletedProcess[str]:
        return user.cutor("up", "--detach", "--data", str(data), "--restore", str(backed_up), "--roles", roles)

    assert user.up().returncode == 0
    said = one_line(up(new, "builder"), 2)
    assert f"the stack of {user.stack.data}, which the backup is of, runs: both would run what was queued" in said
    assert f"`cutor down --data {user.stack.data}`" in said
    assert not (new / "nats" / "jetstream").exists()
    try:
        assert up(new, "projector").returncode == 0, "who only looks does no harm"
    finally:
        assert user.cutor("down", "--data", str(new)).returncode == 0
    assert user.down().returncode == 0
    again = user.home / "again"
    try:
        started = up(again, "builder")
        assert started.returncode == 0, started.stderr
    finally:
        assert user.cutor("down", "--data", str(again)).returncode == 0


def test_what_is_no_backup_makes_no_stack(user: User, tmp_path: Path) -> None:
    said = one_line(user.up("--restore", str(tmp_path / "nothing")), 2)
    assert "holds no finished backup" in said
    assert not (user.stack.data / "nats").exists()
    assert user.up().returncode == 0, "and is in nobody's way"


def test_a_restore_that_did_not_begin_leaves_the_directory_as_good_as_it_was(user: User, backed_up: Path) -> None:
    """No port for the server, then a backup of a server that is newer than this one: no stream was made."""
    (user.home / "second").mkdir()
    other = User(user.home / "second")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = one_line(other.up("--restore", str(backed_up), "--port", str(port)), 3)
    assert str(port) in said
    assert not (other.stack.data / "restoring").exists()
    manifest = backed_up / "manifest.json"
    good = manifest.read_text()
    manifest.write_text(json.dumps(json.loads(good) | {"server_version": "99.0.0"}))
    said = one_line(other.up("--restore", str(backed_up)), 2)
    assert "99.0.0" in said
    assert not (other.stack.data / "restoring").exists()
    manifest.write_text(good)
    started = other.up("--restore", str(backed_up))
    try:
        assert started.returncode == 0, started.stderr
        assert status(other, "ended") == "CANCELLED"
    finally:
        other.down()


def test_a_restore_that_did_not_end_is_never_built_upon(user: User, backed_up: Path) -> None:
    """The server refuses the stream in the middle: its file was made to differ from what the manifest says, hash included."""
    manifest = json.loads((backed_up / "manifest.json").read_text())
    for stream in manifest["streams"]:
        if stream["name"] == "EVENTS":
            stream["messages"] += 1
            stream["last_sequence"] += 1
    (backed_up / "manifest.json").write_text(json.dumps(manifest))
    (user.home / "second").mkdir()
    other = User(user.home / "second")
    assert "stream EVENTS was not restored whole: it holds" in one_line(other.up("--restore", str(backed_up)), 3)
    for options in ((), ("--restore", str(backed_up))):
        said = one_line(other.up(*options), 2)
        assert "did not end, and its streams are not whole: restore into another data directory" in said


def test_a_start_that_is_stopped_within_its_restore_leaves_a_directory_that_says_so(user: User, tmp_path: Path) -> None:
    """128 MiB, so that the signal comes in time."""
    source = user.home / "source"
    asyncio.run(large_backup(tmp_path / "nats", source))
    command = [sys.executable, "-m", "cutor", "up", "--data", str(user.stack.data), "--roles", "", "--restore", str(source)]
    process = subprocess.Popen(command, env=user.stack.environment, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: (user.stack.data / "nats" / "jetstream").exists() and (user.stack.data / "restoring").exists())
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=180)[1]
    finally:
        process.kill()
    assert process.returncode == 2
    assert "stopped before it was ready" in said
    assert "did not end, and its streams are not whole: restore into another data directory" in said
    assert "did not end, and its streams are not whole" in one_line(user.up(), 2)


async def large_backup(store: Path, directory: Path) -> None:
    """The backup of a server with much in it."""
    async with (
        await EmbeddedServer.start(store, port=free_port("127.0.0.1")) as server,
        Bus.connect(server.url, name="test") as bus,
    ):
        await apply(bus, parse(default_text(), ["default"]))
        for _ in range(2):
            await asyncio.gather(*(Bodies(bus).put(os.urandom(8 << 20)) for _ in range(8)))
        await backup.make(bus, directory)


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 180
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_durable_stack_stays_durable_when_its_server_is_killed(user: User) -> None:
    assert user.up("--durable").returncode == 0
    store = user.stack.data / "nats"
    assert sync_interval_of(store) == "always"
    assert "on the disk before it is acknowledged" in user.cutor("doctor").stdout
    old = (store / "nats-server.conf").stat().st_mtime_ns
    holder = read_holder(user.stack.data / "lock")
    assert holder is not None
    [server] = [pid for pid in descendants(holder.pid) if name_of(pid) == "nats-server"]
    kill(server)
    deadline = time.monotonic() + 180
    while user.cutor("status", "nobody").returncode == 3:  # nothing answers: it is started again
        assert time.monotonic() < deadline
    submitted(user, "after")
    assert (store / "nats-server.conf").stat().st_mtime_ns > old
    assert sync_interval_of(store) == "always"
    assert user.down().returncode == 0
    assert user.up().returncode == 0
    assert sync_interval_of(store) == "2m", "as configured, unless a start says otherwise"
    assert "forced to the disk every 2m" in user.cutor("doctor").stdout


def test_a_configured_interval_is_the_servers(user: User) -> None:
    config = user.home / "config.toml"
    config.write_text('[server]\nsync_interval = "always"\n')
    assert user.up("--config", str(config)).returncode == 0
    assert sync_interval_of(user.stack.data / "nats") == "always"
    assert user.down().returncode == 0
    config.write_text('[server]\nsync_interval = "sometimes"\n')
    said = one_line(user.up("--config", str(config)), 2)
    assert said.endswith("server.sync_interval: 'sometimes' is neither `always` nor a time such as 2m or 500ms\n")


async def test_a_restored_stack_goes_on_with_what_was_queued_and_ends_everything_once(user: User) -> None:
    """Submissions come and run while the backup is taken; the stack that it was taken from is gone then."""
    directory = user.home / "backup"
    started = await asyncio.to_thread(user.up, roles=["builder", "runner"])
    assert started.returncode == 0, started.stderr
    stop = asyncio.Event()
    acknowledged: list[str] = []

    async def load(client: Client) -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            acknowledged.append((await client.submit(QUICK, id=f"s{number}")).id)
            await asyncio.sleep(0.05)

    async with Client(user.stack.server) as client:
        await client.submit(QUICK, id="s0")
        await client.result("s0", wait=True, timeout_s=240)
        loading = asyncio.create_task(load(client))
        while len(acknowledged) < 5:
            await asyncio.sleep(0.05)
        done = await asyncio.to_thread(user.cutor, "streams", "backup", str(directory), "--json")
        assert done.returncode == 0, done.stderr
        stop.set()
        await loading
    assert (await asyncio.to_thread(user.cutor, "down", "--now", "--data", str(user.stack.data))).returncode == 0

    (user.home / "second").mkdir()
    other = User(user.home / "second")
    started = await asyncio.to_thread(other.up, "--restore", str(directory), roles=["builder", "runner", "projector"])
    assert started.returncode == 0, started.stderr
    try:
        await check_continued(other, acknowledged)
    finally:
        assert (await asyncio.to_thread(other.down)).returncode == 0


async def check_continued(other: User, acknowledged: list[str]) -> None:
    """Whoever hands in all that was acknowledged again, under the same ids, gets each of them done once."""
    async with Bus.connect(other.stack.server, name="test") as bus:
        first = [stored.subject async for stored in bus.read("EVENTS", filter="cutor.ev.default.*.submitted")]
    kept = {subject.split(".")[3] for subject in first}
    assert {"s0"} < kept <= {*acknowledged}
    async with Client(other.stack.server) as client:
        for identity in acknowledged:
            await client.submit(QUICK, id=identity)
        for identity in acknowledged:
            assert (await client.result(identity, wait=True, timeout_s=180)).outcome == "OK"
    async with Bus.connect(other.stack.server, name="test") as bus:
        ends = [stored.subject async for stored in bus.read("EVENTS", filter="cutor.ev.default.*.finished")]
    assert sorted(subject.split(".")[3] for subject in ends) == sorted(acknowledged)

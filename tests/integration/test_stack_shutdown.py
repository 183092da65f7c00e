"""SIGTERM while submissions run and wait: what may finish does, the rest is handed back, and each ends exactly once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cutor.bus.connection import Bus
from cutor.bus.message import Stored
from cutor.model.subjects import EVENTS, parse_event_subject
from cutor.stack.lock import is_free, read_holder
from tests.bare_stack import User
from tests.containers import container_ids
from tests.integration.live_submissions import TERMINAL, document, hand_in
from tests.integration.live_submissions import ended as cleaned_up
from tests.processes import Sleep, descendants, name_of, naming

PATIENCE_S = 240.0
SHELL = "{ pkgs ? import <nixpkgs> { } }: pkgs.mkShell { }"
NAMES = ("first", "second", "third", "fourth")
"""Two run at one time, two wait."""
LONG_MS = 600_000
"""Longer than a test lasts."""


@pytest.fixture
def user(user: User) -> Iterator[User]:
    """A user whose stacks leave no container, whatever a test did to them."""
    yield user
    for data in (user.home / "alone", user.stack.data):
        if data.exists():
            assert user.cutor("down", "--data", str(data)).returncode == 0
            assert container_ids(f"label=cutor={(data / 'instance').read_text().strip()}") == []


def until(true: Callable[[], Any]) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def processes(directory: Path) -> list[str]:
    """Return the command lines that name something beneath a directory."""
    return [*naming(directory).values()]


def configure(user: User, grace_s: float) -> list[str]:
    file = user.home / "config.toml"
    file.write_text(f"shutdown_grace_s = {grace_s}\n[runner]\nslots = 2\n[limits.run.maximum]\nwall_time_ms = {LONG_MS}\n")
    return ["--config", str(file)]


def up(user: User, grace_s: float, *roles: str) -> int:
    """Start a stack in the background; return its supervisor's pid."""
    started = user.up(*configure(user, grace_s), roles=roles or ("builder", "runner"))
    assert started.returncode == 0, started.stderr
    holder = read_holder(user.stack.data / "lock")
    assert holder is not None
    return holder.pid


def submit(user: User) -> Sleep:
    """Hand in one submission a name: each sleeps until it is woken."""
    sleep, limits = Sleep(), {"run": {"wall_time_ms": LONG_MS}}
    for name in NAMES:
        script = f"{sleep.script}; echo done"
        cases = [{"expected_output": "done\n"}]
        hand_in(user.stack, document(script, shell=SHELL, test_cases=cases, limits=limits), name=name)
    return sleep


def kinds(user: User) -> dict[str, list[str]]:
    """Return the kinds of the events of every submission, a lease with its role."""

    async def read() -> list[Stored]:
        async with Bus.connect(user.stack.server, name="test") as bus:
            return [stored async for stored in bus.read(EVENTS)]

    found: dict[str, list[str]] = {}
    for stored in asyncio.run(read()):
        subject = parse_event_subject(stored.subject)
        assert subject is not None
        role = f"({json.loads(stored.body)['lease']['role']})" if subject.kind == "leased" else ""
        found.setdefault(subject.address.id, []).append(subject.kind + role)
    return found


def running(user: User) -> list[str]:
    """Return the submissions that a runner works on."""
    return [name for name, events in kinds(user).items() if events[-1] == "leased(runner)"]


def two_run(user: User, sleep: Sleep) -> list[str]:
    """Wait until the programs of two submissions run; return which."""
    until(lambda: len(sleep.pids) == 2 and len(running(user)) == 2)
    return running(user)


@contextmanager
def awake(sleep: Sleep) -> Iterator[None]:
    """Wake whoever sleeps while the block lasts."""
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(0.1):
            sleep.wake()

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def attempts(user: User, sleep: Sleep) -> dict[str, int]:
    """Let every submission end; check that each does once, and well; return a runner's attempts at it."""
    found = {}
    for name in NAMES:
        with awake(sleep):
            result = cleaned_up(user.stack, name, timeout_s=PATIENCE_S)
        assert (result["outcome"], [stage["outcome"] for stage in result["run"]]) == ("OK", ["OK"]), name
        found[name] = result["attempts"]["runner"]
    told = kinds(user)
    assert [sum(kind in TERMINAL for kind in told[name]) for name in NAMES] == [1] * len(NAMES)
    return found


def stops(user: User) -> None:
    """Wait until a stack has heard that it is to end: signals that come at one time are one."""
    log = user.stack.data / "log" / "supervisor.log"
    until(lambda: "stopping" in log.read_text())


def ended(user: User) -> None:
    """Wait until no process of the stack is left; then no container may be."""
    until(lambda: is_free(user.stack.data / "lock") and not processes(user.stack.data))
    assert container_ids(f"label=cutor={user.stack.instance}") == []


@contextmanager
def runner_alone(user: User, grace_s: float) -> Iterator[subprocess.Popen[str]]:
    """Run `cutor runner` by itself for the user's stack; it is gone at the end."""
    data = user.home / "alone"
    command = [sys.executable, "-m", "cutor", *configure(user, grace_s), "runner", "--data", str(data)]
    process = subprocess.Popen(
        [*command, "--server", user.stack.server], env=user.stack.environment, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        until(lambda: "is ready" in (process.stderr.readline() if process.stderr else ""))
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_a_stack_finishes_what_runs_within_its_grace(user: User) -> None:
    supervisor = up(user, 600)
    sleep = submit(user)
    before = two_run(user, sleep)
    os.kill(supervisor, signal.SIGTERM)
    stops(user)
    with awake(sleep):
        ended(user)
    assert "stopping: what runs may finish within 600 s" in (user.stack.data / "log" / "supervisor.log").read_text()
    up(user, 600)
    assert attempts(user, sleep) == dict.fromkeys(NAMES, 1), before


@pytest.mark.parametrize(("grace_s", "signals"), [(0, 1), (600, 2)])
def test_a_stack_that_may_not_wait_hands_back_what_runs(user: User, grace_s: float, signals: int) -> None:
    supervisor = up(user, grace_s)
    sleep = submit(user)
    before = two_run(user, sleep)
    for _ in range(signals):
        os.kill(supervisor, signal.SIGTERM)
        stops(user)
    ended(user)
    said = (user.stack.data / "log" / "supervisor.log").read_text()
    assert ("stopping now: what runs is handed back" in said) == (signals == 2)
    assert all("2 in work: stopped and handed back" in line for line in said_by(user, "runner", "stopped and handed back"))
    up(user, grace_s)
    assert attempts(user, sleep) == {name: 2 if name in before else 1 for name in NAMES}


def said_by(user: User, role: str, words: str) -> list[str]:
    """Return the lines of a role's log that hold some words; one at least."""
    lines = [line for line in (user.stack.data / "log" / f"{role}.log").read_text().splitlines() if words in line]
    assert lines
    return lines


def test_a_stack_that_is_killed_while_it_finishes_loses_nothing(user: User) -> None:
    supervisor = up(user, 600)
    sleep = submit(user)
    two_run(user, sleep)
    os.kill(supervisor, signal.SIGTERM)
    stops(user)
    os.kill(supervisor, signal.SIGKILL)
    until(lambda: is_free(user.stack.data / "lock") and not processes(user.stack.data))
    up(user, 600)
    assert set(attempts(user, sleep).values()) <= {1, 2}


def test_a_runner_by_itself_finishes_what_runs_within_its_grace(user: User) -> None:
    up(user, 600, "builder")
    with runner_alone(user, 600) as runner:
        instance = (user.home / "alone" / "instance").read_text().strip()
        sleep = submit(user)
        two_run(user, sleep)
        runner.send_signal(signal.SIGTERM)
        with awake(sleep):
            _, said = runner.communicate(timeout=PATIENCE_S)
        assert (runner.returncode, "in work may finish within 600 s" in said) == (0, True), said
        assert container_ids(f"label=cutor={instance}") == []
        assert {events[-1] for events in kinds(user).values()} <= {"cleaned", "submitted", "leased(builder)", "cache-built"}
        assert running(user) == []
    with runner_alone(user, 600):
        assert attempts(user, sleep) == dict.fromkeys(NAMES, 1)


@pytest.mark.parametrize(
    ("grace_s", "number", "times"), [(0, signal.SIGTERM, 1), (600, signal.SIGTERM, 2), (600, signal.SIGINT, 2)]
)
def test_a_runner_by_itself_that_may_not_wait_hands_back_what_runs(
    user: User, grace_s: float, number: signal.Signals, times: int
) -> None:
    up(user, 600, "builder")
    with runner_alone(user, grace_s) as runner:
        instance = (user.home / "alone" / "instance").read_text().strip()
        sleep = submit(user)
        before = two_run(user, sleep)
        runner.send_signal(number)
        for _ in range(times - 1):
            assert runner.stderr is not None
            assert any("in work may finish" in line for line in runner.stderr)
            runner.send_signal(number)
        _, said = runner.communicate(timeout=PATIENCE_S)
        assert (runner.returncode, "2 in work: stopped and handed back" in said) == (0, True), said
        assert container_ids(f"label=cutor={instance}") == []
    with runner_alone(user, grace_s):
        assert attempts(user, sleep) == {name: 2 if name in before else 1 for name in NAMES}


def test_a_killed_runner_by_itself_loses_nothing(user: User) -> None:
    up(user, 600, "builder")
    with runner_alone(user, 600) as runner:
        instance = (user.home / "alone" / "instance").read_text().strip()
        sleep = submit(user)
        two_run(user, sleep)
        runner.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        runner.kill()
        runner.wait()
        left = container_ids(f"label=cutor={instance}")
    with runner_alone(user, 600):
        there = container_ids(f"label=cutor={instance}")
        assert not set(left) & set(there), "what a dead life left behind is removed before a role is ready"
        assert set(attempts(user, sleep).values()) <= {1, 2}


def test_a_projector_ends_soon_while_it_answers(user: User) -> None:
    """A query runs for as long as it may: nobody waits for it at a stop."""
    supervisor = up(user, 0, "projector")
    endless = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r"
    command = [sys.executable, "-m", "cutor", "query", endless, "--timeout", "100"]
    asking = subprocess.Popen(command, env=user.stack.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: runs_a_query(user.stack.data))
        os.kill(supervisor, signal.SIGTERM)
        ended(user)
        assert asking.wait(PATIENCE_S) in {3, 4}  # unavailable, or no answer in time
    finally:
        asking.kill()
        asking.communicate()
    assert not list(user.stack.data.glob("projections.duckdb.snapshot*"))
    assert "SIGKILL" not in (user.stack.data / "log" / "supervisor.log").read_text()


def runs_a_query(data: Path) -> bool:
    """Tell whether a process that runs a question is beneath the projector of a data directory."""
    return any(name_of(pid) == "query" for one in naming(data) for pid in descendants(one))

"""What an attack leaves behind makes `make attacks` fail: each kind of it is planted, on the real host, and found."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.attacks import leftovers
from tests.attacks.leftovers import IDLE_PROCESSES, Census, Watch, left, watching
from tests.attacks.stack import MARK, AttackedStack
from tests.child_image import IMAGE

NOBODYS_UID = 1_900_000_000
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="control groups and mounts are made by root alone")


@pytest.fixture
def stack(tmp_path: Path) -> AttackedStack:
    """The directories of a stack that is not running: what it leaves is planted."""
    stack = AttackedStack(tmp_path, secrets.token_hex(8), NOBODYS_UID)
    stack.temporary.mkdir()
    stack.data.mkdir()
    (stack.data / "instance").write_text(f"test-{stack.mark}\n")
    return stack


@pytest.fixture
def watch(stack: AttackedStack) -> Iterator[Watch]:
    with watching(stack) as watch:
        yield watch


@contextmanager
def container(stack: AttackedStack, *options: str) -> Iterator[str]:
    """A container with the stack's label; it is removed in the end, its volumes are not."""
    command = ["docker", "create", "--label", f"cutor={stack.instance}", *options, IMAGE, "/usr/bin/sleep", "60"]
    identity = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    try:
        yield identity
    finally:
        subprocess.run(["docker", "rm", "--force", identity], capture_output=True, check=True)


def found(watch: Watch, before: Census) -> set[str]:
    """Return the kinds of what is left now."""
    return {line.partition(":")[0] for line in left(before, watch.census())}


def test_nothing_is_left_where_nothing_was_done(watch: Watch) -> None:
    assert watch.leftovers(watch.census()) == []


@pytest.mark.parametrize("known_by", ["mark", "uid"])
def test_a_process_is_left(stack: AttackedStack, watch: Watch, known_by: str) -> None:
    before = watch.census()
    uid = NOBODYS_UID + 1 if known_by == "uid" else None
    if uid is not None and os.geteuid() != 0:
        pytest.skip("another uid is root's to take")
    marked = {MARK: stack.mark} if known_by == "mark" else {}
    process = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, env=marked, user=uid, cwd="/")
    try:
        assert found(watch, before) == {"processes"}
    finally:
        process.communicate()
    assert found(watch, before) == set()


def test_a_process_is_left_in_a_container_that_waits(stack: AttackedStack) -> None:
    """Where containers are reused, one may wait that served somebody: with its own three processes, and no more."""
    stack = replace(stack, reuse=2)
    labels = [f"--label=cutor.data={stack.data}", "--label=cutor.role=runner"]
    with watching(stack) as watch, container(stack, *labels) as identity:
        subprocess.run(["docker", "start", identity], capture_output=True, check=True)
        before = watch.census()
        sleeping = ["docker", "exec", "--detach", identity, "/usr/bin/sleep", "60"]
        for _ in range(IDLE_PROCESSES - 1):
            subprocess.run(sleeping, capture_output=True, check=True)
        assert found(watch, before) == set()
        subprocess.run(sleeping, capture_output=True, check=True)
        assert found(watch, before) == {"processes"}


def test_a_container_is_left_and_its_directories_with_it(stack: AttackedStack, watch: Watch) -> None:
    before = watch.census()
    with container(stack):
        assert found(watch, before) >= {"containers", "directories"}
    assert watch.leftovers(before) == []


@pytest.mark.parametrize("place", ["tmp/left", "data/left"])
def test_a_directory_is_left(stack: AttackedStack, watch: Watch, place: str) -> None:
    before = watch.census()
    (stack.home / place).mkdir()
    assert left(before, watch.census()) == [f"directories: {stack.home / place}"]


def test_a_volume_is_left(stack: AttackedStack, watch: Watch) -> None:
    before = watch.census()
    with container(stack, "--volume", "/somewhere") as identity:
        subprocess.run(["docker", "start", identity], capture_output=True, check=True)
    volumes = set(watch.census().volumes)
    try:
        assert found(watch, before) == {"volumes"}
        assert len(volumes) == 1
    finally:
        subprocess.run(["docker", "volume", "rm", *volumes], capture_output=True, check=True)
    assert found(watch, before) == set()


@NEEDS_ROOT
def test_a_control_group_is_left(stack: AttackedStack, watch: Watch) -> None:
    before = watch.census()
    with container(stack) as identity:
        pass
    root = Path("/sys/fs/cgroup")
    parent = next(place for place in (root / "docker", root / "memory/docker", root / "system.slice") if place.is_dir())
    group = parent / (f"docker-{identity}.scope" if parent.name == "system.slice" else identity)
    group.mkdir()
    try:
        assert left(before, watch.census()) == [f"cgroups: {group}"]
    finally:
        group.rmdir()


@NEEDS_ROOT
def test_a_mount_is_left(stack: AttackedStack, watch: Watch, tmp_path_factory: pytest.TempPathFactory) -> None:
    before = watch.census()
    with container(stack) as identity:
        pass
    place = tmp_path_factory.mktemp("mounts") / identity
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(place)], check=True)
    try:
        assert found(watch, before) == {"mounts"}
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_what_goes_within_the_patience_is_not_left(stack: AttackedStack, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    before = watch.census()
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1)"], env={MARK: stack.mark})
    try:
        assert watch.leftovers(before) == []
    finally:
        process.wait()
    monkeypatch.setattr(leftovers, "PATIENCE_S", 0)
    (stack.temporary / "left").touch()
    assert len(watch.leftovers(before)) == 1

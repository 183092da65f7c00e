"""A fixture: a stack without roles. Submissions stay queued in it, so it serves tests of everything before the first lease."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.commands import decoded
from tests.live_stack import Stack, surroundings

SOURCES = {"shell.nix": "{ }: { }", "cutor-run.sh": "true"}


@dataclass(frozen=True)
class User:
    """A user of this machine whose directories are all beneath one, and the stack that may run there."""

    home: Path

    @property
    def stack(self) -> Stack:
        return Stack(self.home / "data", surroundings(self.home))

    def cutor(self, *args: str, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the command as this user."""
        stack = Stack(self.home / "data", surroundings(self.home) | environment)
        return decoded(stack.cutor(*args, stdin=stdin))

    def up(self, *args: str, roles: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Start a stack in the background; `down` is up to the test."""
        return self.cutor("up", "--detach", "--data", str(self.stack.data), "--roles", ",".join(roles), *args)

    def down(self) -> subprocess.CompletedProcess[str]:
        """Stop it."""
        return self.cutor("down", "--data", str(self.stack.data))


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    """A user of this test alone; a stack that the test started is stopped, whatever happened."""
    user = User(tmp_path)
    yield user
    if user.stack.data.exists() and (user.stack.data / "instance").exists():
        ended = user.down()
        assert ended.returncode == 0, ended.stderr


@contextmanager
def bare_stack(home: Path) -> Iterator[User]:
    """Run a stack without roles; its request size is bounded to 64 KiB."""
    user = User(home)
    config = user.home / "config.toml"
    config.write_text("[bounds]\nrequest_bytes = 65536\n")
    started = user.up("--config", str(config))
    assert started.returncode == 0, started.stderr
    try:
        yield user
    finally:
        ended = user.down()
        assert ended.returncode == 0, ended.stderr


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """One stack without roles for the whole run of tests: whoever starts one beside it takes what other tests left there."""
    with bare_stack(tmp_path_factory.mktemp("bare")) as user:
        yield user


def one_line(done: subprocess.CompletedProcess[str], code: int) -> str:
    """Check that a command failed with this code and one plain line on stderr; return the line."""
    assert done.returncode == code, (done.stdout, done.stderr)
    assert done.stderr.startswith("cutor: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def request(**more: object) -> bytes:
    """Return the JSON of a request that is good but for what is asked for."""
    files = [{"name": name, "content": content} for name, content in SOURCES.items()]
    return json.dumps({"files": files, "test_cases": [{}]} | more).encode()

"""A fixture: one stack, started as a user starts it, for all tests that submit to it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cutor.nix.settings import NixSettings
from tests import commands
from tests.stores import write_config

EXAMPLES = Path(__file__).parents[1] / "examples"
PATIENT = """
[limits.run.default]
wall_time_ms = 60000

[limits.run.maximum]
wall_time_ms = 600000
"""
"""Settings that give a run time on a machine that does much else: what is to run into its wall time says so, and what is to go
on until it is cancelled does.
"""


@dataclass(frozen=True)
class Stack:
    """A running stack: where its data is, and the environment in which the command finds it."""

    data: Path
    environment: dict[str, str]

    def cutor(self, *args: str, stdin: bytes = b"", timeout_s: float = 280) -> subprocess.CompletedProcess[bytes]:
        """Run the command as a user of this stack."""
        return commands.run(args, self.environment, stdin=stdin, timeout_s=timeout_s)

    def result(self, *args: str, stdin: bytes = b"") -> dict[str, Any]:
        """Submit, wait, and return the result document."""
        done = self.cutor("submit", *args, "--wait", "--json", stdin=stdin)
        assert done.stdout, done.stderr.decode()
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    @property
    def server(self) -> str:
        """The address of the stack's server, with its credential."""
        found: str = json.loads((Path(self.environment["XDG_STATE_HOME"]) / "cutor" / "current.json").read_text())["server"]
        return found

    @property
    def instance(self) -> str:
        """The label of the stack's containers."""
        return (self.data / "instance").read_text().strip()


def surroundings(directory: Path) -> dict[str, str]:
    """Return the environment of a user whose directories are all beneath one."""
    homes = {name: str(directory / name) for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")}
    rest = {name: value for name, value in os.environ.items() if not name.startswith("CUTOR_")}
    return rest | homes


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, nix_settings: NixSettings) -> Iterator[Stack]:
    """One stack for the whole run of tests, on their own store."""
    directory = tmp_path_factory.mktemp("stack")
    stack = Stack(directory / "data", surroundings(directory))
    config = write_config(Path(stack.environment["XDG_CONFIG_HOME"]) / "cutor" / "config.toml", nix_settings)
    config.write_text(config.read_text() + PATIENT)
    started = stack.cutor("up", "--detach", "--data", str(stack.data))
    assert started.returncode == 0, started.stderr.decode()
    try:
        yield stack
    finally:
        ended = stack.cutor("down", "--data", str(stack.data))
        assert ended.returncode == 0, ended.stderr.decode()

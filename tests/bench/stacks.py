"""Real stacks on store volumes of their own, for benchmarks of environments: started and stopped as users do it.

Everything is beneath one temporary directory and on Docker volumes `cutor-test-…`, and is removed with it.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

from cutor.client.client import Client
from cutor.containers.engine import Engine
from tests.live_stack import Stack, surroundings

PATIENCE_S: Final = 120.0
"""How long what has to come is waited for: roles, a builder's turn, clean-up."""


class Unexpected(Exception):
    """Something is not as it must be; what is measured or shown would mean nothing."""


def expect(condition: object, what: object) -> None:
    """Raise `Unexpected` with ``what`` where a condition does not hold."""
    if not condition:
        raise Unexpected(str(what))


class Machine:
    """A stack in a directory, and roles of their own beside it. What is started ends with the block of `machine`."""

    def __init__(self, directory: Path) -> None:
        self.stack = Stack(directory / "data", surroundings(directory))
        self.config = Path(self.stack.environment["XDG_CONFIG_HOME"]) / "cutor" / "config.toml"
        self._directory = directory
        self._roles: dict[str, subprocess.Popen[bytes]] = {}

    def cutor(self, *arguments: str, timeout_s: float = 900) -> str:
        """Run a command that must succeed; return what it printed."""
        done = self.stack.cutor(*arguments, timeout_s=timeout_s)
        expect(done.returncode == 0, (arguments, done.stdout.decode()[-2000:], done.stderr.decode()[-2000:]))
        return done.stdout.decode()

    def json(self, *arguments: str) -> Any:
        """Run a command that must succeed, and return its document."""
        return json.loads(self.cutor(*arguments, "--json"))

    def up(self, *roles: str) -> None:
        """Start the stack, with these roles."""
        self.cutor("up", "--detach", "--data", str(self.stack.data), "--roles", ",".join(roles))

    def down(self) -> None:
        """Stop it, with what runs beside it."""
        for name in tuple(self._roles):
            self.end_role(name)
        if self.stack.data.exists():
            self.cutor("down", "--data", str(self.stack.data))

    def start_role(self, name: str, role: str, config: Path | None = None) -> None:
        """Start a builder or runner beside the stack, with a configuration of its own if it is given one; it serves then."""
        command = [sys.executable, "-m", "cutor", role, "--data", str(self._directory / name), "--worker", name]
        command += [] if config is None else ["--config", str(config)]
        said = self._directory / f"{name}.log"
        with said.open("wb") as log:
            environment = self.stack.environment | {"CUTOR_SERVER": self.stack.server}
            self._roles[name] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        for _ in within(f"that {name} is ready"):
            if f"the {role} is ready" in said.read_text():
                return
            time.sleep(0.05)

    def end_role(self, name: str) -> None:
        """Stop a role that was started beside the stack, if it runs."""
        if (process := self._roles.pop(name, None)) is None:
            return
        process.terminate()
        expect(process.wait(PATIENCE_S) == 0, (name, (self._directory / f"{name}.log").read_text()[-2000:]))

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """A client of the stack."""
        async with Client(self.stack.server) as client:
            yield client

    def instances(self) -> list[str]:
        """Labels of the containers of the stack and of the roles beside it."""
        return [path.read_text().strip() for path in self._directory.glob("*/instance")]

    async def containers(self) -> list[str]:
        """Names of the containers that are there of it."""
        async with Engine.connect() as engine:
            return [one.name for instance in self.instances() for one in await engine.list(instance)]


@contextmanager
def machine(directory: Path) -> Iterator[Machine]:
    """A `Machine`, stopped in the end whatever happened."""
    directory.mkdir(parents=True, exist_ok=True)
    made = Machine(directory)
    try:
        yield made
    finally:
        made.down()


def submission(directory: Path, files: Mapping[str, str]) -> Path:
    """Write a submission's directory."""
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(content)
    return directory


def within(what: str) -> Iterator[None]:
    """Yield until the patience is over; raise `Unexpected` then."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        yield
    raise Unexpected(f"{what} did not come within {PATIENCE_S:g} s")


def main(run: Callable[[Path, int], Coroutine[None, None, None]], usual: int) -> int:
    """Run with the number of the command line, or the usual one, in a directory that is removed; return the exit code."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else usual
    with tempfile.TemporaryDirectory(prefix="cutor-bench-") as directory:
        try:
            asyncio.run(run(Path(directory), count))
        except Unexpected as error:
            print(f"bench-env: {error}", file=sys.stderr)
            return 1
    return 0

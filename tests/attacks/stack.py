"""The stack that attacks are handed in to: started for them alone, as a user starts one, and stopped whatever happens."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cutor.nix.settings import NixSettings
from tests.ports import free_port
from tests.processes import kill
from tests.served import containers
from tests.stores import section

MARK: Final = "CUTOR_ATTACKED_STACK"
"""A variable that every process of the stack inherits, and no other process has with this value."""
UP_S: Final = 180
DOWN_S: Final = 120

STORE_BYTES: Final = 512 << 20
"""What a build may add to the store: more than the environment of normal submissions, less than what makes a disk slow."""

CONFIG: Final = """\
# Limits wide enough for attacks with 100 MB each way; uids of its own, so that its processes are known by them; a port of its
# own, since the usual one could go to another stack of this machine while the server is killed. Leases for all attacks that
# kill a role, one after the other: a killed role's work is taken up at once, and so is there for the next kill.
max_leases = 20

[server]
port = {port}

[builder]
slots = 2

[runner]
slots = 2
uid_base = {uid_base}
{reuse}
{nix}
[bounds]
request_bytes = {request_bytes}

[limits.run.maximum]
stdout_bytes = {stdout_bytes}

# Room for a busy machine: what is to run into its wall time says so.
[limits.run.default]
wall_time_ms = 60000
cpu_time_ms = 10000
"""


class StackFailed(Exception):
    """The stack did not start or did not stop; the message is what the command said."""


@dataclass(frozen=True)
class AttackedStack:
    """A running stack: its directory, the environment in which commands find it, what marks what is its own."""

    home: Path
    mark: str
    uid_base: int
    reuse: int = field(default=1, kw_only=True)
    """How many submissions a container serves."""

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def temporary(self) -> Path:
        """The directory for temporary files of its processes."""
        return self.home / "tmp"

    @property
    def instance(self) -> str:
        """The label of its containers."""
        return (self.data / "instance").read_text().strip()

    @property
    def server(self) -> str:
        """The address of its server, with the credential."""
        address: str = json.loads((self.home / "cutor" / "current.json").read_text())["server"]
        return address

    def environment(self) -> dict[str, str]:
        """Return the environment of its commands: no other stack and no other configuration is found from there."""
        rest = {name: value for name, value in os.environ.items() if not name.startswith("CUTOR_")}
        homes = {name: str(self.home) for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")}
        return rest | homes | {"TMPDIR": str(self.temporary), MARK: self.mark}

    def cutor(self, *args: str, timeout_s: float) -> str:
        """Run a command of this stack's; return what it printed. Raises `StackFailed`."""
        done = subprocess.run(
            [sys.executable, "-m", "cutor", *args],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            start_new_session=True,  # Ctrl-C is for the caller, who then stops the stack in its own order
            check=False,
        )
        if done.returncode:
            raise StackFailed(f"cutor {args[0]}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def processes(self) -> dict[int, str]:
        """Return the processes of the stack, without those in containers: their pids and command lines.

        Known by the mark, which they inherit, or by the directory in their command line: the server has a clean environment.
        """
        mark, home = f"{MARK}={self.mark}".encode(), str(self.home).encode()
        found = {}
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                line = (directory / "cmdline").read_bytes()
                if int(directory.name) != os.getpid() and (home in line or mark in (directory / "environ").read_bytes()):
                    found[int(directory.name)] = line.replace(b"\0", b" ").decode().strip()
            except OSError:
                continue  # it has ended, or is another user's
        return found

    def kill(self, process: str, submission: str) -> int:
        """Kill one of its processes with SIGKILL, or the containers of a submission; return how many there were."""
        if process == "container":
            return self._kill_containers(submission)
        word = "nats-server" if process == "server" else f" {process} --data"
        return sum([kill(pid) for pid, line in self.processes().items() if word in line])

    def _kill_containers(self, submission: str) -> int:
        found = containers(submission, f"label=cutor={self.instance}", "status=running")
        for container in found:
            subprocess.run(["docker", "kill", "--signal", "KILL", container], capture_output=True, check=False)
        return len(found)


@contextmanager
def attacked_stack(home: Path, settings: NixSettings, submissions_per_container: int = 1) -> Iterator[AttackedStack]:
    """Run a stack beneath a directory, on these volumes; it is stopped in the end, also when its start was interrupted.

    With more than one submission a container, whatever is normal runs where an attack was before.
    """
    uid_base = 1_000_000 + 8192 * secrets.randbelow(100_000)
    stack = AttackedStack(home, secrets.token_hex(8), uid_base, reuse=submissions_per_container)
    stack.temporary.mkdir()
    config = home / "config.toml"
    wide = 112 << 20
    nix = section(settings, store_bytes=STORE_BYTES)
    reuse = f"submissions_per_container = {submissions_per_container}\n" if submissions_per_container > 1 else ""
    text = CONFIG.format(port=free_port(), uid_base=stack.uid_base, nix=nix, reuse=reuse, request_bytes=wide, stdout_bytes=wide)
    config.write_text(text)
    try:
        stack.cutor("up", "--detach", "--data", str(stack.data), "--config", str(config), timeout_s=UP_S)
        yield stack
    finally:
        if (stack.data / "lock").exists():
            stack.cutor("down", "--data", str(stack.data), timeout_s=DOWN_S)

"""The stack whose processes are killed: the real supervisor, server and roles, started through `role`: points can be armed.

It has a port, uids, directories and a label of its own, and ends when the harness does.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cutor.bus.topology import default_text
from cutor.nix.settings import NixSettings
from tests.attacks.stack import AttackedStack, StackFailed
from tests.containers import container_ids
from tests.fault import role as entry
from tests.fault.arming import DIRECTORY, Points
from tests.ports import free_port
from tests.processes import command_of, descendants, init_of, kill
from tests.served import containers
from tests.stores import copy_store, own_volumes, remove_store, section

ENTRY: Final = str(Path(entry.__file__))
PARENT: Final = re.compile(r"( --parent|(?<=queries\.py)|(?<=_worker\.py)) \d+")
"""A process's word for its parent, in command lines of roles, of what answers queries, and of who answers one."""
READY_S: Final = 120.0
DOWN_S: Final = 90.0
POLL_S: Final = 0.05
LEASE_S: Final = 24
"""The shortest time that a delivery may be out: what is left to its clock comes again sooner."""
CONFIG: Final = """\
max_leases = {max_leases}
shutdown_grace_s = 1

[server]
port = {port}
streams = "{streams}"

[builder]
slots = 2

[runner]
slots = 2
uid_base = {uid_base}

{nix}"""


@dataclass(frozen=True)
class FaultStack(AttackedStack):
    """A stack beneath ``home``; `up` starts it, again and again, `down` ends it in an orderly way."""

    store: NixSettings
    max_leases: int = 20
    supervisor: list[subprocess.Popen[bytes]] = field(default_factory=list)
    extras: list[ExtraRole] = field(default_factory=list)
    """Roles that were started beside its own."""

    @classmethod
    async def make(cls, home: Path, *, max_leases: int = 20) -> FaultStack:
        """Lay down its store, a copy of what set-up made, its directories and its configuration."""
        uid_base = 1_000_000 + 8192 * secrets.randbelow(100_000)
        stack = cls(home, secrets.token_hex(8), uid_base, own_volumes(), max_leases)
        await copy_store(stack.store)
        stack.temporary.mkdir(parents=True)
        streams = home / "streams.yaml"
        text, count = re.subn(r"ack_wait: 30s", f"ack_wait: {LEASE_S}s", default_text())
        assert count == 2, "streams.yaml has another form"
        streams.write_text(text)
        (home / "cache").mkdir()
        (home / "cache").chmod(0o777)  # the store's owner writes there
        public_key = stack.cutor("env", "cache-key", "fault-1", str(home / "cache-key"), timeout_s=READY_S).strip()
        nix = section(
            stack.store,
            cache_url=f"file://{home}/cache",
            cache_secret_key_file=str(home / "cache-key"),
            cache_public_keys=[public_key],
        )
        places = {"port": free_port(), "uid_base": stack.uid_base, "streams": streams}
        stack.config.write_text(CONFIG.format(max_leases=max_leases, nix=nix, **places))
        return stack

    @property
    def config(self) -> Path:
        """Its configuration."""
        return self.home / "config.toml"

    @property
    def points(self) -> Points:
        """The points of its processes."""
        return Points(self.home / "points")

    @property
    def log(self) -> Path:
        """What the supervisor and its roles print."""
        return self.home / "output.log"

    def environment(self) -> dict[str, str]:
        return super().environment() | {DIRECTORY: str(self.points.directory), entry.WITH_HARNESS: str(os.getpid())}

    def processes(self) -> dict[int, str]:
        """As before; a parent's number is left out, so that roles, and what answers queries, are the same in two lives."""
        return {pid: re.sub(PARENT, "", line) for pid, line in super().processes().items()}

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the supervisor; it may die at once."""
        command = [sys.executable, ENTRY, "up", "--data", str(self.data), "--config", str(self.config)]
        with self.log.open("ab") as output:
            process = subprocess.Popen(
                command,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the harness, which ends the stack in its own order
            )
        self.supervisor[:] = [process]
        return process

    async def up(self) -> None:
        """Start the stack and wait until it is ready. Raises `StackFailed`."""
        at = self.log.stat().st_size if self.log.exists() else 0
        process = self.launch()
        deadline = time.monotonic() + READY_S
        while b"cutor is ready" not in self.said(at):
            if process.poll() is not None or time.monotonic() > deadline:
                raise StackFailed(f"the stack did not start: {self.said(at).decode(errors='replace')[-600:]}")
            await asyncio.sleep(POLL_S)

    def said(self, at: int) -> bytes:
        """Return what was printed from a place in the log on."""
        with self.log.open("rb") as opened:
            opened.seek(at)
            return opened.read()

    async def submit(self, identity: str, request: bytes) -> int:
        """Hand in a request by a process that may die of it; return its exit code."""
        return await self.command("submit", "-", "--id", identity, given=request)

    async def command(self, *arguments: str, given: bytes = b"") -> int:
        """Run a command that may die at its points; return its exit code."""
        command = [sys.executable, ENTRY, *arguments]
        process = await asyncio.create_subprocess_exec(
            *command,
            env=self.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        await process.communicate(given)
        assert process.returncode is not None
        return process.returncode

    async def down(self) -> None:
        """End the stack in an orderly way. Raises `StackFailed` where it takes too long, or says that something was wrong."""
        if not self.supervisor or self.supervisor[0].poll() is not None:
            return
        self.supervisor[0].send_signal(signal.SIGTERM)
        code = await self.ended(DOWN_S)
        if code:
            raise StackFailed(f"the stack ended with {code}: {self.said(0).decode(errors='replace')[-600:]}")

    async def ended(self, timeout_s: float) -> int:
        """Return the supervisor's exit code once it has ended. Raises `StackFailed`."""
        deadline = time.monotonic() + timeout_s
        while (code := self.supervisor[0].poll()) is None:
            if time.monotonic() > deadline:
                raise StackFailed(f"the supervisor has not ended after {timeout_s:g} s")
            await asyncio.sleep(POLL_S)
        return code

    def pids(self, role: str) -> list[int]:
        """Return the processes of a role, ``server`` or ``supervisor``."""
        words = {"server": "nats-server -c", "supervisor": f"{ENTRY} up"}
        word = words.get(role, f" {role} --data {self.data} ")
        return [pid for pid, line in self.processes().items() if word in line and "die_with_parent" not in line]

    def containers_of(self, identity: str) -> list[str]:
        """Return the running containers of a submission."""
        return containers(identity, f"label=cutor={self.instance}", "status=running")

    def runs(self, identity: str, command: bytes) -> bool:
        """Return whether a command, with NUL between its words, runs in a container of a submission."""
        for container in self.containers_of(identity):
            if any(command.decode() in "\0".join(command_of(pid)) for pid in descendants(init_of(container))):
                return True
        return False

    def kill_all(self) -> None:
        """SIGKILL to every process of the stack at once."""
        for pid in self.processes():
            kill(pid)

    def finish(self) -> None:
        """Let nothing of it be left, whatever state it is in. Not in an event loop."""
        if self.supervisor:
            self.supervisor[0].kill()
            self.supervisor[0].wait()
        deadline = time.monotonic() + DOWN_S
        while self.processes() and time.monotonic() < deadline:
            self.kill_all()
            time.sleep(POLL_S)
        for data in (self.data, *(extra.data for extra in self.extras)):
            if (data / "instance").exists():
                _remove_containers((data / "instance").read_text().strip())
        asyncio.run(remove_store(self.store))


def _remove_containers(instance: str) -> None:
    if ids := container_ids(f"label=cutor={instance}"):
        subprocess.run(["docker", "rm", "-f", *ids], capture_output=True, check=False)


@dataclass(frozen=True)
class RolePlace(FaultStack):
    """What a watch looks at for a role beside a stack: the role's data and label, the stack's processes and temporary files."""

    role_data: Path = Path()
    stack_temporary: Path = Path()

    @property
    def data(self) -> Path:
        return self.role_data

    @property
    def temporary(self) -> Path:
        return self.stack_temporary


@asynccontextmanager
async def fault_stack(home: Path, *, max_leases: int = 20) -> AsyncIterator[FaultStack]:
    """Run a stack beneath a directory; nothing of it is left in the end."""
    stack = await FaultStack.make(home, max_leases=max_leases)
    try:
        await stack.up()
        yield stack
        await stack.down()
    finally:
        await asyncio.to_thread(stack.finish)


class ExtraRole:
    """A role process beside those of the stack, on the same server: with a data directory and a label of its own."""

    def __init__(self, stack: FaultStack, role: str, name: str) -> None:
        self._stack = stack
        self.role = role
        self.data = stack.home / name
        self.process: subprocess.Popen[bytes] | None = None
        stack.extras.append(self)

    @property
    def place(self) -> RolePlace:
        """Where a watch looks for what it leaves."""
        home, of = self._stack.home / f"watch-{self.data.name}", self._stack
        home.mkdir(exist_ok=True)
        return RolePlace(home, of.mark, of.uid_base, of.store, of.max_leases, role_data=self.data, stack_temporary=of.temporary)

    @property
    def alive(self) -> bool:
        """Whether there is a process of it."""
        return any(str(self.data) in line for line in self._stack.processes().values())

    @property
    def instance(self) -> str:
        """The label of its containers."""
        return (self.data / "instance").read_text().strip()

    def start(self, server: str) -> None:
        """Start it (again)."""
        command = [sys.executable, ENTRY, "--config", str(self._stack.config), self.role, "--data", str(self.data)]
        with (self._stack.home / f"{self.data.name}.log").open("ab") as output:
            self.process = subprocess.Popen(
                [*command, "--worker", self.data.name],
                env=self._stack.environment() | {entry.SERVER: server, entry.DIRECT: "yes"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> None:
        """End it in an orderly way; by force where it does not."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(DOWN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def jails_of(container: str) -> list[int]:
    """Return the outermost nsjails of a container, the oldest first: not what they are before they become a program."""
    found: dict[int, tuple[int, int]] = {}
    for child in descendants(init_of(container)):
        try:
            name, _, fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")
        except OSError:
            continue  # it has ended
        if name.endswith("(nsjail"):
            found[child] = int(fields.split()[1]), int(fields.split()[19])  # its parent, and when it began
    return sorted((child for child, (parent, _) in found.items() if parent not in found), key=lambda child: found[child][1])

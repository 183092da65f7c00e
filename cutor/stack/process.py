"""A child process with its output and a readiness pipe."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

READY: Final = b"ready\n"


class _Pipe(NamedTuple):
    """The reading end of a pipe."""

    reader: asyncio.StreamReader
    transport: asyncio.ReadTransport

    @classmethod
    async def open(cls, descriptor: int) -> _Pipe:
        reader = asyncio.StreamReader()
        file = os.fdopen(descriptor, "rb", buffering=0)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
        return cls(reader, transport)


class Process:
    """One started child; made by `start`, given back by `close`. ``output`` is its stdout and stderr in one."""

    def __init__(self, child: subprocess.Popen[bytes], output: _Pipe, ready: _Pipe) -> None:
        self._child = child
        self._pipes = (output, ready)
        self.output = output.reader
        self._ready = ready.reader

    @classmethod
    async def start(cls, command: Sequence[str], *, environment: Mapping[str, str], inherited: Sequence[int]) -> Process:
        """Start ``command`` in a session of its own, so that Ctrl-C in a terminal reaches the supervisor alone.

        ``--ready-fd N`` is added to the command; ``inherited`` descriptors stay open in it. Call it from the main thread: the
        bond of `end_with_parent` is one with the thread that started the process.
        """
        output_read, output_write = os.pipe()
        ready_read, ready_write = os.pipe()
        try:
            child = subprocess.Popen(  # noqa: ASYNC220 - a few milliseconds; asyncio's own waits for pipes of grandchildren
                [*command, "--ready-fd", str(ready_write)],
                stdin=subprocess.DEVNULL,
                stdout=output_write,
                stderr=output_write,
                pass_fds=[ready_write, *inherited],
                env=dict(environment),
                start_new_session=True,
            )
        except BaseException:
            os.close(output_read)
            os.close(ready_read)
            raise
        finally:
            os.close(output_write)
            os.close(ready_write)
        return cls(child, await _Pipe.open(output_read), await _Pipe.open(ready_read))

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    async def wait(self) -> int:
        """Return its exit code, negative for a signal, once it has ended."""
        if self._child.poll() is None:
            await exited(self._child.pid)
        return self._child.wait()

    async def until_ready(self) -> bool:
        """Return True once it says that it is ready, False where it ended before."""
        return await self._ready.read(len(READY)) == READY

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens where it has ended."""
        if self._child.poll() is None:
            self._child.send_signal(number)

    def close(self) -> None:
        """Let go of its pipes, also where a process that it started holds on to them."""
        for pipe in self._pipes:
            pipe.transport.close()


async def exited(pid: int) -> None:
    """Return once a child process has ended; it stays a zombie until its owner waits for it."""
    loop = asyncio.get_running_loop()
    descriptor = os.pidfd_open(pid)
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def describe_end(code: int) -> str:
    """Return ``ended with exit code 3`` or ``was killed by SIGKILL``."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def announce_ready(descriptor: int) -> None:
    """Say on the readiness pipe that this process serves now. A supervisor that is gone makes no difference."""
    try:
        os.write(descriptor, READY)
    except BrokenPipeError:
        return
    finally:
        os.close(descriptor)

"""The processes that run queries (`executor`), as the query service sees them.

One starts the others and has DuckDB loaded; one holds each copy of the views that is in use; one runs each question. A
question's process is ended by the kernel when its time is over, and all of them when the service ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from cutor.projections.errors import ViewsRejected
from cutor.projections.queries.questions import AsOf, Parameters

MEMORY_BYTES: Final = 512 << 20
"""What DuckDB may take of memory for one question."""
ANSWER_BYTES: Final = 32 << 20
"""Most bytes of an answer's rows."""
OPEN_S: Final = 60.0
"""Longest time that the opening of a copy may take: its log is replayed then, 64 MiB in half a second."""
NICE: Final = 10
"""Steps of priority by which the query service stands behind the writer (nice(2))."""
_READ_BYTES: Final = 1 << 20
"""Taken of an answer at one time. A choice: most answers are shorter."""
_PACKET_BYTES: Final = 64 << 10
"""What a process says of a copy: a line of JSON, with a time for each stream."""
_PROGRAM: Final = Path(__file__).with_name("executor.py")


class ExecutorsGone(Exception):
    """The process that starts others has ended; it is to be started again."""


class Moment(NamedTuple):
    """Up to where a copy holds a stream: its last message (0: none) with its time, UTC, and why the views do not go on."""

    stream: str
    sequence: int
    time: str | None
    waits_for: str | None = None

    def as_of(self) -> AsOf:
        """Return it as it goes over the wire."""
        return AsOf(sequence=self.sequence, time=self.time, waits_for=self.waits_for)


class Executors:
    """The process that starts others. Made by `start`, ended by `end`."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self._process = process
        self._control = control

    @classmethod
    def start(cls) -> Executors:
        """Start it. From the main thread: it ends with the thread that started it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-I", str(_PROGRAM), str(os.getpid())],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={"LANG": "C.UTF-8"},
                cwd="/",
                process_group=0,
            )
        ours.setblocking(False)
        return cls(process, ours)

    @property
    def alive(self) -> bool:
        """Whether it can start others."""
        return self._process.poll() is None

    async def hold(self, copy: Path, views_bytes: int) -> Holder:
        """Have a copy opened. Raises `ViewsRejected` where it is none, `ExecutorsGone`."""
        control = _hand_over(self._control, {"copy": str(copy), "memory_bytes": MEMORY_BYTES}, socket.SOCK_SEQPACKET)
        try:
            async with asyncio.timeout(OPEN_S):
                said = await asyncio.get_running_loop().sock_recv(control, _PACKET_BYTES)
        except BaseException:
            control.close()
            raise
        document: dict[str, Any] = json.loads(said) if said else {"error": "the process that opened it has died"}
        if "error" in document:
            control.close()
            raise ViewsRejected(f"the copy of the views cannot be opened: {document['error']}")
        moments = [Moment(*moment) for moment in document["as_of"]]
        return Holder(control, moments, views_bytes, is_shut_in=document.get("shut_in", False))

    def end(self) -> None:
        """End it, and all that it has started."""
        self._control.close()
        self._process.kill()
        self._process.wait()


class Holder:
    """The process that has one copy open. It ends when the last who uses it has let go, and `retire` was called."""

    def __init__(self, control: socket.socket, as_of: list[Moment], views_bytes: int, *, is_shut_in: bool) -> None:
        self.as_of = as_of
        self.views_bytes = views_bytes
        self.is_shut_in = is_shut_in
        """Whether it sees no directory but the copy's."""
        self._control = control
        self._users = 0
        self._retired = False

    @property
    def alive(self) -> bool:
        """Whether it can still start an executor."""
        try:
            return bool(self._control.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return True
        except OSError:
            return False

    async def ask(self, sql: str, parameters: Parameters, *, rows: int, time_s: float) -> bytes:
        """Return what an executor of its own wrote about a question; empty where it died."""
        question = {
            "sql": sql,
            "parameters": parameters,
            "rows": rows,
            "answer_bytes": ANSWER_BYTES,
            "memory_bytes": MEMORY_BYTES,
            "time_s": max(time_s, 0.001),
        }
        self._users += 1
        try:
            return await _exchange(_hand_over(self._control, {}, socket.SOCK_STREAM), msgspec.json.encode(question) + b"\n")
        finally:
            self._users -= 1
            self._end_if_unused()

    def retire(self) -> None:
        """Say that a newer copy has taken its place."""
        self._retired = True
        self._end_if_unused()

    def _end_if_unused(self) -> None:
        if self._retired and not self._users:
            self._control.close()


def _hand_over(control: socket.socket, order: dict[str, Any], kind: socket.SocketKind) -> socket.socket:
    """Send an order with the other end of a new socket. Raises `ExecutorsGone`."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    ours.setblocking(False)
    with theirs:
        try:
            socket.send_fds(control, [json.dumps(order).encode()], [theirs.fileno()])
        except OSError as error:
            ours.close()
            raise ExecutorsGone(f"no process takes the question: {error.strerror}") from error
    return ours


async def _exchange(own: socket.socket, document: bytes) -> bytes:
    """Write a document, and return the whole answer; empty where the other side ended before it was whole."""
    reader, writer = await asyncio.open_connection(sock=own)
    try:
        with contextlib.suppress(ConnectionError):
            writer.write(document)
            await writer.drain()
        answer = bytearray()
        with contextlib.suppress(ConnectionError):
            while len(answer) <= 2 * ANSWER_BYTES and (part := await reader.read(_READ_BYTES)):
                answer += part
        return bytes(answer[:-1]) if answer.endswith(b"\n") else b""
    finally:
        writer.close()

"""Has a process of its own read a stream for a fold (`feeder`), and takes what it makes.

It is started for one reading and ended with it. Whatever becomes of it, nothing is lost but time: this process reads on behind
the last message that came.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager, suppress
from typing import Final

import msgspec

from cutor.bus.bulk.columns import Columns
from cutor.bus.bulk.pulling import DeliveryLost
from cutor.bus.bulk.reader import Wanted, Way, in_a_thread
from cutor.projections.folds.sharing import Alive, Ended, Mapped, Piece
from cutor.text import escape

log = logging.getLogger(__name__)

PROGRAM: Final = ("-P", "-m", "cutor.projections.folds.feeder")
"""What is run, by the same Python."""
PACKET_BYTES: Final = 128 << 10
"""A packet tells where columns lie, some bytes each; the columns themselves are in shared memory."""
END_S: Final = 1.0
"""So long a process that has closed its socket may take to end."""
SILENT_S: Final = 30.0
"""A process that says nothing for so long while it may hand something over stands still: it is killed. It says something every
other second."""
SILENT_TURNS: Final = 6
"""In so many turns that silence is waited for: where this process stood still, that counts as one, and what came is taken."""
LOSSES: Final = 2
"""So often a process may be lost that has brought something; then, and where one brought nothing, there is no further one."""
_SAID: Final = msgspec.msgpack.Decoder(Piece | Alive | Ended)


class Fed:
    """A way to read a stream: by a process, and where that does not work in a thread."""

    def __init__(self) -> None:
        self._losses = 0

    async def read(self, wanted: Wanted) -> AsyncGenerator[Mapped | Columns, None]:
        """Yield pieces of batches; columns where processes have failed before. Raises what a `Way` raises."""
        way: Way[Mapped | Columns] = in_a_thread() if self._losses >= LOSSES else self._by_a_process
        async with aclosing(way(wanted)) as parts:
            async for part in parts:
                yield part

    async def _by_a_process(self, wanted: Wanted) -> AsyncGenerator[Mapped, None]:
        brought = False
        async with aclosing(_in_a_process(wanted)) as parts:
            try:
                async for part in parts:
                    brought = True
                    yield part
            except (DeliveryLost, OSError, msgspec.DecodeError) as error:
                log.warning("the process that reads %s brings no more: %s", wanted.stream, escape(str(error)))
                self._losses += 1 if brought else LOSSES
                raise DeliveryLost(str(error)) from error


async def _in_a_process(wanted: Wanted) -> AsyncGenerator[Mapped, None]:
    position = 0
    with _started() as (own, process):
        _say(own, msgspec.json.encode(wanted._asdict()))
        while True:
            packet, descriptors = await _packet(own)
            if not packet:
                raise DeliveryLost(await _end_of(process))
            said = _SAID.decode(packet)
            if isinstance(said, Alive):
                continue
            if isinstance(said, Ended):
                if said.fault is None:
                    return
                raise DeliveryLost(said.fault)
            if len(descriptors) != 1:
                raise DeliveryLost("a piece came without its memory")
            mapped = Mapped(said, *descriptors)
            if said.behind != position:
                raise DeliveryLost(f"a piece that begins behind {said.behind} came behind {position}")
            position = said.last
            _say(own, b".")
            yield mapped


@contextmanager
def _started() -> Iterator[tuple[socket.socket, subprocess.Popen[bytes]]]:
    """Start the process; give the socket that leads to it, and itself, and end it afterwards. Raises OSError.

    It ends with the thread that starts it, which is that of the event loop.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        ours.setblocking(False)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, *PROGRAM, str(os.getpid())],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            yield ours, process
        finally:
            process.kill()
            process.wait()


def _say(own: socket.socket, what: bytes) -> None:
    """Say something; where nobody listens any more, what is read next tells it."""
    with suppress(ConnectionError):
        own.send(what)


async def _end_of(process: subprocess.Popen[bytes]) -> str:
    """Return in words how a process ended whose socket is closed."""
    try:
        code = await asyncio.to_thread(process.wait, END_S)
    except subprocess.TimeoutExpired:
        return "it has closed its socket"
    return f"it was ended by signal {-code}" if code < 0 else f"it ended with exit code {code}"


async def _packet(own: socket.socket) -> tuple[bytes, list[int]]:
    """Return the next packet and the descriptors that come with it; nothing where the other side has ended.

    Raises `DeliveryLost` where none comes for too long: whoever waits here has made room for all that is ready.
    """
    silent_turns = 0
    while True:
        try:
            packet, descriptors, _, _ = socket.recv_fds(own, PACKET_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            if silent_turns == SILENT_TURNS:
                raise DeliveryLost(f"it has said nothing for {SILENT_S:g} s") from None
            silent_turns += not await _readable(own, SILENT_S / SILENT_TURNS)
        except ConnectionError:
            return b"", []
        else:
            return packet, descriptors


async def _readable(own: socket.socket, at_most_s: float) -> bool:
    """Wait until there is something to be received; whether that was so in time."""
    loop = asyncio.get_running_loop()
    there = asyncio.Event()
    loop.add_reader(own, there.set)
    try:
        async with asyncio.timeout(at_most_s):
            await there.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(own)
    return True

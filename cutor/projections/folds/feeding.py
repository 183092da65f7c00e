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
from contextlib import aclosing, contextmanager
from typing import Final

import msgspec

from cutor.bus.bulk.columns import Columns
from cutor.bus.bulk.pulling import DeliveryLost
from cutor.bus.bulk.reader import Wanted, in_a_thread
from cutor.projections.folds.sharing import Ended, Mapped, Piece

log = logging.getLogger(__name__)

PROGRAM: Final = ("-P", "-m", "cutor.projections.folds.feeder")
"""What is run, by the same Python."""
PACKET_BYTES: Final = 128 << 10
_SAID: Final = msgspec.msgpack.Decoder(Piece | Ended)


class Fed:
    """A way to read a stream: by a process, and once that has failed in a thread."""

    def __init__(self) -> None:
        self._has_failed = False

    async def read(self, wanted: Wanted) -> AsyncGenerator[Mapped | Columns, None]:
        """Yield pieces of batches; columns where the process has failed before. Raises what a `Way` raises."""
        way = in_a_thread() if self._has_failed else _in_a_process
        async with aclosing(way(wanted)) as parts:
            try:
                async for part in parts:
                    yield part
            except (DeliveryLost, OSError) as error:
                log.debug("the process that reads %s: %s", wanted.stream, error)
                self._has_failed = True
                raise DeliveryLost(str(error)) from error


async def _in_a_process(wanted: Wanted) -> AsyncGenerator[Mapped, None]:
    position = 0
    with _started() as own:
        own.send(msgspec.json.encode(wanted._asdict()))
        while True:
            packet, descriptors = await _packet(own)
            if not packet:
                raise DeliveryLost("the process that reads has died")
            said = _SAID.decode(packet)
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
            own.send(b".")
            yield mapped


@contextmanager
def _started() -> Iterator[socket.socket]:
    """Start the process; give the socket that leads to it, and end it afterwards. Raises OSError.

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
            yield ours
        finally:
            process.kill()
            process.wait()


async def _packet(own: socket.socket) -> tuple[bytes, list[int]]:
    """Return the next packet and the descriptors that come with it; nothing where the other side has ended."""
    while True:
        try:
            packet, descriptors, _, _ = socket.recv_fds(own, PACKET_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            await _readable(own)
        except ConnectionError:
            return b"", []
        else:
            return packet, descriptors


async def _readable(own: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    there = asyncio.Event()
    loop.add_reader(own, there.set)
    try:
        await there.wait()
    finally:
        loop.remove_reader(own)

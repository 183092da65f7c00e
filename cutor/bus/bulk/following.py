"""Following a stream in bulk: whatever has come is taken in one piece, whenever who follows asks for the next.

While he is busy nothing is read: the kernel gathers. So a message costs nothing by itself, a follower that is idle has each at
once, and one that is not has few and large pieces. It all happens in the event loop, which only waits here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Final

from cutor.bus.bulk.columns import Columns
from cutor.bus.bulk.pulling import LostLater, Pulling
from cutor.bus.bulk.reader import LOST, Wanted
from cutor.bus.bulk.wire import CONNECT_S, Wire

LOOK_S: Final = 0.5
"""How often a silent server is looked at: the pulls say when it has been silent for too long."""


async def as_it_comes(wanted: Wanted) -> AsyncGenerator[Columns, None]:
    """Read without end: columns of what is there, hardly more than a MiB but for a larger message. A `Way` of reading."""
    pace = wanted.pace
    wire = await asyncio.to_thread(Wire.open, wanted.server_url, "cutor follower", CONNECT_S)
    pulling = Pulling(wire, wanted.stream, wanted.consumer)
    try:
        while True:
            pulling.pull()
            if columns := pulling.receive(0):
                yield columns
                if pace is not None:
                    await pace.rest(columns)
            else:
                pulling.pull()  # for what came may have been the ends of pulls: nothing would come any more
                if pace is not None:
                    pace.quiet()
                await _readable(wire)
    except LOST as error:
        if pulling.served:
            raise LostLater(str(error)) from error
        raise
    finally:
        if pace is not None:
            pace.quiet()
        wire.close()


async def _readable(wire: Wire) -> None:
    """Wait until there is something to be received, but not for long."""
    loop, descriptor = asyncio.get_running_loop(), wire.fileno()
    there = asyncio.Event()
    loop.add_reader(descriptor, there.set)
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await there.wait()
    finally:
        loop.remove_reader(descriptor)

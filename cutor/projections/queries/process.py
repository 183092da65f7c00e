"""The process of the query service: ``python -m cutor.projections.queries.process``, started by `keeper`.

Apart from the projector, so that what is asked costs the writer nothing: it has a connection of its own, yields the CPU to
whoever wants it, and may die. Its standard input is the link to the projector (`link`), with whom it ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from cutor import logs
from cutor.bond import end_with_parent
from cutor.bus.connection import Bus
from cutor.bus.errors import BusError
from cutor.projections.exports.exports import Exports, remove_copies
from cutor.projections.exports.publishing import publishing
from cutor.projections.exports.service import giving_away
from cutor.projections.queries.copies import Copies
from cutor.projections.queries.executors import NICE
from cutor.projections.queries.link import LINE_BYTES, Link, LinkClosed, Ready, Settings
from cutor.projections.queries.service import QueryService

log = logging.getLogger("cutor.projections.queries.process")

RETRY_S: Final = 1.0
"""Pause after a server that was not reached. A choice, as the projector's."""


async def serve(own: socket.socket) -> None:
    """Answer questions until SIGTERM."""
    reader, writer = await asyncio.open_connection(sock=own, limit=LINE_BYTES)
    link = Link(reader, writer)
    settings = await link.receive(Settings)
    process = {"role": "projector", "worker": settings.worker, "instance": settings.instance}
    logs.set_up(settings.log_format, process)
    work = asyncio.create_task(_connected(link, settings), name="serve queries")
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    with suppress(asyncio.CancelledError, LinkClosed):
        await work


async def _connected(link: Link, settings: Settings) -> None:
    """Serve over a connection of its own; one that cannot be made is tried for again, without end."""
    while True:
        try:
            async with Bus.connect(settings.server, name=settings.name) as bus:
                await _serve(bus, link, settings)
        except BusError as error:
            log.warning("queries are not answered: %s", error)
            await asyncio.sleep(RETRY_S)


async def _serve(bus: Bus, link: Link, settings: Settings) -> None:
    database = Path(settings.database)
    if removed := remove_copies(database):
        log.warning("removed what a former life left behind: %s", ", ".join(map(str, removed)))
    copies = Copies(link, database)
    try:
        exports = Exports(copies, database, link.tell)
        queries = QueryService(bus, copies, link.tell, max_age_s=settings.snapshot_age_ms / 1000)
        async with queries, giving_away(bus, exports), publishing(exports, settings):
            await link.send(Ready())
            await asyncio.Event().wait()
    finally:
        await copies.close()


def main() -> None:
    """Serve at a lower priority than the writer, and end with it."""
    end_with_parent(int(sys.argv[1]))
    os.nice(NICE)
    os.umask(0o077)
    with socket.socket(fileno=os.dup(sys.stdin.fileno())) as own:
        os.dup2(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), sys.stdin.fileno())
        asyncio.run(serve(own))


if __name__ == "__main__":
    main()

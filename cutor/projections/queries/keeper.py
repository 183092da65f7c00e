"""Keeps the process of the query service running beside the projector, and holds the views for its copies.

It may be killed or die at any time: what it held is let go, and it is started again. It never outlives the projector.
Nothing here waits by `asyncio.wait_for`: that of Python 3.11 loses a cancellation which comes as what it waits for is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import duckdb
import msgspec

from cutor.metrics import table
from cutor.metrics.tally import Observation
from cutor.process.measures import Measures
from cutor.projections.errors import ViewsRejected
from cutor.projections.exports.exports import remove_copies
from cutor.projections.queries.link import LINE_BYTES, Held, Hold, Link, LinkClosed, Ready, Release, Said, Settings, Told
from cutor.projections.queries.measuring import memory_of_session, told_observations
from cutor.projections.writer import Writer

log = logging.getLogger(__name__)

PROGRAM: list[str] = ["-P", "-m", "cutor.projections.queries.process"]
"""What is run, by the same Python."""
READY_S: Final = 20.0
"""What the projector waits for it before it is ready without: it comes later, then."""
END_S: Final = 3.0
"""What it may take to end; then it is killed."""
HOLD_S: Final = 300.0
"""What a copy may take: the log grows meanwhile. A service that takes longer is ended."""
FIRST_PAUSE_S: Final = 0.1
"""Pause before a service that had served is started anew; of one that never did it doubles, up to `LONGEST_PAUSE_S`."""
LONGEST_PAUSE_S: Final = 15.0
"""So late at the most queries are answered again once the cause is gone; as with a role of a stack."""


@asynccontextmanager
async def answering(
    settings: Settings, writer: Writer, measures: Measures, look: Callable[[], Awaitable[None]]
) -> AsyncIterator[None]:
    """Have queries answered as long as this lasts, by a process that is started again where it ends.

    ``look`` is called before the views are copied for one, and has committed what has come.
    """
    keeper = _Keeper(settings, writer, measures, look)
    measures.note(*(Observation(table.QUESTIONS, 0.0, (result,)) for result in table.QUESTION_RESULTS))
    task = asyncio.create_task(keeper.keep(), name="keep the query service")
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_S):
                await keeper.ready.wait()
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


class _Keeper:
    def __init__(self, settings: Settings, writer: Writer, measures: Measures, look: Callable[[], Awaitable[None]]) -> None:
        self.ready = asyncio.Event()
        self._look = look
        self._measures = measures
        self._settings = settings
        self._writer = writer

    async def keep(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                served = await self._live()
            except OSError as error:
                log.error("the query service could not be started: %s; it is tried again", error)
                served = False
            pause_s = FIRST_PAUSE_S if served else min(LONGEST_PAUSE_S, 2 * pause_s)
            await asyncio.sleep(pause_s)

    async def _live(self) -> bool:
        """Start the process, and return once it has ended: whether it had served."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, *PROGRAM, str(os.getpid()), stdin=theirs.fileno(), start_new_session=True
                )
            link = Link(*await asyncio.open_connection(sock=ours, limit=LINE_BYTES))
        except BaseException:
            ours.close()  # a process that was started ends by that
            raise
        served = asyncio.Event()
        self._measures.note(Observation(table.QUERY_STARTS))
        try:
            with self._measures.sampling(memory_of_session(process.pid), table.QUERY_MEMORY):
                await link.send(self._settings)
                await self._attend(link, served)
        except (LinkClosed, msgspec.MsgspecError, ValueError) as reason:
            await _end(process)
            log.error("the query service ended with %s (%s); it is started again", process.returncode, reason)
        finally:
            link.close()
            await _end(process)
            remove_copies(Path(self._settings.database))  # one that was killed could not
        return served.is_set()

    async def _attend(self, link: Link, served: asyncio.Event) -> None:
        while True:
            said = await self._hear(link, served)
            if isinstance(said, Hold):
                await self._hold(link, said, served)

    async def _hear(self, link: Link, served: asyncio.Event) -> Said:
        """Return what the service says. It may be ready at any time, when somebody asked before, and tell what it measured."""
        said = await link.hear()
        if isinstance(said, Ready):
            served.set()
            self.ready.set()
        elif isinstance(said, Told):
            self._measures.note(*told_observations(said))
        return said

    async def _hold(self, link: Link, wanted: Hold, served: asyncio.Event) -> None:
        """Hold the views until the service has copied them, or has ended."""
        try:
            await self._look()
            if wanted.known == await self._writer.steady_version():
                await link.send(Held(known=True))
                return
            async with self._writer.copying() as copied:
                await link.send(Held(**copied._asdict()))
                async with asyncio.timeout(HOLD_S):
                    while not isinstance(await self._hear(link, served), Release):
                        pass
        except TimeoutError as error:
            raise LinkClosed(f"the views were held for a copy for {HOLD_S:g} s") from error
        except (ViewsRejected, duckdb.Error) as error:
            await link.send(Held(error=str(error)))


async def _end(process: Process) -> None:
    """End it, and wait for its end."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(END_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

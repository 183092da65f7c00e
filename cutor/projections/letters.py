"""Writes dead letters: a copy of every message that is no event, or an event that changed nothing, with the reason.

Consumes the view `dead_letters`, appends to the stream DEADLETTERS, one letter a message. What makes it idempotent is the
subject, which holds one letter for ever; and each letter says up to where all are written, so that a projector that starts, or
whose views are made anew, goes on there and sends none of the former ones again. It works behind the commits and on its own:
where letters are slow or cannot be written, the views don't wait for them, and nothing is kept in memory meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from cutor.bus.connection import Bus
from cutor.bus.errors import BusError
from cutor.journal.dead_letters import write_letter, written_to
from cutor.logs import about_message
from cutor.model.letters import headers_of
from cutor.projections.flood import Flood
from cutor.projections.store import DeadLetter
from cutor.projections.writer import Writer

log = logging.getLogger(__name__)

BATCH: Final = 256
"""Letters that are taken from the views at one time; only their sequences and reasons are held."""
AT_ONCE: Final = 4
"""Letters that are on their way at one time: four of the largest messages are 32 MiB."""
GATHER_S: Final = 0.2
"""Pause after news, so that a flood is asked for in few questions."""
RETRY_S: Final = 10.0
"""A choice: nobody waits for a dead letter, and a server that refuses is not pressed."""
TOLD_AT_MOST: Final = 20
"""Dead letters with a line of their own in the log within `TOLD_SPAN_S`."""
TOLD_SPAN_S: Final = 60.0
"""So many letters have a line each in the log in so many seconds; of the rest it has the number."""


class Letters:
    """The letters about one stream."""

    def __init__(self, bus: Bus, writer: Writer, stream: str) -> None:
        self._bus = bus
        self._writer = writer
        self._stream = stream
        self._news = asyncio.Event()
        self._flood = Flood(TOLD_AT_MOST, TOLD_SPAN_S)
        self._trouble = ""

    def wake(self) -> None:
        """Say that something was committed."""
        self._news.set()

    async def run(self) -> None:
        """Write letters until cancelled. What hinders it is said once, and tried again without end."""
        while True:
            try:
                await self._keep_up()
            except BusError as error:
                self._complain(str(error))
            await asyncio.sleep(RETRY_S)

    async def _keep_up(self) -> None:
        done = await self._resume()
        while True:
            self._news.clear()
            committed = self._writer.checkpoint(self._stream).sequence
            while some := await self._writer.dead_letters(self._stream, done, BATCH):
                await self._write(some, complete_to=done)
                done = some[-1].sequence
            done = max(done, committed)
            self._tell_hidden()
            await self._wait_for_news()

    async def _resume(self) -> int:
        """Return the sequence up to which all letters are written, as the newest one says; if the stream is as long at all."""
        done = await written_to(self._bus, self._stream)
        if done == 0:
            return 0
        last = int((await self._bus.stream_info(self._stream))["state"]["last_seq"])
        return done if done <= last else 0

    async def _wait_for_news(self) -> None:
        try:
            async with asyncio.timeout(self._flood.wait_s(asyncio.get_running_loop().time())):
                await self._news.wait()
        except TimeoutError:
            self._tell_hidden()
            return
        await asyncio.sleep(GATHER_S)

    async def _write(self, letters: Sequence[DeadLetter], *, complete_to: int) -> None:
        """Write letters, some at a time; all have been tried when this returns, or raises the first error."""
        for start in range(0, len(letters), AT_ONCE):
            work = [self._write_one(one, complete_to) for one in letters[start : start + AT_ONCE]]
            for outcome in await asyncio.gather(*work, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome
        if self._trouble:
            log.info("%s: dead letters are written again", self._stream)
            self._trouble = ""

    async def _write_one(self, dead: DeadLetter, complete_to: int) -> None:
        """Write the letter about one message, if that is still there and has none yet."""
        stored = await self._bus.get(self._stream, dead.sequence)
        stored = stored or await self._bus.get(self._stream, dead.sequence, consistent=True)
        if stored is None:
            return  # it is older than the stream keeps messages
        letter = await write_letter(self._bus, self._stream, stored, dead.reason, complete_to=complete_to)
        if letter is not None:
            self._tell(dead, headers_of(letter)["Cutor-Subject"])

    # -- what the log says -----------------------------------------------------------------------------------------

    def _tell(self, dead: DeadLetter, subject: str) -> None:
        self._tell_hidden()
        if self._flood.lets_through(asyncio.get_running_loop().time()):
            with about_message(subject, dead.sequence):
                log.warning("dead letter: %s %d (%.200s): %s", self._stream, dead.sequence, subject, dead.reason)

    def _tell_hidden(self) -> None:
        if hidden := self._flood.settle(asyncio.get_running_loop().time()):
            log.warning("dead letters: %s more of %s; `cutor dead-letters list` shows them", f"{hidden:,}", self._stream)

    def _complain(self, reason: str) -> None:
        if reason != self._trouble:
            self._trouble = reason
            log.error("%s: dead letters cannot be written, the view dead_letters has them: %s", self._stream, reason)

"""How soon a commit follows another: at once, or after a while, with all that has come meanwhile.

A commit costs nearly the same for one event and for ten, and what is committed shows in answers to questions alone. So while
nobody asks and others wait for the CPUs, commits keep apart; and before the views are copied for a question, what has come is
committed (`Paces.look`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Final

from cutor.bus.bulk.columns import Columns

LOOKED_AT_S: Final = 3.0
"""Who has asked may ask again: for so long behind a question no commit waits."""
FEW: Final = 1000
"""Who has fewer messages at once may rest behind their commit, so that the next has more; see `FEW_BYTES`."""
FEW_BYTES: Final = 512 << 10
"""Who has so many messages at once, or so many bytes of bodies, gets on better without rests: there is more to come."""
FAST_PER_S: Final = 2000
"""Where so many messages come, a commit has many by itself."""
RATE_S: Final = 1.0
"""For so long they are counted before it is said how fast they come."""
PATIENCE_S: Final = 1.0
"""Who looks waits no longer than that for what has come: its commit may be waiting for a server, or for a disk."""


class Paces:
    """The paces of streams whose messages are committed into one file."""

    def __init__(
        self, interval_s: float, streams: Iterable[str], is_behind: Callable[[str], bool], is_wanted: Callable[[], bool]
    ) -> None:
        """Rest ``interval_s`` behind each commit, while CPUs are wanted, nobody looks, and a stream is not known to be ahead.

        0: never.
        """
        self.interval_s = interval_s
        self.is_wanted = is_wanted
        self._of = {stream: StreamPace(self, partial(is_behind, stream)) for stream in streams}
        self._looked_at_until_s = float("-inf")

    def of(self, stream: str) -> StreamPace:
        """Return the pace of one."""
        return self._of[stream]

    @property
    def is_looked_at(self) -> bool:
        """Whether somebody has looked lately."""
        return asyncio.get_running_loop().time() < self._looked_at_until_s

    async def look(self) -> None:
        """Have committed what has come, for somebody who asks; for a while, what comes behind it does not wait, either."""
        self._looked_at_until_s = asyncio.get_running_loop().time() + LOOKED_AT_S
        await self.settle()

    async def settle(self) -> None:
        """Have committed what has come, as far as that takes no more than `PATIENCE_S`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                for pace in self._of.values():
                    pace.hurry()
                for pace in self._of.values():
                    await pace.settled.wait()


class StreamPace:
    """That of one stream; a `Pace` of who follows it."""

    def __init__(self, paces: Paces, is_behind: Callable[[], bool]) -> None:
        self._paces = paces
        self._is_behind = is_behind
        self._hurried = asyncio.Event()
        self.settled = asyncio.Event()
        """There is no rest, and what came during the last one is committed."""
        self.settled.set()
        self._count, self._counted_from_s, self._per_s = 0, float("-inf"), 0.0

    def hurry(self) -> None:
        """End a rest."""
        self._hurried.set()

    async def rest(self, taken: Columns) -> None:
        """Rest where others want the CPU, unless there is more to come, or somebody looks."""
        self.settled.set()
        is_fast = self._rate_with(len(taken)) > FAST_PER_S
        paces = self._paces
        if not paces.interval_s or paces.is_looked_at or self._is_behind() or is_fast or not _are_few(taken):
            return
        if not paces.is_wanted():
            return
        self.settled.clear()
        self._hurried.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._paces.interval_s):
                await self._hurried.wait()

    def _rate_with(self, count: int) -> float:
        """Return how many messages a second have come, of late."""
        now_s = asyncio.get_running_loop().time()
        self._count += count
        if (counted_s := now_s - self._counted_from_s) >= RATE_S:
            self._per_s = self._count / counted_s
            self._count, self._counted_from_s = 0, now_s
        return self._per_s

    def quiet(self) -> None:
        """Hear that nothing came."""
        self.settled.set()


def _are_few(columns: Columns) -> bool:
    return len(columns) < FEW and sum(map(len, columns.bodies)) < FEW_BYTES

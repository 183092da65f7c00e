"""Whether what is read of a stream lacks anything, and what follows from it.

The stream is asked for what is missing. What it has is read again: the reading was at fault. What it has not is there to stay:
views that meet it while they follow are made anew, since nobody knows what else the server lost; while they are made from the
beginning, it is noted in the table `gaps`, told once, and the views go on.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from cutor.bus.connection import Bus
from cutor.projections.errors import LeftOut, StreamLetGo, ViewsRejected
from cutor.projections.folds.gaps import Gap, gaps_in, held, is_whole, named
from cutor.projections.writer import Writer

log = logging.getLogger(__name__)


class Wholeness:
    """Looks at every batch before it is folded in."""

    def __init__(self, bus: Bus, writer: Writer) -> None:
        self._bus = bus
        self._writer = writer

    async def check(
        self,
        stream: str,
        position: int,
        sequences: Sequence[int],
        times_ns: Sequence[int],
        *,
        from_scratch_to: int | None = None,
    ) -> None:
        """Look at a batch behind a position. Note gaps that are new, up to a sequence to which the views are made from the
        beginning (None: without end).

        Raises `LeftOut` where the stream has some of what is missing, else `ViewsRejected` for a gap behind that sequence, and
        `StreamLetGo` where limits took what comes next behind what is folded in.
        """
        if is_whole(position, sequences):
            return
        found = gaps_in(position, sequences, times_ns)
        known = {gap.last for gap in await self._writer.gaps(stream)}
        await self._ask_for(stream, [gap for gap in found if gap.last not in known])
        new = [gap for gap in await self._held(stream, found) if gap.last not in known]
        if not new:
            return
        if from_scratch_to is not None and new[-1].last > from_scratch_to:
            raise ViewsRejected(f"{stream} lacks {named(new)}: nobody can have deleted that")
        await self._writer.note_gaps(stream, new)
        log.error(
            "%s lacks %s, which its server has lost; the views are made without, the table gaps says so", stream, named(new)
        )

    async def _ask_for(self, stream: str, gaps: Sequence[Gap]) -> None:
        """Raise `LeftOut` where the stream has a message in any gap.

        To be asked before its limits: what they take between the two is no gap, then.
        """
        for gap in gaps:
            there = await self._bus.next(stream, gap.first)
            if there is not None and there.sequence <= gap.last:
                raise LeftOut(stream, named([gap]), there.sequence)

    async def _held(self, stream: str, found: Sequence[Gap]) -> list[Gap]:
        """Return what of gaps the stream should hold."""
        first = int((await self._bus.stream_info(stream))["state"]["first_seq"])
        position = self._writer.checkpoint(stream).sequence
        if position and found[0].first == position + 1 < first:
            raise StreamLetGo(stream, first, position)
        return held(found, first)

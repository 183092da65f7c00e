"""Whether what is read of a stream lacks anything, and what follows from it.

Views that meet a gap while they follow are made anew: it may have been the reading that was at fault. A gap that is met while
they are made from the beginning is there to stay: it is noted in the table `gaps`, told once, and the views go on.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from cutor.bus.connection import Bus
from cutor.projections.errors import StreamLetGo, ViewsRejected
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

        Raises `ViewsRejected` for one behind it, `StreamLetGo` where limits took what comes next behind what is folded in.
        """
        if is_whole(position, sequences):
            return
        new = await self._new(stream, gaps_in(position, sequences, times_ns))
        if not new:
            return
        if from_scratch_to is not None and new[-1].last > from_scratch_to:
            raise ViewsRejected(f"{stream} lacks {named(new)}: nobody can have deleted that")
        await self._writer.note_gaps(stream, new)
        log.error(
            "%s lacks %s, which its server has lost; the views are made without, the table gaps says so", stream, named(new)
        )

    async def _new(self, stream: str, found: Sequence[Gap]) -> list[Gap]:
        """Return what of gaps the stream should hold, and the file does not know of yet."""
        first = int((await self._bus.stream_info(stream))["state"]["first_seq"])
        position = self._writer.position(stream).sequence
        if position and found[0].first == position + 1 < first:
            raise StreamLetGo(stream, first, position)
        known = {gap.last for gap in await self._writer.gaps(stream)}
        return [gap for gap in held(found, first) if gap.last not in known]

"""What is read again since a reading left it out: after pauses that grow, and seen by who looks at the views."""

from __future__ import annotations

from typing import Final

from cutor.projections.errors import LeftOut
from cutor.projections.writer import Writer

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0


class Rereading:
    """What readings of each stream left out, one after the other, without that anything was folded in between."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._times: dict[str, int] = {}
        self._reasons: dict[str, str] = {}

    def reason(self, stream: str) -> str | None:
        """Return what keeps the views of a stream from going on: readings left the same out twice or more."""
        return self._reasons.get(stream)

    async def note(self, left: LeftOut) -> float:
        """Note that something was left out; return for how many seconds to wait. Raises `ViewsRejected` as `Writer.apply`."""
        times = self._times[left.stream] = self._times.get(left.stream, 0) + 1
        if times > 1:
            self._reasons[left.stream] = f"{left}; {times} readings in a row have"
            await self._writer.note_wait(left.stream, self._reasons[left.stream])
        return float(min(FIRST_PAUSE_S * 2 ** min(times - 1, 10), LONGEST_PAUSE_S))

    async def folded(self, stream: str) -> None:
        """Note that the views of a stream have gone on. Raises `ViewsRejected` likewise."""
        self._times.pop(stream, None)
        if self._reasons.pop(stream, None) is not None:
            await self._writer.note_wait(stream, None)

"""What is read again since a reading left it out: after pauses that grow, and seen by who looks at the views."""

from __future__ import annotations

from typing import Final, NamedTuple

from cutor.projections.errors import LeftOut
from cutor.projections.writer import Writer

FIRST_PAUSE_S: Final = 1.0
"""Pause before the first reading anew; it doubles up to `LONGEST_PAUSE_S`."""
LONGEST_PAUSE_S: Final = 60.0
"""So late at the most what was left out is read once its cause is gone; each try reads the stream from there. A choice."""


class _Missed(NamedTuple):
    """What readings of a stream left out: a sequence, so often; and what is said of it."""

    sequence: int
    times: int
    reason: str | None


class Rereading:
    """What readings of each stream left out, one after the other, without that the views have come behind it."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._missed: dict[str, _Missed] = {}

    def reason(self, stream: str) -> str | None:
        """Return what keeps the views of a stream from going on: readings left the same out twice or more."""
        missed = self._missing(stream)
        return None if missed is None else missed.reason

    def _missing(self, stream: str) -> _Missed | None:
        """Return what the views lack still: others may have been put in their place that have it."""
        missed = self._missed.get(stream)
        return None if missed is None or missed.sequence <= self._writer.checkpoint(stream).sequence else missed

    async def note(self, left: LeftOut) -> float:
        """Note that something was left out; return for how many seconds to wait. Raises `ViewsRejected` as `Writer.apply`."""
        before = self._missing(left.stream)
        times = 1 if before is None else before.times + 1
        reason = f"{left}; {times} readings in a row have" if times > 1 else None
        self._missed[left.stream] = _Missed(left.sequence, times, reason)
        if reason is not None:
            await self._writer.note_wait(left.stream, reason)
        return float(min(FIRST_PAUSE_S * 2 ** min(times - 1, 10), LONGEST_PAUSE_S))

    async def folded(self, stream: str) -> None:
        """Note that the views of a stream have gone on. Raises `ViewsRejected` likewise."""
        missed = self._missed.pop(stream, None)
        if missed is not None and missed.reason is not None:
            await self._writer.note_wait(stream, None)

    def forget(self) -> None:
        """Note that the views are made anew, maybe from streams that were made anew: nothing was left out of those."""
        self._missed.clear()

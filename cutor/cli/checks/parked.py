"""What ``cutor doctor`` says of parked submissions that nobody has decided about."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from cutor.bus.connection import Bus
from cutor.bus.errors import StreamMissing
from cutor.cli.checks.findings import Finding, ok, warn
from cutor.journal.journal import Journal
from cutor.journal.parked import ParkedSubmissions

COUNTED_AT_MOST: Final = 100
"""Each that is counted is read: whether a `parked` event parked anything, the events before it say."""


async def check_parked(bus: Bus) -> AsyncIterator[Finding]:
    """Check whether submissions wait for an operator. A stack without the stream of events is told of elsewhere."""
    with suppress(StreamMissing):
        listing = await ParkedSubmissions(Journal(bus)).list(limit=COUNTED_AT_MOST)
        yield judge(len(listing.found), more=listing.more)


def judge(undecided: int, *, more: bool) -> Finding:
    """Return what so many undecided parked submissions mean; ``more``: there are others that were not counted."""
    if not undecided:
        return ok("parked", "no submission waits for a decision")
    count = f"more than {undecided}" if more else str(undecided)
    wait = "submission waits" if undecided == 1 and not more else "submissions wait"
    remedy = "`cutor parked list` shows why; mend the cause, then `cutor parked retry`, or `drop`"
    return warn("parked", f"{count} {wait} for a decision", remedy)

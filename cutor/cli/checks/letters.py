"""What ``cutor doctor`` says of messages that are no events, or that no role can act on."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from cutor.bus.connection import Bus
from cutor.bus.errors import StreamMissing
from cutor.bus.message import parse_time_ns
from cutor.cli.checks.findings import Finding, ok, warn
from cutor.cli.rows import age
from cutor.model.subjects import DEADLETTERS

OLD_S: Final = 7 * 86400
"""Dead letters stay for ever; those of so long ago are no news."""


async def check_dead_letters(bus: Bus) -> AsyncIterator[Finding]:
    """Check whether the log holds messages that are no events: old ones are told of, new ones are warned of.

    A stack that keeps none yet lacks the stream: the check of the streams says so.
    """
    with suppress(StreamMissing):
        state = (await bus.stream_info(DEADLETTERS))["state"]
        yield judge(int(state["messages"]), parse_time_ns(state["last_ts"]) // 1_000_000_000, int(time.time()))


def judge(letters: int, newest_s: int, now_s: int) -> Finding:
    """Return what so many letters mean, the newest of which was written at a second since 1970."""
    if not letters:
        return ok("dead letters", "none: every message in the log is an event that has its place")
    are = "message that is no event, has" if letters == 1 else "messages that are no events, have"
    newest = f"the newest {age(max(0, now_s - newest_s))} ago"
    detail = f"{letters:,} {are} no place in the log, or that no role can act on, {newest}"
    if now_s - newest_s > OLD_S:
        return ok("dead letters", detail)
    return warn("dead letters", detail, "`cutor dead-letters list` shows what was published")

"""The small document in which a role tells who looks on how it fares, a notice that no stream keeps.

It is made from the tally; counters are those since the process began, so a notice that is missed costs nothing. Whoever may
publish there may forge one: what is read is checked and bounded, and what it says is shown, never believed.

Pure.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from cutor.metrics import table
from cutor.metrics.table import Metric
from cutor.metrics.tally import Tally
from cutor.release import RELEASE

SUBJECT: Final = "cutor.stats"
EVERYBODY: Final = f"{SUBJECT}.*.*"
DOCUMENT_BYTES: Final = 16_384
"""A longer one is nobody's of cutor."""
ENTRIES_AT_MOST: Final = 64
"""Entries in each table of a document; one with more is nobody's of cutor."""
HEARTBEAT_S: Final = 2.0
"""A role that has nothing new to tell says so this often."""

RoleName = Literal["builder", "runner", "projector"]
Count = Annotated[int, Meta(ge=0, le=1 << 53)]
Name = Annotated[str, Meta(min_length=1, max_length=128)]


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """How one process of a role fares.

    ``started_ms``: when it began, by its own clock, which tells lives of one worker apart. ``submissions``: those that it has
    ended, by outcome. ``durations`` and ``waits``: how long submissions took, and their steps waited, as numbers by the buckets
    of `SECONDS`, with one more for what took longer. ``sequences``: how far a projector is, by stream.
    """

    role: RoleName
    """as in the subject"""
    worker: Name
    """name of the process, as in the subject but for its dots"""
    instance: Name
    """which stack it belongs to"""
    version: Name
    """of cutor"""
    started_ms: Count
    """milliseconds since 1970 by its own clock: tells lives of one worker apart"""
    ready: bool
    """whether it can work"""
    slots: Count = 0
    """submissions that it can have at one time"""
    busy: Count = 0
    """slots that are taken"""
    looking: Count = 0
    """submissions that it looks at, before it takes a slot"""
    waiting: Count = 0
    """submissions that wait for others, such as one that builds the same environment"""
    leases: Count = 0
    """taken so far"""
    leases_lost: Count = 0
    """of those, lost to others"""
    hits: Count = 0
    """submissions whose environment stood already"""
    builds: Count = 0
    """environments that were built, or failed to be"""
    kills: Count = 0
    """stages that were stopped, at a limit or by a cancel"""
    submissions: dict[Name, Count] = {}
    """that it has ended, by outcome"""
    durations: tuple[Count, ...] = ()
    """of submissions, as numbers by bucket"""
    waits: tuple[Count, ...] = ()
    """of steps for a worker, as numbers by bucket"""
    sequences: dict[Name, Count] = {}
    """up to where a projector has folded, by stream"""
    commits: Count = 0
    """of a projector"""
    commit_ms: Count = 0
    """milliseconds that these took together"""


def subject_of(role: str, worker: str) -> str:
    """Return where a worker tells: a dot in its name would be a word of its own."""
    return f"{SUBJECT}.{role}.{worker.replace('.', '_')}"


def statistics_of(tally: Tally, *, role: RoleName, worker: str, instance: str, started_ms: int, ready: bool) -> Statistics:
    """Return what a tally says of a role."""
    slots, in_hand = tally.numbers(table.SLOTS), tally.numbers(table.IN_HAND)
    busy = int(slots.get(("busy",), 0))
    return Statistics(
        role=role,
        worker=worker,
        instance=instance,
        version=RELEASE,
        started_ms=started_ms,
        ready=ready,
        slots=busy + int(slots.get(("free",), 0)),
        busy=busy,
        looking=int(in_hand.get(("looking",), 0)),
        waiting=int(in_hand.get(("waiting",), 0)),
        leases=_sum(tally, table.LEASES),
        leases_lost=_sum(tally, table.LEASES_LOST),
        hits=_sum(tally, table.HITS),
        builds=_sum(tally, table.BUILDS),
        kills=_sum(tally, table.KILLS),
        submissions=_by_outcome(tally),
        durations=_merged(tally, table.DURATION),
        waits=_merged(tally, table.LEASE_WAIT),
        sequences={stream: int(value) for (stream,), value in tally.numbers(table.SEQUENCE).items()},
        commits=sum(spread.number for spread in tally.spreads(table.COMMIT).values()),
        commit_ms=int(1000 * sum(spread.total for spread in tally.spreads(table.COMMIT).values())),
    )


def read(subject: str, body: bytes) -> Statistics | None:
    """Return the document of a notice, or None for what is none, or another's than the subject says."""
    if len(body) > DOCUMENT_BYTES:
        return None
    try:
        told = msgspec.json.decode(body, type=Statistics)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    sizes = (len(told.submissions), len(told.sequences), len(told.durations), len(told.waits))
    if max(sizes) > ENTRIES_AT_MOST or subject != subject_of(told.role, told.worker):
        return None
    return told


def _sum(tally: Tally, metric: Metric) -> int:
    return int(sum(tally.numbers(metric).values()))


def _by_outcome(tally: Tally) -> dict[str, int]:
    found: dict[str, int] = {}
    for (_, outcome), number in tally.numbers(table.FINISHED).items():
        found[outcome] = found.get(outcome, 0) + int(number)
    return found


def _merged(tally: Tally, metric: Metric) -> tuple[int, ...]:
    """Return the numbers of all series of a histogram together; none of one without values."""
    return tuple(map(sum, zip(*(spread.counts for spread in tally.spreads(metric).values()), strict=True)))

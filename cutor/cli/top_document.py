"""What ``cutor top`` shows at one moment, as a document. Pure: `top_frame` draws it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from cutor.metrics.heard import Heard, Times, submissions
from cutor.metrics.statistics import Statistics

HISTORY_S: Final = 60
"""The last minute, as all rates are of it."""
HISTORY_STEP_S: Final = 2.0
"""One bar of the history: two seconds, so that a minute has thirty of them and fits half a narrow terminal."""
TELLING_S: Final = 3.0
"""Without any notice for so long, that is said."""


class ShownQueue(msgspec.Struct, frozen=True, kw_only=True):
    """One queue. Null: not known at the moment, or not for this user."""

    role: str
    tenant: str
    pending: int | None = None
    unacknowledged: int | None = None


class ShownWorker(msgspec.Struct, frozen=True, kw_only=True):
    """One worker, as it was heard last."""

    role: str
    worker: str
    version: str
    ready: bool
    stale: bool
    silent_s: float
    slots: int
    busy: int
    waiting: int
    leases_per_min: float
    leases_lost: int


class ShownTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Times within the window."""

    number: int
    p50_s: float | None
    p95_s: float | None


class ShownProjector(msgspec.Struct, frozen=True, kw_only=True):
    """The views: ``behind`` by stream, null where the stream's end is not known; ``commit_ms``: the mean of the window."""

    behind: dict[str, int | None]
    commit_ms: float | None


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """What the server says. Null or absent: not known at the moment, or not for this user.

    ``last``: the ends of streams; ``dead_letters``: messages that are no events; ``parked``: those that wait for a decision,
    ``parked_more``: and there are more.
    """

    connected: bool = True
    queues: tuple[ShownQueue, ...] = ()
    last: dict[str, int] = {}
    used_bytes: int | None = None
    limit_bytes: int | None = None
    dead_letters: int | None = None
    parked: int | None = None
    parked_more: bool = False


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """The document of ``--json``. Rates, times and outcomes are of the last ``window_s``, a minute at the most."""

    address: str
    connected: bool
    silent_s: float
    window_s: float
    queues: tuple[ShownQueue, ...]
    workers: tuple[ShownWorker, ...]
    finished_per_s: float
    outcomes: dict[str, int]
    history: tuple[float, ...]
    hits_per_min: float
    builds_per_min: float
    kills_per_min: float
    leases_lost_per_min: float
    durations: ShownTimes
    waits: dict[str, ShownTimes]
    projector: ShownProjector | None
    parked: int | None
    parked_more: bool
    dead_letters: int | None
    used_bytes: int | None
    limit_bytes: int | None
    unreadable: int
    left_out: int

    @property
    def nobody(self) -> bool:
        """Whether no role was heard lately."""
        return self.silent_s >= TELLING_S


def document(address: str, heard: Heard, looked: Looked, now_s: float) -> Shown:
    """Return what is to be shown."""
    return Shown(
        address=address,
        connected=looked.connected,
        silent_s=round(heard.silent_s(now_s), 1),
        window_s=round(heard.window_s(now_s), 1),
        queues=looked.queues,
        workers=_workers(heard, now_s),
        finished_per_s=heard.rate(submissions, now_s),
        outcomes=heard.outcomes(),
        history=tuple(heard.history(submissions, now_s, HISTORY_S, HISTORY_STEP_S)),
        hits_per_min=60 * heard.rate(lambda told: told.hits, now_s),
        builds_per_min=60 * heard.rate(lambda told: told.builds, now_s),
        kills_per_min=60 * heard.rate(lambda told: told.kills, now_s),
        leases_lost_per_min=60 * heard.rate(lambda told: told.leases_lost, now_s),
        durations=_times(heard.times(lambda told: told.durations)),
        waits={role: _times(heard.times(lambda told: told.waits, role)) for role in ("builder", "runner")},
        projector=_projector(heard, looked.last, now_s),
        parked=looked.parked,
        parked_more=looked.parked_more,
        dead_letters=looked.dead_letters,
        used_bytes=looked.used_bytes,
        limit_bytes=looked.limit_bytes,
        unreadable=heard.unreadable,
        left_out=heard.left_out,
    )


def _times(times: Times) -> ShownTimes:
    return ShownTimes(number=times.number, p50_s=times.p50_s, p95_s=times.p95_s)


def _workers(heard: Heard, now_s: float) -> tuple[ShownWorker, ...]:
    return tuple(
        ShownWorker(
            role=one.told.role,
            worker=one.told.worker,
            version=one.told.version,
            ready=one.told.ready,
            stale=one.stale,
            silent_s=round(one.silent_s, 1),
            slots=one.told.slots,
            busy=one.told.busy,
            waiting=one.told.waiting,
            leases_per_min=one.leases_per_min,
            leases_lost=one.told.leases_lost,
        )
        for one in heard.workers(now_s)
    )


def _projector(heard: Heard, last: Mapping[str, int], now_s: float) -> ShownProjector | None:
    """Return how far the views are: of several projectors, each with a file of its own, the one that is furthest."""
    told = [one.told for one in heard.workers(now_s) if one.told.role == "projector" and one.told.sequences]
    if not told:
        return None
    best = max(told, key=lambda one: sum(one.sequences.values()))
    behind = {
        stream: max(0, last[stream] - sequence) if stream in last else None for stream, sequence in best.sequences.items()
    }
    return ShownProjector(behind=behind, commit_ms=_mean_commit_ms(heard, now_s))


def _mean_commit_ms(heard: Heard, now_s: float) -> float | None:
    def commits(told: Statistics) -> int:
        return told.commits

    number = heard.rate(commits, now_s, "projector")
    return heard.rate(lambda told: told.commit_ms, now_s, "projector") / number if number else None

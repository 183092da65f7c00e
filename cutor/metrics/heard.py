"""What was heard of the roles of a stack, and the rates and times that follow from it. The caller's clock comes along.

Rates are differences of counters over a window. A process that began anew counts from 0: what it says then is all new.

Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from cutor.metrics.statistics import Statistics, read
from cutor.metrics.table import SECONDS

WORKERS_AT_MOST: Final = 256
"""Workers whose numbers are kept at one time; those of more are counted as left out."""
STALE_S: Final = 5.0
"""A worker that was silent for so long may be gone: two heartbeats were missed."""
GONE_S: Final = 15.0
"""One that was silent for so long is not shown any more."""
WINDOW_S: Final = 60.0
"""A worker that was silent for so long is forgotten; rates are over so long at the most."""

Counter = Callable[[Statistics], int]


class Sample(NamedTuple):
    """A document, and when it came."""

    at_s: float
    told: Statistics


class Worker(NamedTuple):
    """A worker as it was heard last; ``silent_s``: since when nothing was."""

    told: Statistics
    silent_s: float
    leases_per_min: float

    @property
    def stale(self) -> bool:
        """Whether it may be gone."""
        return self.silent_s >= STALE_S


class Times(NamedTuple):
    """Times of what ended within the window, in seconds: as exact as the buckets are. Null where nothing ended."""

    number: int
    p50_s: float | None
    p95_s: float | None


class Heard:
    """The samples of every worker within the window."""

    def __init__(self, now_s: float) -> None:
        self._began_s = now_s
        self._samples: dict[str, deque[Sample]] = {}
        self.unreadable = 0
        self.left_out = 0
        self.last_s: float | None = None

    def take(self, subject: str, body: bytes, now_s: float) -> None:
        """Take a notice in; what is none is counted, as is a worker too many."""
        told = read(subject, body)
        if told is None:
            self.unreadable += 1
            return
        self._forget(now_s)
        if subject not in self._samples and len(self._samples) >= WORKERS_AT_MOST:
            self.left_out += 1
            return
        self.last_s = now_s
        samples = self._samples.setdefault(subject, deque())
        if len(samples) > 1 and now_s - samples[-2].at_s < 0.5:
            samples.pop()  # whoever floods fills no memory: what counts is the newest
        samples.append(Sample(now_s, told))
        while len(samples) > 2 and now_s - samples[1].at_s > WINDOW_S:
            samples.popleft()

    def _forget(self, now_s: float) -> None:
        for subject in [one for one, samples in self._samples.items() if now_s - samples[-1].at_s > WINDOW_S]:
            del self._samples[subject]

    def workers(self, now_s: float) -> list[Worker]:
        """Return who was heard lately, builders first, by name."""
        order = ("builder", "runner", "projector")
        found = [
            Worker(samples[-1].told, now_s - samples[-1].at_s, 60 * self._rate_of(samples, _leases, now_s))
            for samples in self._samples.values()
            if now_s - samples[-1].at_s < GONE_S
        ]
        return sorted(found, key=lambda one: (order.index(one.told.role), one.told.worker))

    def silent_s(self, now_s: float) -> float:
        """Return for how long nobody was heard."""
        return now_s - (self._began_s if self.last_s is None else self.last_s)

    def window_s(self, now_s: float) -> float:
        """Return over how long rates and times are: since the beginning, `WINDOW_S` at the most."""
        return min(now_s - self._began_s, WINDOW_S)

    def rate(self, count: Counter, now_s: float, role: str | None = None) -> float:
        """Return how much all workers, or those of a role, count a second."""
        return sum(self._rate_of(samples, count, now_s) for samples in self._of(role))

    def outcomes(self) -> dict[str, int]:
        """Return how many submissions have ended within the window, by outcome, the most frequent first."""
        found: dict[str, int] = {}
        for samples in self._of(None):
            for outcome in samples[-1].told.submissions:
                number = _grown(samples, lambda told, outcome=outcome: told.submissions.get(outcome, 0))  # type: ignore[misc]
                found[outcome] = found.get(outcome, 0) + number
        return dict(sorted(((o, n) for o, n in found.items() if n), key=lambda pair: (-pair[1], pair[0])))

    def times(self, buckets: Callable[[Statistics], Sequence[int]], role: str | None = None) -> Times:
        """Return the times of a histogram within the window."""
        total = [0] * (len(SECONDS) + 1)
        for samples in self._of(role):
            for place, number in enumerate(_grown_buckets(samples, buckets)[: len(total)]):
                total[place] += number
        number = sum(total)
        return Times(number, quantile(total, 0.5), quantile(total, 0.95))

    def history(self, count: Counter, now_s: float, seconds: int, step_s: float) -> list[float]:
        """Return how much was counted in each step of the last seconds, the newest last."""
        steps = [0.0] * int(seconds / step_s)
        for samples in self._of(None):
            for before, after in zip(samples, [*samples][1:], strict=False):
                place = len(steps) - 1 - int((now_s - after.at_s) / step_s)
                if 0 <= place < len(steps):
                    steps[place] += _growth(before.told, after.told, count)
        return steps

    def _of(self, role: str | None) -> Iterable[deque[Sample]]:
        return (samples for samples in self._samples.values() if role is None or samples[-1].told.role == role)

    def _rate_of(self, samples: deque[Sample], count: Counter, now_s: float) -> float:
        span_s = max(1.0, min(now_s - samples[0].at_s, WINDOW_S))
        return _grown(samples, count) / span_s


def quantile(counts: Sequence[int], share: float) -> float | None:
    """Return the time within which a share of values lie, by numbers in the buckets of `SECONDS`: linear within a bucket.

    Null where there are none; for what lies above all bounds, the last bound.
    """
    wanted, before = share * sum(counts), 0
    if not wanted:
        return None
    for place, number in enumerate(counts):
        if before + number >= wanted:
            if place >= len(SECONDS):
                return SECONDS[-1]
            low = SECONDS[place - 1] if place else 0.0
            return low + (SECONDS[place] - low) * (wanted - before) / number
        before += number
    return SECONDS[-1]


def submissions(told: Statistics) -> int:
    """Return how many submissions a worker has ended."""
    return sum(told.submissions.values())


def _leases(told: Statistics) -> int:
    return told.leases


def _growth(before: Statistics, after: Statistics, count: Counter) -> int:
    """Return how much a worker counted between two documents; all of it where it has begun anew since."""
    grown = count(after) - count(before)
    return count(after) if before.started_ms != after.started_ms else max(0, grown)


def _grown(samples: deque[Sample], count: Counter) -> int:
    pairs = zip(samples, [*samples][1:], strict=False)
    return sum(_growth(before.told, after.told, count) for before, after in pairs)


def _grown_buckets(samples: deque[Sample], buckets: Callable[[Statistics], Sequence[int]]) -> list[int]:
    length = max(len(buckets(sample.told)) for sample in samples)

    def at(place: int) -> Counter:
        def count(told: Statistics) -> int:
            counts = buckets(told)
            return counts[place] if place < len(counts) else 0

        return count

    return [_grown(samples, at(place)) for place in range(length)]

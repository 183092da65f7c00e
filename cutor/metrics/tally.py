"""The values of metrics in one process: counted, observed, set.

No lock: one event loop writes and reads. A metric keeps `SERIES_AT_MOST` combinations of labels; further ones are left out.

Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Final, NamedTuple

from cutor.metrics.table import Metric

SERIES_AT_MOST: Final = 1000
"""Combinations of labels that a metric keeps; further ones are left out, so that memory has a bound."""

Labels = tuple[str, ...]


class Spread(NamedTuple):
    """The values of one series of a histogram: ``counts`` by bucket, the last one for what is above all bounds; their sum."""

    counts: tuple[int, ...]
    total: float

    @property
    def number(self) -> int:
        """How many values there were."""
        return sum(self.counts)


class Observation(NamedTuple):
    """One value of a metric: added to a counter or a histogram, or what a gauge is now."""

    metric: Metric
    value: float = 1.0
    labels: Labels = ()


class Tally:
    """Values by metric and labels, which stand in the metric's order."""

    def __init__(self) -> None:
        self._numbers: dict[Metric, dict[Labels, float]] = {}
        self._spreads: dict[Metric, dict[Labels, Spread]] = {}

    def take(self, observations: Iterable[Observation]) -> None:
        """Take values in, each by the kind of its metric."""
        for observation in observations:
            metric, value, labels = observation
            assert len(labels) == len(metric.labels), f"{metric.name}: its labels are {metric.labels}"
            if metric.kind == "histogram":
                self._observe(metric, value, labels)
            else:
                self._note(metric, value, labels)

    def forget(self, metric: Metric) -> None:
        """Have no value of a gauge any more: nobody knows what it is now."""
        self._numbers.pop(metric, None)

    def numbers(self, metric: Metric) -> dict[Labels, float]:
        """Return the values of a counter or gauge by labels."""
        return self._numbers.get(metric, {})

    def spreads(self, metric: Metric) -> dict[Labels, Spread]:
        """Return the values of a histogram by labels."""
        return self._spreads.get(metric, {})

    def _note(self, metric: Metric, value: float, labels: Labels) -> None:
        series = self._numbers.setdefault(metric, {})
        if labels in series or len(series) < SERIES_AT_MOST:
            series[labels] = value if metric.kind == "gauge" else series.get(labels, 0.0) + value

    def _observe(self, metric: Metric, value: float, labels: Labels) -> None:
        series = self._spreads.setdefault(metric, {})
        if labels not in series and len(series) >= SERIES_AT_MOST:
            return
        counts, total = series.get(labels) or Spread((0,) * (len(metric.buckets) + 1), 0.0)
        place = bisect_left(metric.buckets, value)
        series[labels] = Spread((*counts[:place], counts[place] + 1, *counts[place + 1 :]), total + value)

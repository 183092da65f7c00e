"""A tally in the OpenMetrics text format. Imported at the first scrape: prometheus-client is slow to import."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from cutor.metrics.table import METRICS, Metric
from cutor.metrics.tally import Tally

CONTENT_TYPE: Final[str] = CONTENT_TYPE_LATEST


class _Collected(Collector):
    """The metrics of one role as families of the library."""

    def __init__(self, tally: Tally, role: str) -> None:
        self._tally = tally
        self._role = role

    def collect(self) -> Iterator[Family]:
        """Yield every metric of the role, those without a value yet, too."""
        return (_family(metric, self._tally) for metric in METRICS if self._role in metric.roles)


def exposed(tally: Tally, role: str) -> bytes:
    """Return a role's metrics as the body of an answer, with those of its process (CPU, memory, files)."""
    registry = CollectorRegistry()
    registry.register(_Collected(tally, role))
    ProcessCollector(registry=registry)
    body: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]
    return body


def _family(metric: Metric, tally: Tally) -> Family:
    if metric.kind == "histogram":
        return _histogram(metric, tally)
    labels = list(metric.labels)
    of_kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = of_kind(metric.name, metric.about, labels=labels, unit=metric.unit)
    numbers = tally.numbers(metric)
    if metric.kind == "counter" and not labels and not numbers:
        family.add_metric([], 0.0)
    for values, number in numbers.items():
        family.add_metric(list(values), number)
    return family


def _histogram(metric: Metric, tally: Tally) -> HistogramMetricFamily:
    family = HistogramMetricFamily(metric.name, metric.about, labels=list(metric.labels), unit=metric.unit)
    bounds = [*(str(bound) for bound in metric.buckets), "+Inf"]
    for values, spread in tally.spreads(metric).items():
        family.add_metric(list(values), list(zip(bounds, accumulate(spread.counts), strict=True)), spread.total)
    return family

"""What the views answered, as values with names. Pure.

Times end in ``_us`` or ``_s`` and count from 1970, UTC; spans have the unit in their names too. None: unknown, or none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec


class _Fact(msgspec.Struct, frozen=True, kw_only=True):
    """A row of a section."""


class StreamPosition(_Fact, frozen=True, kw_only=True):
    """How far the views were in a stream."""

    stream: str
    sequence: int
    at_us: int | None


class Totals(_Fact, frozen=True, kw_only=True):
    """How many submissions the report is about, and from when to when something happened to them."""

    submissions: int
    ended: int
    ok: int
    tenants: int
    first_us: int | None
    last_us: int | None


class OutcomeCount(_Fact, frozen=True, kw_only=True):
    """So many submissions had this outcome; None: they have not ended."""

    outcome: str | None
    count: int


class Tenant(_Fact, frozen=True, kw_only=True):
    """A tenant's submissions; ``whole_us`` are the median and the ninth decile of the time to their end."""

    name: str
    submissions: int
    ended: int
    ok: int
    whole_us: tuple[int, int] | None


class Label(_Fact, frozen=True, kw_only=True):
    """The submissions with a label; ``labels`` is how many labels there are, with those that are not listed."""

    name: str
    value: str
    submissions: int
    outcomes: tuple[OutcomeCount, ...]
    labels: int


class Piece(_Fact, frozen=True, kw_only=True):
    """How much of something happened in the ``seconds`` from ``begin_s`` on: ``submitted``, or an outcome."""

    seconds: int
    begin_s: int
    what: str
    count: int


class Busiest(_Fact, frozen=True, kw_only=True):
    """The minute in which most was ``submitted``, or ``ended``."""

    what: str
    begin_s: int
    count: int


class Latency(_Fact, frozen=True, kw_only=True):
    """How long a span of a submission's life took: 101 quantiles, from the least to the most."""

    span: str
    count: int
    quantiles_us: tuple[int, ...]


class Duration(_Fact, frozen=True, kw_only=True):
    """How many submissions took from 10^(class/10) ms on to their end; ``hit``: their environment was there already."""

    hit: bool
    number: int = msgspec.field(name="class")
    count: int


class StageCount(_Fact, frozen=True, kw_only=True):
    """So many stages of a kind had this outcome."""

    stage: str
    outcome: str
    count: int


class Usage(_Fact, frozen=True, kw_only=True):
    """What stages of a kind used: median, ninth decile, ninety-ninth centile, and most; of how many that is known."""

    stage: str
    count: int
    timed: int
    cpu_ms: tuple[int, ...] | None
    wall_ms: tuple[int, ...] | None
    weighed: int
    memory_bytes: tuple[int, ...] | None


class Environment(_Fact, frozen=True, kw_only=True):
    """An environment that submissions were given; ``all_uses``, ``all_hits``, ``environments`` are sums over all of them."""

    key: str
    uses: int
    hits: int
    build_ms: int | None
    last_us: int | None
    closure_bytes: int | None
    closure_paths: int | None
    removed: bool
    pinned: bool
    private: bool
    all_uses: int
    all_hits: int
    environments: int


class Worker(_Fact, frozen=True, kw_only=True):
    """A worker's leases; ``workers`` counts those, too, that are not listed."""

    worker: str
    role: str
    leases: int
    lost: int
    busy_ms: int | None
    last_us: int | None
    workers: int


class Notable(_Fact, frozen=True, kw_only=True):
    """A submission that is among the first by ``time`` (microseconds), ``memory`` or ``output`` (bytes)."""

    measure: str
    tenant: str
    id: str
    outcome: str | None
    value: int


class Parked(_Fact, frozen=True, kw_only=True):
    """A submission that was given up; ``parked`` counts those, too, that are not listed."""

    tenant: str
    id: str
    stage: str | None
    message: str | None
    parked_us: int | None
    parked: int


class Unended(_Fact, frozen=True, kw_only=True):
    """How many submissions wait for a role, and how many it has in hand."""

    role: str
    waiting: int
    in_hand: int


class Gap(_Fact, frozen=True, kw_only=True):
    """How many messages a stream should hold and has lost."""

    stream: str
    messages: int


class Letters(_Fact, frozen=True, kw_only=True):
    """Dead letters of one reason; ``letters`` counts those of all reasons."""

    stream: str
    reason: str
    count: int
    last_us: int
    letters: int


class Facts(_Fact, frozen=True, kw_only=True):
    """All that a report shows. ``moments``: how far the views were, at each of the questions."""

    moments: tuple[tuple[StreamPosition, ...], ...]
    scope: tuple[Totals, ...]
    outcomes: tuple[OutcomeCount, ...]
    tenants: tuple[Tenant, ...]
    labels: tuple[Label, ...]
    throughput: tuple[Piece, ...]
    busiest: tuple[Busiest, ...]
    latencies: tuple[Latency, ...]
    durations: tuple[Duration, ...]
    stages: tuple[StageCount, ...]
    usage: tuple[Usage, ...]
    environments: tuple[Environment, ...]
    workers: tuple[Worker, ...]
    notable: tuple[Notable, ...]
    parked: tuple[Parked, ...]
    letters: tuple[Letters, ...]
    unended: tuple[Unended, ...]
    gaps: tuple[Gap, ...]

    @property
    def totals(self) -> Totals:
        """The one row of ``scope``."""
        return self.scope[0]

    def latency(self, span: str) -> Latency | None:
        """Return the distribution of a span; None where nothing of it was measured."""
        return next((one for one in self.latencies if one.span == span), None)

    def count_of(self, outcome: str | None) -> int:
        """Return how many submissions had an outcome."""
        return next((one.count for one in self.outcomes if one.outcome == outcome), 0)


def read_facts(answers: Sequence[Mapping[str, Any]]) -> Facts:
    """Return the facts in the answers to the statements of `question`, a document a section.

    Raises `msgspec.ValidationError`.
    """
    sections = {name: rows for answer in answers for name, rows in answer.items()}
    return msgspec.convert(sections | {"moments": [answer["stack"] for answer in answers]}, Facts)

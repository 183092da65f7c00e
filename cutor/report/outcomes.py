"""The outcomes as a report groups, names and colours them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from cutor.report.facts import OutcomeCount, StageCount
from cutor.report.figures import Part


class Kind(NamedTuple):
    """Outcomes that a report shows as one: the class of their colour, and their name."""

    style: str
    name: str
    outcomes: frozenset[str | None]


def _kind(style: str, *outcomes: str) -> Kind:
    return Kind(style, ", ".join(outcomes), frozenset(outcomes))


UNENDED: Final = Kind("c-none", "not ended", frozenset({None}))
OF_SUBMISSIONS: Final = (
    _kind("c-ok", "OK"),
    _kind("c-wrong", "WRONG_ANSWER"),
    _kind("c-failed", "RUN_ERROR"),
    _kind("c-compile", "COMPILE_ERROR"),
    _kind("c-built", "DEPENDENCY_ERROR"),
    _kind("c-refused", "REJECTED"),
    _kind("c-stopped", "CANCELLED"),
    _kind("c-parked", "PARKED"),
    UNENDED,
)
OF_STAGES: Final = (
    _kind("c-ok", "OK"),
    _kind("c-wrong", "WA"),
    _kind("c-failed", "RE", "SG"),
    _kind("c-compile", "TLE_CPU", "TLE_WALL"),
    _kind("c-built", "MLE"),
    _kind("c-refused", "OLE", "FSE"),
    _kind("c-stopped", "CANCELLED"),
    _kind("c-parked", "XX"),
    _kind("c-none", "SKIPPED"),
)
"""In the order in which they are stacked. Colours are shared: no figure has both."""


def parts(kinds: Iterable[Kind], counts: Iterable[OutcomeCount | StageCount]) -> tuple[Part, ...]:
    """Return how many there are of each kind, in its colour; those of a kind without any are parts of nothing."""
    known = list(counts)
    return tuple(Part(kind.style, sum(one.count for one in known if one.outcome in kind.outcomes)) for kind in kinds)

"""What a run of `make bench` measured, as it is kept in JSON, and the few numbers that are made of many. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final, Literal

import msgspec

from tests.bench import kept

FORMAT: Final = 1
"""Of the file: two files of different formats are not compared."""

What = Literal["fork+exec", "nsjail", "container, cheapest", "container, cutor's", "cutor"]
PYTHON: Final = "Python hello"
PAUSED: Final = "Python hello, with pauses"
REUSED: Final = "Python hello, containers reused"
"""By a stack whose containers serve many submissions each."""
C: Final = "C hello"
TESTS: Final = "1 compile + 20 tests"
BURST: Final = "burst of 100"
STREAM: Final = "steady stream"


class Spread(msgspec.Struct, frozen=True):
    """How long one thing took, over all times that it was done, in milliseconds."""

    p50: float
    p95: float
    p99: float
    longest: float


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One way to do a case, so many at once: how often it was done, in how many seconds, and how long one took."""

    what: What
    case: str
    at_once: int
    count: int
    seconds: float
    ms: Spread

    @property
    def per_second(self) -> float:
        """How many ended in a second."""
        return self.count / self.seconds


class Step(msgspec.Struct, frozen=True):
    """One step on a submission's way, or one call: how long it took, in milliseconds."""

    name: str
    p50: float
    p95: float


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """CPU time of everybody, in seconds, while so many submissions went through; ``cpus`` is what there was a second."""

    case: str
    at_once: int
    submissions: int
    seconds: float
    cpus: int
    cpu_s: dict[str, float]

    def plus(self, other: Usage) -> Usage:
        """Return this and another turn's together."""
        who = dict.fromkeys([*self.cpu_s, *other.cpu_s])
        return msgspec.structs.replace(
            self,
            submissions=self.submissions + other.submissions,
            seconds=self.seconds + other.seconds,
            cpu_s={name: self.cpu_s.get(name, 0.0) + other.cpu_s.get(name, 0.0) for name in who},
        )


class Memory(msgspec.Struct, frozen=True):
    """What the processes of one role held: the most of each (RSS) together, and their share now (PSS), in MiB."""

    who: str
    processes: int
    peak_mib: float
    pss_mib: float


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run. ``steps`` are by what they are of; ``origin`` says of which code, on which machine, with which versions."""

    format: int
    origin: dict[str, str]
    measured: list[Measured]
    steps: dict[str, list[Step]]
    usage: list[Usage]
    memory: list[Memory]

    def plus(self, other: Run) -> Run:
        """Return this and what another stack did in the same run; the memory is this one's."""
        return msgspec.structs.replace(
            self,
            measured=[*self.measured, *other.measured],
            steps=self.steps | other.steps,
            usage=[*self.usage, *other.usage],
        )

    def find(self, what: What, case: str, at_once: int) -> Measured | None:
        """Return what was measured, None where it was not."""
        wanted = (what, case, at_once)
        return next((one for one in self.measured if (one.what, one.case, one.at_once) == wanted), None)

    def fastest(self, what: What, case: str) -> Measured | None:
        """Return the most of it a second, whatever was done at once."""
        found = [one for one in self.measured if (one.what, one.case) == (what, case)]
        return max(found, key=lambda one: one.per_second, default=None)


def percentile(ordered: Sequence[float], per_cent: float) -> float:
    """Return the lowest of these numbers, in order, that so many per cent of them do not exceed. Raises ValueError for none."""
    if not ordered:
        raise ValueError("there is no percentile of nothing")
    return ordered[max(math.ceil(len(ordered) * per_cent / 100), 1) - 1]


def spread(times_ms: Iterable[float]) -> Spread:
    """Return how times are spread. Raises ValueError for none."""
    ordered = sorted(times_ms)
    return Spread(*(round(percentile(ordered, per_cent), 3) for per_cent in (50, 95, 99, 100)))


def step(name: str, times_ms: Iterable[float]) -> Step:
    """Return a step of these times. Raises ValueError for none."""
    found = spread(times_ms)
    return Step(name, found.p50, found.p95)


class Target(msgspec.Struct, frozen=True):
    """A figure, what it is to be, and whether that is the most or the least; None where the run did not measure it."""

    name: str
    figure: float | None
    wanted: float
    unit: str
    kind: Literal["at most", "at least"]

    @property
    def met(self) -> bool:
        """Whether the figure is as it is to be."""
        if self.figure is None:
            return False
        return self.figure <= self.wanted if self.kind == "at most" else self.figure >= self.wanted


def targets(run: Run) -> list[Target]:
    """Return the targets of a run beside their figures."""
    cutor, jailed = run.find("cutor", PAUSED, 1), run.find("nsjail", PYTHON, 1)
    most, bare = run.fastest("cutor", PYTHON), run.fastest("container, cheapest", PYTHON)
    p50 = None if cutor is None else cutor.ms.p50
    own = None if p50 is None or jailed is None else p50 - jailed.ms.p50
    rate = None if most is None else most.per_second
    share = None if rate is None or bare is None else rate / bare.per_second
    reused = run.fastest("cutor", REUSED)
    programs = None if reused is None else run.find("fork+exec", REUSED, reused.at_once)
    kept = None if reused is None or programs is None else reused.per_second / programs.per_second
    return [
        Target("submit to terminal event seen, Python hello, one at a time, with pauses, p50", p50, 40, " ms", "at most"),
        Target("cutor's own of that: all but one nsjail with the program", own, 15, " ms", "at most"),
        Target("submissions a second ÷ cheapest bare containers a second", share, 0.8, "", "at least"),
        Target("submissions a second, a container for each", rate, 8, "/s", "at least"),
        Target("containers reused: submissions a second ÷ bare fork+exec, as many at once", kept, 0.7, "", "at least"),
    ]


def decode(raw: bytes) -> Run:
    """Return the run in a document. Raises ValueError for what is none, or of another format."""
    return kept.decode(raw, Run, FORMAT, "make bench")

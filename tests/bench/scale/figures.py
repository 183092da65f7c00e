"""What a run of `make bench-scale` measured, as it is kept in JSON. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from tests.bench import kept
from tests.bench.performance.figures import Memory, percentile

FORMAT: Final = 1


class Step(msgspec.Struct, frozen=True):
    """One step on a submission's way, in milliseconds."""

    name: str
    p50: float
    p99: float


class Command(msgspec.Struct, frozen=True):
    """What a command takes at the least, without the start of Python, in milliseconds."""

    name: str
    ms: float


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What things cost on one stack; CPU is in milliseconds a submission by who used it, ``starts`` in seconds by what starts.

    ``contained`` are steps of the submissions that had a real container.
    """

    submissions: int
    environments: int
    lives: int
    steps: list[Step]
    contained: list[Step]
    cpu_ms: dict[str, float]
    starts: dict[str, float]
    commands: list[Command]
    memory: list[Memory]
    stream_bytes: int
    views_bytes: int
    filled_s: float


class Fair(msgspec.Struct, frozen=True):
    """What single submissions took with so many of another tenant in front, of which so many were left in the end."""

    runner: str
    queued: int
    left: int
    took: Step


class Pair(msgspec.Struct, frozen=True):
    """The smallest stack and another one, measured in turns."""

    least: Cost
    more: Cost


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run; ``origin`` says of which code, on which machine, with which versions."""

    format: int
    origin: dict[str, str]
    pairs: list[Pair]
    fair: list[Fair] = []


def step_of(name: str, times_ms: list[float]) -> Step:
    """Return a step of these times. Raises ValueError for none."""
    ordered = sorted(times_ms)
    return Step(name, round(percentile(ordered, 50), 3), round(percentile(ordered, 99), 3))


def decode(raw: bytes) -> Run:
    """Return the run in a document. Raises ValueError for what is none, or of another format."""
    return kept.decode(raw, Run, FORMAT, "make bench-scale")

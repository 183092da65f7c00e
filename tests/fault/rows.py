"""What the rounds hand in, and what came of each point."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from tests.fault.invariants import Finding
from tests.fault.submissions import Kind


@dataclass
class Row:
    """What came of one point."""

    point: str
    kills: int = 0
    """Processes that were killed."""
    submissions: int = 0
    """Handed in for it."""
    findings: list[tuple[str, Finding]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    views: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """What else is not as it must be: work that did not go on in time, too little of it."""
    reached: bool = True
    seconds: float = 0.0
    said: str = ""
    made: int = 0
    """Faults that were made otherwise: a connection was disturbed, a process stopped, garbage put in."""
    killed_ns: list[int] = field(default_factory=list)
    """When the process of its role was killed, by the clock of the stream's times."""

    @property
    def role(self) -> str:
        """The role that is killed."""
        words = self.point.split(".")
        return words[1] if words[0] == "outside" and len(words) > 1 else words[0]

    def count(self, promise: str) -> int:
        """Return how often a promise was broken."""
        return sum(finding.promise == promise for _, finding in self.findings)

    @property
    def good(self) -> bool:
        """Whether everything is as it must be."""
        return self.reached and not (self.findings or self.left or self.views or self.faults)


class Handed(NamedTuple):
    """A submission that was acknowledged."""

    identity: str
    kind: Kind

"""Whose turn is it? Smooth weighted round robin over tenants, as a value. Pure.

At every turn each lane that takes part gains its weight as credit; the one with the most credit is chosen and pays the sum
of the weights that took part. Among lanes that are always ready, the turns of a lane are spread evenly and their share is
exactly its weight's share. A lane that is not ready gains nothing and pays nothing: an idle tenant saves up no claim, a
busy one no debt. Of lanes with as much credit that one is chosen which was served longest ago: so who comes to a queue that
had all turns has the next one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cutor.bus.errors import BusError


@dataclass(frozen=True, slots=True)
class Turns:
    """Credit by lane, in the order in which they were served last (which breaks ties); weights are positive integers."""

    weights: Mapping[str, int]
    credit: Mapping[str, int]

    @classmethod
    def start(cls, weights: Mapping[str, int]) -> Turns:
        """All lanes with no credit. Refuses an empty table and weights under 1."""
        if not weights:
            raise BusError("turns need one lane at least")
        for lane, weight in weights.items():
            if weight < 1:
                raise BusError(f"lane {lane}: weight {weight} is not 1 or more")
        return cls(dict(weights), dict.fromkeys(weights, 0))

    def choose(self, ready: Collection[str]) -> str | None:
        """The lane whose turn it is among those ready; None if none is."""
        lanes = [lane for lane in self.credit if lane in ready]
        return max(lanes, key=lambda lane: self.credit[lane] + self.weights[lane]) if lanes else None

    def served(self, lane: str, ready: Collection[str]) -> Turns:
        """The state after `lane` was served while `ready` took part (`lane` itself always does)."""
        taking_part = {name for name in self.weights if name in ready} | {lane}
        total = sum(self.weights[name] for name in taking_part)
        credit = {name: value + (self.weights[name] if name in taking_part else 0) for name, value in self.credit.items()}
        credit[lane] = credit.pop(lane) - total
        return Turns(self.weights, credit)

"""The table of `make attacks`: a line for each attack as it ends, 120 columns wide. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.attacks.campaign import Verdict

NAME, OUTCOME = 41, 33
WIDTH: Final = 120
LEGEND: Final = '  a|b: either; a → b: the test cases in their order; OK "x": it printed x, which shows that it was tried'


def heading(title: str, count: int) -> str:
    """Return what stands above a pass: what it is, and the names of the columns."""
    names = f"  {'attack':{NAME}} {'expected':{OUTCOME}} {'got':{OUTCOME}} {'time':>7}"
    return f"{count} attacks {title}\n{LEGEND}\n\n{names}\n  {'-' * (WIDTH - 2)}"


def lines(verdict: Verdict) -> Iterator[str]:
    """Yield the lines of an attack: its own, marked where it is not what it must be, and a line for each difference."""
    mark = "!" if verdict.differences else " "
    outcome = "differs:" if verdict.differences and verdict.got == verdict.expected else verdict.got
    yield (
        f"{mark} {_cut(verdict.name, NAME):{NAME}} {_cut(verdict.expected, OUTCOME):{OUTCOME}} "
        f"{_cut(outcome, OUTCOME):{OUTCOME}} {verdict.seconds:5.1f} s"
    )
    for difference in verdict.differences:
        yield f"    {difference}"


def progress(done: int, count: int, wrong: int, width: int = 80) -> str:
    """Return how far a pass is, for a line that is written over."""
    said = f"  {done} of {count} ended" + (f", {wrong} not as they must" if wrong else "")
    return said.ljust(width - 1)[: width - 1]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"

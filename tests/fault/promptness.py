"""Whether work went on after a kill because of what roles do about it, and not because a clock ran out. Pure.

A role that starts again hands back what its former life had in hand, and says what it cleaned up after. Without that everything
would come to the same end, by ``ack_wait``. So: the lease behind one that a kill ended must be there before the clock of its
delivery can have run out, and what had ended under a lease of the dead life is cleaned by its sweep, not by a takeover.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tests.fault.invariants import TERMINAL, Entry

STEPPED: Final = ("cache-built", "cache-lost")
"""Kinds with which a role hands a submission to the other one."""
OVER: Final = (*TERMINAL, *STEPPED)
"""Kinds behind which the step of a lease is over."""
UNDER_WAY_NS: Final = 100_000_000
"""What comes so soon behind a kill the dead life had sent: the next one's process waits 0.1 s, and then loads its code."""


def slow(entries: Sequence[Entry], instance: str, kills_ns: Mapping[str, Sequence[int]], bound_ns: int) -> Iterator[str]:
    """Yield the leases that a role of this instance took later than ``bound_ns`` after its kill, which had cut the one before.

    ``kills_ns``: when the roles were killed, by the clock that the stream's times are of. Where there was more than one between
    two leases nothing is said: what was handed back after the first can have been on its way to the life that the second ended,
    which had not noted it yet, and then its clock has to run out. A lease may be stored right behind the kill of its life.
    """
    for at, first in _leases(entries, instance):
        role = first.body["lease"]["role"]
        behind = next((at + 1 + n for n, entry in enumerate(entries[at + 1 :]) if entry.kind in (*OVER, "leased")), None)
        if behind is None or entries[behind].kind != "leased":
            continue
        after = entries[behind]
        killed = [kill for kill in kills_ns.get(role, ()) if first.time_ns - UNDER_WAY_NS <= kill < after.time_ns]
        if len(killed) == 1 and after.time_ns - killed[0] >= bound_ns:
            took = (after.time_ns - killed[0]) / 1e9
            yield f"the {role} took it up again {took:.1f} s after it was killed: what it had in hand was not handed back"


def unswept(entries: Sequence[Entry], instance: str, kills_ns: Mapping[str, Sequence[int]]) -> Iterator[str]:
    """Yield where a takeover cleaned what had ended under the lease of a life that was killed after that end."""
    end = next((entry for entry in entries if entry.kind in TERMINAL), None)
    cleaned = next((entry for entry in entries if entry.kind == "cleaned"), None)
    newest = max(_leases(entries, instance), default=None)
    if end is None or cleaned is None or newest is None or cleaned.body.get("by") != "takeover":
        return
    at, lease = newest
    if any(entry.kind in STEPPED for entry in entries[at:]):
        return  # nobody had it any more; whose turn it was cleans by a takeover
    if lease != max((entry for entry in entries if entry.kind == "leased"), key=lambda entry: entry.sequence):
        return
    role = lease.body["lease"]["role"]
    if any(end.time_ns < kill < cleaned.time_ns - UNDER_WAY_NS for kill in kills_ns.get(role, ())):
        yield f"it was cleaned by a takeover; the {role} that was killed had to clean it by a sweep when it started again"


def _leases(entries: Sequence[Entry], instance: str) -> Iterator[tuple[int, Entry]]:
    for at, entry in enumerate(entries):
        if entry.kind == "leased" and str(entry.body["lease"]["worker"]).endswith(f"-{instance}"):
            yield at, entry

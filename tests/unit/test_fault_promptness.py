"""What the harness says of work that went on after a kill: because of a hand-back, or because a clock ran out."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fault.invariants import Entry
from tests.fault.promptness import UNDER_WAY_NS, slow, unswept

S = 1_000_000_000
STACK = "abc"
BOUND_NS = 20 * S
Event = tuple[int, str, dict[str, Any]]


def leased(at_s: int, number: int = 1, role: str = "runner", instance: str = STACK) -> Event:
    return at_s, "leased", {"lease": {"role": role, "number": number, "worker": f"{role}-{instance}"}}


def history(*events: Event) -> list[Entry]:
    return [Entry(number, kind, "", body, at_s * S) for number, (at_s, kind, body) in enumerate(events, 1)]


BUILT: Event = (1, "cache-built", {})
AGAIN = history(leased(0, role="builder"), BUILT, leased(2), leased(40, 2))
ENDED: Event = (3, "finished", {})


@pytest.mark.parametrize(
    ("entries", "kill_s", "said"),
    [
        (AGAIN, 10, 1),  # the next lease came 30 s after the kill
        (AGAIN, 30, 0),
        (AGAIN, 1, 0),  # before its lease was taken
        (AGAIN, 50, 0),
        (history(leased(2), (5, "cache-lost", {}), leased(40, 2)), 10, 0),  # the step was over
        (history(leased(2), ENDED), 10, 0),
        (history(leased(2, instance="other"), leased(40, 2)), 10, 0),  # another one's lease: its clock runs
    ],
)
def test_a_lease_that_came_by_the_clock_is_said(entries: list[Entry], kill_s: int, said: int) -> None:
    assert len(list(slow(entries, STACK, {"runner": [kill_s * S]}, BOUND_NS))) == said


def test_one_kill_alone_tells_and_only_of_that_role() -> None:
    """Behind a second one the delivery may have been on its way to the life that it ended."""
    assert list(slow(AGAIN, STACK, {"runner": [10 * S, 39 * S]}, BOUND_NS)) == []
    assert list(slow(AGAIN, STACK, {"runner": [10 * S, 11 * S]}, BOUND_NS)) == []
    assert len(list(slow(AGAIN, STACK, {"runner": [1 * S, 10 * S, 50 * S]}, BOUND_NS))) == 1
    under_way = 2 * S - UNDER_WAY_NS // 2  # the lease of the life that was killed, stored right behind that
    assert list(slow(AGAIN, STACK, {"runner": [under_way, 10 * S]}, BOUND_NS)) == []
    assert len(list(slow(AGAIN, STACK, {"runner": [under_way]}, BOUND_NS))) == 1
    assert list(slow(AGAIN, STACK, {"builder": [10 * S]}, BOUND_NS)) == []


@pytest.mark.parametrize(
    ("by", "kill_s", "instance", "said"),
    [
        ("takeover", 10, STACK, 1),
        ("sweep", 10, STACK, 0),
        ("worker", 10, STACK, 0),
        ("takeover", 2, STACK, 0),  # it ended behind the kill: the sweep had nothing to say yet
        ("takeover", 10, "other", 0),
    ],
)
def test_a_takeover_of_what_a_sweep_had_to_clean_is_said(by: str, kill_s: int, instance: str, said: int) -> None:
    entries = history(leased(1, instance=instance), ENDED, (40, "cleaned", {"by": by}))
    assert len(list(unswept(entries, STACK, {"runner": [kill_s * S]}))) == said


def test_nothing_is_said_of_what_is_not_cleaned() -> None:
    assert list(unswept(history(leased(1), ENDED), STACK, {"runner": [10 * S]})) == []
    assert list(unswept([], STACK, {})) == []


def test_nothing_is_said_of_what_the_builder_had_handed_on() -> None:
    """Cancelled before a runner had it: its delivery goes to one, who cleans it."""
    events = leased(0, role="builder"), BUILT, (2, "cancelled", {}), (40, "cleaned", {"by": "takeover"})
    assert list(unswept(history(*events), STACK, {"builder": [10 * S]})) == []


@pytest.mark.parametrize(("behind_ns", "said"), [(2_000_000, 0), (UNDER_WAY_NS, 0), (UNDER_WAY_NS + 1, 1)])
def test_nothing_is_said_of_what_the_dead_life_had_sent_already(behind_ns: int, said: int) -> None:
    """It was on its way to the server as the process died of another submission's point: no next life can be so quick."""
    entries = history(leased(1), ENDED, (4, "cleaned", {"by": "takeover"}))
    assert len(list(unswept(entries, STACK, {"runner": [4 * S - behind_ns]}))) == said

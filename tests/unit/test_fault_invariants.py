"""The invariants of the fault harness: a good history passes, and for each promise there is a history that breaks it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fault.invariants import Entry, Expected, Judged, check, check_ids


def lease(role: str, number: int = 1) -> dict[str, Any]:
    return {"role": role, "worker": "w", "token": f"{role}{number}", "number": number}


def history(*events: tuple[str, dict[str, Any]]) -> list[Entry]:
    """Return events as they stand in the stream."""
    return [Entry(number, kind, f"id{number}", {"kind": kind, **body}) for number, (kind, body) in enumerate(events, 1)]


SUBMITTED = ("submitted", {"request": {}})
BUILDER, RUNNER, AGAIN = lease("builder"), lease("runner"), lease("runner", 2)
BUILT = ("cache-built", {"lease": BUILDER})
CLEANED = ("cleaned", {"worker": "w", "by": "worker"})


def leased(one: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return "leased", {"lease": one}


def compiled(under: dict[str, Any], outcome: str = "OK") -> tuple[str, dict[str, Any]]:
    return "compiled", {"lease": under, "stage": {"outcome": outcome}}


def ran(under: dict[str, Any], index: int, *outcomes: str) -> tuple[str, dict[str, Any]]:
    return "ran", {"lease": under, "index": index, "stages": [{"outcome": outcome} for outcome in outcomes]}


def finished(under: dict[str, Any], outcome: str = "OK") -> tuple[str, dict[str, Any]]:
    return "finished", {"lease": under, "outcome": outcome}


BEGUN = (SUBMITTED, leased(BUILDER), BUILT)
GOOD = (
    *BEGUN,
    leased(RUNNER),
    compiled(RUNNER),
    ran(RUNNER, 0, "OK"),
    leased(AGAIN),  # the first attempt was killed: the next begins with compile
    compiled(AGAIN),
    ran(AGAIN, 0, "OK"),
    ran(AGAIN, 1, "OK", "OK"),
    finished(AGAIN),
    CLEANED,
)
EXPECTED = Expected(("OK",), ("OK", "OK", "OK"), compiled="OK")


def replaced(at: int, *events: tuple[str, dict[str, Any]]) -> list[Entry]:
    """Return the good history with something else in the place of one event."""
    return history(*GOOD[:at], *events, *GOOD[at + 1 :])


def without(at: int) -> list[Entry]:
    return replaced(at)


def test_a_good_history_breaks_nothing() -> None:
    assert check(history(*GOOD), EXPECTED) == []


@pytest.mark.parametrize(
    ("kind", "body"), [("cancelled", {}), ("rejected", {"lease": BUILDER}), ("parked", {"role": "builder"})]
)
def test_other_ends_are_ends(kind: str, body: dict[str, Any]) -> None:
    events = history(SUBMITTED, leased(BUILDER), (kind, body), CLEANED)
    assert check(events, Expected((kind.upper(),))) == []


def test_a_lost_environment_is_built_and_run_again() -> None:
    again, last = lease("builder", 2), lease("runner", 2)
    events = history(
        *(*BEGUN, leased(RUNNER), ("cache-lost", {"lease": RUNNER}), leased(again), ("cache-built", {"lease": again})),
        *(leased(last), ran(last, 0, "OK"), finished(last), CLEANED),
    )
    assert check(events, Expected()) == []


BROKEN: dict[str, tuple[str, list[Entry]]] = {
    "it is not in the stream": ("lost", []),
    "its beginning is gone": ("lost", history(*GOOD[1:])),
    "it did not end": ("lost", history(*GOOD[:-2])),
    "it was not cleaned": ("lost", history(*GOOD[:-1])),
    "submitted twice": ("doubled", history(SUBMITTED, *GOOD)),
    "ended twice": ("doubled", history(*GOOD[:-1], finished(AGAIN), CLEANED)),
    "ended in two ways": ("doubled", history(*GOOD[:-1], ("cancelled", {}), CLEANED)),
    "ended after cleaned": ("doubled", history(*GOOD, ("cancelled", {}))),
    "cleaned twice": ("doubled", history(*GOOD, CLEANED)),
    "cleaned before its end": ("doubled", history(*GOOD[:-2], CLEANED, GOOD[-2])),
    "a lease after the end": ("doubled", history(*GOOD[:-1], leased(lease("runner", 3)), CLEANED)),
    "an event after cleaned": ("doubled", history(*GOOD, ran(AGAIN, 3, "OK"))),
    "a lease number twice": ("doubled", replaced(6, leased(lease("runner", 1) | {"token": "another"}))),
    "a gap between lease numbers": ("doubled", replaced(6, leased(lease("runner", 3)))),
    "a token twice": ("doubled", replaced(6, leased(AGAIN | {"token": "runner1"}))),
    "a runner's lease without an environment": ("doubled", without(2)),
    "a builder's lease of what is built": ("doubled", replaced(6, leased(lease("builder", 2)), leased(AGAIN))),
    "a result of a worker that lost its lease": ("doubled", replaced(8, ran(RUNNER, 1, "OK"))),
    "an end by a worker that lost its lease": ("doubled", replaced(10, finished(RUNNER))),
    "a result under no lease at all": ("doubled", history(SUBMITTED, BUILT, *GOOD[3:])),
    "a builder's event under a runner's lease": ("doubled", replaced(5, ("cache-built", {"lease": BUILDER}))),
    "a test case twice": ("doubled", replaced(9, ran(AGAIN, 0, "OK", "OK"))),
    "a test case left out": ("doubled", replaced(9, ran(AGAIN, 2, "OK"))),
    "compiled twice": ("doubled", replaced(7, compiled(AGAIN), compiled(AGAIN))),
    "compiled after a run": ("doubled", replaced(8, ran(AGAIN, 0, "OK"), compiled(AGAIN))),
    "built twice under a lease": ("doubled", replaced(2, BUILT, BUILT)),
    "more leases than allowed": ("doubled", history(*BEGUN, *(leased(lease("runner", n)) for n in range(1, 6)), *GOOD[-2:])),
    "another end": ("wrong", replaced(10, finished(AGAIN, "RUN_ERROR"))),
    "an end without all test cases": ("wrong", without(9)),
    "an end without the compile stage": ("wrong", without(7)),
    "another outcome of a test case": ("wrong", replaced(8, ran(AGAIN, 0, "WA"))),
    "parked where it must be done": ("wrong", replaced(10, ("parked", {"role": "runner", "message": "m"}))),
}


@pytest.mark.parametrize("name", BROKEN)
def test_every_broken_promise_is_found(name: str) -> None:
    promise, entries = BROKEN[name]
    assert promise in [finding.promise for finding in check(entries, EXPECTED)]


def test_what_breaks_nothing_is_not_reported_beside_what_does() -> None:
    """Each broken history is one change of the good one: no other kind of finding may come of most of them."""
    mixed = {name for name, (promise, entries) in BROKEN.items() if {f.promise for f in check(entries, EXPECTED)} != {promise}}
    assert mixed == set(), mixed


@pytest.mark.parametrize("twice", [0, 3])
def test_a_message_id_is_there_once(twice: int) -> None:
    ids = [entry.message_id for entry in history(*GOOD)]
    assert check_ids(ids) == []
    assert check_ids([*ids, "", ""]) == []  # what has none is of no interest
    assert [finding.promise for finding in check_ids([*ids, ids[twice]])] == ["doubled"]


def test_what_comes_behind_an_end_is_found_when_all_are_looked_at_again() -> None:
    """A second end under another message id, a second after the first look: nothing but a second look can tell."""
    judged, stream = Judged(), {"one": history(*GOOD), "other": history(*GOOD)}
    for identity, entries in stream.items():
        assert judged.first(identity, entries, EXPECTED) == []
    assert judged.again(stream) == []
    late = history(*GOOD, finished(AGAIN))
    stream["one"] = [*late[:-1], late[-1]._replace(message_id="another")]
    assert check_ids([entry.message_id for entry in stream["one"]]) == []
    assert {(identity, finding.promise) for identity, finding in judged.again(stream)} == {("one", "doubled")}
    assert judged.again(stream) == []  # each is said once
    assert {identity for identity, _ in judged.again({"one": stream["one"]})} == {"other"}  # it is gone from the stream


@pytest.mark.parametrize("at", range(len(GOOD)))
def test_no_event_of_a_history_can_be_taken_away_or_doubled_unseen(at: int) -> None:
    """Except for what a killed attempt reported: what it did not come to report is no loss."""
    assert bool(check(without(at), EXPECTED)) is (at not in {4, 5})
    assert check(replaced(at, GOOD[at], GOOD[at]), EXPECTED)

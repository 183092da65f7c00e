"""Decisions: given a history, what a role does with a delivery."""

import msgspec
import pytest

from cutor.model.decide import (
    Clean,
    NothingToDo,
    Park,
    TakeLease,
    decide_answer,
    decide_cancel,
    decide_cleaned,
    decide_fault,
    decide_step,
    decide_submit,
    event_message_id,
    holds,
)
from cutor.model.events import CacheLost, Cancelled, Cleaned, Event, Interrupted, Role, Stage
from tests.unit.histories import (
    ADDRESS,
    BUILT,
    COMPILING,
    OK,
    RUNNING,
    SUBMITTED,
    after,
    cache_built,
    finished,
    lease,
    leased,
    ran,
)

CLEANED = Cleaned(worker="w", by="worker")
LOST = CacheLost(lease=lease("runner"), key="k1", missing="/nix/store/y")


def step(role: Role, *events: Event, max_leases: int = 3) -> object:
    state = after(*events)
    return decide_step(state, role, state.step_sequence, worker="me", token="new", max_leases=max_leases)


@pytest.mark.parametrize(
    ("role", "events", "number"),
    [
        ("builder", (SUBMITTED,), 1),
        ("builder", (SUBMITTED, leased("builder")), 2),
        ("builder", (*RUNNING, LOST), 2),
        ("runner", BUILT, 1),
        ("runner", (*RUNNING, ran(0, "OK")), 2),
    ],
)
def test_a_role_leases_its_own_step_with_the_next_number(role: Role, events: tuple[Event, ...], number: int) -> None:
    decided = step(role, *events)
    assert isinstance(decided, TakeLease)
    assert (decided.event.lease.number, decided.event.lease.worker, decided.event.lease.token) == (number, "me", "new")


@pytest.mark.parametrize(("role", "events"), [("runner", (SUBMITTED,)), ("builder", BUILT), ("builder", RUNNING)])
def test_a_step_that_is_done_or_not_due_needs_nothing(role: Role, events: tuple[Event, ...]) -> None:
    assert isinstance(step(role, *events), NothingToDo)


def test_used_up_leases_park() -> None:
    decided = step("builder", SUBMITTED, leased("builder"), leased("builder", 2), max_leases=2)
    assert isinstance(decided, Park)
    assert (decided.event.role, decided.event.stage) == ("builder", "dependencies")
    assert decided.event.message == "2 builder leases ended without a result"


def test_environments_lost_again_and_again_park() -> None:
    decided = step("builder", *RUNNING, LOST, max_leases=0)
    assert isinstance(decided, Park)
    assert "lost 1 times" in decided.event.message


def test_a_delivery_of_an_event_before_the_one_that_called_for_the_step_is_old() -> None:
    """After a lost environment two deliveries can be about: the old one must not steal the lease of the new one."""
    state = after(*RUNNING, LOST, leased("builder", 2), cache_built(2))
    for sequence, wanted in ((30, NothingToDo), (state.step_sequence, TakeLease)):
        assert isinstance(decide_step(state, "runner", sequence, worker="me", token="new", max_leases=3), wanted)


def test_a_runner_is_parked_at_the_stage_it_never_got_through() -> None:
    used_up = (*BUILT, leased("runner"), leased("runner", 2))
    decided = step("runner", *used_up, max_leases=2)
    assert isinstance(decided, Park)
    assert decided.event.stage == "run"
    state = msgspec.structs.replace(after(*used_up), request=COMPILING)
    decided = decide_step(state, "runner", state.step_sequence, worker="me", token="new", max_leases=2)
    assert isinstance(decided, Park)
    assert decided.event.stage == "compile"


@pytest.mark.parametrize(
    ("role", "events", "by"),
    [
        ("builder", (SUBMITTED, Cancelled()), "worker"),
        ("builder", (SUBMITTED, leased("builder"), Cancelled()), "takeover"),
        ("runner", (*BUILT, Cancelled()), "takeover"),
        ("runner", (*RUNNING, finished()), "takeover"),
    ],
)
def test_who_receives_an_ended_submission_cleans_it(role: Role, events: tuple[Event, ...], by: str) -> None:
    decided = step(role, *events)
    assert isinstance(decided, Clean)
    assert (decided.event.worker, decided.event.by) == ("me", by)


@pytest.mark.parametrize(("role", "events"), [("builder", (*RUNNING, finished())), ("runner", (*RUNNING, finished(), CLEANED))])
def test_an_ended_submission_is_cleaned_once_and_by_one_role(role: Role, events: tuple[Event, ...]) -> None:
    assert isinstance(step(role, *events), NothingToDo)


def test_a_lease_holds_until_a_newer_one_or_the_end() -> None:
    mine = lease("runner")
    assert holds(after(*RUNNING), mine)
    assert holds(after(*RUNNING, ran(5, "OK")), mine), "a stray must not kill a healthy run"
    assert not holds(after(*RUNNING, leased("runner", 2)), mine)
    assert not holds(after(*RUNNING, Cancelled()), mine)
    assert not holds(after(*BUILT), lease("builder")), "the builder's step is done"


def test_the_last_lease_that_fails_parks_with_the_reason() -> None:
    state = after(*RUNNING)
    assert decide_fault(state, lease("runner"), reason="no nsjail", max_leases=2) is None
    parked = decide_fault(state, lease("runner"), reason="no nsjail", max_leases=1)
    assert parked is not None
    assert (parked.event.message, parked.event.stage) == ("1 runner leases failed; the last: no nsjail", "run")


def test_a_lost_lease_that_fails_parks_nothing() -> None:
    state = after(*RUNNING, leased("runner", 2))
    assert decide_fault(state, lease("runner", 1), reason="x", max_leases=1) is None


@pytest.mark.parametrize(
    ("events", "answer"),
    [
        (RUNNING, "retry"),
        ((*RUNNING, ran(0, "OK")), "retry"),
        ((*RUNNING, leased("runner", 2)), "leave"),
        ((*RUNNING, leased("runner", 2), finished(number=2)), "leave"),
        ((*RUNNING, leased("runner", 2), finished(number=2), CLEANED), "done"),
        ((*RUNNING, finished()), "leave"),
        ((*RUNNING, finished(), CLEANED), "done"),
        ((*RUNNING, LOST), "done"),
    ],
)
def test_a_delivery_is_answered_by_what_the_log_says(events: tuple[Event, ...], answer: str) -> None:
    assert decide_answer(after(*events), lease("runner")) == answer


def test_cancelling_an_ended_submission_appends_nothing() -> None:
    assert decide_cancel(after(*RUNNING), "why") == Cancelled(reason="why")
    assert decide_cancel(after(*RUNNING, finished()), None) is None


def test_cleaned_is_due_once_after_the_end() -> None:
    mine = lease("runner")
    assert decide_cleaned(after(*RUNNING), "w", mine) is None
    assert decide_cleaned(after(*RUNNING, finished()), "w", mine) == CLEANED
    assert decide_cleaned(after(*RUNNING, finished(), CLEANED), "w", mine) is None


def test_nobody_says_of_another_workers_leftovers_that_they_are_gone() -> None:
    taken_over = after(*RUNNING, leased("runner", 2), Cancelled())
    assert decide_cleaned(taken_over, "w", lease("runner")) is None, "its holder does"
    assert decide_cleaned(taken_over, "w", None) == Cleaned(worker="w", by="takeover")
    assert decide_cleaned(after(SUBMITTED, Cancelled()), "w", None) == CLEANED, "nobody ever had it"


STOPPED = Stage(outcome="CANCELLED", wall_time_ms=5)


def test_who_is_stopped_by_a_cancel_tells_what_the_log_does_not_hold() -> None:
    """An append that was given up with the work may have been stored all the same."""
    mine, had = lease("runner"), Interrupted(stage="run", stages=(OK, STOPPED))
    rest = Interrupted(stage="run", stages=(STOPPED,), index=1)
    cancelled = after(*RUNNING, Cancelled())
    assert decide_cleaned(cancelled, "w", mine, had) == Cleaned(worker="w", by="worker", interrupted=had)
    stored = after(*RUNNING, ran(0, "OK"), Cancelled())
    assert decide_cleaned(stored, "w", mine, had) == Cleaned(worker="w", by="worker", interrupted=rest)
    all_stored = after(*RUNNING, ran(0, "OK", "OK"), Cancelled())
    assert decide_cleaned(all_stored, "w", mine, had) == CLEANED


def test_nobody_tells_of_stages_that_were_not_his_to_run() -> None:
    had = Interrupted(stage="run", stages=(STOPPED,))
    compiling = Interrupted(stage="compile", stages=(STOPPED,))
    cancelled = after(*RUNNING, Cancelled())
    assert decide_cleaned(after(*RUNNING, finished("RUN_ERROR")), "w", lease("runner"), had) == CLEANED
    assert decide_cleaned(cancelled, "w", lease("runner"), compiling) == CLEANED
    assert decide_cleaned(cancelled, "w", None, had) == Cleaned(worker="w", by="takeover")
    assert decide_cleaned(after(*RUNNING, leased("runner", 2), Cancelled()), "w", lease("runner"), had) is None


def test_the_same_id_is_the_same_submission_only_with_the_same_digest() -> None:
    assert [decide_submit(after(SUBMITTED), digest) for digest in ("d1", "d2")] == ["same", "conflict"]


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (SUBMITTED, "default/s1/submitted/d1"),
        (leased("builder"), "default/s1/leased/builder/t1/0"),
        (ran(7, "OK", number=2), "default/s1/ran/runner/2/7"),
        (finished(), "default/s1/finished/runner/1/0"),
        (CLEANED, "default/s1/cleaned/any/0/0"),
    ],
)
def test_message_ids(event: Event, expected: str) -> None:
    assert event_message_id(ADDRESS, event, index=7 if "ran/" in expected else 0) == expected

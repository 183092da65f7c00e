"""Decisions: given a history, what a role does with a delivery."""

import msgspec
import pytest

from cutor.model.decide import (
    REASON_CHARACTERS,
    Clean,
    NothingToDo,
    Park,
    TakeLease,
    decide_answer,
    decide_cancel,
    decide_cleaned,
    decide_fault,
    decide_in_hand,
    decide_look,
    decide_overtaken,
    decide_poison,
    decide_step,
    decide_submit,
    decide_swept,
    event_message_id,
    holds,
    is_old,
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


def test_one_lease_is_one_try_of_each_step() -> None:
    """``max_leases`` 1: what dies with its lease is not tried again, and a lost environment is built once more."""
    assert isinstance(step("builder", SUBMITTED, max_leases=1), TakeLease)
    assert isinstance(step("builder", SUBMITTED, leased("builder"), max_leases=1), Park)
    assert isinstance(step("runner", *BUILT, max_leases=1), TakeLease)
    assert isinstance(step("runner", *RUNNING, max_leases=1), Park)
    lost = (*RUNNING, LOST)
    assert isinstance(step("builder", *lost, max_leases=1), TakeLease)
    assert isinstance(step("builder", *lost, leased("builder", 2), max_leases=1), Park)
    again = (*lost, leased("builder", 2), cache_built(2))
    assert isinstance(step("runner", *again, max_leases=1), TakeLease)
    newest = msgspec.structs.replace(LOST, lease=lease("runner", 2), missing="/nix/store/z; fetching it failed: unsigned")
    parked = step("builder", *again, leased("runner", 2), newest, max_leases=1)
    assert isinstance(parked, Park)
    told = "the environment was lost 2 times between build and run; the last: /nix/store/z; fetching it failed: unsigned"
    assert parked.event.message == told


@pytest.mark.parametrize("max_leases", [1, 2, 3, 7])
def test_leases_of_a_role_are_bounded_whatever_becomes_of_each(max_leases: int) -> None:
    """Every lease dies, or ends in a lost environment: each role gets its leases, and one more for each loss."""
    events: list[Event] = [SUBMITTED]
    for number in range(1, max_leases + 1):
        assert isinstance(step("builder", *events, max_leases=max_leases), TakeLease)
        events.append(leased("builder", number))
    assert isinstance(step("builder", *events, max_leases=max_leases), Park)
    events, losses = [SUBMITTED], 0
    while isinstance(step("builder", *events, max_leases=max_leases), TakeLease):
        number = losses + 1
        events += [leased("builder", number), cache_built(number), leased("runner", number)]
        events.append(msgspec.structs.replace(LOST, lease=lease("runner", number)))
        losses += 1
    assert losses == max_leases + 1
    assert after(*events).attempts.runner == max_leases + 1


def test_environments_lost_again_and_again_park() -> None:
    decided = step("builder", *RUNNING, LOST, max_leases=0)
    assert isinstance(decided, Park)
    assert decided.event.message == "the environment was lost 1 time between build and run; the last: /nix/store/y"


def test_what_a_loss_says_is_cut_in_the_message() -> None:
    """Whoever may append can write a long one."""
    decided = step("builder", *RUNNING, msgspec.structs.replace(LOST, missing="x" * 100_000), max_leases=0)
    assert isinstance(decided, Park)
    assert decided.event.message.endswith("xxx…")
    assert len(decided.event.message) < REASON_CHARACTERS + 100


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


@pytest.mark.parametrize(
    ("events", "look"),
    [
        (RUNNING, "go on"),
        ((*RUNNING, ran(0, "OK")), "go on"),
        ((*RUNNING, leased("runner", 7), finished(number=7)), "go on"),  # strays: a wrong number, a lease that never was
        ((*RUNNING, leased("runner", 2)), "lost"),
        ((*RUNNING, LOST), "lost"),
        (BUILT, "lost"),
        ((*RUNNING, Cancelled()), "ended"),
        ((*RUNNING, leased("runner", 2), finished(number=2)), "ended"),
    ],
)
def test_who_looks_into_the_log_goes_on_or_stops(events: tuple[Event, ...], look: str) -> None:
    assert decide_look(after(*events), lease("runner")) == look


def test_who_has_no_lease_yet_is_stopped_by_an_end_alone() -> None:
    assert decide_look(after(*RUNNING), None) == "go on"
    assert decide_look(after(*RUNNING, Cancelled()), None) == "ended"


@pytest.mark.parametrize(
    ("events", "worker", "token", "seen", "wanted"),
    [
        (BUILT, "me", "m1", "", True),  # died before its lease was in the log
        (RUNNING, "me", "t1", "", True),  # under its own, which it had taken by another name
        (RUNNING, "w", "m2", "", True),  # under that of the life before, before it had read of it
        (RUNNING, "me", "m1", "", False),  # under another's
        (RUNNING, "me", "m1", "t1", True),  # that other's lease was over when the delivery came
        ((*RUNNING, leased("runner", 2, "u")), "me", "m1", "t1", False),
        ((*RUNNING, leased("runner", 2, "u")), "me", "t1", "", False),  # its own is over
        ((*RUNNING, Cancelled()), "me", "t1", "", True),  # it comes again, and is acknowledged
        ((*RUNNING, Cancelled()), "me", "m1", "", False),
    ],
)
def test_what_was_in_hand_is_handed_back_where_nobody_else_has_it(
    events: tuple[Event, ...], worker: str, token: str, seen: str, wanted: bool
) -> None:
    state = after(*events)
    assert decide_in_hand(state, "runner", state.step_sequence, worker=worker, token=token, seen=seen) is wanted


def test_a_delivery_of_a_step_that_is_over_is_not_handed_back() -> None:
    assert not decide_in_hand(after(*RUNNING, LOST), "runner", 30, worker="w", token="t1", seen="")
    lost = after(*RUNNING, LOST)
    assert decide_in_hand(lost, "builder", lost.step_sequence, worker="me", token="m2", seen=""), (
        "the newest lease is a runner's"
    )


def test_a_next_life_says_what_it_swept_of_its_own() -> None:
    ended = (*RUNNING, Cancelled())
    assert decide_swept(after(*ended), "runner", "w") == Cleaned(worker="w", by="sweep")
    assert decide_swept(after(*ended), "builder", "w") is None
    assert decide_swept(after(*ended), "runner", "other") is None
    assert decide_swept(after(*RUNNING), "runner", "w") is None
    assert decide_swept(after(*ended, CLEANED), "runner", "w") is None
    assert decide_swept(after(SUBMITTED, Cancelled()), "builder", "w") is None


def test_poison_parks_the_step_that_is_due() -> None:
    state = after(SUBMITTED)
    parked = decide_poison(state, "builder", state.step_sequence, reason="five times")
    assert parked is not None
    assert (parked.event.message, parked.event.stage) == ("five times", "dependencies")
    assert decide_poison(state, "runner", state.step_sequence, reason="x") is None
    assert decide_poison(state, "builder", state.step_sequence + 1, reason="x") is None
    assert decide_poison(after(SUBMITTED, Cancelled()), "builder", 10, reason="x") is None


def test_the_last_lease_that_fails_parks_with_the_reason() -> None:
    state = after(*RUNNING)
    assert decide_fault(state, lease("runner"), reason="no nsjail", max_leases=2) is None
    parked = decide_fault(state, lease("runner"), reason="no nsjail", max_leases=1)
    assert parked is not None
    assert (parked.event.message, parked.event.stage) == ("1 runner lease failed; the last: no nsjail", "run")


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


@pytest.mark.parametrize(
    ("events", "answer"),
    [
        ((SUBMITTED,), None),
        ((SUBMITTED, leased("builder")), "leave"),
        (BUILT, "done"),
        ((SUBMITTED, leased("builder"), finished(role="builder")), "leave"),
        ((SUBMITTED, leased("builder"), finished(role="builder"), CLEANED), "done"),
    ],
)
def test_who_comes_after_another_worker_took_the_lease_leaves_it(events: tuple[Event, ...], answer: str | None) -> None:
    """It would take the next one else, and the work of a healthy worker would be thrown away."""
    state = after(*events)
    assert decide_overtaken(state, "builder", token="new", seen=None) == answer


def test_a_lease_that_was_there_before_is_no_reason_to_leave() -> None:
    state = after(SUBMITTED, leased("builder"))
    assert decide_overtaken(state, "builder", token="new", seen=state.lease) is None
    assert decide_overtaken(state, "runner", token="new", seen=None) is None, "of the other role"
    assert state.lease is not None
    assert decide_overtaken(state, "builder", token=state.lease.token, seen=None) is None, "its own"
    later = after(SUBMITTED, leased("builder"), leased("builder", 2))
    assert decide_overtaken(later, "builder", token="new", seen=state.lease) == "leave"


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


@pytest.mark.parametrize(
    ("sequence", "time_s", "wanted"),
    [(20, 2, True), (30, 3, False), (40, 4, True), (41, 4, False), (20, 5, False), (30, 5, False), (10, 1, False)],
    ids=["a stray", "due", "the last", "behind", "younger: another stream", "due, in another stream", "was due once"],
)
def test_an_old_delivery_is_told_from_the_one_that_is_due(sequence: int, time_s: int, wanted: bool) -> None:
    state = after(*RUNNING)
    assert (state.step_sequence, state.last_sequence) == (30, 40)
    assert is_old(state, sequence, time_s * 1_000_000_000) is wanted

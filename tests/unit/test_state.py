"""The fold: what each event does to a submission, and what it does not."""

import msgspec
import pytest

from cutor.model.codec import encode
from cutor.model.events import (
    CacheLost,
    Cancelled,
    Cleaned,
    Compiled,
    Event,
    Interrupted,
    Output,
    Parked,
    Rejected,
    Stage,
    Submitted,
)
from cutor.model.limits import StageKind
from cutor.model.messages import Unreadable, malformed, read_message
from cutor.model.result import result
from cutor.model.state import TERMINAL, TRANSITIONS, Attempts, Stamp, fold
from tests.unit.histories import (
    ADDRESS,
    BUILT,
    COMPILING,
    ENVIRONMENT,
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

SUBJECT = "cutor.ev.default.s1"
CLEANED = Cleaned(worker="w", by="worker")


def test_a_whole_life() -> None:
    compiled = Compiled(lease=lease("runner"), stage=OK)
    state = after(*RUNNING, compiled, ran(0, "OK"), ran(1, "OK"), finished(), CLEANED)
    assert (state.status, state.outcome, state.strays, state.last_sequence) == ("FINISHED", "OK", 0, 90)
    assert (state.submitted_ns, state.finished_ns, state.cleaned_ns) == (10**9, 8 * 10**9, 9 * 10**9)
    assert state.environment == ENVIRONMENT
    assert state.attempts == Attempts(builder=1, runner=1)


@pytest.mark.parametrize(
    ("events", "status"),
    [
        ((SUBMITTED,), "SUBMITTED"),
        ((SUBMITTED, leased("builder")), "SUBMITTED"),
        (BUILT, "DEPENDENCIES_INSTALLED"),
        (RUNNING, "DEPENDENCIES_INSTALLED"),
        ((*RUNNING, Compiled(lease=lease("runner"), stage=OK)), "COMPILED"),
        ((*RUNNING, ran(0, "OK", "OK"), finished()), "FINISHED"),
        ((SUBMITTED, Cancelled()), "CANCELLED"),
        ((SUBMITTED, leased("builder"), Rejected(lease=lease("builder"), message="no")), "REJECTED"),
        ((SUBMITTED, Parked(role="builder", message="no")), "PARKED"),
    ],
)
def test_status(events: tuple[Event, ...], status: str) -> None:
    assert after(*events).status == status


def test_a_new_runner_lease_forgets_the_attempt_before_it() -> None:
    compiled = Compiled(lease=lease("runner"), stage=OK)
    state = after(*RUNNING, compiled, ran(0, "OK"), leased("runner", 2))
    assert (state.status, state.compile, state.runs, state.attempts.runner) == ("DEPENDENCIES_INSTALLED", None, (), 2)


def test_a_late_result_of_a_lost_lease_changes_nothing() -> None:
    state = after(*RUNNING, leased("runner", 2), ran(0, "WA", number=1), finished("WRONG_ANSWER", number=1))
    assert (state.status, state.runs, state.strays, state.last_sequence) == ("DEPENDENCIES_INSTALLED", (), 2, 70)


def test_a_lease_of_the_right_number_with_another_token_is_not_the_lease() -> None:
    stranger = Compiled(lease=lease("runner", 1, token="other"), stage=OK)
    assert after(*RUNNING, stranger).strays == 1


def test_a_lost_environment_goes_back_to_the_builder() -> None:
    lost = CacheLost(lease=lease("runner"), key="k1", missing="/nix/store/y")
    state = after(*RUNNING, lost)
    assert (state.status, state.environment, state.dependencies, state.environment_losses) == ("SUBMITTED", None, None, 1)
    again = after(*RUNNING, lost, leased("builder", 2), cache_built(2), leased("runner", 2), ran(0, "OK", "OK", number=2))
    assert (len(again.runs), again.strays) == (2, 0)


def test_a_lost_environment_is_the_one_that_the_newest_loss_names() -> None:
    def lost(**which: int) -> CacheLost:
        return CacheLost(lease=lease("runner"), key="k1", missing="/nix/store/y", **which)

    assert after(*RUNNING).lost_sequence is None
    assert after(*RUNNING, lost()).lost_sequence is None
    assert after(*RUNNING, lost(environment_sequence=7)).lost_sequence == 7
    again = (leased("builder", 2), cache_built(2), leased("runner", 2))
    newest = CacheLost(lease=lease("runner", 2), key="k1", missing="/nix/store/y", environment_sequence=9)
    assert after(*RUNNING, lost(environment_sequence=7), *again, newest).lost_sequence == 9


def test_test_cases_are_counted_once_and_in_order() -> None:
    state = after(*RUNNING, ran(0, "OK"), ran(0, "OK"), ran(2, "OK"), ran(1, "WA"))
    assert ([stage.outcome for stage in state.runs], state.strays) == (["OK", "WA"], 2)


@pytest.mark.parametrize("late", [leased("runner", 2), ran(0, "OK"), finished(), Cancelled(), SUBMITTED, cache_built()])
def test_after_the_terminal_event_nothing_but_cleaned_counts(late: Event) -> None:
    ended = after(*RUNNING, finished())
    state = after(*RUNNING, finished(), late)
    assert (state.status, state.outcome, state.finished_ns) == (ended.status, ended.outcome, ended.finished_ns)
    assert state.strays == 1


def test_cleaned_counts_once_and_only_after_the_end() -> None:
    assert after(*RUNNING, CLEANED).cleaned_ns is None
    state = after(*RUNNING, finished(), CLEANED, CLEANED)
    assert (state.cleaned_ns, state.strays) == (6 * 10**9, 1)


def test_events_before_submitted_are_strays_and_without_it_there_is_no_submission() -> None:
    stamp = Stamp(1, 1)
    assert fold(ADDRESS, [(leased("builder"), stamp)]) is None
    state = fold(ADDRESS, [(leased("builder"), stamp), (SUBMITTED, Stamp(2, 2))])
    assert state is not None
    assert (state.strays, state.status) == (1, "SUBMITTED")


def test_what_cannot_be_read_is_a_stray_and_a_first_message_of_that_kind_a_submission_to_be_rejected() -> None:
    assert read_message(f"{SUBJECT}.ran", b"garbage") == Unreadable(
        "not an event: JSON is malformed: invalid character (byte 0)"
    )
    state = fold(ADDRESS, [(read_message(f"{SUBJECT}.submitted", b"garbage"), Stamp(1, 1)), (Unreadable("?"), Stamp(2, 2))])
    assert state is not None
    assert (state.status, state.strays, state.last_sequence, state.request.files) == ("SUBMITTED", 1, 2, ())
    assert state.fault is not None
    rejected = Rejected(lease=lease("builder"), message="no")
    ended = fold(ADDRESS, [(malformed("?"), Stamp(1, 1)), (leased("builder"), Stamp(2, 2)), (rejected, Stamp(3, 3))])
    assert ended is not None
    assert result(ended).outcome == "REJECTED"


def test_the_subject_counts_a_body_of_another_kind_is_no_event() -> None:
    """Who may publish `cancelled` only must not be able to say `finished`."""
    read = read_message(f"{SUBJECT}.cancelled", encode(finished()))
    assert read == Unreadable("the subject says 'cancelled', the body 'finished'")
    assert read_message(f"{SUBJECT}.finished", encode(finished())) == finished()


def test_the_step_is_called_for_by_the_newest_event_that_asks_for_it() -> None:
    lost = CacheLost(lease=lease("runner"), key="k1", missing="/nix/store/y")
    histories = ((SUBMITTED,), (SUBMITTED, leased("builder")), BUILT, RUNNING, (*RUNNING, lost))
    assert [after(*history).step_sequence for history in histories] == [10, 10, 30, 30, 50]


def test_no_transition_leaves_a_terminal_status() -> None:
    assert all(after == before for (before, _), after in TRANSITIONS.items() if before in TERMINAL)


def test_results_fill_in_the_test_cases_that_were_not_run_once_it_ended() -> None:
    running = result(after(*RUNNING, ran(0, "OK")))
    assert [stage.outcome for stage in running.run] == ["OK"]
    ended = result(after(*RUNNING, ran(0, "WA"), finished("WRONG_ANSWER")))
    assert [(stage.outcome, stage.name) for stage in ended.run] == [("WA", None), ("SKIPPED", "two")]


def test_only_a_parked_submission_shows_xx() -> None:
    parked = result(after(*RUNNING, Parked(role="runner", message="no container", stage="run")))
    assert [stage.outcome for stage in parked.run] == ["XX", "SKIPPED"]
    build = result(after(SUBMITTED, Parked(role="builder", message="no container", stage="dependencies")))
    assert build.dependencies == Stage(outcome="XX", message="no container")


def test_the_stage_that_ran_when_it_was_cancelled_is_cancelled() -> None:
    building = result(after(SUBMITTED, leased("builder"), Cancelled()))
    assert (building.dependencies, building.compile) == (Stage(outcome="CANCELLED"), None)
    with_script = Submitted(request=COMPILING, digest="d1")
    compiling = result(after(with_script, *RUNNING[1:], Cancelled()))
    assert compiling.compile == Stage(outcome="CANCELLED")
    assert {stage.outcome for stage in compiling.run} == {"SKIPPED"}


def test_the_test_case_that_ran_when_it_was_cancelled_is_cancelled() -> None:
    running = result(after(*RUNNING, ran(0, "OK"), Cancelled()))
    assert [stage.outcome for stage in running.run] == ["OK", "CANCELLED"]
    queued = result(after(*BUILT, Cancelled()))
    assert [stage.outcome for stage in queued.run] == ["SKIPPED", "SKIPPED"]


STOPPED = Stage(outcome="CANCELLED", wall_time_ms=5, stdout=Output(data="begun", bytes_total=5))
WITH_SCRIPT = (Submitted(request=COMPILING, digest="d1"), *RUNNING[1:])


def told(stage: StageKind, *stages: Stage, index: int = 0) -> Cleaned:
    """Return what the worker that a cancel stopped says in the end."""
    return Cleaned(worker="w", by="worker", interrupted=Interrupted(stage=stage, stages=stages, index=index))


def test_what_a_cancelled_worker_had_of_its_stages_comes_with_cleaned() -> None:
    building = result(after(SUBMITTED, leased("builder"), Cancelled(), told("dependencies", STOPPED)))
    assert (building.dependencies, building.compile, {stage.outcome for stage in building.run}) == (STOPPED, None, {"SKIPPED"})
    compiling = result(after(*WITH_SCRIPT, Cancelled(), told("compile", STOPPED)))
    assert (compiling.compile, {stage.outcome for stage in compiling.run}) == (STOPPED, {"SKIPPED"})
    running = after(*RUNNING, Cancelled(), told("run", OK, STOPPED))
    assert (result(running).run, running.strays, running.told) == ((OK, STOPPED), 0, True)


def test_after_what_a_cancelled_worker_told_nothing_was_being_run() -> None:
    """The worker was between two test cases, or its compile stage had just failed."""
    between = result(after(*RUNNING, Cancelled(), told("run", OK)))
    assert [stage.outcome for stage in between.run] == ["OK", "SKIPPED"]
    failed = Stage(outcome="RE", exit_code=1)
    compiling = result(after(*WITH_SCRIPT, Cancelled(), told("compile", failed)))
    assert (compiling.compile, {stage.outcome for stage in compiling.run}) == (failed, {"SKIPPED"})


@pytest.mark.parametrize(
    "cleaned",
    [
        told("run", STOPPED, index=0),
        told("run", STOPPED, index=2),
        told("run", STOPPED, STOPPED, index=1),
        told("run", index=1),
        told("compile", STOPPED),
        told("dependencies", STOPPED),
        msgspec.structs.replace(told("run", STOPPED, index=1), by="takeover"),
        msgspec.structs.replace(told("run", STOPPED, index=1), by="sweep"),
        msgspec.structs.replace(told("run", STOPPED, index=1), worker="another"),
    ],
)
def test_what_does_not_come_next_is_left_aside_and_the_rest_of_cleaned_counts(cleaned: Cleaned) -> None:
    state = after(*RUNNING, ran(0, "OK"), Cancelled(), cleaned)
    assert (len(state.runs), state.told, state.strays, state.cleaned_ns is None) == (1, False, 0, False)
    assert [stage.outcome for stage in result(state).run] == ["OK", "CANCELLED"]


@pytest.mark.parametrize(
    "events",
    [
        (*RUNNING, finished("RUN_ERROR"), told("run", STOPPED)),
        (*RUNNING, Parked(role="runner", message="no", stage="run"), told("run", STOPPED)),
        (*BUILT, Cancelled(), told("run", STOPPED)),
        (SUBMITTED, Cancelled(), told("dependencies", STOPPED)),
        (*WITH_SCRIPT, Cancelled(), told("compile", STOPPED, STOPPED)),
        (*WITH_SCRIPT, Cancelled(), told("compile", STOPPED, index=1)),
        (*WITH_SCRIPT, Cancelled(), told("run", STOPPED)),
    ],
)
def test_only_a_cancel_interrupts_and_only_what_was_leased(events: tuple[Event, ...]) -> None:
    state = after(*events)
    assert (state.told, state.cleaned_ns is None, state.strays) == (False, False, 0)
    assert result(state) == result(after(*events[:-1], CLEANED))


def test_result_times_are_rfc_3339() -> None:
    document = result(after(*RUNNING, finished(), CLEANED))
    assert document.submitted_at == "1970-01-01T00:00:01.000000Z"
    assert document.cleaned_at == "1970-01-01T00:00:06.000000Z"

"""What a submission does about an environment that others may need, too: decided from the log."""

from __future__ import annotations

import msgspec
import pytest

from cutor.model.claims import BuildAction, Owner, decide_build, held_s, owner_of, replaced
from cutor.model.environments import FORMER_AT_MOST, EnvironmentBuilding, EnvironmentEvent, EnvironmentRemoved, fold_environment
from cutor.model.events import CacheLost, Cancelled, Event, Parked, Rejected
from cutor.model.messages import Unreadable
from cutor.model.state import Stamp, evolve
from tests.unit.histories import BUILT, RUNNING, SUBMITTED, after, finished, lease, leased
from tests.unit.test_environment_fold import BUILT as STANDS

CLAIM = EnvironmentBuilding(key="k", tenant="default", id="s1", lease_token="t1", worker="w")
TO_COME = msgspec.structs.replace(CLAIM, lease_token="to come", lease_number=1, submission_sequence=10)
LEASED = (SUBMITTED, leased("builder"))
LOST = CacheLost(lease=lease("runner"), key="k", missing="p")


@pytest.mark.parametrize(
    ("events", "owner"),
    [
        ((SUBMITTED,), "dead"),
        (LEASED, "alive"),
        ((*LEASED, leased("builder", 2)), "dead"),
        (BUILT, "dead"),
        (RUNNING, "dead"),
        ((*LEASED, finished("DEPENDENCY_ERROR", "builder")), "failed"),
        ((*LEASED, leased("builder", 2), finished("DEPENDENCY_ERROR", "builder", 2)), "failed"),
        ((*LEASED, leased("builder", 2), finished("DEPENDENCY_ERROR", "builder", 1)), "dead"),
        ((*LEASED, Cancelled()), "dead"),
        ((*LEASED, Parked(role="builder", message="no")), "dead"),
        ((*LEASED, Rejected(lease=lease("builder"), message="no")), "dead"),
        ((*RUNNING, finished()), "dead"),
        ((*RUNNING, LOST), "dead"),
        ((*RUNNING, LOST, leased("builder", 2)), "dead"),
    ],
)
def test_given_the_owners_events_then_the_owner_is(events: tuple[Event, ...], owner: Owner) -> None:
    assert owner_of(CLAIM, after(*events), since=1) == owner


@pytest.mark.parametrize(
    ("events", "owner"),
    [
        ((SUBMITTED,), "alive"),
        (LEASED, "dead"),
        ((SUBMITTED, Cancelled()), "dead"),
        ((SUBMITTED, Parked(role="builder", message="no")), "dead"),
        ((*RUNNING, LOST), "dead"),
    ],
)
def test_a_claim_whose_lease_is_still_to_come_lives_until_another_takes_one(events: tuple[Event, ...], owner: Owner) -> None:
    assert owner_of(TO_COME, after(*events), since=1) == owner


def test_a_claim_without_a_lease_is_dead_behind_whatever_came_since() -> None:
    """A stray, too: whoever may publish under the owner could keep its lease from the log without end."""
    assert owner_of(TO_COME, evolve(after(SUBMITTED), Unreadable("a stray"), Stamp(sequence=20, time_ns=2)), since=1) == "dead"
    older = msgspec.structs.replace(TO_COME, submission_sequence=msgspec.UNSET)
    assert owner_of(older, after(SUBMITTED), since=1) == "dead"


@pytest.mark.parametrize(("missed", "owner"), [(True, "alive"), (False, "dead")])
def test_who_missed_nothing_does_not_wait_for_one_that_may_wait_for_the_cache(missed: bool, owner: Owner) -> None:
    claim = msgspec.structs.replace(CLAIM, lease_token=leased("builder", 2).lease.token)
    assert owner_of(claim, after(*RUNNING, LOST, leased("builder", 2)), since=1, missed=missed) == owner


def test_an_owner_whom_the_stream_does_not_know_is_dead() -> None:
    assert owner_of(CLAIM, None, since=1) == "dead"


def test_a_failure_counts_for_those_who_came_before_it() -> None:
    failed = after(*LEASED, finished("DEPENDENCY_ERROR", "builder"))
    owners = [owner_of(CLAIM, failed, since=since) for since in (failed.last_sequence - 1, failed.last_sequence + 1)]
    assert owners == ["failed", "dead"]


REMOVED = EnvironmentRemoved(key="k", reason="r")


@pytest.mark.parametrize(
    ("events", "owner", "lost", "action"),
    [
        ([], None, 0, "claim"),
        ([CLAIM], "alive", 0, "wait"),
        ([CLAIM], "dead", 0, "claim"),
        ([CLAIM], "failed", 0, "build"),
        ([CLAIM, STANDS], None, 0, "use"),
        ([STANDS], None, 1, "claim"),
        ([STANDS, CLAIM], "alive", 1, "wait"),
        ([STANDS, CLAIM], "alive", 0, "use"),
        ([STANDS, CLAIM, STANDS], None, 1, "use"),
        ([STANDS, REMOVED], None, 0, "claim"),
        ([STANDS, CLAIM, REMOVED], "alive", 0, "wait"),
    ],
)
def test_given_an_environment_then_a_submission_does(
    events: list[EnvironmentEvent], owner: Owner | None, lost: int, action: BuildAction
) -> None:
    environment = fold_environment("k", [(event, n) for n, event in enumerate(events, 1)])
    assert decide_build(environment, owner, token="mine", after=lost) == action


def test_who_has_waited_for_a_build_that_failed_waits_for_no_other() -> None:
    claimed = fold_environment("k", [(CLAIM, 1)])
    actions = [decide_build(claimed, owner, token="m", after=0, saw_failure=True) for owner in ("alive", "failed", "dead")]
    assert actions == ["build", "build", "claim"]
    assert decide_build(fold_environment("k", [(CLAIM, 1), (STANDS, 2)]), None, token="m", after=0, saw_failure=True) == "use"


def test_who_holds_the_claim_builds_whatever_is_known_of_its_owner() -> None:
    assert decide_build(fold_environment("k", [(CLAIM, 1)]), None, token="t1", after=0) == "build"


def test_a_builder_without_a_slot_keeps_a_delivery_longer_each_time() -> None:
    kept = [held_s(count) for count in range(8)]
    assert kept[:4] == [0.1, 0.2, 0.4, 0.8]
    assert kept[-1] == held_s(10**9) == 10.0


def claimed_by(name: str, submission_sequence: int | msgspec.UnsetType) -> EnvironmentBuilding:
    return msgspec.structs.replace(CLAIM, id=name, lease_token=name, submission_sequence=submission_sequence)


def test_who_looks_back_looks_at_claims_that_somebody_who_came_later_replaced() -> None:
    claims = [claimed_by("a", 3), claimed_by("b", 5), claimed_by("c", 9), claimed_by("d", msgspec.UNSET)]
    environment = fold_environment("k", [(claim, n) for n, claim in enumerate(claims, 1)])
    assert [[claim.id for claim in replaced(environment, since=since)] for since in (4, 5, 10)] == [
        ["a", "b", "c"],
        ["b", "c"],
        ["c"],
    ]


def test_the_last_claims_are_kept_until_the_environment_stands() -> None:
    claims: list[EnvironmentEvent] = [claimed_by(str(n), n) for n in range(FORMER_AT_MOST + 3)]
    environment = fold_environment("k", [(claim, n) for n, claim in enumerate(claims, 1)])
    assert list(environment.former) == claims[2:-1]
    assert fold_environment("k", [(event, n) for n, event in enumerate([*claims, STANDS], 1)]).former == ()

"""Who builds an environment, in random histories of a few submissions that need it: somebody always can, and they all end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from cutor.model.claims import BuildAction, Owner, decide_build, owner_of, replaced
from cutor.model.environments import (
    FORMER_AT_MOST,
    Environment,
    EnvironmentBuilding,
    EnvironmentBuilt,
    EnvironmentEvent,
    evolve_environment,
)
from cutor.model.events import CacheBuilt, Cancelled, Finished, Lease, Leased
from cutor.model.messages import Message, Unreadable
from cutor.model.state import Stamp, Submission, evolve, initial
from cutor.model.subjects import Address
from tests.unit.histories import ENVIRONMENT, OK, SUBMITTED
from tests.unit.test_environment_fold import BUILT

COUNT = 4
What = Literal["look", "claim and die", "die", "fail", "succeed", "stray", "cancel"]
Act = tuple[int, What]
ACTS = st.lists(
    st.tuples(
        st.integers(0, COUNT - 1), st.sampled_from(["look", "claim and die", "die", "fail", "succeed", "stray", "cancel"])
    ),
    max_size=60,
)
HARMLESS = st.lists(st.tuples(st.integers(0, COUNT - 1), st.sampled_from(["look", "succeed"])), max_size=40)


class World:
    """Submissions of one key, each with a delivery that somebody is given again whenever nobody has it."""

    def __init__(self) -> None:
        self.environment = Environment(key="k")
        self.sequence = 0
        self.tokens = 0
        self.builds = 0
        self.working: dict[int, Lease] = {}
        self.claims = 0
        self.failures: list[tuple[int, int]] = []  # of owners: its sequence, and how many claims there were
        self.states = [
            initial(Address("default", f"s{n}"), SUBMITTED, Stamp(sequence=self._next(), time_ns=1)) for n in range(COUNT)
        ]

    def _next(self) -> int:
        self.sequence += 1
        return self.sequence

    def append(self, n: int, message: Message) -> None:
        self.states[n] = evolve(self.states[n], message, Stamp(sequence=self._next(), time_ns=self.sequence))

    def claimed(self, event: EnvironmentEvent) -> None:
        self.environment = evolve_environment(self.environment, event, self.environment.sequence + 1)
        self.claims += isinstance(event, EnvironmentBuilding)
        if isinstance(event, EnvironmentBuilt):
            self.failures.clear()

    def done(self, n: int) -> bool:
        return self.states[n].ended or self.states[n].environment is not None

    def act(self, n: int, what: What) -> BuildAction | None:
        """Let something happen to a submission, where it can."""
        if what == "stray":
            self.append(n, Unreadable("a stray"))
        elif what == "cancel" and not self.done(n):
            self.append(n, Cancelled())
            self.working.pop(n, None)
        elif n in self.working:
            self._end(n, what)
        elif what in ("look", "claim and die") and not self.done(n):
            return self._look(n, dies=what == "claim and die")
        return None

    def _end(self, n: int, what: What) -> None:
        if what in ("die", "fail", "succeed"):
            lease = self.working.pop(n)
            if what == "fail":
                self.append(n, Finished(lease=lease, outcome="DEPENDENCY_ERROR"))
                if (claim := self.environment.building) is not None and claim.lease_token == lease.token:
                    self.failures.append((self.sequence, self.claims))
            elif what == "succeed":
                self.claimed(msgspec.structs.replace(BUILT, key="k"))
                self.append(n, CacheBuilt(lease=lease, environment=ENVIRONMENT, stage=OK))

    def _look(self, n: int, *, dies: bool) -> BuildAction:
        """As `cutor.roles.claims.Claim`, under a token of its own each time: the waits of one delivery have one in common."""
        self.tokens += 1
        state, token = self.states[n], f"t{self.tokens}"
        action = self._decide(state, token)
        number = state.attempts.builder + 1
        if action == "claim":
            self.claimed(
                EnvironmentBuilding(
                    key="k", **state.address._asdict(), lease_token=token, worker="w",
                    lease_number=number, submission_sequence=state.last_sequence,
                )
            )  # fmt: skip
        if not dies and action != "wait":
            lease = Lease(role="builder", worker="w", token=token, number=number)
            self.append(n, Leased(lease=lease))
            if action == "use":
                self.append(n, CacheBuilt(lease=lease, environment=ENVIRONMENT, stage=OK))
            else:
                self.working[n] = lease
                self.builds += 1
        return action

    def _decide(self, state: Submission, token: str) -> BuildAction:
        since, claim = state.step_sequence, self.environment.building
        owner = None if claim is None else self._owner_of(claim, state)
        former = [self._owner_of(one, state) for one in replaced(self.environment, since=since)]
        action = decide_build(self.environment, owner, token=token, after=0, saw_failure="failed" in (owner, *former))
        assert action != "wait" or owner == "alive"
        known = [failed for failed, claims in self.failures if self.claims - claims <= FORMER_AT_MOST]
        assert action != "wait" or max(known, default=0) < since, "who was there before a failure waits for nobody"
        return action

    def _owner_of(self, claim: EnvironmentBuilding, asks: Submission) -> Owner:
        owner = next(one for one in self.states if one.address == claim.owner)
        return "dead" if owner.address == asks.address else owner_of(claim, owner, since=asks.step_sequence)


def after(acts: Sequence[Act]) -> World:
    """Return the world after so much has happened."""
    world = World()
    for n, what in acts:
        world.act(n, what)
    return world


@given(ACTS)
def test_whatever_has_happened_they_all_end_once_deliveries_come_again_and_builds_end(acts: list[Act]) -> None:
    """No deadlock: in each round somebody builds, or uses what stands."""
    world = after(acts)
    for _round in range(2 * COUNT):
        for n in range(COUNT):
            world.act(n, "look")
        assert all(map(world.done, range(COUNT))) or world.working
        for n in [*world.working]:
            world.act(n, "succeed")
    assert all(map(world.done, range(COUNT)))


@given(ACTS, st.integers(0, COUNT - 1))
def test_who_has_no_lease_holds_up_nobody_once_anything_came_behind_its_claim(acts: list[Act], owner: int) -> None:
    """However often something is published under it: the others go on without its ever having a lease."""
    world = after(acts)
    world.working.pop(owner, None)
    world.act(owner, "claim and die")
    if owner_holds(world, owner):
        return  # it had a lease before: who is given its delivery takes the next one
    for _round in range(2 * COUNT):
        world.act(owner, "stray")
        for n in range(COUNT):
            if n != owner:
                world.act(n, "look")
        for n in [*world.working]:
            world.act(n, "succeed")
    assert all(world.done(n) for n in range(COUNT) if n != owner)


def owner_holds(world: World, owner: int) -> bool:
    """Whether the newest claim is under the newest lease of a submission."""
    claim, lease = world.environment.building, world.states[owner].lease
    return claim is not None and lease is not None and claim.lease_token == lease.token


@given(HARMLESS)
def test_where_nothing_fails_one_builds(acts: list[Act]) -> None:
    assert after(acts).builds <= 1

"""Who builds an environment: decided from what the log says of it, and of the submission that has claimed it.

A claim is an ``env-building`` behind which no ``env-built`` stands. Its owner is a submission under a builder's lease, so
whether it still lives the log alone says, without a clock:

    its lease is the newest, and its step is not done    alive: who needs the same environment waits
    its lease is still to come, and nothing came since   alive, too: whoever is given its delivery claims anew
    it ended because the environment can't be built      failed: failures are never shared, so who waited builds by itself
    it was cancelled, parked, or has a newer lease        dead: who comes first has the next claim
    something else came before its lease                  dead, too: others may keep that lease from the log without end
    a runner missed what it was given, not what we were   dead to us: it may wait for a cache, which a first build does not

A failure counts for those whose turn to build had come before it. To who comes later its owner is as dead as any: so what
failed for a passing reason is shared again. Who was there before a failure waits for no other after it: whoever came later may
have the claim by the time that it looks, and so on without end. That is read from the former claims, so it holds in whatever
process it is looked at.

Pure.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final, Literal

import msgspec

from cutor.model.environments import Environment, EnvironmentBuilding
from cutor.model.state import STEP_OF_ROLE, Submission

HELD_FIRST_S: Final = 0.1
"""How long a builder without a free slot keeps a delivery at first; it doubles each time, up to `HELD_MAX_S`."""
HELD_MAX_S: Final = 10.0
"""So late at the most a slot that comes free elsewhere is found by a delivery. A choice."""

Owner = Literal["alive", "failed", "dead"]
BuildAction = Literal["use", "wait", "claim", "build"]
"""What a submission does about its environment: uses what stands; waits for the owner of the claim; claims it, to build it
behind its own claim; builds it, under the claim that it has, or under none."""


def owner_of(claim: EnvironmentBuilding, state: Submission | None, *, since: int, missed: bool = True) -> Owner:
    """Return what has become of the owner of a claim, whose folded state is given (null: the stream does not know it).

    ``since`` is the sequence of the event that called for who asks to build; ``missed``: a runner missed what he was given.
    """
    if state is None:
        return "dead"
    if state.status == "FINISHED" and state.outcome == "DEPENDENCY_ERROR":
        return "failed" if state.last_sequence > since else "dead"
    if state.environment_losses > 0 and not missed:
        return "dead"
    lease = state.lease
    holds = lease is not None and (lease.role, lease.token) == ("builder", claim.lease_token)
    coming = claim.submission_sequence == state.last_sequence
    return "alive" if (holds or coming) and state.status in STEP_OF_ROLE["builder"] else "dead"


def replaced(environment: Environment, *, since: int) -> list[EnvironmentBuilding]:
    """Return the former claims whose owners may have failed after the event at ``since``: who asks looks at those, no others.

    They are those that somebody who came after that event has replaced: whoever was there before such a failure claims nothing
    behind it. So where nobody has failed, nothing is read.
    """
    claims = environment.former if environment.building is None else (*environment.former, environment.building)
    return [
        claim
        for claim, next_one in pairwise(claims)
        if next_one.submission_sequence is msgspec.UNSET or next_one.submission_sequence > since
    ]


def decide_build(
    environment: Environment, owner: Owner | None, *, token: str, after: int, saw_failure: bool = False
) -> BuildAction:
    """Return what a submission does whose builder takes the lease with a token.

    ``owner`` is what has become of the owner of the newest claim, null where there is none. An ``env-built`` counts only
    behind the sequence ``after``: that of the one whose paths were missed. ``saw_failure``: an owner has failed since it came.
    """
    if environment.built is not None and environment.built_sequence > after:
        return "use"
    claim = environment.building
    if claim is not None and claim.lease_token == token:
        return "build"
    if claim is None or owner in (None, "dead"):
        return "claim"
    return "wait" if owner == "alive" and not saw_failure else "build"


def held_s(passed_on: int) -> float:
    """Return how many seconds a builder without a free slot keeps a delivery that it has passed on so often lately.

    Longer each time: where one of many builders has a slot, it has the delivery in a moment, though the others are asked first;
    where none has, each of them looks at it a few times in a minute.
    """
    return min(HELD_FIRST_S * 2.0 ** min(passed_on, 20), HELD_MAX_S)

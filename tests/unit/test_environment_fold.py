"""The state of an environment, folded from the events under its key."""

from __future__ import annotations

import msgspec
import pytest

from cutor.model.environments import (
    Environment,
    EnvironmentBuilding,
    EnvironmentEvent,
    EnvironmentPinned,
    EnvironmentRemoved,
    EnvironmentUnpinned,
    fold_environment,
)
from tests.unit.test_environments import BUILT

CLAIM = EnvironmentBuilding(key="k", tenant="default", id="s1", lease_token="t", worker="w")
OTHER = msgspec.structs.replace(CLAIM, id="s2", lease_token="u")
REMOVED = EnvironmentRemoved(key="k", reason="r")
PINNED, UNPINNED = EnvironmentPinned(key="k"), EnvironmentUnpinned(key="k")
PASSING = EnvironmentPinned(key="k", passing=True)
SECOND_BACK = EnvironmentUnpinned(key="k", pin_sequence=2)


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([], Environment(key="k")),
        ([None], Environment(key="k", sequence=1)),
        ([CLAIM], Environment(key="k", building=CLAIM, sequence=1)),
        ([CLAIM, OTHER], Environment(key="k", building=OTHER, former=(CLAIM,), sequence=2)),
        ([CLAIM, BUILT], Environment(key="k", built=BUILT, built_sequence=2, sequence=2)),
        ([BUILT, CLAIM], Environment(key="k", built=BUILT, built_sequence=1, building=CLAIM, sequence=2)),
        ([BUILT, None, BUILT], Environment(key="k", built=BUILT, built_sequence=3, sequence=3)),
        ([BUILT, REMOVED], Environment(key="k", sequence=2)),
        ([BUILT, CLAIM, REMOVED], Environment(key="k", building=CLAIM, sequence=3)),
        ([PINNED, BUILT, REMOVED], Environment(key="k", pins=(1,), sequence=3)),
        ([PINNED, PINNED, SECOND_BACK, SECOND_BACK], Environment(key="k", pins=(1,), sequence=4)),
        ([PINNED, PASSING], Environment(key="k", pins=(1, 2), passing=(2,), sequence=2)),
        ([PASSING, PASSING, SECOND_BACK], Environment(key="k", pins=(1,), passing=(1,), sequence=3)),
        ([PINNED, PASSING, UNPINNED], Environment(key="k", sequence=3)),
        ([SECOND_BACK, PINNED, PINNED], Environment(key="k", pins=(2, 3), sequence=3)),
        ([PINNED, PINNED, UNPINNED], Environment(key="k", sequence=3)),
        ([PINNED, BUILT, UNPINNED], Environment(key="k", built=BUILT, built_sequence=2, sequence=3)),
    ],
)
def test_given_events_then_the_environment_is(events: list[EnvironmentEvent | None], state: Environment) -> None:
    assert fold_environment("k", [(event, sequence) for sequence, event in enumerate(events, 1)]) == state


def test_a_claim_names_its_owner() -> None:
    assert str(CLAIM.owner) == "default/s1"

"""Which containers a role removes at its start."""

from __future__ import annotations

import pytest

from cutor.containers.engine import ContainerSummary
from cutor.model.events import Role
from cutor.roles.sweep import is_left


def container(state: str = "running", **labels: str) -> ContainerSummary:
    return ContainerSummary("1", "one", state, {f"cutor.{name.replace('_', '-')}": value for name, value in labels.items()})


@pytest.mark.parametrize(
    ("found", "of_builder", "of_runner"),
    [
        (container(role="builder"), True, False),
        (container(role="runner"), False, True),
        (container(role="store", store_user="builder"), True, False),
        (container(role="store", store_user="runner"), False, True),
        (container(role="store", store_user="command"), False, False),
        (container("created", role="store", store_user="command"), False, False),
        (container("exited", role="store", store_user="command"), True, True),
        (container("exited", role="runner"), False, True),
        (container(role="store"), False, False),
        (container(), False, False),
    ],
)
def test_a_role_removes_what_a_dead_life_of_its_own_left(found: ContainerSummary, of_builder: bool, of_runner: bool) -> None:
    builder: Role = "builder"
    runner: Role = "runner"
    assert (is_left(found, builder), is_left(found, runner)) == (of_builder, of_runner)

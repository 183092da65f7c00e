"""Which containers of a dead life a role removes, by their labels alone."""

from __future__ import annotations

import pytest

from cutor.containers.engine import ContainerSummary
from cutor.containers.labels import ROLE_LABEL
from cutor.roles.sweep import is_left


@pytest.mark.parametrize("label", ["pause", "parked"])
def test_a_pause_container_is_a_runners_also_one_of_before_it_was_called_so(label: str) -> None:
    found = ContainerSummary(id="1", name="one", state="exited", labels={ROLE_LABEL: label})
    assert is_left(found, "runner")
    assert not is_left(found, "builder")

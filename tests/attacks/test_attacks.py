"""Every attack, without and with normal submissions beside it, as `make attacks` does it, but less of the latter."""

from __future__ import annotations

import pytest

from tests.attacks.campaign import load_attacks
from tests.attacks.runner import PASSES, Reporter, Scale, run

SECONDS = 1800
LOUD = ("processes/*", "memory/*", "output/*", "nix/*-fork*", "nix/*-hog*", "service/c*")
"""What could change a neighbour's outcome; `make attacks` tries all of them beside normal submissions."""


@pytest.mark.timeout(SECONDS)
def test_attacks() -> None:
    """One test, since what they leave behind is known only in the end; every line of the table is in its output."""
    printed: list[str] = []

    def say(line: str) -> None:
        printed.append(line)
        print(line, flush=True)

    run(load_attacks(), PASSES, Reporter(say, terminal=False), Scale(at_once=3, beside=LOUD, crowd=15))
    wrong = [line for line in printed if line.startswith(("!", "    "))]
    assert not wrong, "\n".join(wrong)

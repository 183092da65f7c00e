"""When doctor warns of parked submissions."""

import pytest

from cutor.cli.checks.parked import judge


@pytest.mark.parametrize(
    ("undecided", "more", "verdict", "detail"),
    [
        (0, False, "ok", "no submission waits for a decision"),
        (1, False, "warn", "1 submission waits for a decision"),
        (7, False, "warn", "7 submissions wait for a decision"),
        (100, True, "warn", "more than 100 submissions wait for a decision"),
    ],
)
def test_those_that_nobody_has_decided_about_are_warned_of(undecided: int, more: bool, verdict: str, detail: str) -> None:
    found = judge(undecided, more=more)
    assert (found.what, found.verdict, found.detail) == ("parked", verdict, detail)
    assert ("cutor parked list" in found.remedy) == (verdict == "warn")

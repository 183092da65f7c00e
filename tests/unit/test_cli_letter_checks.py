"""When doctor warns of dead letters."""

import pytest

from cutor.cli.checks.letters import OLD_S, judge


@pytest.mark.parametrize(
    ("letters", "age_s", "verdict", "detail"),
    [
        (0, 0, "ok", "none: every message in the log is an event that has its place"),
        (1, 5, "warn", "1 message that is no event, has no place in the log, or that no role can act on, the newest 5 s ago"),
        (
            12_345,
            7200,
            "warn",
            "12,345 messages that are no events, have no place in the log, or that no role can act on, the newest 2 h ago",
        ),
        (
            2,
            OLD_S + 1,
            "ok",
            "2 messages that are no events, have no place in the log, or that no role can act on, the newest 7 d ago",
        ),
        (
            2,
            -5,
            "warn",
            "2 messages that are no events, have no place in the log, or that no role can act on, the newest 0 s ago",
        ),
    ],
)
def test_new_ones_are_warned_of(letters: int, age_s: int, verdict: str, detail: str) -> None:
    found = judge(letters, 1_000_000_000, 1_000_000_000 + age_s)
    assert (found.what, found.verdict, found.detail) == ("dead letters", verdict, detail)
    assert ("cutor dead-letters list" in found.remedy) == (verdict == "warn")

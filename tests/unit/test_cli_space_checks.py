"""What doctor says of room in the store, and of environments that stand."""

from __future__ import annotations

from cutor.cli.checks.space import judge_environments, judge_store_space

GIB = 1 << 30


def test_enough_room_is_said_in_numbers() -> None:
    found = judge_store_space(50 * GIB, 50 * GIB, GIB)
    assert (found.verdict, found.detail) == ("ok", "50.0 GiB of 100.0 GiB are free where the store is, 50 % used")


def test_little_room_is_warned_of_and_none_fails() -> None:
    little = judge_store_space(80 * GIB, 20 * GIB, GIB)
    assert (little.verdict, "`cutor gc`" in little.remedy) == ("warn", True)
    none = judge_store_space(99 * GIB, GIB - 1, GIB)
    assert none.verdict == "fail"
    assert "no build begins with less than 1.0 GiB" in none.detail
    assert judge_store_space(99 * GIB, GIB, GIB).verdict == "warn"
    assert judge_store_space(0, 0, GIB).verdict == "fail"


def test_environments_are_counted_and_old_ones_named_with_the_command() -> None:
    assert judge_environments(0, 0, 0).detail == "none stands"
    assert judge_environments(1, 0, 0).detail == "1 stands"
    found = judge_environments(12, 3, 4)
    assert found.verdict == "ok"
    assert found.detail.startswith("12 stand, 3 of them pinned; nothing has touched 4 for 30 days: `cutor gc --older-than 30d`")

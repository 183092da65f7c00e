"""What the attacks' census calls left behind."""

from __future__ import annotations

from tests.attacks.leftovers import Census, left, named


def test_what_was_there_before_is_not_left() -> None:
    before = Census(volumes=frozenset({"a"}), kernel=frozenset({"core_pattern is core"}))
    assert left(before, before) == []
    assert left(before, Census(kernel=before.kernel)) == []


def test_everything_new_is_named_with_its_kind() -> None:
    after = Census(processes=frozenset({"7 sleep"}), volumes=frozenset({"b", "a"}), kernel=frozenset({"core_pattern is x"}))
    before = Census(volumes=frozenset({"a"}), kernel=frozenset({"core_pattern is core"}))
    assert left(before, after) == ["processes: 7 sleep", "volumes: b", "kernel: core_pattern is x"]


def test_lines_are_known_by_the_ids_of_containers() -> None:
    assert list(named(["/docker/abc", "/docker/def"], {"abc", "xyz"})) == ["/docker/abc"]
    assert list(named(["/docker/abc"], set())) == []

"""Who comes first where not everybody can be looked at, and when somebody is said to be missed for too long."""

from __future__ import annotations

from cutor.nix.inside.turns import BEHIND_LOOKS, Turns


def test_who_never_had_a_turn_comes_first_and_then_whose_was_longest_ago() -> None:
    turns = Turns()
    for look in ((1, 2, 3), (2, 3), (3,)):
        turns.begin((1, 2, 3))
        for number in look:
            turns.took(number)
        turns.end()
    assert turns.begin((1, 2, 3, 9)) == [9, 1, 2, 3]


def test_who_comes_first_of_new_ones_is_chance() -> None:
    assert {Turns().begin((1, 2, 3))[0] for _ in range(200)} == {1, 2, 3}


def test_who_has_ended_is_missed_by_nobody() -> None:
    """Each is there for two looks, and is looked at by the second, or by none where those of a look were too many once."""
    turns = Turns()
    for look in range(3 * BEHIND_LOOKS):
        turns.begin((look, look + 1))
        if look % 3:
            turns.finished(look)
            turns.finished(look + 1)
        turns.end()
        assert (turns.is_behind, turns.is_whole) == (False, look % 3 > 0)


def test_somebody_new_must_be_missed_by_every_look() -> None:
    turns = Turns()
    for look in range(5 * BEHIND_LOOKS):
        turns.begin((look,))
        if look % BEHIND_LOOKS == BEHIND_LOOKS - 1:
            turns.finished(look)
        turns.end()
        assert not turns.is_behind
    for look in range(BEHIND_LOOKS):
        assert not turns.is_behind
        turns.begin((1000 + look,))
        turns.end()
    assert turns.is_behind


def test_a_part_of_somebody_is_not_all_of_him() -> None:
    turns = Turns()
    for _ in range(BEHIND_LOOKS):
        assert not turns.is_behind
        turns.begin((7,))
        turns.took(7)
        turns.end()
        assert not turns.is_whole
    assert turns.is_behind
    turns.begin((7,))
    turns.finished(7)
    turns.end()
    assert (turns.is_behind, turns.is_whole) == (False, True)

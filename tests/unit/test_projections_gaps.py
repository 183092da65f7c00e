"""What is a gap: sequences missing behind the position or between messages, of those that the stream should hold."""

from cutor.projections.folds.gaps import Gap, gaps_in, held, is_whole, named


def found(position: int, *sequences: int) -> list[tuple[int, int]]:
    return [(gap.first, gap.last) for gap in gaps_in(position, sequences, sequences)]


def test_a_batch_right_behind_the_position_is_whole() -> None:
    assert is_whole(0, [1, 2, 3])
    assert is_whole(41, [42])
    assert found(41, 42, 43) == []


def test_what_is_missing_behind_the_position_or_between_is_a_gap() -> None:
    for position, sequences, gaps in (
        (0, [2], [(1, 1)]),
        (3, [7, 8], [(4, 6)]),
        (3, [4, 6, 7, 10], [(5, 5), (8, 9)]),
    ):
        assert not is_whole(position, sequences)
        assert found(position, *sequences) == gaps


def test_a_gap_was_noticed_at_the_message_behind_it() -> None:
    assert gaps_in(3, [7], [1234]) == [Gap(4, 6, 1234)]


def test_what_lies_before_the_first_message_is_none() -> None:
    gaps = [Gap(1, 4, 0), Gap(6, 9, 0), Gap(12, 13, 0)]
    assert held(gaps, 5) == gaps[1:]
    assert held(gaps, 8) == [Gap(8, 9, 0), Gap(12, 13, 0)]
    assert held(gaps, 14) == []


def test_they_are_named_in_few_words() -> None:
    assert named([Gap(4, 6, 0), Gap(9, 9, 0)]) == "4 to 6, 9"
    assert named([Gap(number, number, 0) for number in range(1, 1004)]) == "1, 2, 3 and 1,000 more gaps"

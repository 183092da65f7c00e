"""When doctor tells of gaps."""

from cutor.cli.checks.gaps import judge


def test_none_is_well() -> None:
    assert judge([]).verdict == "ok"


def test_gaps_are_named() -> None:
    found = judge([["EVENTS", 4, 6], ["EVENTS", 9, 9]])
    assert (found.verdict, found.detail) == ("fail", "messages are missing in the midst of streams: EVENTS 4 to 6; EVENTS 9")


def test_of_many_the_first_are_named() -> None:
    found = judge([["EVENTS", number, number] for number in range(1, 6)])
    assert found.detail.endswith("EVENTS 1; EVENTS 2; EVENTS 3 and 2 more gaps")

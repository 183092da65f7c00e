"""Turns between tenants: shares follow the weights, and nobody is starved."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutor.bus.errors import BusError
from cutor.bus.turns import Turns


def take(turns: Turns, ready: list[str], count: int) -> tuple[list[str], Turns]:
    order = []
    for _ in range(count):
        lane = turns.choose(ready)
        assert lane is not None
        turns = turns.served(lane, ready)
        order.append(lane)
    return order, turns


def test_turns_are_spread_and_not_bunched() -> None:
    order, _ = take(Turns.start({"a": 5, "b": 1, "c": 1}), ["a", "b", "c"], 7)
    assert order == ["a", "a", "b", "a", "c", "a", "a"]


def test_equal_weights_alternate() -> None:
    order, _ = take(Turns.start({"a": 1, "b": 1}), ["b", "a"], 4)
    assert order == ["a", "b", "a", "b"]


def test_nobody_ready_means_nobody_chosen() -> None:
    assert Turns.start({"a": 1}).choose([]) is None


def test_an_idle_lane_saves_up_no_claim_but_the_next_turn() -> None:
    _, turns = take(Turns.start({"a": 1, "b": 1}), ["a"], 1000)
    order, _ = take(turns, ["a", "b"], 4)
    assert order == ["b", "a", "b", "a"]


def test_of_fifty_that_are_even_each_newcomer_is_next() -> None:
    turns = Turns.start({f"lane-{number}": 1 for number in range(50)})
    for number in range(1, 50):
        _, turns = take(turns, ["lane-0"], 10)
        assert turns.choose(["lane-0", f"lane-{number}"]) == f"lane-{number}"


@pytest.mark.parametrize("weights", [{}, {"a": 0}, {"a": 1, "b": -2}])
def test_weights_that_cannot_work_are_refused(weights: dict[str, int]) -> None:
    with pytest.raises(BusError):
        Turns.start(weights)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_over_one_round_every_lane_gets_exactly_its_weight(weights: list[int]) -> None:
    table = {f"lane-{number}": weight for number, weight in enumerate(weights)}
    order, turns = take(Turns.start(table), list(table), sum(weights))
    assert Counter(order) == table
    assert not any(turns.credit.values())


@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=5),
    st.lists(st.sets(st.integers(0, 4), min_size=1), min_size=1, max_size=60),
)
def test_a_ready_lane_is_served_within_one_round_whatever_the_others_do(weights: list[int], pattern: list[set[int]]) -> None:
    table = {f"lane-{number}": weight for number, weight in enumerate(weights)}
    turns = Turns.start(table)
    for ready_numbers in pattern:
        ready = [f"lane-{number}" for number in ready_numbers if number < len(weights)]
        lane = turns.choose(ready)
        if lane is not None:
            turns = turns.served(lane, ready)
    order, _ = take(turns, list(table), 2 * sum(weights))
    assert set(order) == set(table)

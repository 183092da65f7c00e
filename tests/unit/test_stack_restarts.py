"""When a process that died is started again."""

import pytest

from cutor.stack.restarts import LONGEST_PAUSE_S, QUICK_DEATHS, QUICK_S, Restarts


def test_the_pause_doubles_with_every_quick_death() -> None:
    restarts = Restarts()
    pauses = []
    for _ in range(4):
        restarts = restarts.after(0.1)
        pauses.append(restarts.pause_s)
    assert pauses == [0.1, 0.2, 0.4, 0.8]


@pytest.mark.parametrize("deaths", [9, 100, 100_000])
def test_the_pause_has_an_upper_bound(deaths: int) -> None:
    assert Restarts(quick_deaths=deaths).pause_s == LONGEST_PAUSE_S == 15.0


def test_a_long_life_starts_anew() -> None:
    assert Restarts(quick_deaths=4).after(QUICK_S) == Restarts()


def test_quick_deaths_in_a_row_are_hopeless_before_the_stack_has_served() -> None:
    restarts = Restarts()
    for _ in range(QUICK_DEATHS - 1):
        restarts = restarts.after(0.0)
        assert not restarts.hopeless(served=False)
    assert restarts.after(0.0).hopeless(served=False)


def test_nothing_is_hopeless_once_the_stack_has_served() -> None:
    assert not Restarts(quick_deaths=1000).hopeless(served=True)

"""When a process that died is started again."""

from cutor.stack.restarts import LONGEST_PAUSE_S, QUICK_DEATHS, QUICK_S, Restarts


def test_the_pause_doubles_with_every_quick_death() -> None:
    restarts = Restarts()
    pauses = []
    for _ in range(4):
        restarts = restarts.after(0.1)
        pauses.append(restarts.pause_s)
    assert pauses == [0.1, 0.2, 0.4, 0.8]


def test_the_pause_has_an_upper_bound() -> None:
    assert Restarts(quick_deaths=100).pause_s == LONGEST_PAUSE_S


def test_a_long_life_starts_anew() -> None:
    assert Restarts(quick_deaths=4).after(QUICK_S) == Restarts()


def test_quick_deaths_in_a_row_are_hopeless() -> None:
    restarts = Restarts()
    for _ in range(QUICK_DEATHS - 1):
        restarts = restarts.after(0.0)
        assert not restarts.hopeless
    assert restarts.after(0.0).hopeless

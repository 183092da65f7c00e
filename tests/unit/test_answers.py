"""When what was put off comes again."""

from __future__ import annotations

from typing import Any, cast

import pytest

from cutor.bus.delivery import Delivery
from cutor.roles.answers import LATER_LEAST_PER_S, LATER_MAX_S, LATER_PER_S, Answers
from cutor.roles.places import LOOKING_AT_MOST, Place, Places

NOW_S = 1000.0


def answers(**weights: int) -> Answers:
    return Answers(2.0, Places(1, looks=True, weights=weights or {"a": 1}))


def test_what_is_put_off_comes_again_later_each_time() -> None:
    assert [answers()._later_s(count) for count in (1, 2, 3, 50)] == [4.0, 8.0, LATER_MAX_S, LATER_MAX_S]
    assert [answers()._crowded_s("a", count, NOW_S) for count in (1, 2, 3, 50)] == [4.0, 8.0, LATER_MAX_S, LATER_MAX_S]


def test_no_more_come_again_in_a_second_than_can_be_looked_at() -> None:
    crowd = answers()
    due_s = [crowd._crowded_s("a", 9, NOW_S) for _ in range(10_000)]
    assert due_s[0] == LATER_MAX_S
    for first, later in zip(due_s, due_s[20 * LATER_PER_S :], strict=False):
        assert later - first > LATER_MAX_S - 0.1 or first == LATER_MAX_S
    assert due_s[-1] == pytest.approx(10_000 / LATER_PER_S)
    assert crowd._crowded_s("a", 9, NOW_S + due_s[-1]) == LATER_MAX_S, "once they are through, the next one waits for none"


def test_one_tenants_thousands_do_not_delay_anothers() -> None:
    crowd = answers(a=1, b=1)
    for _ in range(10_000):
        crowd._crowded_s("a", 1, NOW_S)
    assert crowd._crowded_s("b", 1, NOW_S) == 4.0


def test_tenants_that_have_many_share_by_weight() -> None:
    crowd = answers(a=1, b=3)
    for _ in range(2000):
        last = [crowd._crowded_s(tenant, 1, NOW_S) for tenant in ("a", "b")]
    assert last == [pytest.approx(2000 * 4 / LATER_PER_S, rel=0.01), pytest.approx(2000 * 4 / 3 / LATER_PER_S, rel=0.01)]


class Handed:
    """A delivery that notes its pause."""

    delivered_count = 1

    def __init__(self) -> None:
        self.pause_s = 0.0

    async def nak(self, delay_s: float) -> None:
        self.pause_s = delay_s


@pytest.mark.parametrize(
    ("look_s", "per_s"),
    [(0.001, LATER_PER_S), (0.4, LOOKING_AT_MOST / 0.8), (100.0, LATER_LEAST_PER_S)],
)
async def test_where_looks_take_long_fewer_come_again(monkeypatch: pytest.MonkeyPatch, look_s: float, per_s: float) -> None:
    """Half of the looks that there is time for are left to what was never looked at."""
    crowd, places, handed = answers(), Places(1, looks=True), Handed()
    monkeypatch.setattr("cutor.roles.answers.time", cast("Any", Clock(NOW_S + look_s)))
    for _ in range(3000):
        await crowd.send(cast("Delivery", handed), "crowded", looked_at(places))
    before_s = handed.pause_s
    await crowd.send(cast("Delivery", handed), "crowded", looked_at(places))
    assert handed.pause_s - before_s == pytest.approx(1 / per_s)
    many_s = [crowd._crowded_s("b", 9, NOW_S + 10_000) for _ in range(1000)]
    assert many_s[-1] == pytest.approx(1000 / LATER_PER_S), "whose looks take long is in no other's way"


async def test_who_looks_in_slots_has_as_many_looks_as_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    places, handed = Places(2, weights={"a": 1}), Handed()
    crowd = Answers(2.0, places)
    monkeypatch.setattr("cutor.roles.answers.time", cast("Any", Clock(NOW_S + 0.1)))
    for _ in range(3000):
        await crowd.send(cast("Delivery", handed), "crowded", looked_at(places))
    before_s = handed.pause_s
    await crowd.send(cast("Delivery", handed), "crowded", looked_at(places))
    assert handed.pause_s - before_s == pytest.approx(0.1)


async def test_who_waited_says_nothing_of_how_long_looks_take() -> None:
    crowd, place = answers(), looked_at(Places(1, looks=True))
    place.leave()
    await crowd.send(cast("Delivery", Handed()), "crowded", place)
    assert not crowd._look_s


class Clock:
    """A clock that stands."""

    def __init__(self, now_s: float) -> None:
        self._now_s = now_s

    def monotonic(self) -> float:
        return self._now_s


def looked_at(places: Places) -> Place:
    place = places.looking()
    place.begin_look("a", 1)
    place.began_s = NOW_S
    return place

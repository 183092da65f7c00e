"""Slots, and those who wait without one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from cutor.model.subjects import Address
from cutor.roles import places as module
from cutor.roles.claims import Queue, Turn
from cutor.roles.places import Place, Places

NOW = 0.01


async def taken(places: Places) -> Place:
    place = await places.take(NOW)
    assert place is not None
    return place


async def test_no_more_are_taken_than_there_are_slots() -> None:
    places = Places(2)
    first, _ = await taken(places), await taken(places)
    assert await places.take(NOW) is None
    first.end()
    await taken(places)
    assert await places.take(NOW) is None


async def test_a_slot_that_somebody_took_meanwhile_is_not_given_twice() -> None:
    """Who waits asks in the very moment between a slot's becoming free and the turn of who was waiting for one."""
    places = Places(1)
    waits = await taken(places)
    waits.leave()
    working = await taken(places)
    taking = asyncio.create_task(places.take(NOW))
    await asyncio.sleep(0)
    working.end()
    assert waits.want(lambda: None)
    assert await taking is None


async def test_who_waits_leaves_its_slot_to_others_and_ends_without_one() -> None:
    places = Places(1)
    waiting = await taken(places)
    waiting.leave()
    waiting.leave()
    working = await taken(places)
    assert await places.take(NOW) is None
    waiting.end()
    assert await places.take(NOW) is None
    working.end()
    await taken(places)


async def test_who_wants_to_go_on_comes_before_anything_new_in_turn() -> None:
    places, granted = Places(1), []
    first, second, working = await taken(places), None, None
    first.leave()
    second = await taken(places)
    second.leave()
    working = await taken(places)
    assert not first.want(lambda: granted.append("first"))
    assert not first.want(lambda: granted.append("first"))
    assert not second.want(lambda: granted.append("second"))
    working.end()
    assert granted == ["first"]
    assert (first.has_slot, second.has_slot) == (True, False)
    assert first.want(lambda: granted.append("again"))
    assert await places.take(NOW) is None
    first.end()
    assert granted == ["first", "second"]
    second.end()
    await taken(places)


async def test_who_wants_a_slot_that_is_free_has_it_at_once() -> None:
    places, granted = Places(1), []
    place = await taken(places)
    place.leave()
    assert place.want(lambda: granted.append("it"))
    assert await places.take(NOW) is None


@pytest.mark.parametrize("end", [Place.end, Place.leave])
async def test_who_wants_no_slot_any_more_keeps_nobody_from_one(end: object) -> None:
    places = Places(1)
    waiting = await taken(places)
    waiting.leave()
    working = await taken(places)
    assert not waiting.want(lambda: None)
    end(waiting)  # type: ignore[operator]
    working.end()
    assert not waiting.has_slot
    await taken(places)


async def test_of_a_tenants_as_many_wait_as_its_share_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_AT_MOST", 4)
    places = Places(1, looks=True, weights={"a": 1, "b": 3})
    waiting = [await looking(places, "a", n) for n in range(3)]
    for place in waiting[:2]:
        assert place.may_wait
        place.leave()
    assert waiting[0].may_wait, "it waits already"
    assert not waiting[2].may_wait
    assert waiting[2].may_want, "there is a free slot, for which nobody waits"
    assert (await looking(places, "b")).may_wait, "one tenant's flood is in no other's way"
    waiting[0].end()
    assert waiting[2].may_wait


async def test_those_who_wait_are_sent_away_and_nobody_else() -> None:
    places = Places(2)
    waiting, working = await taken(places), await taken(places)
    for place in (waiting, working):
        place.task = asyncio.create_task(asyncio.sleep(60))
    waiting.leave()
    places.close()
    await asyncio.wait({waiting.task}, timeout=30)  # type: ignore[arg-type]
    assert waiting.task is not None
    assert waiting.task.cancelled()
    assert working.task is not None
    assert not working.task.done()
    working.task.cancel()


@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("begins", [Place.leave, lambda place: place.want(lambda: None)])
async def test_who_begins_to_wait_or_to_work_after_that_is_sent_away_at_once(
    begins: Callable[[Place], object], slots: int
) -> None:
    places = Places(slots, looks=True)
    assert (await looking(places)).want(lambda: None)
    late = await looking(places)
    late.task = asyncio.create_task(asyncio.sleep(60))
    places.close()
    await asyncio.sleep(0)
    assert not late.task.cancelling(), "it does not wait yet"
    begins(late)
    await asyncio.wait({late.task}, timeout=30)
    assert late.task.cancelled()
    assert not late.has_slot


async def test_who_would_take_a_lease_while_the_role_stops_is_sent_away_first() -> None:
    """Also who was granted its slot before that."""
    places, begun = Places(1, looks=True), []
    place = await looking(places)
    assert place.want(lambda: None)

    async def begin() -> None:
        await place.begin()
        begun.append(place)

    place.task = asyncio.create_task(begin())
    await place.task
    places.close()
    place.task = asyncio.create_task(begin())
    await asyncio.wait({place.task}, timeout=30)
    assert (place.task.cancelled(), begun) == (True, [place])


async def looking(places: Places, tenant: str = "", sequence: int = 0) -> Place:
    place = await taken(places)
    place.tenant, place.sequence = tenant, sequence
    return place


async def test_who_looks_needs_no_slot_and_there_are_a_few_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOKING_AT_MOST", 2)
    places = Places(1, looks=True)
    builds = await looking(places)
    assert builds.want(lambda: None), "who works looks no more"
    looks, also = await looking(places), await looking(places)
    assert await places.take(NOW) is None
    looks.leave()
    await looking(places)
    assert await places.take(NOW) is None
    looks.go_on()
    also.end()
    assert await places.take(NOW) is None, "who goes on from waiting counts again"
    looks.end()
    await looking(places)


async def test_who_needs_its_slot_no_more_gives_it_to_who_wants_one() -> None:
    places, granted = Places(1, looks=True), []
    builds, wants = await looking(places), await looking(places)
    assert builds.want(lambda: None)
    assert not wants.want(lambda: granted.append("it"))
    builds.go_on()
    assert (granted, wants.has_slot, builds.has_slot) == (["it"], True, False)


async def test_slots_go_by_the_tenants_turns_and_to_the_oldest_of_each() -> None:
    places, granted = Places(1, looks=True, weights={"a": 1, "b": 2}), []
    building = await looking(places)
    assert building.want(lambda: None)
    for tenant, sequence in (("a", 4), ("a", 2), ("a", 3), ("b", 9), ("b", 8), ("undeclared", 1)):
        place = await looking(places, tenant, sequence)
        place.want(lambda place=place: granted.append(place))
    while True:
        building.end()
        if len(granted) == 6:
            break
        building = granted[-1]
    assert [(place.tenant, place.sequence) for place in granted] == [
        *(("b", 8), ("a", 2), ("b", 9), ("a", 3), ("a", 4)),
        ("undeclared", 1),
    ]


async def turn(place: Place) -> Turn:
    """Wait for a slot as a submission does that builds."""
    queue, turn = Queue(Address("a", str(place.sequence)), held_s=60.0), None
    while turn is None:
        turn = await queue.slot(place)
    return turn


async def test_an_older_one_takes_the_seat_of_the_youngest_which_is_put_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it comes again that was passed on: its own seat has been taken meanwhile."""
    monkeypatch.setattr(module, "WAITING_AT_MOST", 4)
    places = Places(1, looks=True, weights={"a": 1, "b": 1})
    busy = await looking(places, "b")
    assert busy.want(lambda: None)
    seats = {}
    for tenant, sequence in (("a", 5), ("a", 6), ("b", 9)):
        place = await looking(places, tenant, sequence)
        seats[sequence] = place, asyncio.create_task(turn(place))
    await asyncio.sleep(NOW)
    assert await turn(await looking(places, "a", 7)) == "crowded", "nobody came later than it"
    old = await looking(places, "a", 2)
    oldest = asyncio.create_task(turn(old))
    async with asyncio.timeout(60):
        assert await seats[6][1] == "crowded"
        assert not any(task.done() for task in (oldest, seats[5][1], seats[9][1]))
        busy.end()
        assert await oldest == "mine"
        old.end()
        assert await seats[9][1] == "mine"
        seats[9][0].end()
        assert await seats[5][1] == "mine"


async def test_those_who_wait_for_a_build_keep_nobody_of_their_tenant_from_the_next_slot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Put off, it would come when the slot has stood idle for long, or is another's who came later."""
    monkeypatch.setattr(module, "WAITING_AT_MOST", 2)
    places = Places(1, looks=True, weights={"a": 1})
    busy = await looking(places, "a", 1)
    assert busy.want(lambda: None)
    for sequence in (2, 3):
        (await looking(places, "a", sequence)).leave()
    cold = asyncio.create_task(turn(await looking(places, "a", 4)))
    await asyncio.sleep(NOW)
    assert await turn(await looking(places, "a", 5)) == "crowded", "as many as there are slots"
    busy.end()
    async with asyncio.timeout(60):
        assert await cold == "mine"


async def test_nobody_takes_the_seat_of_whom_others_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_AT_MOST", 1)
    places = Places(1, looks=True, weights={"a": 1})
    busy, owner = await looking(places, "a"), await looking(places, "a", 5)
    assert busy.want(lambda: None)
    owner.waited_for = True
    assert not owner.want(lambda: None)
    assert not (await looking(places, "a", 2)).may_want


async def test_it_is_kept_longer_each_time_that_this_process_passes_it_on_within_a_minute() -> None:
    """Whatever else it was handed back for, and by whom, says nothing of that."""
    places = Places(1, looks=True)
    busy, place = await looking(places), await looking(places, sequence=7)
    assert busy.want(lambda: None)
    for passed in range(3):
        assert place.passed_on == passed
        assert await Queue(Address("a", "s"), held_s=0.0).slot(place) == "pass on"
    assert (await looking(places, sequence=8)).passed_on == 0
    places.pass_on(9, 1000.0)
    assert [places.passed_on(9, 1000.0 + after_s) for after_s in (module.LATELY_S - 1, module.LATELY_S)] == [1, 0]


async def test_no_more_than_ten_thousand_that_were_passed_on_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PASSED_AT_MOST", 2)
    places = Places(1)
    for sequence in (1, 2, 1, 3):
        places.pass_on(sequence, 1000.0)
    assert [places.passed_on(sequence, 1000.0) for sequence in (1, 2, 3)] == [2, 0, 1]


async def test_a_tenant_has_no_more_slots_than_it_may_though_one_is_free() -> None:
    places = Places(2, looks=True, weights={"a": 1, "b": 1}, per_tenant=1)
    first, second, other = [await taken(places) for _ in range(3)]
    for number, (place, tenant) in enumerate([(first, "a"), (second, "a"), (other, "b")]):
        place.begin_look(tenant, number)
    assert [place.want(lambda: None) for place in (first, second, other)] == [True, False, True]
    other.end()
    assert not second.has_slot
    first.end()
    assert second.has_slot


async def test_of_a_tenant_that_is_full_nothing_is_taken_up_where_all_need_slots_until_one_ends() -> None:
    places = Places(3, weights={"a": 1, "b": 1}, per_tenant=2)
    told: list[bool] = []
    places.on_room = lambda: told.append(places.takes_none_of("a"))
    first, second = await taken(places), await taken(places)
    first.belong("a")
    assert not places.takes_none_of("a")
    second.belong("a")
    assert (places.takes_none_of("a"), places.takes_none_of("b")) == (True, False)
    told.clear()
    first.end()
    assert told == [False]


async def test_who_waits_for_a_slot_that_its_tenant_may_not_have_is_one_of_few() -> None:
    """A slot that is free, and not for this tenant, is no reason to let all of it wait."""
    places = Places(2, looks=True, weights={"a": 1}, per_tenant=1)
    holder = await taken(places)
    holder.begin_look("a", 0)
    assert holder.want(lambda: None)
    for number in range(1, module.WAITING_AT_MOST + 1):
        one = await taken(places)
        one.begin_look("a", number)
        assert not one.want(lambda: None)
    late = await taken(places)
    late.begin_look("a", module.WAITING_AT_MOST + 1)
    assert not late.has_seat

"""Who works in a role process, who looks, and who waits in it.

What a step needs while it works is a slot: the memory and processes of a container. A role whose steps all need one takes up
nothing without. One that ``looks`` takes up what comes, a few at a time, to see what it needs: what needs no slot is done
without, and who needs one, or has to wait for what another submission does, waits outside. So neither is in the way of what can
go on. Slots go to those who want one by tenant, in weighted turns, and to the oldest of a tenant first: also where more of it
want one than may wait, because an older one that comes, or comes again, takes the seat of the youngest. A tenant may be kept
from having all slots: what it has in work may last long, and turns begin when a slot becomes free.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from cutor.bus.turns import Turns

WAITING_AT_MOST: Final = 64
"""Submissions that wait in one process at one time: a tenant may have its share of them. What would be one more is put off."""
LOOKING_AT_MOST: Final = 8
"""Submissions that are taken up at one time in a role that looks, beside those that wait or work in a slot."""


LATELY_S: Final = 60.0
"""So long it is remembered that a delivery was passed on: five busy builders may each have kept it for as long as they may."""
PASSED_AT_MOST: Final = 10_000
"""Deliveries of which that is remembered at one time."""


class Passed(NamedTuple):
    """How often this process has passed a delivery on, and when it did last."""

    times: int
    last_s: float


class Census(NamedTuple):
    """How many are where: slots there are, slots taken, submissions that are looked at, those that wait."""

    slots: int
    busy: int
    looking: int
    waiting: int


class Place:
    """The place of one submission: it looks, has a slot, waits outside, or ends without a slot what it did in one."""

    def __init__(self, places: Places, *, has_slot: bool, looks: bool) -> None:
        self._places = places
        self._granted: Callable[[], None] | None = None
        self.has_slot = has_slot
        self.looks = looks
        self.waits = False
        self.waited_for = False
        self.tenant = ""
        self.sequence = 0
        self.task: asyncio.Task[None] | None = None
        self.began_s: float | None = None

    def belong(self, tenant: str) -> None:
        """Be a tenant's from now on."""
        self._places.belong(self, tenant)

    def begin_look(self, tenant: str, sequence: int) -> None:
        """Be the place of a submission of a tenant, by the sequence of its event, which is looked at from now on."""
        self.belong(tenant)
        self.sequence, self.began_s = sequence, time.monotonic()

    @property
    def passed_on(self) -> int:
        """How often this process has passed the submission's delivery on lately."""
        return self._places.passed_on(self.sequence, time.monotonic())

    def pass_on(self) -> None:
        """Note that this process passes it on: the next time it keeps it longer."""
        self._places.pass_on(self.sequence, time.monotonic())

    @property
    def may_wait(self) -> bool:
        """Whether it waits, or may begin to: its tenant's share is not used up."""
        return self.waits or not self._places.crowded(self.tenant)

    @property
    def may_want(self) -> bool:
        """Whether it may wait for a slot, or need not. Who is waited for may, however many those are, and who is older than
        another one of its tenant that waits, whose seat it takes.
        """
        return self.has_seat or self._places.youngest_behind(self) is not None

    @property
    def has_seat(self) -> bool:
        """Whether it may wait for a slot without anybody's seat, or need not wait.

        As many of a tenant may as there are slots, also where its share waits for builds: those want no slot, which would stand
        idle, or go to who comes just then.
        """
        places = self._places
        return self.has_slot or self.may_wait or self.waited_for or places.idle_for(self.tenant) or places.few_want(self.tenant)

    def leave(self) -> None:
        """Wait without a slot from now on, and want none. Who does that while the role stops is sent away."""
        self._places.leave(self)

    def want(self, granted: Callable[[], None]) -> bool:
        """Return whether there is a slot; else wait for one, and ``granted`` is called once it is there."""
        self._granted = granted
        return self._places.want(self)

    def grant(self) -> None:
        """Have a slot."""
        self.has_slot, self.waits, self.looks = True, False, False
        self.notice()

    def notice(self) -> None:
        """Let who waits for a slot look again: it has one, or has lost its seat."""
        if self._granted is not None:
            self._granted()

    def go_on(self) -> None:
        """Wait no more, and need no slot: what is left to do needs neither."""
        self._places.go_on(self)

    def finish(self) -> None:
        """Need no slot any more, and end what was done in one: that is in nobody's way, and no wait."""
        self._places.end(self)

    async def begin(self) -> None:
        """Go on to a lease. Who does that while the role stops is sent away: it would be cut off, and the lease be spent."""
        if self._places.send_away_late(self):
            await asyncio.sleep(0)

    def end(self) -> None:
        """Give up the place."""
        self._places.end(self)


class Places:
    """The slots of one role process, and those who are there without one."""

    def __init__(
        self, slots: int, *, looks: bool = False, weights: Mapping[str, int] | None = None, per_tenant: int | None = None
    ) -> None:
        """``weights``: of the tenants, by whose turns slots are given away; ``per_tenant``: the most that one may have."""
        self._slots = slots
        self._per_tenant = slots if per_tenant is None else per_tenant
        self._of_tenant: Counter[str] = Counter()
        self.on_room: Callable[[], None] = _nobody
        """Called when something may be taken up again of a tenant of which nothing was."""
        self._looks = looks
        self._taken = 0
        self._looking = 0
        self._waiting: dict[Place, None] = {}
        self._wanting: list[Place] = []
        self._passed: dict[int, Passed] = {}
        self._offered: Place | None = None
        self._closed = False
        self._free = asyncio.Event()
        self._free.set()
        self.weigh(weights or {"": 1})

    def weigh(self, weights: Mapping[str, int]) -> None:
        """Give slots away by these tenants' turns from now on."""
        self.weights = weights
        self._turns = Turns.start(weights)
        self._share = max(1, WAITING_AT_MOST // len(weights))

    def crowded(self, tenant: str) -> bool:
        """Whether as many of a tenant's wait as may."""
        return sum(place.tenant == tenant for place in self._waiting) >= self._share

    def full(self, tenant: str) -> bool:
        """Whether a tenant has as many slots as it may."""
        return self._of_tenant[tenant] >= self._per_tenant

    def takes_none_of(self, tenant: str) -> bool:
        """Whether nothing of a tenant is to be taken up: it would have a slot at once, and has as many as it may."""
        return not self._looks and self.full(tenant)

    def belong(self, place: Place, tenant: str) -> None:
        """See `Place.belong`."""
        if place.has_slot:
            self._of_tenant[place.tenant] -= 1
            self._of_tenant[tenant] += 1
        place.tenant = tenant

    def few_want(self, tenant: str) -> bool:
        """Whether fewer of a tenant's want a slot than there are."""
        return sum(place.tenant == tenant for place in self._wanting) < self._slots

    def passed_on(self, sequence: int, now_s: float) -> int:
        """See `Place.passed_on`."""
        passed = self._passed.get(sequence)
        return passed.times if passed is not None and now_s - passed.last_s < LATELY_S else 0

    def pass_on(self, sequence: int, now_s: float) -> None:
        """See `Place.pass_on`."""
        times = self.passed_on(sequence, now_s) + 1
        self._passed.pop(sequence, None)
        if len(self._passed) >= PASSED_AT_MOST:
            del self._passed[next(iter(self._passed))]  # the one that was passed on longest ago
        self._passed[sequence] = Passed(times, now_s)

    def youngest_behind(self, place: Place) -> Place | None:
        """Return who would lose its seat to a place: the youngest of its tenant that waits, if that came later."""
        behind = [
            one for one in self._waiting if one.tenant == place.tenant and one.sequence > place.sequence and not one.waited_for
        ]
        return max(behind, key=lambda one: one.sequence, default=None)

    def census(self) -> Census:
        """Return how many are where at this moment; the place that is there for the next delivery is not taken yet."""
        open_one = self._offered if self._offered is not None and self._offered.task is None else None
        busy = self._taken - (open_one is not None and open_one.has_slot)
        looking = self._looking - (open_one is not None and open_one.looks)
        return Census(self._slots, busy, looking, len(self._waiting))

    @property
    def looks_at_once(self) -> int:
        """How many may be looked at, at one time."""
        return LOOKING_AT_MOST if self._looks else self._slots

    def idle_for(self, tenant: str) -> bool:
        """Whether there is a slot that nobody wants, and a tenant may have."""
        return self._taken < self._slots and not self.full(tenant)

    async def take(self, timeout_s: float) -> Place | None:
        """Return a new place once something may be taken up; None after a while without one."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self._room:  # who waits may have had it between the call and this one's turn
                    await self._free.wait()
        except TimeoutError:
            return None
        self._offered = self.looking() if self._looks else self.taken()
        return self._offered

    @property
    def _room(self) -> bool:
        return self._looking < LOOKING_AT_MOST if self._looks else self._taken < self._slots

    def taken(self) -> Place:
        """Return a new place, with a slot in any case; nobody's as yet."""
        self._taken += 1
        self._of_tenant[""] += 1
        self._changed()
        return Place(self, has_slot=True, looks=False)

    def looking(self) -> Place:
        """Return a new place that looks."""
        self._looking += 1
        self._changed()
        return Place(self, has_slot=False, looks=True)

    def leave(self, place: Place) -> None:
        """See `Place.leave`."""
        self._seat(place)
        self._changed()
        self._send_away(place)

    def _seat(self, place: Place) -> None:
        self._withdraw(place)
        place.waits, place.began_s = True, None
        self._waiting[place] = None

    def want(self, place: Place) -> bool:
        """See `Place.want`."""
        if not place.has_slot and place not in self._wanting:
            if not place.has_seat and (youngest := self.youngest_behind(place)):
                self._withdraw(youngest)
                youngest.notice()  # it looks, and is put off, unless there is a place for it by then
            self._seat(place)
            if not self._closed:
                self._wanting.append(place)
            self._changed()
            self._send_away(place)
        return place.has_slot

    def go_on(self, place: Place) -> None:
        """See `Place.go_on`."""
        if place.has_slot or place.waits:
            self._withdraw(place)
            place.looks = True
            self._looking += 1  # more than take up anything new, where many go on at once: then nothing new is
            self._changed()

    def end(self, place: Place) -> None:
        """See `Place.end`."""
        self._withdraw(place)
        self._changed()

    def close(self) -> None:
        """Cancel whoever waits, from now on, and give no slot any more: what runs may end by itself, and nothing new begins."""
        self._closed = True
        self._wanting.clear()
        for place in [*self._waiting]:
            self._send_away(place)

    def send_away_late(self, place: Place) -> bool:
        """See `Place.begin`; whether it is sent away."""
        if self._closed:
            place.waits = True
            self._send_away(place)
        return self._closed

    def _send_away(self, place: Place) -> None:
        if self._closed and place.waits and place.task is not None:
            place.task.cancel()

    def _withdraw(self, place: Place) -> None:
        """Let a place have nothing any more, neither a slot nor a turn."""
        if place.has_slot:
            self._taken -= 1
            self._of_tenant -= Counter((place.tenant,))
        self._looking -= place.looks
        self._waiting.pop(place, None)
        if place in self._wanting:
            self._wanting.remove(place)
        place.has_slot = place.looks = place.waits = False

    def _changed(self) -> None:
        """Give slots that are free to those who want them, in turn."""
        while self._taken < self._slots and (place := self._next()) is not None:
            self._withdraw(place)
            self._taken += 1
            self._of_tenant[place.tenant] += 1
            place.grant()
        if self._room:
            self._free.set()
            if not self._looks and self._per_tenant < self._slots:
                self.on_room()
        else:
            self._free.clear()

    def _next(self) -> Place | None:
        """Return whose turn it is; None where nobody wants a slot who may have one."""
        wanting = [place for place in self._wanting if not self.full(place.tenant)]
        tenants = {place.tenant for place in wanting}
        tenant = self._turns.choose(tenants)
        if tenant is None:  # of tenants that nobody has declared
            return min(wanting, key=lambda place: place.sequence, default=None)
        self._turns = self._turns.served(tenant, tenants)
        return min((place for place in wanting if place.tenant == tenant), key=lambda place: place.sequence)


def _nobody() -> None:
    """Nobody is told that there is room."""

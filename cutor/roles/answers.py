"""How deliveries are answered: what each answer of the decisions is to the server."""

from __future__ import annotations

import logging
import time
from typing import Final

from cutor.bus.delivery import Delivery
from cutor.journal.errors import JournalBusy
from cutor.model.decide import Answer
from cutor.model.subjects import Address
from cutor.roles.places import Place, Places

log = logging.getLogger(__name__)

LATER_MAX_S: Final = 10.0
"""Longest pause of a delivery that is put off for its own sake; where many of a tenant are, theirs are longer."""
LATER_PER_S: Final = 50
"""How many of those that are too many come again in a second, at the most: thousands may have been put off. What was never
looked at has its turn between them, though the server delivers again first."""
LATER_LEAST_PER_S: Final = 5
"""And at the least: however long a look takes now, ten thousand of them come again within 35 minutes."""
LOOKS_KEPT: Final = 16
"""Over so many looks their length is averaged."""
BUSY_REMEMBERED: Final = 1000
"""Submissions that are known to be busy at one time, so that each is logged once; of more, some are logged again."""


class Answers:
    """The answers of one role process; ``retry_delay_s`` is the pause of what failed, ``places`` has the tenants' weights."""

    def __init__(self, retry_delay_s: float, places: Places) -> None:
        self._retry_delay_s = retry_delay_s
        self._places = places
        self._busy: set[Address] = set()
        self._next_s: dict[str, float] = {}
        self._look_s: dict[str, float] = {}

    async def send(self, delivery: Delivery, answer: Answer, place: Place | None = None) -> None:
        """Answer a delivery, which had a place. Raises what the bus raises: then it is left to its clock."""
        match answer:
            case "done":
                await delivery.ack()
            case "retry":
                await delivery.nak(self._retry_delay_s)
            case "pass on":
                await delivery.nak()
            case "later":
                await delivery.nak(self._later_s(delivery.delivered_count))
            case "crowded":
                now_s, tenant = time.monotonic(), ""
                if place is not None:
                    self._looked(place, now_s)
                    tenant = place.tenant
                await delivery.nak(self._crowded_s(tenant, delivery.delivered_count, now_s))
            case "leave":
                log.info("%s: left to its clock, or to the worker that holds its lease", delivery.stored.subject)

    def _later_s(self, delivered_count: int) -> float:
        """Return the pause of one that is put off for its own sake: longer each time."""
        return min(self._retry_delay_s * 2.0 ** min(delivered_count, 10), LATER_MAX_S)

    def _crowded_s(self, tenant: str, delivered_count: int, now_s: float) -> float:
        """Return the pause of one of many: so that not too many of its tenant come again at once, whatever others put off."""
        next_s = self._next_s[tenant] = max(self._next_s.get(tenant, 0.0), now_s) + 1 / self._per_s(tenant, now_s)
        return max(self._later_s(delivered_count), next_s - now_s)

    def _per_s(self, tenant: str, now_s: float) -> float:
        """Return how many of a tenant's may come again in a second: its share by weight among those that have any to come.

        All of them take up half of the looks that there is time for; whose looks take long has fewer for that, and no other.
        """
        per_s: float = LATER_PER_S
        if (look_s := self._look_s.get(tenant, 0.0)) > 0:
            per_s = min(per_s, max(self._places.looks_at_once / 2 / look_s, LATER_LEAST_PER_S))
        weights = {one: self._places.weights.get(one, 1) for one, due_s in self._next_s.items() if due_s > now_s}
        weight = weights[tenant] = self._places.weights.get(tenant, 1)
        return per_s * weight / sum(weights.values())

    def _looked(self, place: Place, now_s: float) -> None:
        """Learn how long a tenant's looks take; one that had to wait says nothing of that."""
        if place.began_s is not None:
            known_s = self._look_s.get(place.tenant, 0.0)
            self._look_s[place.tenant] = known_s + (now_s - place.began_s - known_s) / LOOKS_KEPT

    def busy(self, error: JournalBusy, address: Address) -> Answer:
        """Put a delivery off whose submission others write to without end: its slot is for those that can go on."""
        if address not in self._busy:
            log.warning("%s; it is tried again, later each time", error)
            if len(self._busy) >= BUSY_REMEMBERED:
                self._busy.clear()
            self._busy.add(address)
        return "later"

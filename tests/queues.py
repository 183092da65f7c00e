"""Queues of submissions that wait for a role, written in bulk; and in which order a role has taken them up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cutor.bus.connection import Bus
from cutor.model.codec import encode
from cutor.model.events import Leased, Role, kind_of
from cutor.model.messages import read_message
from cutor.model.subjects import EVENTS, Address, event_subject, parse_event_subject
from tests.bench.lives import EPOCH_NS, Made, publish
from tests.unit.histories import BUILT

BEFORE = {"builder": BUILT[:1], "runner": BUILT}
"""For each role the events of a submission that waits for it."""


async def queue(url: str, role: Role, counts: Mapping[str, int], name: str = "queued") -> None:
    """Let so many submissions of each tenant wait for a role, those of the first tenant in front."""
    await publish(url, _messages(role, counts, name))


def _messages(role: Role, counts: Mapping[str, int], name: str) -> Iterator[Made]:
    events = [(kind_of(event), encode(event)) for event in BEFORE[role]]
    for tenant, count in counts.items():
        for number in range(count):
            address = Address(tenant, f"{name}-{number}")
            for step, (kind, body) in enumerate(events):
                yield Made(0, event_subject(address, kind), EPOCH_NS, f"{address}/{kind}/{step}", body)


async def taken_up(bus: Bus, role: Role, *, before: int | None = None) -> list[Address]:
    """Return the submissions that a role has leased, in order; of all, or before a place in the log."""
    found = []
    async for stored in bus.read(EVENTS, filter="cutor.ev.*.*.leased"):
        if before is not None and stored.sequence > before:
            continue
        event, subject = read_message(stored.subject, stored.body), parse_event_subject(stored.subject)
        if isinstance(event, Leased) and event.lease.role == role and event.lease.worker != "w" and subject is not None:
            found.append(subject.address)
    return found

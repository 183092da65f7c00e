"""Parked submissions for tests: submitted as any other, then parked by the event that a role would append."""

from __future__ import annotations

from cutor.client.client import Client, Submittable
from cutor.journal.journal import Journal
from cutor.model.codec import encode
from cutor.model.events import Event, Lease, Leased, Parked, Role, kind_of
from cutor.model.limits import StageKind
from cutor.model.state import Submission
from cutor.model.subjects import Address, event_subject

MESSAGE = "3 builder leases ended without a result"


async def park(
    client: Client,
    request: Submittable,
    *,
    named: str | None = None,
    leases: int = 0,
    role: Role = "builder",
    stage: StageKind = "dependencies",
    message: str = MESSAGE,
) -> str:
    """Hand in a request and park it, also where a builder has begun with it; returns its id.

    ``leases`` are taken before, on a stack where nobody else takes one.
    """
    receipt = await client.submit(request, id=named)
    state = await client.journal.known(Address(receipt.tenant, receipt.id))
    for number in range(1, leases + 1):
        lease = Lease(role="builder", worker=f"worker-{number}", token=f"t{number}", number=number)
        state = (await client.journal.settle(state, lambda _, lease=lease: Leased(lease=lease))).state  # type: ignore[misc]

    def parked(state: Submission) -> Event | None:
        return None if state.ended else Parked(role=role, message=message, stage=stage)

    assert (await client.journal.settle(state, parked)).state.status == "PARKED"
    return receipt.id


async def stray(journal: Journal, address: Address, event: Event) -> int:
    """Publish an event where it has no place; returns its sequence."""
    return await journal.bus.publish(event_subject(address, kind_of(event)), encode(event))

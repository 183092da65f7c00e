"""The policy that a stack publishes: the limits and tenants that its clients and roles keep to."""

from __future__ import annotations

from cutor.bus.backup import check_whole
from cutor.bus.connection import Bus
from cutor.bus.errors import StreamMissing
from cutor.errors import CutorError
from cutor.model.codec import EventError, decode_policy, encode
from cutor.model.limits import Policy
from cutor.model.subjects import POLICY_SUBJECT, STACK
from cutor.model.versions import announcing


class PolicyMissing(CutorError):
    """The stack has published no policy: it was not set up by ``cutor up`` or ``cutor streams apply``."""

    exit_code = 3


async def read_policy(bus: Bus) -> Policy:
    """Return the policy that the stack publishes. Raises `PolicyMissing`, also for one that cannot be read.

    A restore puts it back last. So where there is none, it may be that one did not end: `RestoreUnfinished`.
    """
    try:
        stored = await bus.last(STACK, POLICY_SUBJECT)
    except StreamMissing:
        await check_whole(bus)
        raise
    if stored is None:
        await check_whole(bus)
        raise PolicyMissing("the stack publishes no limits yet: run `cutor streams apply` (or `cutor up`)")
    try:
        return decode_policy(stored.body)
    except EventError as error:
        raise PolicyMissing(f"{error}: run `cutor streams apply`") from error


async def publish_policy(bus: Bus, policy: Policy) -> None:
    """Publish a policy to clients and roles, with the versions of events that there are."""
    stored = await bus.last(STACK, POLICY_SUBJECT)
    try:
        published = None if stored is None else decode_policy(stored.body)
    except EventError:
        published = None
    await bus.publish(POLICY_SUBJECT, encode(announcing(policy, published)))

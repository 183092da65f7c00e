"""Events of versions that only a newer cutor knows, on a stack that has them: nothing is decided without them.

An older role that took such an event for a stray would decide by half of what happened: work on what was cancelled, or end the
delivery of what nobody did. So whoever reads the log of a submission, or of an environment, stops at one, and says so. A role
leaves the delivery to its clock: it comes again, to one that was upgraded or to this one after its upgrade.

Anybody who may publish can write any version. So the stack is believed, and not the message: its policy names the versions that
its newest cutor writes. For the same reason a client of a newer cutor hands nothing in that those of the stack would take for
a stray: it says so.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from cutor.bus.connection import Bus
from cutor.bus.message import Stored
from cutor.errors import UNAVAILABLE, CutorError
from cutor.model.codec import VERSIONS, EventError, decode_policy
from cutor.model.subjects import POLICY_SUBJECT, STACK
from cutor.model.versions import newer_version

KNOWN_S: Final = 1.0
"""How long what the stack publishes is taken for known: a flood of versions that there are not costs a read in so long. The
roles of a newer cutor take longer to start once it has published its own."""


class EventNewer(CutorError):
    """The log has an event that only a newer cutor can read; the message says which, and what to do."""

    exit_code = UNAVAILABLE


class StackOlder(CutorError):
    """What this cutor would write is of a version that the stack does not have yet; the message says what to do."""

    exit_code = UNAVAILABLE


class Versions:
    """The versions that a stack has, over one bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._published: Mapping[str, int] = {}
        self._read_s = float("-inf")

    async def check(self, stored: Stored) -> None:
        """Raise `EventNewer` where a message, which could not be read, is an event of a version that the stack has."""
        newer = newer_version(stored.subject, stored.body)
        if newer is None:
            return
        if not newer.is_among(self._published) and time.monotonic() - self._read_s > KNOWN_S:
            self._published, self._read_s = await self._read(), time.monotonic()
        if newer.is_among(self._published):
            raise EventNewer(
                f"{stored.stream} {stored.sequence} ({stored.subject}) is {newer}: upgrade this cutor; until then nothing is"
                " decided about it here"
            )

    async def check_written(self, kind: str) -> None:
        """Raise `StackOlder` where the stack's roles would take an event of a kind, as this cutor writes it, for a stray."""
        version = VERSIONS[kind]
        if version <= self._published.get(kind, 1):
            return
        self._published, self._read_s = await self._read(), time.monotonic()
        if version > self._published.get(kind, 1):
            raise StackOlder(
                f"this cutor writes version {version} of {kind}, and the stack at {self._bus.address} has only"
                f" {self._published.get(kind, 1)}; nothing was stored: upgrade the stack first, or use the cutor that it runs"
            )

    async def _read(self) -> Mapping[str, int]:
        stored = await self._bus.last(STACK, POLICY_SUBJECT)
        try:
            return {} if stored is None else decode_policy(stored.body).versions
        except EventError:
            return {}

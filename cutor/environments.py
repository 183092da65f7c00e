"""What is known of environments: the stream ENVIRONMENTS, read and appended by key."""

from __future__ import annotations

import logging
import secrets
from typing import Final

from cutor.bus.connection import Bus
from cutor.bus.errors import FenceConflict
from cutor.model.codec import encode
from cutor.model.environments import EnvironmentBuilt, EnvironmentEvent, EnvironmentRemoved
from cutor.model.messages import Unreadable, read_environment
from cutor.model.subjects import ENVIRONMENTS, environment_subject

log = logging.getLogger(__name__)

CONFLICTS_AT_MOST: Final = 50


class Environments:
    """Events of environments, over one bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def find(self, key: str) -> EnvironmentBuilt | None:
        """Return the environment that was last built under a key; None where there is none, or it was removed since.

        Whether its paths are still in the store is for the runner's container to see: it says ``cache-lost`` where not. A
        replica may be behind, so the stream's leader is asked before the answer is None. A message that is no event of this
        environment counts as none: the next build appends one that is.
        """
        for consistent in (False, True):
            stored = await self._bus.last(ENVIRONMENTS, environment_subject(key), consistent=consistent)
            event = None if stored is None else read_environment(stored.subject, stored.body)
            if isinstance(event, EnvironmentBuilt):
                return event
        if isinstance(event, Unreadable):
            log.warning("%s: %s; the environment is taken for unknown", environment_subject(key), event.reason)
        return None

    async def append_built(self, event: EnvironmentBuilt) -> None:
        """Record that an environment stands in the store. Building one twice gives the same, so the last one counts."""
        await self._append(event, f"env/{event.key}/built/{event.worker}")

    async def append_removed(self, event: EnvironmentRemoved, by: str) -> None:
        """Record that an environment is gone, or is not to be trusted."""
        await self._append(event, f"env/{event.key}/removed/{by}")

    async def _append(self, event: EnvironmentEvent, message_id: str) -> None:
        """Append under the key's fence; a token makes the id one that nobody can have used before, by chance or on purpose."""
        subject, token = environment_subject(event.key), secrets.token_hex(8)
        for _ in range(CONFLICTS_AT_MOST):
            last = await self._bus.last(ENVIRONMENTS, subject, consistent=True)
            expected = 0 if last is None else last.sequence
            try:
                await self._bus.append(
                    subject,
                    encode(event),
                    message_id=f"{message_id}/{expected}/{token}",
                    fence=subject,
                    expected_sequence=expected,
                )
            except FenceConflict:
                continue
            return
        raise FenceConflict(expected)

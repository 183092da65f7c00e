"""What is known of environments: the stream ENVIRONMENTS, read, folded and appended by key."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from contextlib import aclosing
from typing import Final, NamedTuple

from cutor.bus.connection import Bus
from cutor.bus.errors import FenceConflict
from cutor.bus.message import Stored
from cutor.journal.versions import Versions
from cutor.model.codec import encode
from cutor.model.environments import (
    Environment,
    EnvironmentBuilding,
    EnvironmentBuilt,
    EnvironmentEvent,
    EnvironmentPinned,
    EnvironmentRemoved,
    EnvironmentUnpinned,
    evolve_environment,
)
from cutor.model.messages import Unreadable, read_environment
from cutor.model.subjects import ENVIRONMENTS, environment_subject

log = logging.getLogger(__name__)

CONFLICTS_AT_MOST: Final = 50
"""Appends in a row that others forestall before the last conflict is raised; each decides on a state read anew."""

Decide = Callable[[Environment], EnvironmentEvent | None]


class Known(NamedTuple):
    """An environment that stands, and the sequence of its ``env-built``."""

    built: EnvironmentBuilt
    sequence: int


class Settled(NamedTuple):
    """The state after an attempt to append, and whether that appended anything."""

    environment: Environment
    appended: bool


class Environments:
    """Events of environments, over one bus. Every append carries the fence of its key: the key's newest sequence."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._versions = Versions(bus)

    async def check_written(self, *kinds: str) -> None:
        """Raise `StackOlder` where the stack would take an event of one of these kinds, as this cutor writes it, for a stray.

        For commands, before anything else is done; a role's own cutor is the one that its stack has.
        """
        for kind in kinds:
            await self._versions.check_written(kind)

    async def find(self, key: str, *, consistent: bool = False) -> Known | None:
        """Return the environment that stands under a key; None where none was built, or it was removed since.

        One read where its ``env-built`` is the newest message, else the key's history. Whether its paths are still in the
        store is for the runner's container to see: it says ``cache-lost`` where not. A replica may be behind, so the stream's
        leader is asked before the answer is None; with ``consistent``, at once.
        """
        for leader in (True,) if consistent else (False, True):
            stored = await self._newest(key, consistent=leader)
            event = None if stored is None else read_environment(stored.subject, stored.body)
            if isinstance(event, EnvironmentBuilt) and stored is not None:
                return Known(event, stored.sequence)
        if stored is None or isinstance(event, EnvironmentRemoved):
            return None
        environment = await self._history(Environment(key=key), stored.sequence)
        return None if environment.built is None else Known(environment.built, environment.built_sequence)

    async def state(self, key: str, known: Environment | None = None) -> Environment:
        """Return the folded state of a key as the stream's leader has it; one without events where nothing is known.

        ``known``: a state that was read before; then only what is behind it is read.
        """
        newest = await self._newest(key, consistent=True)
        environment = Environment(key=key) if known is None else known
        if newest is None or newest.sequence == environment.sequence:
            return environment if newest is not None else Environment(key=key)
        if newest.sequence < environment.sequence:  # the stream has lost its tail since
            environment = Environment(key=key)
        return await self._history(environment, newest.sequence)

    async def claim(self, environment: Environment, event: EnvironmentBuilding) -> Environment | None:
        """Append a claim behind a state, and return the state with it; None where another message came first."""
        try:
            return await self._append(environment, event, f"env/{event.key}/building/{event.lease_token}")
        except FenceConflict:
            return None

    async def append_built(self, event: EnvironmentBuilt) -> Known:
        """Record that an environment stands in the store. Building one twice gives the same, so the last one counts."""
        settled = await self._settle(event.key, lambda _environment: event, f"env/{event.key}/built/{event.worker}")
        return Known(event, settled.environment.sequence)

    async def put_back(self, event: EnvironmentBuilt) -> bool:
        """Record that an environment stands again which was removed by mistake; false where one stands that was built since."""

        def wanted(environment: Environment) -> EnvironmentEvent | None:
            return event if environment.built is None else None

        return (await self._settle(event.key, wanted, f"env/{event.key}/built/{event.worker}")).appended

    async def append_removed(
        self, event: EnvironmentRemoved, by: str, *, built_sequence: int | None = None, unless_pinned: bool = False
    ) -> bool:
        """Record that an environment is gone, or is not to be trusted; false where it does not stand, then nothing is appended.

        ``built_sequence``: only where it is still the one of that ``env-built``. ``unless_pinned``: one that is pinned stays.
        """

        def wanted(environment: Environment) -> EnvironmentEvent | None:
            stands = environment.built is not None and built_sequence in (None, environment.built_sequence)
            return event if stands and not (unless_pinned and environment.pinned) else None

        return (await self._settle(event.key, wanted, f"env/{event.key}/removed/{by}")).appended

    async def append_pinned(self, key: str, *, pinned: bool = True) -> bool:
        """Pin a key, or take all its pins back; false where that was so already.

        Beside a command's, which takes it back itself, a pin is appended all the same; beside one that lasts it is not: the
        history under a key is read with every hit of what is pinned, and must not grow with each time that somebody says so.
        """
        event = EnvironmentPinned(key=key) if pinned else EnvironmentUnpinned(key=key)
        was = pinned

        def wanted(environment: Environment) -> EnvironmentEvent | None:
            nonlocal was
            was = environment.pinned
            return event if (not environment.pinned_to_last if pinned else was) else None

        await self._settle(key, wanted, f"env/{key}/{'pinned' if pinned else 'unpinned'}")
        return was != pinned

    async def append_own_pin(self, key: str) -> int:
        """Pin a key for a while; return the sequence by which this pin alone is taken back."""
        event = EnvironmentPinned(key=key, passing=True)
        settled = await self._settle(key, lambda _environment: event, f"env/{key}/pinned")
        return settled.environment.sequence

    async def take_back(self, key: str, pin_sequence: int) -> None:
        """Take one pin back, where it still stands: what others want is kept."""
        event = EnvironmentUnpinned(key=key, pin_sequence=pin_sequence)

        def wanted(environment: Environment) -> EnvironmentEvent | None:
            return event if pin_sequence in environment.pins else None

        await self._settle(key, wanted, f"env/{key}/unpinned")

    async def _settle(self, key: str, decide: Decide, message_id: str) -> Settled:
        """Append what ``decide`` makes of the state; where another message came first, decide again. Raises `FenceConflict`."""
        environment, conflict = Environment(key=key), FenceConflict(0)
        for _ in range(CONFLICTS_AT_MOST):
            environment = await self.state(key, environment)
            event = decide(environment)
            if event is None:
                return Settled(environment, appended=False)
            try:
                return Settled(await self._append(environment, event, message_id), appended=True)
            except FenceConflict as error:
                conflict = error
        raise conflict

    async def _append(self, environment: Environment, event: EnvironmentEvent, message_id: str) -> Environment:
        """Append behind a state; a token makes the id one that nobody can have used before, by chance or on purpose."""
        subject, expected = environment_subject(environment.key), environment.sequence
        appended = await self._bus.append(
            subject,
            encode(event),
            message_id=f"{message_id}/{expected}/{secrets.token_hex(8)}",
            fence=subject,
            expected_sequence=expected,
        )
        return evolve_environment(environment, event, appended.sequence)

    async def _newest(self, key: str, *, consistent: bool) -> Stored | None:
        return await self._bus.last(ENVIRONMENTS, environment_subject(key), consistent=consistent)

    async def _history(self, environment: Environment, at_least: int) -> Environment:
        """Return a state with what stands behind it, up to a sequence and further. What is no event of it is said, once."""
        subject, begun = environment_subject(environment.key), environment.sequence
        if begun:
            batches = self._bus.since_batches(subject, begun, stream=ENVIRONMENTS, at_least=at_least)
        else:
            batches = self._bus.history_batches(subject, subject, stream=ENVIRONMENTS, at_least=at_least)
        strays, reason = 0, ""
        async with aclosing(batches):
            async for batch in batches:
                for stored in batch:
                    message = read_environment(stored.subject, stored.body)
                    event = None if isinstance(message, Unreadable) else message
                    if isinstance(message, Unreadable):
                        await self._versions.check(stored)
                        strays, reason = strays + 1, message.reason
                    environment = evolve_environment(environment, event, stored.sequence)
        if strays:
            log.warning("%s: %d messages that are no events of it are left aside; the last: %s", subject, strays, reason)
        return environment

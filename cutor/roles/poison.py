"""Deliveries that nobody can attend to: a bug of cutor's own that shows before a lease.

Under a lease a bug is bounded as every fault is: by the number of leases. Before one, nothing in the log counts. So each
process counts the bugs that it meets, until an hour has passed without one: each delivery is handed back later than the one
before, and in the end the submission is parked with the reason, and clean: no container was started. The server's count of
deliveries tells nothing: what waits for a build or a slot goes out many times. Where not even that can be decided (a history
that cannot be folded), the submission never ends; its delivery does, and a dead letter about the event tells operators, with
the reason. Others are never held up by it.
"""

from __future__ import annotations

import logging
import time
from typing import Final, NamedTuple

from cutor.bus.delivery import Delivery
from cutor.bus.errors import AppendUnconfirmed, BusClosed, BusError, BusUnreachable
from cutor.errors import CutorError
from cutor.journal.dead_letters import write_letter, written_to
from cutor.journal.journal import Journal
from cutor.model.decide import decide_cleaned, decide_poison
from cutor.model.events import Event, Role
from cutor.model.state import Submission
from cutor.model.subjects import EVENTS, parse_event_subject

log = logging.getLogger(__name__)

POISON_DELIVERIES: Final = 5
"""So many deliveries of an event that fail by a bug in one process are the last."""
DELAY_MAX_S: Final = 60.0
"""Of a delivery that fails by a bug, before the next: a minute leaves time to look, and does not fill the log. A choice."""
FORGOTTEN_AFTER_S: Final = 3600.0
"""Since the last bug of an event: what waits for days and meets one now and then, when a server stumbles, is not poison."""
REMEMBERED: Final = 10_000
"""Events whose bugs are counted at one time, as many as a tenant may have under way; of more, the counts begin anew."""
REASON_LENGTH: Final = 500
"""Most characters of a bug's text in the reason of a parked submission or dead letter."""


class _Bugs(NamedTuple):
    """How many bugs one event has met, and when the last one was."""

    seen: int
    last_s: float


class Poison:
    """Answers the deliveries of one role process that failed by a bug."""

    def __init__(self, journal: Journal, role: Role, worker: str, first_delay_s: float) -> None:
        self._journal = journal
        self._role: Role = role
        self._worker = worker
        self._first_delay_s = first_delay_s
        self._bugs: dict[int, _Bugs] = {}

    async def answer(self, delivery: Delivery, bug: Exception) -> None:
        """Hand a delivery back that failed by a bug, or end it. Raises nothing: what fails here leaves it to its clock."""
        subject, sequence, count = delivery.stored.subject, delivery.stored.sequence, delivery.delivered_count
        seen = self._count(sequence, time.monotonic())
        try:
            if seen < POISON_DELIVERIES:
                delay_s = min(self._first_delay_s * 2 ** min(seen - 1, 10), DELAY_MAX_S)
                log.error("%s: a bug; delivery %d, tried again in %g s", subject, count, delay_s, exc_info=bug)
                await delivery.nak(delay_s)
            else:
                del self._bugs[sequence]
                await self._end(delivery, bug, seen)
        except (BusError, CutorError) as error:
            log.warning("%s: %s; it will be delivered again", subject, error)
        except Exception:
            log.exception("%s: a bug, and another one behind it; it will be delivered again", subject)

    def _count(self, sequence: int, now_s: float) -> int:
        """Count a bug of an event, and return how many it has met, without those that are too long ago."""
        if len(self._bugs) >= REMEMBERED:
            self._bugs.clear()
        known = self._bugs.get(sequence)
        recent = known is not None and now_s - known.last_s < FORGOTTEN_AFTER_S
        bugs = self._bugs[sequence] = _Bugs(known.seen + 1 if known is not None and recent else 1, now_s)
        return bugs.seen

    async def _end(self, delivery: Delivery, bug: Exception, seen: int) -> None:
        """Park the submission where its log lets that be decided; else end the delivery, of which a dead letter tells."""
        text = " ".join(f"{type(bug).__name__}: {bug}".split())[:REASON_LENGTH]
        reason = f"{seen} {'delivery' if seen == 1 else 'deliveries'} to a {self._role} failed; the last by a bug: {text}"
        log.critical("%s: %s; it is not tried again", delivery.stored.subject, reason, exc_info=bug)
        try:
            settled = await self._settle(delivery, reason)
        except (BusError, CutorError):
            raise
        except Exception:
            log.exception("%s: it cannot be parked and cleaned either", delivery.stored.subject)
            settled = False
        if settled:
            await delivery.ack()
        else:
            await self._write_letter(delivery, reason)
            await delivery.term(reason)

    async def _settle(self, delivery: Delivery, reason: str) -> bool:
        """Append ``parked``, unless it has ended, and ``cleaned``; whether nothing in the log waits for this delivery then."""
        parsed, sequence = parse_event_subject(delivery.stored.subject), delivery.stored.sequence
        state = None if parsed is None else await self._journal.state(parsed.address, at_least=sequence)
        if state is None:
            return False

        def wanted(state: Submission) -> Event | None:
            park = decide_poison(state, self._role, sequence, reason=reason)
            return None if park is None else park.event

        state = (await self._journal.settle(state, wanted)).state
        if sequence != state.step_sequence:
            return True  # an old one: the submission goes on, or went on, with another
        state = (await self._journal.settle(state, lambda state: decide_cleaned(state, self._worker, None))).state
        return state.ended

    async def _write_letter(self, delivery: Delivery, reason: str) -> None:
        """Tell operators of an event that is not delivered any more. A server that is away leaves it to the next delivery."""
        bus, stored = self._journal.bus, delivery.stored
        try:
            await write_letter(bus, EVENTS, stored, reason, complete_to=await written_to(bus, EVENTS))
        except (AppendUnconfirmed, BusClosed, BusUnreachable):
            raise
        except BusError as error:
            log.error("%s: no dead letter could be written: %s", stored.subject, error)

"""The loop that builder and runner share: it fetches deliveries while there is room, has each handled, and drains at a stop.

What a delivery asks for, and how it is answered, is the `Handler`'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Final

from cutor.bus.backup import check_whole
from cutor.bus.connection import Bus
from cutor.bus.consumer import WeightedQueues
from cutor.bus.delivery import Delivery
from cutor.bus.errors import BusError
from cutor.bus.topology_promises import LEASE_S
from cutor.errors import CutorError
from cutor.journal.journal import Journal
from cutor.journal.stack_policy import read_policy
from cutor.journal.versions import EventNewer
from cutor.process.context import RoleContext
from cutor.process.telling import telling
from cutor.roles.ability import Ability
from cutor.roles.answers import Answers
from cutor.roles.consumers import lease_times, queues
from cutor.roles.draining import cut_short, grace
from cutor.roles.former_life import FormerLife
from cutor.roles.handler import Handler
from cutor.roles.in_hand import InHand
from cutor.roles.places import Place, Places
from cutor.roles.poison import Poison
from cutor.roles.sampling import sampling_the_loop
from cutor.roles.step import Step
from cutor.roles.sweep import NOTHING, Swept

log = logging.getLogger(__name__)

RETRY_DELAY_S: Final = 2.0
"""What a step that failed through no fault of its own waits before its next lease: most causes pass in seconds. A choice."""
STOP_CHECK_S: Final = 0.5
"""How long each wait for a place or a delivery takes at the most, so that a stop is noticed."""
STOPS_PULLING_S: Final = 1.0
"""How long a stop waits for the server to confirm that nothing is pulled any more (1 ms), before work is handed back."""

Beside = Callable[[Journal], AbstractAsyncContextManager[None]]
"""What a role does beside its steps."""


class Loop:
    """One role's loop: as many steps at once as there are slots."""

    def __init__(
        self, context: RoleContext, journal: Journal, step: Step, slots: int, *, retry_delay_s: float = RETRY_DELAY_S
    ) -> None:
        self._context = context
        self._journal = journal
        self._step = step
        settings = context.config.builder if step.role == "builder" else context.config.runner
        self._places = Places(slots, looks=step.looks, per_tenant=settings.slots_per_tenant)
        self._deliveries: set[asyncio.Task[None]] = set()
        self._ability = Ability(step)
        self._in_hand = InHand(context.data, step.role)
        answers = Answers(retry_delay_s, self._places)
        self._handler = Handler(context, journal, step, answers=answers, ability=self._ability, in_hand=self._in_hand)
        self._poison = Poison(journal, step.role, context.worker, retry_delay_s)

    async def run(self, swept: Swept = NOTHING) -> None:
        """Serve until the context's ``stop`` is set; then let the running steps finish for a while, and hand back the rest.

        Appends and reads wait as long for a server that is away as a lease lasts: a shorter absence costs none.
        ``swept``: what came of the containers that a former life of this role had left.
        """
        if swept.stuck:
            swept = swept._replace(in_hand=frozenset(note.address for note in self._in_hand.left()))
        bus, role = self._journal.bus, self._step.role
        policy = await read_policy(bus)
        self._places.weigh(policy.tenants)
        lease_s = await lease_times(bus, role, policy)
        bus.link.patience_s = max(lease_s.values(), default=LEASE_S)
        self._handler.begin(policy, lease_s, swept)
        former = FormerLife(self._journal, self._in_hand, role, self._context.worker, lease_s)
        await former.settle(swept)
        waiting = queues(bus, role, policy, self._places.takes_none_of)
        self._places.on_room = waiting.look_again
        sampling = sampling_the_loop(self._context.measures, bus, role, policy, self._places)
        async with self._handler.attention.listening(), former.seeing_off(swept), sampling, waiting as pulled:
            self._context.ready()
            try:
                while not self._context.stop.is_set():
                    await self._take_next(pulled)
            finally:
                await self._drain(pulled)
                self._ability.close()

    async def _take_next(self, pulled: WeightedQueues) -> None:
        """Take up a delivery once there is a place; nothing after a while without one, so that a stop is noticed."""
        place = await self._places.take(STOP_CHECK_S)
        if place is None:
            return
        recovery, delivery = self._ability.recovery, None
        if recovery is None and not self._context.stop.is_set():
            delivery = await pulled.next(STOP_CHECK_S)
        if delivery is not None:
            self._start(delivery, place)
            return
        place.end()
        if recovery is not None:
            await asyncio.wait({recovery}, timeout=STOP_CHECK_S)

    def _start(self, delivery: Delivery, place: Place) -> None:
        place.belong(delivery.consumer.removeprefix(f"{self._step.role}-"))
        task = place.task = asyncio.create_task(self._serve(delivery, place), name=f"serve {delivery.stored.subject}")
        self._deliveries.add(task)
        task.add_done_callback(self._deliveries.discard)
        task.add_done_callback(lambda _: place.end())

    async def _serve(self, delivery: Delivery, place: Place) -> None:
        """Have a delivery handled. The only place where errors end: after one the delivery is left to its clock."""
        subject = delivery.stored.subject
        try:
            await self._handler.handle(delivery, place)
        except EventNewer as error:
            log.error("%s: %s; it will be delivered again", subject, error)
        except (BusError, CutorError) as error:
            log.warning("%s: %s; it will be delivered again", subject, error)
        except Exception as bug:
            await self._poison.answer(delivery, bug)
            self._in_hand.forget(delivery.stored.sequence)

    async def _drain(self, pulled: WeightedQueues) -> None:
        """Let running steps finish for the configured time, unless told to hurry; then hand back what is left.

        Nothing is pulled any more by then: else what is handed back is delivered to this process, which is about to end.
        """
        if not self._deliveries:
            return
        closing = asyncio.create_task(pulled.aclose(), name="stop pulling")
        self._places.close()
        if not self._journal.bus.link.closed:  # else nothing that runs could tell what came of it
            await grace(self._deliveries, self._context.config.shutdown_grace_s, self._context.hurry)
        await asyncio.wait({closing}, timeout=STOPS_PULLING_S)
        await cut_short(self._deliveries)
        try:
            await closing
            await self._journal.bus.flush()
        except BusError as error:
            log.warning("what was handed back may come again only after its ack_wait: %s", error)


async def serve(
    context: RoleContext, step: Step, slots: int, swept: Swept = NOTHING, beside: Beside = lambda _: nullcontext()
) -> None:
    """Connect to the log and run a role's loop until the context says stop; ``swept`` as in `Loop.run`.

    ``beside`` is entered for as long. Raises `RestoreUnfinished` where the server holds part of a backup.
    """
    async with Bus.connect(context.server, name=f"cutor {step.role} {context.worker}") as bus:
        await check_whole(bus)
        journal = Journal(bus, context.measures.appended)
        async with beside(journal), telling(context, bus, step.role):
            await Loop(context, journal, step, slots).run(swept)

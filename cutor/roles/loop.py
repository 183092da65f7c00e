"""The loop that builder and runner share: fetch, decode, decide, work, append, acknowledge.

A delivery is the lease's clock: while the work goes on it is kept alive; when a worker dies, the server delivers again and
another one takes the next lease. What a worker may append, the fence and the folded state decide, never this process's memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator
from typing import Final, Protocol

from cutor.bus.connection import Bus
from cutor.bus.consumer import Delivery, WeightedQueues
from cutor.bus.errors import BusError
from cutor.journal import Journal
from cutor.model.decide import Clean, NothingToDo, Park, TakeLease, decide_cleaned, decide_fault, decide_step
from cutor.model.events import Event, Lease, Role
from cutor.model.limits import Policy
from cutor.model.state import Submission
from cutor.model.subjects import EVENTS, Address, parse_event_subject
from cutor.roles.context import RoleContext
from cutor.roles.job import Job, LeaseLost, StepFault

log = logging.getLogger(__name__)

HEARTBEAT_S: Final = 8.0
"""Between two in-progress acks: well below the consumers' ack_wait of 30 s."""
RETRY_DELAY_S: Final = 2.0
STOP_CHECK_S: Final = 0.5
SHUTDOWN_GRACE_S: Final = 5.0
"""What a running job may still take after SIGTERM before it is handed back."""
CANCEL_SUBJECT: Final = "cutor.ev.*.*.cancelled"


class Step(Protocol):
    """What a role does under a lease."""

    role: Role

    async def work(self, job: Job) -> None:
        """Do the step and report its events; leave nothing on this host, also when cancelled.

        Raises `LeaseLost`, and `StepFault` for what is to be retried.
        """


class Loop:
    """One role's loop: as many jobs at once as there are slots."""

    def __init__(
        self, context: RoleContext, journal: Journal, step: Step, slots: int, *, retry_delay_s: float = RETRY_DELAY_S
    ) -> None:
        self._context = context
        self._journal = journal
        self._step = step
        self._slots = slots
        self._retry_delay_s = retry_delay_s
        self._policy = Policy()
        self._deliveries: set[asyncio.Task[None]] = set()
        self._work: dict[Address, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Serve until the context's ``stop`` is set; then let the running jobs finish for a while, and hand back the rest."""
        self._policy = await self._journal.policy()
        async with self._listening(), self._queues() as queues:
            self._context.ready()
            while not self._context.stop.is_set():
                delivery = await self._next(queues)
                if delivery is not None:
                    self._start(delivery)
        await self._drain()

    def _queues(self) -> WeightedQueues:
        consumers = [(f"{self._step.role}-{tenant}", weight) for tenant, weight in sorted(self._policy.tenants.items())]
        return WeightedQueues(self._journal.bus, EVENTS, consumers)

    async def _next(self, queues: WeightedQueues) -> Delivery | None:
        """Return a delivery once a slot is free; None after a while without one, so that a stop is noticed."""
        while len(self._deliveries) >= self._slots:
            await asyncio.wait(self._deliveries, return_when=asyncio.FIRST_COMPLETED, timeout=STOP_CHECK_S)
            if self._context.stop.is_set():
                return None
        return await queues.next(STOP_CHECK_S)

    def _start(self, delivery: Delivery) -> None:
        task = asyncio.create_task(self._serve(delivery), name=f"serve {delivery.stored.subject}")
        self._deliveries.add(task)
        task.add_done_callback(self._deliveries.discard)

    async def _serve(self, delivery: Delivery) -> None:
        """Attend to one delivery and answer it. The only place where errors end.

        Acknowledged when nothing is left to do; handed back with a delay after a fault that is to be retried; ended for good
        when its subject cannot be one of cutor's. After a lost lease it is left alone: it is another worker's now.
        """
        subject = delivery.stored.subject
        try:
            async with delivery.kept_alive(HEARTBEAT_S):
                done = await self._attend(subject)
            if done:
                await delivery.ack()
        except StepFault as fault:
            log.warning("%s: %s; handed back", subject, fault.reason)
            await delivery.nak(self._retry_delay_s)
        except LeaseLost as lost:
            log.info("%s", lost)
        except BusError as error:
            log.warning("%s: %s; it will be delivered again", subject, error)
        except asyncio.CancelledError:
            await delivery.nak(0)
            raise
        except Exception:
            log.exception("%s: a bug; handed back", subject)
            await delivery.nak(self._retry_delay_s)

    async def _attend(self, subject: str) -> bool:
        """Decide what a delivery asks for, and do it. Returns whether it can be acknowledged."""
        parsed = parse_event_subject(subject)
        state = None if parsed is None else await self._journal.state(parsed.address)
        if state is None:
            log.error("%s: not the subject of a submission of cutor's; dropped", subject)
            return True
        token = secrets.token_hex(8)
        appended = await self._journal.settle(state, lambda state: self._wanted(state, token))
        state = appended.state
        if appended.done and state.lease is not None and state.lease.token == token and not state.ended:
            state = await self._work_under(state, state.lease)
        if state.ended:
            await self._clean(state)
        return True

    def _wanted(self, state: Submission, token: str) -> Event | None:
        worker, leases = self._context.worker, self._policy.max_leases
        match decide_step(state, self._step.role, worker=worker, token=token, max_leases=leases):
            case TakeLease(event=event) | Park(event=event) | Clean(event=event):
                return event
            case NothingToDo():
                return None

    async def _work_under(self, state: Submission, lease: Lease) -> Submission:
        """Do the step under a lease; return the state after it. Raises `StepFault` where it is to be tried again."""
        job = Job(self._journal, self._policy, state, lease)
        work = asyncio.create_task(self._step.work(job), name=f"work on {state.address}")
        self._work[state.address] = work
        try:
            await work
        except StepFault as fault:
            return await self._after_fault(job, fault)
        except LeaseLost:
            return await self._journal.known(state.address)
        except asyncio.CancelledError:
            work.cancel()
            await asyncio.wait([work])
            current = await self._journal.known(state.address)
            if not current.ended:
                raise
            return current
        finally:
            del self._work[state.address]
        return job.state

    async def _after_fault(self, job: Job, fault: StepFault) -> Submission:
        """Park where this was the last lease; else hand the step back."""

        def parked(state: Submission) -> Event | None:
            leases = self._policy.max_leases
            park = decide_fault(state, job.lease, stage=fault.stage, reason=fault.reason, max_leases=leases)
            return None if park is None else park.event

        appended = await self._journal.settle(job.state, parked)
        if appended.state.ended:
            return appended.state
        raise fault

    async def _clean(self, state: Submission) -> None:
        """Append ``cleaned`` where it is due: this worker left nothing behind, or never had anything."""
        if state.lease is not None and state.lease.role != self._step.role:
            return
        worker = self._context.worker
        await self._journal.settle(state, lambda state: decide_cleaned(state, worker))

    @contextlib.asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        """Stop the work on submissions that are cancelled, as long as this lasts.

        After a lost connection every running submission is looked up: its notice may have been missed.
        """
        missed = asyncio.Event()
        async with self._journal.bus.subscribe(CANCEL_SUBJECT, on_gap=missed.set) as notices:

            async def listen() -> None:
                async for notice in notices:
                    if (parsed := parse_event_subject(notice.subject)) is not None:
                        await self._stop_if_ended(parsed.address)

            async def look_again() -> None:
                while await missed.wait():
                    missed.clear()
                    for address in list(self._work):
                        await self._stop_if_ended(address)

            listeners = [asyncio.create_task(listen()), asyncio.create_task(look_again())]
            try:
                yield
            finally:
                for listener in listeners:
                    listener.cancel()
                await asyncio.wait(listeners)

    async def _stop_if_ended(self, address: Address) -> None:
        """Stop the work on a submission, once the stream confirms that it ended: a core message alone proves nothing."""
        if address not in self._work:
            return
        state = await self._journal.state(address)
        work = self._work.get(address)
        if work is not None and state is not None and state.ended:
            work.cancel()

    async def _drain(self) -> None:
        """Let running jobs finish for the configured time, then hand back what is left."""
        if not self._deliveries:
            return
        _, left = await asyncio.wait(self._deliveries, timeout=SHUTDOWN_GRACE_S)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
        try:
            await self._journal.bus.flush()
        except BusError as error:
            log.warning("what was handed back may come again only after its ack_wait: %s", error)


async def serve(context: RoleContext, step: Step, slots: int) -> None:
    """Connect to the log and run a role's loop until the context says stop."""
    async with Bus.connect(context.server, name=f"cutor {step.role} {context.worker}") as bus:
        await Loop(context, Journal(bus), step, slots).run()

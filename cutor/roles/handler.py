"""What is done about a delivery: decode, decide, work, append, answer. Builder and runner share it, each with its `Step`.

A delivery is the lease's clock: while the work goes on it is kept alive; when a worker dies, the server delivers again and
another one takes the next lease. What a worker may append, the fence and the folded state decide, never this process's memory.

A delivery is answered by what the log says (`decide_answer`):

    the event is not the one that is due     acknowledged, mostly without a read (`Glances`)
    the step is done, or not this role's     acknowledged: nothing is left to do
    the lease is ours, the step is not done  handed back: a fault that is to be retried, or a shutdown
    a newer lease is in the log              left alone: it is another worker's clock
    it has to wait: for another's work       kept alive, without a lease and without a slot (`Step.approach`)
    it would wait, and many wait already     handed back, later each time, before a lease
    it waited long enough for a slot         handed back at once, before a lease: another process may have one
    others append to it without end          handed back, later each time, before a lease: so the slot serves others
    attending to it fails by a bug           handed back, later each time; in the end the submission is parked (`Poison`)
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from typing import Final

from cutor import logs
from cutor.bus.delivery import Delivery, Pulse
from cutor.bus.errors import BusError
from cutor.bus.topology_promises import HEARTBEAT_S, LEASE_S
from cutor.errors import CutorError
from cutor.journal.errors import JournalBusy
from cutor.journal.journal import Journal
from cutor.journal.versions import EventNewer
from cutor.model.decide import (
    Answer,
    NothingToDo,
    decide_answer,
    decide_cleaned,
    decide_fault,
    decide_in_hand,
    decide_overtaken,
    decide_step,
)
from cutor.model.errors import InvalidRequest
from cutor.model.events import Cleaned, Event, Leased
from cutor.model.limits import Policy
from cutor.model.state import Submission
from cutor.model.subjects import EventSubject, parse_event_subject
from cutor.process.context import RoleContext
from cutor.roles.ability import Ability
from cutor.roles.answers import Answers
from cutor.roles.attention import Attention
from cutor.roles.glance import Glances
from cutor.roles.in_hand import InHand, note_of
from cutor.roles.places import Place
from cutor.roles.running import EndedMeanwhile, Running
from cutor.roles.step import Arrival, LeasedStep, LeasedWork, LeaseLost, Step, StepFault
from cutor.roles.sweep import NOTHING, Swept

log = logging.getLogger(__name__)

CONFLICTS_BEFORE_LEASE: Final = 5
"""Times that the first append of a delivery is decided anew, about 0.1 s, before its slot serves another submission."""
FRESH_NS: Final = 60 * 1_000_000_000
"""How old an event may be whose first delivery this is, so that what may stand behind it is not read. It does where a log was
restored, or its consumers were made anew."""
HAND_BACK_TIMEOUT_S: Final = 3.0
"""How long a shutdown waits for a server that is away to take one delivery back."""


class Handler:
    """Handles one role's deliveries, from the event to the answer; any number at the same time."""

    def __init__(
        self, context: RoleContext, journal: Journal, step: Step, *, answers: Answers, ability: Ability, in_hand: InHand
    ) -> None:
        self._context = context
        self._journal = journal
        self._step = step
        self._answers = answers
        self._ability = ability
        self._in_hand = in_hand
        self.attention = Attention(journal, step.role, context.worker)
        self._glances = Glances(journal)
        self._policy = Policy()
        self._lease_s: dict[str, float] = {}
        self._swept = NOTHING

    def begin(self, policy: Policy, lease_s: dict[str, float], swept: Swept) -> None:
        """Take what holds from now on; ``lease_s``: how long a lease lasts, by consumer; ``swept`` as in `Loop.run`."""
        self._policy = policy
        self._lease_s = lease_s
        self._swept = swept

    async def handle(self, delivery: Delivery, place: Place) -> None:
        """Find out what a delivery is of, attend to that, and answer it."""
        stored, send = delivery.stored, self._answers.send
        subject = parse_event_subject(stored.subject)
        if subject is None:
            log.error("%s: not a subject of cutor's; dropped", stored.subject)
            await send(delivery, "done")
            return
        logs.attend_to(subject.address, subject.kind, stored.sequence)
        if (busy := self.attention.on_hand(subject.address)) is not None and busy.sequence == stored.sequence:
            await send(delivery, "leave")  # the same event, delivered again: heartbeats were late, the work is good
        elif self._glances.old(stored, subject):
            await send(delivery, "done")
        elif busy is not None:
            async with delivery.kept_alive(Pulse(HEARTBEAT_S)):
                due = await self._glances.due(stored, subject)
            await send(delivery, "done" if due is None else "retry")  # another one waits for the end of what is on hand
        else:
            await self._take_up(delivery, subject, place)

    async def _take_up(self, delivery: Delivery, subject: EventSubject, place: Place) -> None:
        """Attend to an event of a submission that this process has not on hand, and answer it."""
        sequence, token = delivery.stored.sequence, secrets.token_hex(8)
        self._in_hand.note(note_of(delivery, subject.address, token))  # before anything is waited for
        running = Running(subject.address, sequence, place, token)
        place.begin_look(subject.address.tenant, sequence)
        try:
            async with self.attention.on(running), delivery.kept_alive(self._pulse(delivery, running)):
                answer = await self._attend_to(delivery, subject, running)
            await self._answers.send(delivery, answer, place)
        except asyncio.CancelledError:
            await self._hand_back(delivery, running)
            raise
        self._in_hand.forget(sequence)

    def _pulse(self, delivery: Delivery, running: Running) -> Pulse:
        lasts_s = self._lease_s.get(delivery.consumer, LEASE_S)
        return Pulse(
            HEARTBEAT_S,
            lasts_s,
            confirmed=lambda: self._in_hand.renew(running.sequence),
            doubtful=lambda: self.attention.look_at(running),
            cut_off=lambda: self.attention.cut_off(running, lasts_s),
        )

    async def _attend_to(self, delivery: Delivery, subject: EventSubject, running: Running) -> Answer:
        """Decide what a delivery of a submission asks for, and do it."""
        look = self._ability.begin()
        first = delivery.delivered_count == 1 and time.time_ns() - delivery.stored.time_ns < FRESH_NS
        state = await self._glances.due(delivery.stored, subject, first=first)
        if state is None:
            return "done"
        unread = first and state.last_sequence == running.sequence
        running.begin(state, unread_s=self._lease_s.get(delivery.consumer, LEASE_S) / 3 if unread else 0)
        if not state.ended and state.fault is None and not await self._ability.check(look):
            return "retry"
        if not isinstance(self._wanted(state, running), Leased):
            return await self._take(delivery, running, state)
        return await self._approach(delivery, running, state)

    async def _approach(self, delivery: Delivery, running: Running, state: Submission) -> Answer:
        """Do what has to come before a lease, which may be a long wait; then take it."""
        arrival = Arrival(self._journal, self._policy, state, running.token, running.place, running.is_unread)
        try:
            work = await running.do(self._step.approach(arrival))
        except EndedMeanwhile:
            return await self._take(delivery, running, await self._journal.known(running.address))
        except LeaseLost as lost:
            log.warning("%s; it waits for it no more", lost)
            return "leave"
        except BusError as error:
            log.warning("%s: %s; it is tried again", running.address, error)
            return "retry"
        if isinstance(work, str):
            return work
        await running.place.begin()
        return await self._take(delivery, running, state, work)

    async def _take(self, delivery: Delivery, running: Running, state: Submission, work: LeasedWork | None = None) -> Answer:
        """Append what the state calls for; where that is a lease, do the work under it. Without work, none is taken."""
        role, token, read = self._step.role, running.token, state

        def wanted(state: Submission) -> Event | None:
            unnoted = running.taking is None
            if state is not read:  # an append met what came meanwhile, which asks for nothing again
                self._glances.keep(state)
                unnoted |= running.meet(state)
            former = running.former
            if decide_overtaken(state, role, token=token, seen=former) is not None:
                return None
            event = self._wanted(state, running)
            if isinstance(event, Leased):
                if work is None:
                    return None
                if unnoted and former is not None and former.role == role:
                    self._in_hand.note(note_of(delivery, running.address, token, seen=former.token), again=True)
                running.taking = event.lease
                logs.attempt(event.lease.number)
            return None if isinstance(event, Cleaned) and self._swept.holds(running.address) else event

        try:
            appended = await self._journal.settle(state, wanted, conflicts_at_most=CONFLICTS_BEFORE_LEASE)
        except JournalBusy as busy:
            return self._answers.busy(busy, running.address)
        state, lease = appended.state, appended.state.lease
        if appended.done and work is not None and lease is not None and lease.token == token and not state.ended:
            running.lease = lease
            return await self._under_lease(running, LeasedStep(self._journal, self._policy, state, lease, running.place), work)
        return await self._without_work(running, state, done=appended.done)

    async def _without_work(self, running: Running, state: Submission, *, done: bool) -> Answer:
        """See to what is left to do where no work is done under a lease; ``done``: something was appended."""
        if done and not state.ended:
            return "leave"  # our lease is in the log, its answer was lost meanwhile, and a newer one stands behind it
        if done:
            state = await self._clean(state)
        else:
            overtaken = decide_overtaken(state, self._step.role, token=running.token, seen=running.former)
            if overtaken is not None:
                return overtaken
            if isinstance(self._wanted(state, running), Leased):
                return "retry"
        unclean = state.ended and state.cleaned_ns is None
        return "leave" if unclean and self._swept.holds(running.address) else "done"

    def _wanted(self, state: Submission, running: Running) -> Event | None:
        role, worker, leases = self._step.role, self._context.worker, self._policy.max_leases
        step = decide_step(state, role, running.sequence, worker=worker, token=running.token, max_leases=leases)
        return None if isinstance(step, NothingToDo) else step.event

    async def _under_lease(self, running: Running, leased: LeasedStep, work: LeasedWork) -> Answer:
        """As `_work_under`. A bug beside the work is no poison: leases are counted, and another may have the next one."""
        running.leased = leased
        try:
            return await self._work_under(running, leased, work)
        except (BusError, CutorError):
            raise
        except Exception:
            log.exception("%s: a bug beside the work; it will be delivered again", leased.state.address)
            return "leave"

    async def _work_under(self, running: Running, leased: LeasedStep, work: LeasedWork) -> Answer:
        """Do the step under a lease, see to what its end leaves to do, and return what becomes of the delivery."""
        state = leased.state
        try:
            await running.do(work(leased))
            state = leased.state
        except LeaseLost as lost:
            log.warning("%s; its work is stopped", lost)
            self._context.measures.lease_lost(self._step.role)
            state = await self._journal.known(leased.state.address)
        except EndedMeanwhile:
            state = await self._journal.known(leased.state.address)
        except EventNewer:
            raise
        except Exception as error:
            state = await self._after_fault(leased, error)
        return decide_answer(await self._clean(state, leased), leased.lease)

    async def _hand_back(self, delivery: Delivery, running: Running) -> None:
        """Answer at a shutdown what was being attended to. Without an answer its note stays, for the next start."""
        try:
            async with asyncio.timeout(HAND_BACK_TIMEOUT_S):
                answered = await self._answer_at_shutdown(delivery, running)
        except (BusError, CutorError, TimeoutError) as error:
            why = str(error) or f"no answer within {HAND_BACK_TIMEOUT_S:g} s"
            log.warning("%s: handed back at the next start, or left to its ack_wait: %s", running.address, why)
        except Exception:
            log.exception("%s: a bug; handed back at the next start, or left to its ack_wait", running.address)
        else:
            if answered:
                self._in_hand.forget(delivery.stored.sequence)

    async def _answer_at_shutdown(self, delivery: Delivery, running: Running) -> bool:
        """Hand back what is not done, unless another worker has it; what is done, or has ended, is cleaned and acknowledged.

        An append of the lease may be on its way: should it come behind the hand-back, it is one that nobody works under.
        """
        state, leased, worker = await self._journal.known(running.address), running.leased, self._context.worker
        if leased is not None:
            answer = decide_answer(await self._clean(state, leased), leased.lease)
        else:
            role, token, seen = self._step.role, running.token, running.seen
            mine = decide_in_hand(state, role, running.sequence, worker=worker, token=token, seen=seen)
            answer = "retry" if mine else "leave"
        match answer:
            case "done":
                await delivery.ack(confirm=True)
            case "retry" | "later" | "crowded" | "pass on":
                await delivery.hand_back()
            case "leave":
                log.info("%s: left to the worker that holds its lease", running.address)
        return answer != "leave"

    async def _after_fault(self, leased: LeasedStep, error: Exception) -> Submission:
        """Park where this was the last lease, with the reason; else the step is tried again under another one."""
        expected = isinstance(error, StepFault | BusError | CutorError | InvalidRequest)
        reason = str(error) if expected else f"a bug: {type(error).__name__}: {error}"
        log.warning("%s: %s", leased.state.address, reason, exc_info=None if expected else error)

        def parked(state: Submission) -> Event | None:
            park = decide_fault(state, leased.lease, reason=reason, max_leases=self._policy.max_leases)
            return None if park is None else park.event

        return (await self._journal.settle(await self._journal.known(leased.state.address), parked)).state

    async def _clean(self, state: Submission, leased: LeasedStep | None = None) -> Submission:
        """Append ``cleaned`` where it is due: after a step this worker left nothing behind, without one it takes over.

        A cancelled step's goes with what that interrupted. Nothing is said while a container of a former life is still there.
        """
        if self._swept.holds(state.address):
            return state
        worker, lease, part = self._context.worker, None, None
        if leased is not None:
            lease, part = leased.lease, leased.interrupted
        if part is not None and state.status == "CANCELLED":
            part = await self._journal.contents.spill_interrupted(part)
        return (await self._journal.settle(state, lambda state: decide_cleaned(state, worker, lease, part))).state

"""Parked submissions: which there are, what is known of them, and what operators decide: to retry one, or to drop it.

Everything is read from the streams themselves, so that it sees its own writes and needs no projector. A retry is a new
submission of the same request with ``caused_by``; its id follows from the parked one's, so that two who retry at once, and one
who dies between submission and record, come to the same. The record in the stream PARKED is one: the first that can be read,
of those that are no older than the submission.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from cutor.bus.errors import FenceConflict, StreamMissing
from cutor.errors import REFUSED, CutorError
from cutor.journal.errors import SubmissionConflict, SubmissionUnknown
from cutor.journal.journal import Journal
from cutor.journal.stack_policy import read_policy
from cutor.model.codec import encode
from cutor.model.decisions import ParkedResolved, retry_ids
from cutor.model.errors import InvalidRequest
from cutor.model.messages import read_decision
from cutor.model.parked import (
    UNDECIDED,
    Decision,
    ParkedDetail,
    ParkedSubmission,
    Records,
    Retried,
    Story,
    Telling,
    decision_of,
    listed,
)
from cutor.model.request import ValidRequest, digest
from cutor.model.request_checks import check
from cutor.model.result import result
from cutor.model.state import Stamp, Submission
from cutor.model.subjects import (
    EVENTS,
    PARKED,
    Address,
    check_address,
    parked_subject,
    parse_event_subject,
    parse_parked_subject,
)

AT_ONCE: Final = 16
"""Submissions that are read at one time."""
IDS_AT_MOST: Final = 100
"""Ids that a retry looks at before it gives up: each is taken by a submission that has nothing to do with the parked one."""
CONFLICTS_AT_MOST: Final = 50
"""Appends in a row that others forestall before it is given up; before each the record is read anew."""
LIST_DEFAULT: Final = 100
"""Parked submissions that are listed, unless the caller says another number."""


class NotParked(CutorError):
    """The submission is not parked: there is nothing to retry or to drop."""

    exit_code = REFUSED


class AlreadyDecided(CutorError):
    """Somebody else has decided otherwise about the parked submission."""

    exit_code = REFUSED


class NoIdLeft(CutorError):
    """Every id that the retry could have is taken by other submissions."""

    exit_code = REFUSED


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """What a retry came to: the new submission. ``new`` is false where it was retried before; that one is named then."""

    id: str
    """of the parked submission"""
    tenant: str
    """whose it is"""
    submission: str
    """id of the new submission"""
    new: bool
    """false where it had been retried before"""


class Drop(msgspec.Struct, frozen=True, kw_only=True):
    """A parked submission that is dropped; ``new`` is false where it was dropped before, for the reason that is named."""

    id: str
    """of the parked submission"""
    tenant: str
    """whose it is"""
    reason: str | None
    """why, or null"""
    new: bool
    """false where it had been dropped before"""


class Listing(NamedTuple):
    """Parked submissions, newest first; ``more`` says that there are older ones beyond the limit."""

    found: list[ParkedSubmission]
    more: bool


class ParkedSubmissions:
    """The parked submissions of a stack, over one journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._bus = journal.bus

    async def list(self, tenant: str | None = None, *, everything: bool = False, limit: int = LIST_DEFAULT) -> Listing:
        """Return parked submissions, newest first: those that nobody has decided about, or ``everything``.

        Only what its own events say is parked counts: a ``parked`` event from elsewhere that changed nothing is none.
        """
        if tenant is not None:
            check_address(tenant, "any")
        records = await self._all_records(tenant)
        named = await self._named_as_parked(tenant)
        wanted = [one for one, at_ns in named.items() if everything or records.get(one, UNDECIDED).decided_ns < at_ns]
        found: dict[int, ParkedSubmission] = {}
        async for one in self._stories(wanted):
            about = await self._records(one.state) if one.state.address in records else UNDECIDED
            if about.decision is not None and not everything:
                continue
            if len(found) == limit:
                return Listing(_newest_first(found), more=True)
            found[one.sequence] = listed(one, about)
        return Listing(_newest_first(found), more=False)

    async def show(self, address: Address) -> ParkedDetail:
        """Return everything that is known of a parked submission. Raises `NotParked`, `SubmissionUnknown`."""
        found = await self._story(address)
        try:
            records = await self._records(found.state)
        except StreamMissing:  # a stack that an older cutor set up: nobody can have decided anything
            records = UNDECIDED
        parked = listed(found, records)
        document = await self._journal.contents.resolve(result(found.state))
        return ParkedDetail(parked=parked, attempts=found.attempts, result=document, retry=await self._retried(parked))

    async def retry(self, address: Address, *, dry_run: bool = False) -> Retry:
        """Submit the request of a parked submission anew, with ``caused_by``; one that was retried already stays so.

        Checked against the stack's policy of now; a dry run ends there. Raises `NotParked`, `SubmissionUnknown`,
        `AlreadyDecided` where it was dropped, `InvalidRequest` for a request that the policy refuses by now, `NoIdLeft`,
        `StackOlder`, and `StreamMissing` where the stack has no stream for the record yet.
        """
        await self._journal.versions.check_written("parked-resolved")
        parked = (await self._story(address)).state
        if (decision := (await self._records(parked)).decision) is not None:
            return _retried_before(address, decision)
        request = await self._checked_request(parked)
        retry = await self._submit_again(parked, request, dry_run=dry_run)
        if dry_run:
            return Retry(id=address.id, tenant=address.tenant, submission=retry.id, new=True)
        decision, new = await self._decide(parked, ParkedResolved(action="retried", submission=retry.id))
        if decision.action == "dropped":
            raise AlreadyDecided(
                f"{address.id} was dropped while it was retried: {retry.id} is handed in all the same, and "
                f"`cutor cancel {retry.id}{_of(retry)}` stops it"
            )
        return Retry(id=address.id, tenant=address.tenant, submission=decision.submission or retry.id, new=new)

    async def drop(self, address: Address, reason: str | None = None) -> Drop:
        """Record that a parked submission is not retried.

        Raises `NotParked`, `SubmissionUnknown`, `AlreadyDecided`, `StackOlder`.
        """
        await self._journal.versions.check_written("parked-resolved")
        parked = (await self._story(address)).state
        decision, new = await self._decide(parked, ParkedResolved(action="dropped", reason=reason))
        if decision.action == "retried":
            raise AlreadyDecided(
                f"{address.id} was retried as {decision.submission} at {decision.at}: there is nothing to drop"
            )
        return Drop(id=address.id, tenant=address.tenant, reason=decision.reason, new=new)

    async def decided(self, parked: Submission) -> bool:
        """Whether somebody has decided about a submission that parked."""
        try:
            return (await self._records(parked)).decision is not None
        except StreamMissing:
            return False

    # -- a retry ---------------------------------------------------------------------------------------------------

    async def _checked_request(self, parked: Submission) -> ValidRequest:
        """Return a stored request, after a look at all of it with the eyes of today's policy."""
        policy = await read_policy(self._journal.bus)
        try:
            request = await self._journal.contents.load_request(parked.address, parked.request, policy.bounds)
            check(request, policy)
        except InvalidRequest as error:
            raise InvalidRequest(f"{parked.address.id} cannot be retried: {error}") from error
        return request

    async def _submit_again(self, parked: Submission, request: ValidRequest, *, dry_run: bool) -> Address:
        """Return where the retry is, submitted now or before; a dry run: where it would be. Ids of others are passed over."""
        wanted_digest = digest(request)
        for submission_id in islice(retry_ids(parked.address.id), IDS_AT_MOST):
            address = Address(parked.address.tenant, submission_id)
            state = await self._journal.state(address)
            if state is None and dry_run:
                return address
            if state is None:
                state = await self._resubmit(address, parked, request)
            if state is not None and _is_retry_of(parked, state, wanted_digest):
                return address
        first = next(retry_ids(parked.address.id))
        raise NoIdLeft(
            f"{parked.address.id} cannot be retried: {first} and the next {IDS_AT_MOST - 1} ids are taken by other submissions"
        )

    async def _resubmit(self, address: Address, parked: Submission, request: ValidRequest) -> Submission | None:
        """Return what stands under an id after an attempt to submit there; None for another body, or no submission."""
        stored = await self._journal.contents.renewed(request, parked.request)
        try:
            return await self._journal.resubmit(address, stored, digest(request), parked.address.id)
        except SubmissionConflict:
            return None

    async def _retried(self, parked: ParkedSubmission) -> Retried | None:
        if parked.decision is None or parked.decision.submission is None:
            return None
        state = await self._journal.state(Address(parked.tenant, parked.decision.submission))
        return None if state is None else Retried(id=state.address.id, status=state.status, outcome=state.outcome)

    # -- records ---------------------------------------------------------------------------------------------------

    async def _decide(self, parked: Submission, event: ParkedResolved) -> tuple[Decision, bool]:
        """Return the decision that counts, and whether it is this one."""
        address = parked.address
        subject, token = parked_subject(address), secrets.token_hex(8)
        for _ in range(CONFLICTS_AT_MOST):
            records = await self._records(parked)
            if records.decision is not None:
                return records.decision, False
            try:
                appended = await self._bus.append(
                    subject,
                    encode(event),
                    message_id=f"{address}/parked-resolved/{token}",
                    fence=subject,
                    expected_sequence=records.last_sequence,
                )
            except FenceConflict:
                continue
            written = (await self._records(parked)).decision  # none where the server's clock was set back since it parked
            return written or decision_of(event, Stamp(appended.sequence, time.time_ns())), True
        raise AlreadyDecided(f"{address.id}: something writes to the record of this submission without end: `{subject}`")

    async def _records(self, parked: Submission) -> Records:
        """Return what stands under a submission's record. Raises `StreamMissing`."""
        subject, records = parked_subject(parked.address), Records(begun_ns=parked.submitted_ns)
        for stored in await self._bus.history(subject, subject, stream=PARKED, consistent=True):
            records = records.take(read_decision(subject, stored.body), Stamp(stored.sequence, stored.time_ns))
        return records

    async def _all_records(self, tenant: str | None) -> dict[Address, Records]:
        """Return what stands under every record, whichever submission of its id that is about; nothing where the stack has no
        stream for them yet.

        The filter for all tenants has no ``*``: with one, a subject that is made of wildcards costs a second (see `reader`).
        """
        records: dict[Address, Records] = {}
        wanted = "cutor.dead.parked.>" if tenant is None else f"cutor.dead.parked.{tenant}.>"
        try:
            async for stored in self._bus.read(PARKED, filter=wanted):
                if (address := parse_parked_subject(stored.subject)) is not None:
                    read = read_decision(stored.subject, stored.body)
                    records[address] = records.get(address, UNDECIDED).take(read, Stamp(stored.sequence, stored.time_ns))
        except StreamMissing:
            return {}
        return records

    # -- submissions -----------------------------------------------------------------------------------------------

    async def _named_as_parked(self, tenant: str | None) -> dict[Address, int]:
        """Return every submission that a ``parked`` event names, the one with the newest first, and the time of that."""
        newest: dict[Address, int] = {}
        async for stored in self._bus.read(EVENTS, filter=f"cutor.ev.{tenant or '*'}.*.parked"):
            if (subject := parse_event_subject(stored.subject)) is not None:
                newest.pop(subject.address, None)
                newest[subject.address] = stored.time_ns
        return dict(reversed(newest.items()))

    async def _stories(self, addresses: Sequence[Address]) -> AsyncIterator[Story]:
        """Yield the stories of those of these submissions that are parked, in the same order; some are read ahead."""
        for start in range(0, len(addresses), AT_ONCE):
            some = addresses[start : start + AT_ONCE]
            for telling in await asyncio.gather(*map(self._telling, some)):
                if (found := telling.story()) is not None:
                    yield found

    async def _telling(self, address: Address) -> Telling:
        telling = Telling(address)
        async with aclosing(self._journal.read(address)) as entries:
            async for entry in entries:
                telling.take(entry.message, entry.stamp)
        return telling

    async def _story(self, address: Address) -> Story:
        telling = await self._telling(address)
        if telling.state is None:
            raise SubmissionUnknown(f"no submission {address.id!r} of the tenant {address.tenant!r} is known")
        found = telling.story()
        if found is None:
            raise NotParked(f"{address.id} is not parked: `cutor status {address.id}{_of(address)}` shows where it stands")
        return found


def _is_retry_of(parked: Submission, state: Submission, wanted_digest: str) -> bool:
    """Whether a submission retries a parked one, and not another one that had its id before."""
    same = (state.caused_by, state.digest) == (parked.address.id, wanted_digest)
    return same and state.first_sequence > parked.first_sequence


def _newest_first(found: dict[int, ParkedSubmission]) -> list[ParkedSubmission]:
    return [found[sequence] for sequence in sorted(found, reverse=True)]


def _retried_before(address: Address, decision: Decision) -> Retry:
    if decision.submission is None or decision.action != "retried":
        why = f": {decision.reason}" if decision.reason else ""
        raise AlreadyDecided(f"{address.id} was dropped at {decision.at}{why}; submit it anew under an id of its own")
    return Retry(id=address.id, tenant=address.tenant, submission=decision.submission, new=False)


def _of(address: Address) -> str:
    """Return the option that names a tenant, where a command needs it."""
    return "" if address.tenant == "default" else f" --tenant {address.tenant}"

"""Re-judging: new submissions of requests that were judged before, each with ``caused_by`` and a label.

Which ones, a question to the views tells; all else is read from the streams, and from the archive what these have let go of.
The new id follows from the old one and the name of the re-judging, so that an interrupted one is gone on with by doing it
again, and two who do it at once come to the same. Retention changes nothing of that: the oldest goes first, so where the old
submission is in the stream, the new one is; and where it is read from the archive, so is the new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from cutor.errors import REFUSED, CutorError
from cutor.journal.errors import SubmissionConflict
from cutor.journal.journal import Journal
from cutor.journal.stack_policy import read_policy
from cutor.model import catalogue
from cutor.model.errors import InvalidRequest
from cutor.model.limits import Policy
from cutor.model.rejudgement import LABEL, Rejudged, labelled, rejudged_id
from cutor.model.request import digest
from cutor.model.request_checks import check
from cutor.model.state import Submission
from cutor.model.subjects import SUBMISSION_ID, TENANT, Address
from cutor.projections.queries.client import query
from cutor.projections.queries.questions import LONGEST_TIMEOUT_S

AT_ONCE: Final = 8
"""Submissions that are read and handed in at one time."""
READ_AHEAD: Final = 128
"""Submissions whose sealed events are in memory at one time: some files of the archive are opened for so many."""
WAITED_AT_ONCE: Final = 64
"""New submissions whose ends are waited for at one time."""
SELECTED_AT_MOST: Final = 100_000
"""Most submissions of one choice: a larger one is refused, and is to be narrowed."""

Tell = Callable[[Rejudged], None]


class TooManySelected(CutorError):
    """More submissions are selected than one re-judging may have."""

    exit_code = REFUSED


class _Round(NamedTuple):
    """What counts for some submissions: those in ``sealed`` are known by the archive; ``lacks`` says why others are not."""

    policy: Policy
    sealed: Mapping[Address, Submission]
    lacks: str
    submit: bool


class Rejudging:
    """One re-judging of a stack, by its name, over one journal."""

    def __init__(self, journal: Journal, name: str) -> None:
        self.name = name
        self._journal = journal

    async def select(self, where: str | None, labels: Mapping[str, str], tenant: str | None) -> list[Address]:
        """Return the submissions for which all of this holds, in the order of the log, as far as the views have come.

        ``where`` is a condition in SQL over the view ``submissions``. Those of this re-judging itself are left out, and those
        that commands of `cutor env` handed in, which judge nothing, unless ``labels`` has theirs. Raises `QueryError`,
        `QueryTimeout`, `QueryUnavailable`, `TooManySelected`.
        """
        conditions, values = ["labels[$of_label] IS DISTINCT FROM $of_name"], {"of_label": LABEL, "of_name": self.name}
        if catalogue.LABEL not in labels:
            names = ", ".join(f"$purpose{number}" for number in range(len(catalogue.PURPOSES)))
            conditions.append(f"coalesce(labels[$of_purpose] NOT IN ({names}), TRUE)")
            values |= {"of_purpose": catalogue.LABEL, **{f"purpose{n}": one for n, one in enumerate(catalogue.PURPOSES)}}
        if where is not None:
            conditions.append(f"(\n{where}\n)")  # whoever wrote it may read all that the answer could have
        if tenant is not None:
            conditions.append("tenant = $of_tenant")
            values["of_tenant"] = tenant
        for number, (key, value) in enumerate(labels.items()):
            conditions.append(f"labels[$key{number}] = $value{number}")
            values |= {f"key{number}": key, f"value{number}": value}
        sql = f"SELECT tenant, id FROM submissions WHERE {' AND '.join(conditions)} ORDER BY first_sequence"  # noqa: S608 - above
        table = await query(self._journal.bus, sql, LONGEST_TIMEOUT_S, rows=SELECTED_AT_MOST, parameters=values)
        if table.truncated:
            raise TooManySelected(f"more than {SELECTED_AT_MOST:,} submissions are selected: narrow the choice")
        return [Address(*row) for row in table.rows if TENANT.fullmatch(row[0]) and SUBMISSION_ID.fullmatch(row[1])]

    async def plan(self, addresses: Sequence[Address], tell: Tell) -> None:
        """Tell of each submission what would become of it; nothing is appended. Raises as `submit`."""
        await self._each(addresses, tell, submit=False)

    async def submit(self, addresses: Sequence[Address], tell: Tell) -> None:
        """Hand the submissions in again, some at a time, and tell of each, in order, what became of it.

        What is refused of one does not stop the others. Raises `PolicyMissing`, and `BusError` where the server fails: those
        that were under way then are handed in or not.
        """
        await self._each(addresses, tell, submit=True)

    async def _each(self, addresses: Sequence[Address], tell: Tell, *, submit: bool) -> None:
        policy = await read_policy(self._journal.bus)
        past = await self._journal.past([*addresses, *map(self._new, addresses)])
        lacks = "" if past is not None else await self._journal.sealed.lacks_of(self._journal.bus)
        for start in range(0, len(addresses), READ_AHEAD):
            ahead = addresses[start : start + READ_AHEAD]
            sealed = {} if past is None else await past.states([*ahead, *map(self._new, ahead)])
            round_ = _Round(policy, sealed, lacks, submit)
            for begin in range(0, len(ahead), AT_ONCE):
                work = [self._one(address, round_) for address in ahead[begin : begin + AT_ONCE]]
                results = await asyncio.gather(*work, return_exceptions=True)
                for one in results:
                    if isinstance(one, Rejudged):
                        tell(one)
                for one in results:
                    if isinstance(one, BaseException):
                        raise one

    def _new(self, address: Address) -> Address:
        return Address(address.tenant, rejudged_id(address.id, self.name))

    async def _one(self, address: Address, of: _Round) -> Rejudged:
        """Return what becomes of a submission."""
        state = await self._journal.state(address) or of.sealed.get(address)
        told = Rejudged(id=address.id, tenant=address.tenant, action="refused", outcome=state.outcome if state else None)
        if state is None:
            return msgspec.structs.replace(told, why=f"no such submission is known{of.lacks}")
        if (why := self._skipped(state)) is not None:
            return msgspec.structs.replace(told, action="skipped", why=why)
        try:
            new, there = await self._again(state, of)
        except (InvalidRequest, SubmissionConflict) as error:
            return msgspec.structs.replace(told, why=str(error))
        action = "before" if there is not None else "submitted" if of.submit else "planned"
        after = there.outcome if there is not None and there.ended else None
        return msgspec.structs.replace(told, action=action, submission=new.id, outcome_after=after)

    def _skipped(self, state: Submission) -> str | None:
        if not state.ended:
            return "it has not ended yet"
        if state.request.labels.get(LABEL) == self.name and state.caused_by is not None:
            return "it belongs to this re-judging itself"
        return None

    async def _again(self, state: Submission, of: _Round) -> tuple[Address, Submission | None]:
        """Return where the new submission is or would be, and the one that was there before.

        Raises `InvalidRequest` for a request that today's policy refuses, or whose contents are gone, and `SubmissionConflict`
        where the id is taken by a submission that has nothing to do with it.
        """
        address = self._new(state.address)
        if (there := await self._journal.state(address) or of.sealed.get(address)) is not None:
            mine = (there.caused_by, there.request.labels.get(LABEL)) == (state.address.id, self.name)
            if not mine or there.first_sequence < state.first_sequence:  # of another one that had the id before
                raise SubmissionConflict(f"its new id {address.id!r} is taken by another submission: take another name")
            return address, there
        if state.fault is not None:
            raise InvalidRequest(f"its request cannot be read: {state.fault}")
        stored = msgspec.structs.replace(state.request, labels=labelled(state.request.labels, self.name))
        request = await self._journal.contents.load_request(address, stored, of.policy.bounds)
        check(request, of.policy)
        if of.submit:
            stored = await self._journal.contents.renewed(request, stored)
            await self._journal.resubmit(address, stored, digest(request), state.address.id)
        return address, None

    async def wait(self, done: Sequence[Rejudged], tell: Tell) -> None:
        """Tell of each new submission, once it has ended, with its outcome. Raises `BusUnreachable`, `StreamRewound`."""
        waiting = [one for one in done if one.submission is not None]
        turns = asyncio.Semaphore(WAITED_AT_ONCE)

        async def wait_for(one: Rejudged) -> None:
            if one.outcome_after is not None:
                tell(one)
                return
            async with turns:
                tell(msgspec.structs.replace(one, outcome_after=await self._outcome(Address(one.tenant, str(one.submission)))))

        tasks = [asyncio.ensure_future(wait_for(one)) for one in waiting]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _outcome(self, address: Address) -> str:
        return str((await self._journal.end_of(address)).outcome)

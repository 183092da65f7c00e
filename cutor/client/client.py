"""The Python client: submit requests, follow them, read their results, ask the views.

```
async with cutor.Client() as client:
    receipt = await client.submit(Path("examples/python-three-tests"))
    result = await client.result(receipt.id, wait=True)
```
Types are those of the wire (`Request`, `Result`); errors those of the command line: each a `CutorError` of one plain line.
"""

from __future__ import annotations

import asyncio
import math
import os
import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from cutor.bus.connection import Bus
from cutor.bus.errors import AddressInvalid, AppendUnconfirmed
from cutor.client.progress import progress, summarize
from cutor.client.submission_directory import read_directory, shown_path
from cutor.client.waiting import waiting_for
from cutor.config import Config, Surroundings, load
from cutor.errors import WaitedTooLong
from cutor.journal.build_progress import with_progress
from cutor.journal.journal import Journal
from cutor.journal.parked import LIST_DEFAULT, Drop, ParkedSubmissions, Retry
from cutor.journal.stack_policy import read_policy
from cutor.model.build_progress import BuildProgress
from cutor.model.content import decode_request_text
from cutor.model.decide import decide_cancel
from cutor.model.errors import InvalidRequest
from cutor.model.limits import Policy
from cutor.model.parked import ParkedSubmission
from cutor.model.request import Request, parse_request, request_from
from cutor.model.request_checks import validate
from cutor.model.result import Result, result, rfc3339
from cutor.model.state import Status, Submission
from cutor.model.subjects import Address, check_address, parse_event_subject
from cutor.projections.archive.sealed import Sealed
from cutor.projections.queries.client import Table, query
from cutor.projections.queries.questions import DEFAULT_ROWS, DEFAULT_TIMEOUT_S, Parameters
from cutor.stack.current import CurrentStack
from cutor.stack.finding import find_server, named_server

REQUEST_JSON_BYTES: Final = 256 << 20
"""A request's JSON is read up to this size; the stack's policy bounds what is in it, decoded, to much less."""


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a `Client.submit`: where the submission is, and its status (a known id and body: that of now)."""

    id: str
    """also one that was made up"""
    tenant: str
    """whose it is"""
    status: Status
    """where it stands"""


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a submission, and where the submission stands after it."""

    id: str
    """of the submission"""
    tenant: str
    """whose it is"""
    sequence: int
    """of the event in the stream EVENTS"""
    time: str
    """the stream's own, RFC 3339 in UTC"""
    kind: str
    """of the event: [events](events.md)"""
    what: str
    """what the event says, in a few words"""
    status: Status
    """after the event: [states](states.md)"""
    summary: str
    """where the submission stands after the event, in a few words"""
    ended: bool
    """whether this is the last update"""


REASON_BYTES: Final = 1024
"""The reason of a cancel is a sentence for people: up to this size in UTF-8."""

LEARNED: Final = tuple(msgspec.json.Decoder(kind) for kind in (Request, Policy, Config, CurrentStack))
"""Made for what making them does: msgspec then knows all of these types. It learns a type at its first use, and two threads
that use it first at one time crash the interpreter. `Client.submit` reads requests in threads; a program may have more."""

Submittable = Request | Mapping[str, Any] | str | os.PathLike[str]


class Client:
    """A connection to one stack: ``async with Client() as client``.

    ``server`` is a NATS address with its credential; without it the stack is found as the command line finds it. ``archive`` is
    a directory on this host: what was sealed there and has expired since is read from it. One client serves any number of
    concurrent calls. Raises `NoStack`, `BusUnreachable`, `AddressInvalid`, `InvalidConfig` when entered.
    """

    def __init__(self, server: str | None = None, *, archive: str | os.PathLike[str] | None = None) -> None:
        self._wanted = server
        self._archive = archive
        self._stack = AsyncExitStack()
        self._journal: Journal | None = None

    async def __aenter__(self) -> Self:
        if self._wanted is not None and not isinstance(self._wanted, str):
            raise AddressInvalid(f"server: Expected `str | null`, got `{type(self._wanted).__name__}`")
        surroundings = Surroundings.read()
        if self._wanted:
            server = named_server(self._wanted, surroundings)
        else:
            server = find_server(None, surroundings, load(None, surroundings).config)
        bus = await self._stack.enter_async_context(Bus.connect(server, name="cutor client"))
        self._journal = Journal(bus, sealed=Sealed(None if self._archive is None else Path(self._archive)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal = None
        await self._stack.aclose()

    @property
    def journal(self) -> Journal:
        """The events behind this client."""
        if self._journal is None:
            raise RuntimeError("a Client is used inside of `async with`")
        return self._journal

    async def policy(self) -> Policy:
        """Return the limits, bounds and tenants that the stack publishes. Raises `PolicyMissing`."""
        return await read_policy(self.journal.bus)

    async def submit(
        self,
        request: Submittable,
        *,
        id: str | None = None,  # noqa: A002 - the word of request and result
        tenant: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Receipt:
        """Hand in a request: the struct, a mapping of its shape, or the path of a directory or JSON file.

        ``id`` and ``tenant`` take the place of the request's, ``labels`` are added to its own. Checked against the stack's
        policy first: nothing is appended that it refuses. The same id and body twice is one submission. Raises
        `InvalidRequest`, `SubmissionConflict`; `BusUnreachable` where nothing was stored; `SubmissionUnconfirmed` where nobody
        knows: its ``details`` have the id, also one that was made up, and the same request under that id finds out.
        """
        policy = await self.policy()
        loaded = await asyncio.to_thread(load_request, request, policy)
        given = {
            "id": loaded.id if id is None else id,
            "tenant": loaded.tenant if tenant is None else tenant,
            "labels": {} if labels is None else labels,
        }
        checked = request_from({"files": (), "test_cases": ()} | given)
        loaded = msgspec.structs.replace(loaded, id=checked.id, tenant=checked.tenant, labels=loaded.labels | checked.labels)
        valid = validate(loaded, policy, made_up_id=secrets.token_hex(8))
        state = await self.journal.submit(valid)
        return Receipt(id=state.address.id, tenant=state.address.tenant, status=state.status)

    async def result(
        self,
        id: str,  # noqa: A002 - the word of request and result
        tenant: str = "default",
        *,
        wait: bool = False,
        timeout_s: float | None = None,
    ) -> Result:
        """Return what is known of a submission, folded from the stream; with ``wait`` once it has ended.

        Raises `InvalidRequest`, `SubmissionUnknown`; `WaitedTooLong` after ``timeout_s`` seconds of waiting: the submission
        goes on.
        """
        address = address_of(tenant, id)
        check_timeout(timeout_s)
        state = await (self._ended(address, timeout_s) if wait else self.journal.known(address))
        return await self._document(state)

    async def watch(self, id: str, tenant: str = "default") -> AsyncGenerator[Update, None]:  # noqa: A002
        """Yield every event of a submission from the first on, until its terminal event.

        Raises `InvalidRequest`, `SubmissionUnknown`.
        """
        address = address_of(tenant, id)
        watching = self.journal.watch(address)
        async with aclosing(watching):
            async for entry, state in watching:
                subject = parse_event_subject(entry.stored.subject)
                message = entry.message
                yield Update(
                    id=address.id,
                    tenant=address.tenant,
                    sequence=entry.stored.sequence,
                    time=rfc3339(entry.stored.time_ns),
                    kind=subject.kind if subject else "unknown",
                    what=summarize(message),
                    status=state.status,
                    summary=progress(state),
                    ended=state.ended,
                )

    async def follow(self, id: str, tenant: str = "default") -> AsyncGenerator[Update | BuildProgress, None]:  # noqa: A002
        """Yield what `watch` does, and between the events what Nix prints while the environment is built, from now on.

        Pieces of that are for the eyes of who waits: no stream holds them, some may be left out, and a user whom the server
        does not let hear them gets none.
        """
        address = address_of(tenant, id)
        async with aclosing(with_progress(self.journal.bus, address, self.watch(id, tenant))) as following:
            async for news in following:
                yield news

    async def cancel(self, id: str, tenant: str = "default", *, reason: str | None = None) -> bool:  # noqa: A002
        """Cancel a submission; False where it had ended already, and nothing was appended.

        Raises `SubmissionUnknown`, `StackOlder`, and `InvalidRequest` also for a reason that no event could hold;
        `AppendUnconfirmed` where the server went away before it said so: then it may be cancelled, and asking again is safe.
        """
        address = address_of(tenant, id)
        check_reason(reason)
        await self.journal.versions.check_written("cancelled")
        state = await self.journal.known(address)
        try:
            appended = await self.journal.settle(state, lambda state: decide_cancel(state, reason))
        except AppendUnconfirmed as error:
            raise AppendUnconfirmed(
                f"{address.id} may or may not be cancelled: NATS at {self.journal.bus.address} {self.journal.silence()};"
                " cancel it again: one that has ended stays as it is",
                details={"id": address.id, "tenant": address.tenant},
            ) from error
        return appended.done

    async def parked(
        self, tenant: str | None = None, *, everything: bool = False, limit: int = LIST_DEFAULT
    ) -> list[ParkedSubmission]:
        """Return parked submissions, newest first and no more than ``limit``: those that nobody has retried or dropped yet,
        or ``everything``, with what became of it. Without ``tenant`` those of all tenants.

        Raises `InvalidRequest` for a tenant that can be none, and for a limit that is no positive integer.
        """
        if tenant is not None:
            address_of(tenant, "any")
        if isinstance(limit, bool) or not isinstance(limit, int):
            raise _unexpected("limit", "int", limit)
        if limit < 1:
            raise InvalidRequest(f"limit is {limit}: it must be 1 or more")
        return (await self._parked.list(tenant, everything=everything, limit=limit)).found

    async def retry(self, id: str, tenant: str = "default") -> Retry:  # noqa: A002
        """Submit the request of a parked submission anew, with ``caused_by``; once: who retries it again is told as what.

        Raises `InvalidRequest`, also where the stack's policy refuses the request by now, `SubmissionUnknown`, `NotParked`,
        `AlreadyDecided` where it was dropped.
        """
        return await self._parked.retry(address_of(tenant, id))

    async def drop(self, id: str, tenant: str = "default", *, reason: str | None = None) -> Drop:  # noqa: A002
        """Record that a parked submission is not retried; it is not listed any more.

        Raises `InvalidRequest`, `SubmissionUnknown`, `NotParked`, `AlreadyDecided` where it was retried.
        """
        check_reason(reason)
        return await self._parked.drop(address_of(tenant, id), reason)

    async def query(
        self,
        sql: str,
        parameters: Parameters | None = None,
        *,
        rows: int = DEFAULT_ROWS,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> Table:
        """Ask the views in DuckDB's SQL; ``$name`` there stands for the parameter of that name: what others wrote goes there.

        The answer has ``columns`` (name, type), ``rows`` (a list of values each; ``truncated`` where there are more than asked
        for), of what the projector has committed, a moment behind the stream. Raises `QueryError`, `QueryTimeout` after
        ``timeout_s`` seconds, `QueryUnavailable` where no projector answers.
        """
        return await query(self.journal.bus, sql, timeout_s, rows=rows, parameters=parameters)

    @property
    def _parked(self) -> ParkedSubmissions:
        return ParkedSubmissions(self.journal)

    async def _ended(self, address: Address, timeout_s: float | None) -> Submission:
        """Return the state after the terminal event. What has ended, or is unknown, is found in no time at all."""
        seen: list[Submission] = []
        try:
            async with waiting_for(address, timeout_s):
                return await self.journal.end_of(address, seen.append)
        except WaitedTooLong:
            if not seen and (state := await self.journal.known(address)).ended:
                return state
            raise

    async def _document(self, state: Submission) -> Result:
        return await self.journal.contents.resolve(result(state))


def address_of(tenant: object, submission_id: object) -> Address:
    """Return a submission's address. Raises `InvalidRequest` for a tenant or id that can be none, whatever it is."""
    return check_address(_text("tenant", tenant), _text("id", submission_id))


def _text(argument: str, value: object, wanted: str = "str") -> str:
    if not isinstance(value, str):
        raise _unexpected(argument, wanted, value)
    return value


def _unexpected(argument: str, wanted: str, value: object) -> InvalidRequest:
    """Return the error of an argument of a wrong kind, in the words that a request's field of a wrong kind has."""
    return InvalidRequest(f"{argument}: Expected `{wanted}`, got `{type(value).__name__}`")


def check_timeout(timeout_s: object) -> None:
    """Raise `InvalidRequest` for a time to wait that is none: it is a finite number from 0 on, or null."""
    if timeout_s is None:
        return
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float):
        raise _unexpected("timeout_s", "float | null", timeout_s)
    try:
        seconds = float(timeout_s)
    except OverflowError:
        seconds = math.copysign(math.inf, timeout_s > 0 or -1)
    if seconds < 0 or not math.isfinite(seconds):
        raise InvalidRequest(f"timeout_s is {seconds:g}: it must be a finite number of seconds, zero or more")


def check_reason(reason: object) -> None:
    """Raise `InvalidRequest` for what is no text, or more than `REASON_BYTES` of it."""
    if reason is None:
        return
    reason = _text("reason", reason, "str | null")
    if (size := len(decode_request_text("reason", "utf8", reason))) > REASON_BYTES:
        raise InvalidRequest(f"reason: {size} bytes are more than the maximum of {REASON_BYTES} bytes")


def load_request(request: object, policy: Policy) -> Request:
    """Return the request in a struct, a mapping, a directory or a JSON file. Raises `InvalidRequest`, also for all else."""
    if isinstance(request, Request | Mapping):
        return request_from(request)
    path = path_of(request)
    return read_directory(path, policy.bounds) if is_directory(path) else read_json(path)


def path_of(request: object) -> Path:
    """Return the path of a directory or file. Raises `InvalidRequest` for what is none, and for an empty one."""
    path = os.fspath(request) if isinstance(request, str | os.PathLike) else None
    if not isinstance(path, str):
        raise InvalidRequest(f"request: Expected a request, a mapping or a path, got `{type(request).__name__}`")
    if not path:
        raise InvalidRequest("request: the path is empty; the current directory is `.`")
    return Path(path)


def is_directory(path: Path) -> bool:
    """Return whether a directory is there; it is none where the system refuses the path: whoever reads it is told why."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def read_json(path: Path) -> Request:
    """Return the request in a JSON file. Raises `InvalidRequest`."""
    try:
        with path.open("rb") as opened:
            raw = opened.read(REQUEST_JSON_BYTES + 1)
    except OSError as error:
        raise InvalidRequest(f"{shown_path(path)}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # NUL, or a character that no file name can have
        raise InvalidRequest(f"{shown_path(path)}: cannot be read: no path has such a character") from error
    if not raw:
        raise InvalidRequest(f"{shown_path(path)}: is empty; a JSON request is read from it")
    try:
        return parse_bounded(raw)
    except InvalidRequest as error:
        raise InvalidRequest(f"{shown_path(path)}: {str(error).removeprefix('request: ')}") from error


def parse_bounded(raw: bytes) -> Request:
    """Return the request in a JSON document that was read up to one byte over the bound. Raises `InvalidRequest`."""
    if len(raw) > REQUEST_JSON_BYTES:
        raise InvalidRequest(f"request: more than {REQUEST_JSON_BYTES} bytes of JSON")
    return parse_request(raw)

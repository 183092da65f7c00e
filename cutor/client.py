"""The Python client: submit requests, follow them, read their results.

```
async with cutor.Client() as client:
    receipt = await client.submit(Path("examples/python-three-tests"))
    result = await client.result(receipt.id, wait=True)
```
Types are those of the wire (`Request`, `Result`); errors those of the command line.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from cutor.bus.connection import Bus
from cutor.config import Config, Surroundings, load
from cutor.errors import WaitedTooLong
from cutor.journal import Journal
from cutor.model.content import decode_request_text
from cutor.model.decide import decide_cancel
from cutor.model.errors import InvalidRequest
from cutor.model.limits import Policy
from cutor.model.request import Request, parse_request, request_from, validate
from cutor.model.result import Result, result, rfc3339
from cutor.model.state import Status, Submission
from cutor.model.subjects import Address, check_address, parse_event_subject
from cutor.progress import progress, summarize
from cutor.stack.current import CurrentStack
from cutor.stack.finding import find_server
from cutor.submission_directory import read_directory

REQUEST_JSON_BYTES: Final = 256 << 20
"""A request's JSON is read up to this size; the stack's policy bounds what is in it, decoded, to much less."""


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a `Client.submit`: where the submission is, and its status (a known id and body: that of now)."""

    id: str
    tenant: str
    status: Status


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a submission, and where the submission stands after it."""

    id: str
    tenant: str
    sequence: int
    time: str
    kind: str
    what: str
    status: Status
    summary: str
    ended: bool


REASON_BYTES: Final = 1024
"""The reason of a cancel is a sentence for people: up to this size in UTF-8."""

LEARNED: Final = tuple(msgspec.json.Decoder(kind) for kind in (Request, Policy, Config, CurrentStack))
"""Made for what making them does: msgspec then knows all of these types. It learns a type at its first use, and two threads
that use it first at one time crash the interpreter. `Client.submit` reads requests in threads; a program may have more."""

Submittable = Request | Mapping[str, Any] | str | os.PathLike[str]


class Client:
    """A connection to one stack: ``async with Client() as client``.

    ``server`` is a NATS address with its credential; without it the stack is found as the command line finds it. One client
    serves any number of concurrent calls. Raises `NoStack`, `BusUnreachable` when entered, and `InvalidConfig`.
    """

    def __init__(self, server: str | None = None) -> None:
        self._wanted = server
        self._stack = AsyncExitStack()
        self._journal: Journal | None = None

    async def __aenter__(self) -> Self:
        surroundings = Surroundings.read()
        server = self._wanted or find_server(None, surroundings, load(None, surroundings).config)
        bus = await self._stack.enter_async_context(Bus.connect(server, name="cutor client"))
        self._journal = Journal(bus)
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
        """Return the limits, bounds and tenants that the stack publishes."""
        return await self.journal.policy()

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
        `InvalidRequest`, `SubmissionConflict`.
        """
        policy = await self.policy()
        loaded = await asyncio.to_thread(load_request, request, policy)
        given = {
            "id": loaded.id if id is None else id,
            "tenant": loaded.tenant if tenant is None else tenant,
            "labels": labels or {},
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

        Raises `SubmissionUnknown`; `WaitedTooLong` after ``timeout_s`` seconds of waiting: the submission goes on.
        """
        address = check_address(tenant, id)
        if not wait:
            return await self._document(await self.journal.known(address))
        try:
            async with asyncio.timeout(timeout_s):
                return await self._document(await self._ended(address))
        except TimeoutError as error:
            raise still_running(id, tenant, timeout_s) from error

    async def watch(self, id: str, tenant: str = "default") -> AsyncGenerator[Update, None]:  # noqa: A002
        """Yield every event of a submission from the first on, until its terminal event. Raises `SubmissionUnknown`."""
        address = check_address(tenant, id)
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

    async def cancel(self, id: str, tenant: str = "default", *, reason: str | None = None) -> bool:  # noqa: A002
        """Cancel a submission; False where it had ended already, and nothing was appended.

        Raises `SubmissionUnknown`, and `InvalidRequest` for a reason that no event could hold.
        """
        check_reason(reason)
        state = await self.journal.known(check_address(tenant, id))
        appended = await self.journal.settle(state, lambda state: decide_cancel(state, reason))
        return appended.done

    async def _ended(self, address: Address) -> Submission:
        """Return the state after the terminal event."""
        watching = self.journal.watch(address)
        async with aclosing(watching):
            async for _, state in watching:
                if state.ended:
                    return state
        raise AssertionError("watching ends with a terminal event")

    async def _document(self, state: Submission) -> Result:
        return await self.journal.contents.resolve(result(state))


def check_reason(reason: object) -> None:
    """Raise `InvalidRequest` for what is no text, or more than `REASON_BYTES` of it."""
    if reason is None:
        return
    if not isinstance(reason, str):
        raise InvalidRequest(f"reason: Expected `str | null`, got `{type(reason).__name__}`")
    if (size := len(decode_request_text("reason", "utf8", reason))) > REASON_BYTES:
        raise InvalidRequest(f"reason: {size} bytes are more than the maximum of {REASON_BYTES} bytes")


def watch_command(submission_id: str, tenant: str) -> str:
    """Return the command that follows a submission."""
    return f"cutor watch {submission_id}" + ("" if tenant == "default" else f" --tenant {tenant}")


def still_running(submission_id: str, tenant: str, timeout_s: float | None) -> WaitedTooLong:
    """Return the error of a wait whose time ran out."""
    follow = watch_command(submission_id, tenant)
    return WaitedTooLong(f"{submission_id} has not ended within {timeout_s:g} s; it goes on: `{follow}`")


def load_request(request: Submittable, policy: Policy) -> Request:
    """Return the request in a struct, a mapping, a directory or a JSON file. Raises `InvalidRequest`."""
    if isinstance(request, Request | Mapping):
        return request_from(request)
    path = Path(request)
    return read_directory(path, policy.bounds) if path.is_dir() else read_json(path)


def read_json(path: Path) -> Request:
    """Return the request in a JSON file. Raises `InvalidRequest`."""
    try:
        with path.open("rb") as opened:
            raw = opened.read(REQUEST_JSON_BYTES + 1)
    except OSError as error:
        raise InvalidRequest(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return parse_bounded(raw)
    except InvalidRequest as error:
        raise InvalidRequest(f"{path}: {str(error).removeprefix('request: ')}") from error


def parse_bounded(raw: bytes) -> Request:
    """Return the request in a JSON document that was read up to one byte over the bound. Raises `InvalidRequest`."""
    if len(raw) > REQUEST_JSON_BYTES:
        raise InvalidRequest(f"request: more than {REQUEST_JSON_BYTES} bytes of JSON")
    return parse_request(raw)

"""Submissions to a live stack, as tests hand them in, and what can be seen of them from outside."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

import msgspec

from cutor import Client
from cutor.model.events import Output
from cutor.model.result import Result
from cutor.model.subjects import Address, parse_event_subject
from tests.live_stack import EXAMPLES, Stack

PYTHON: Final = (EXAMPLES / "python-three-tests" / "shell.nix").read_text()
TERMINAL: Final = ("finished", "cancelled", "rejected", "parked")
PATIENCE_S: Final = 180.0
"""How long is waited for what takes a second: the machine may be busy with much else."""

T = TypeVar("T")


def document(run: str, *, shell: str = PYTHON, **more: Any) -> dict[str, Any]:
    """Return a request with this run script; ``files`` maps further names to contents, the rest replaces or adds fields."""
    files = [{"name": "shell.nix", "content": shell}, {"name": "cutor-run.sh", "content": run}]
    files += [{"name": name, "content": content} for name, content in more.pop("files", {}).items()]
    return {"files": files, "test_cases": [{}], **more}


def request(run: str, **more: Any) -> bytes:
    """Return the JSON of `document`."""
    return json.dumps(document(run, **more)).encode()


def with_client(stack: Stack, act: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
    """Return what ``act`` returns for a client of the stack."""

    async def connected() -> T:
        async with Client(stack.server) as client:
            return await act(client)

    return asyncio.run(connected())


def submit(stack: Stack, run: str, **more: Any) -> dict[str, Any]:
    """Hand in by the client, wait, and return the result document."""

    async def ended(client: Client) -> dict[str, Any]:
        receipt = await client.submit(document(run, **more))
        result: dict[str, Any] = msgspec.to_builtins(await client.result(receipt.id, wait=True, timeout_s=2 * PATIENCE_S))
        return result

    return with_client(stack, ended)


def first(stack: Stack, run: str, **more: Any) -> dict[str, Any]:
    """Return what came of the first test case."""
    stage: dict[str, Any] = submit(stack, run, **more)["run"][0]
    return stage


def submit_all(
    stack: Stack, requests: Sequence[Mapping[str, Any]], *, name: str | None = None, timeout_s: float
) -> list[dict[str, Any]]:
    """Hand in several at one time by the client; return their result documents once nothing is left of any of them."""

    async def one(client: Client, request: Mapping[str, Any]) -> dict[str, Any]:
        return await _ended(client, (await client.submit(request, id=name)).id, timeout_s)

    async def all_of_them(client: Client) -> list[dict[str, Any]]:
        return await asyncio.gather(*(one(client, request) for request in requests))

    return with_client(stack, all_of_them)


def ended(stack: Stack, identity: str, *, timeout_s: float) -> dict[str, Any]:
    """Return the result document of a submission once nothing is left of it."""
    return with_client(stack, lambda client: _ended(client, identity, timeout_s))


async def _ended(client: Client, identity: str, timeout_s: float) -> dict[str, Any]:
    await client.result(identity, wait=True, timeout_s=timeout_s)
    result: dict[str, Any] = msgspec.to_builtins(await cleaned(client, identity))
    return result


def hand_in(stack: Stack, request: Mapping[str, Any], *, name: str | None = None) -> str:
    """Hand in by the client; return the id."""

    async def handed_in(client: Client) -> str:
        return (await client.submit(request, id=name)).id

    return with_client(stack, handed_in)


def kinds(stack: Stack, identity: str) -> list[str]:
    """Return the kinds of a submission's events so far."""

    async def of_all(client: Client) -> list[str]:
        entries = await client.journal.entries(Address("default", identity))
        return [subject.kind for entry in entries if (subject := parse_event_subject(entry.stored.subject))]

    return with_client(stack, of_all)


async def until(look: Callable[[], Awaitable[T | None]]) -> T:
    """Return what ``look`` finds, once it finds something."""
    end = time.monotonic() + PATIENCE_S
    while (found := await look()) is None:
        assert time.monotonic() < end, f"not within {PATIENCE_S} s"
        await asyncio.sleep(0.05)
    return found


async def cleaned(client: Client, identity: str) -> Result:
    """Return the result of a submission that has ended, once it says that nothing is left."""

    async def look() -> Result | None:
        found = await client.result(identity)
        return found if found.cleaned_at else None

    return await until(look)


def events(stack: Stack, identity: str) -> list[dict[str, Any]]:
    """Return every event of a submission, as `cutor events` lists them."""
    listed: list[dict[str, Any]] = json.loads(stack.cutor("events", identity, "--json").stdout)
    return listed


def projected(stack: Stack, sql: str, *, rows: int) -> list[list[Any]]:
    """Return the rows of a question to the views, once they are so many: the projector may still be behind."""
    end = time.monotonic() + PATIENCE_S
    while True:
        asked = stack.cutor("query", sql, "--json", "--timeout", "100")
        found: list[list[Any]] = json.loads(asked.stdout)["rows"]
        if len(found) == rows:
            return found
        assert time.monotonic() < end, f"{len(found)} rows, not {rows}: {found}"


def seconds_between(earlier: str, later: str) -> float:
    """Return the seconds between two times of the stream."""
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def printed(output: dict[str, Any] | Output) -> bytes:
    """Return the bytes of an output in a result."""
    encoding, data = (output.encoding, output.data) if isinstance(output, Output) else (output["encoding"], output["data"])
    return base64.b64decode(data) if encoding == "base64" else data.encode()

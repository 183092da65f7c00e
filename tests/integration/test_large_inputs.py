"""Tens of megabytes of files and inputs: through BODIES, stored once, exact, refused over the bound that the deployer sets."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from cutor import Client, InvalidRequest, Result
from cutor.bus.bodies import chunks_of
from cutor.model.content import INLINE_BYTES
from cutor.model.limits import MIB, Bounds
from cutor.model.subjects import Address
from tests.bare_stack import SOURCES, User, one_line
from tests.integration.live_submissions import cleaned, document, with_client
from tests.integration.test_stack import pid_of
from tests.live_stack import Stack

FILE_BYTES: Final = 2 * MIB
SUM: Final = "cat data/* | sha256sum; exec sha256sum"
COPIES: Final = 5
"""How often a role may hold a request's bytes at one time: two or three are what it takes (measured)."""


def text(size: int) -> str:
    """Return a text of so many bytes that nobody has stored yet."""
    return random.Random(secrets.token_hex(8)).randbytes(size // 2).hex()


def sums(*texts: str) -> str:
    """Return what ``sha256sum`` prints for the texts, one by one."""
    return "".join(f"{hashlib.sha256(one.encode()).hexdigest()}  -\n" for one in texts)


SUBMITTED: Final = "cutor.ev.*.*.submitted"


async def stored(client: Client) -> dict[str, int]:
    """Return how many submissions the log holds, and how many chunks of bodies: what ends meanwhile is none of a test's."""
    api = client.journal.bus.api
    asked = await api.call("submissions", "STREAM.INFO.EVENTS", {"subjects_filter": SUBMITTED})
    chunks = (await api.stream_info("BODIES"))["state"]["messages"]
    return {"submissions": len(asked["state"].get("subjects") or {}), "BODIES": chunks}


async def handed_in(client: Client, request: dict[str, Any]) -> tuple[Result, int]:
    """Hand in and wait; return the result, and how many chunks were stored for it."""
    before = (await stored(client))["BODIES"]
    receipt = await client.submit(request)
    chunks = (await stored(client))["BODIES"] - before
    return await client.result(receipt.id, wait=True, timeout_s=240), chunks


async def event_sizes(client: Client, identity: str) -> list[int]:
    """Return the size of each event of a submission."""
    return [len(entry.stored.body) for entry in await client.journal.entries(Address("default", identity))]


def test_twenty_megabytes_of_files_and_inputs_are_stored_once(stack: Stack) -> None:
    files = {f"data/{n}": text(FILE_BYTES) for n in range(5)}
    inputs = [text(FILE_BYTES) for _ in range(5)]
    request = document(SUM, files=files, test_cases=[{"input": one} for one in inputs])

    async def twice(client: Client) -> None:
        result, chunks = await handed_in(client, request)
        assert [stage.stdout.data for stage in result.run] == [sums("".join(files.values()), one) for one in inputs]
        assert chunks == 10 * chunks_of(FILE_BYTES)
        assert max(await event_sizes(client, result.id)) < INLINE_BYTES
        before = await stored(client)
        again = await client.submit(request)
        assert again.id != result.id
        assert await stored(client) == before | {"submissions": before["submissions"] + 1}
        await client.cancel(again.id)

    with_client(stack, twice)


def test_one_input_of_twenty_megabytes_arrives_to_the_byte(stack: Stack) -> None:
    given = text(20 * MIB)
    raw = json.dumps(document("exec sha256sum", test_cases=[{"input": given, "expected_output": sums(given)}])).encode()
    result = stack.result("-", stdin=raw)
    assert result["run"][0]["stdout"]["data"] == sums(given)
    assert result["outcome"] == "OK"
    assert max(with_client(stack, lambda client: event_sizes(client, result["id"]))) < INLINE_BYTES


OVER: Final = "bytes of contents, names, arguments and labels are more than the maximum of {} bytes"


def test_a_request_over_the_size_is_refused_and_nothing_is_stored(stack: Stack, tmp_path: Path) -> None:
    most = Bounds().request_bytes
    request = document("true", test_cases=[{"input": "x" * most}])
    for name, content in (SOURCES | {"data": "x" * most}).items():
        (tmp_path / name).write_text(content)

    async def refused(client: Client) -> None:
        before = await stored(client)
        with pytest.raises(InvalidRequest, match=OVER.format(most)):
            await client.submit(request)
        assert await stored(client) == before

    before = with_client(stack, stored)
    with_client(stack, refused)
    by_json = stack.cutor("submit", "-", stdin=json.dumps(request).encode())
    by_directory = stack.cutor("submit", str(tmp_path))
    read = len(SOURCES["cutor-run.sh"]) + most  # in the order of their names; the last file is not opened any more
    together = f"files: together at least {read} bytes, more than the maximum of {most} bytes"
    for done, said in ((by_json, OVER.format(most)), (by_directory, together)):
        assert done.returncode == 2
        assert done.stderr.startswith(b"cutor: ")
        assert done.stderr.count(b"\n") == 1
        assert said in done.stderr.decode()
    assert with_client(stack, stored) == before


async def test_a_bound_that_the_deployer_lowered_holds_to_the_byte(bare: User) -> None:
    async with Client(bare.stack.server) as client:
        most = (await client.policy()).bounds.request_bytes
        rest = sum(len(name) + len(content) for name, content in SOURCES.items())
        files = [{"name": name, "content": content} for name, content in SOURCES.items()]
        fits = {"files": files, "test_cases": [{"input": "x" * (most - rest - 1), "args": ["y"]}]}
        over = {"files": files, "test_cases": [{"input": "x" * (most - rest - 1), "args": ["é"]}]}
        assert (await client.submit(fits)).status == "SUBMITTED"
        before = await stored(client)
        with pytest.raises(InvalidRequest) as refused:
            await client.submit(over)
        assert str(refused.value) == f"request: {most + 1} {OVER.format(most)}"
        assert await stored(client) == before
    done = await asyncio.to_thread(bare.cutor, "submit", "-", stdin=json.dumps(over).encode())
    assert str(refused.value) in one_line(done, 2)


WIDE_BYTES: Final = 48 * MIB


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """A stack whose deployer raised the bound of a request."""
    user = User(tmp_path_factory.mktemp("wide"))
    config = user.home / "config.toml"
    config.write_text(f"[bounds]\nrequest_bytes = {WIDE_BYTES}\n")
    started = user.up("--config", str(config), roles=("builder", "runner"))
    assert started.returncode == 0, started.stderr
    try:
        yield user
    finally:
        assert user.down().returncode == 0


def peak_bytes(user: User, role: str) -> int:
    """Return the most memory that a role of a user's stack has held."""
    status = Path(f"/proc/{pid_of(user, f' {role} ')}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def test_a_bound_that_the_deployer_raised_holds_and_roles_hold_few_copies(wide: User) -> None:
    given = text(20 * MIB)
    request = document(SUM, files={"data/a": given}, test_cases=[{"input": given}])
    before = {role: peak_bytes(wide, role) for role in ("builder", "runner")}

    async def run(client: Client) -> None:
        result, chunks = await handed_in(client, request)
        assert (result.run[0].stdout.data, chunks) == (sums(given, given), chunks_of(len(given)))
        await cleaned(client, result.id)
        with pytest.raises(InvalidRequest, match=OVER.format(WIDE_BYTES)):
            await client.submit(document(SUM, test_cases=[{"input": "x" * WIDE_BYTES}]))

    with_client(wide.stack, run)
    more = {role: peak_bytes(wide, role) - before[role] for role in before}
    print("memory for a request of 40 MiB:", ", ".join(f"{role} {size / MIB:.0f} MiB" for role, size in more.items()))
    assert max(more.values()) < COPIES * 2 * len(given)

"""NATS away, slow, frozen, or gone in the midst of an append: what producers are told, and how they find out.

A proxy stands between the process under test and a real server. What stands in the log, the tests read past the proxy.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from cutor.bus.connection import Bus
from cutor.bus.errors import AppendUnconfirmed, BusUnreachable
from cutor.client.client import Client
from cutor.errors import CutorError
from cutor.journal.errors import SubmissionUnconfirmed
from cutor.journal.journal import Journal
from cutor.journal.stack_policy import publish_policy
from cutor.model.limits import Policy
from cutor.model.request import request_from
from cutor.model.request_checks import validate
from cutor.model.subjects import Address
from tests.fault.proxy import Proxy
from tests.live_stack import surroundings
from tests.nats_away import PATIENCE_S, TERMINAL, frozen, nobody, request
from tests.nats_server import OwnServer
from tests.ports import free_port

SUBMITTED: Final = rb"cutor\.ev\.\S+\.submitted "
BODY: Final = rb"cutor\.body\."
CHUNK_BYTES: Final = 512 << 10


class Done(NamedTuple):
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    def line(self, code: int = 3) -> str:
        """Check that it failed with this code and one plain line; return the line."""
        assert self.code == code, self
        assert self.stderr.startswith("cutor: "), self
        assert self.stderr.count("\n") == 1, self
        assert "Traceback" not in self.stderr
        return self.stderr

    @property
    def document(self) -> Any:
        """The JSON on stdout."""
        return json.loads(self.stdout)


@dataclass
class Away:
    """A server, a proxy before it, and the log as it is."""

    server: str
    proxy: Proxy
    journal: Journal
    home: Path

    @property
    def url(self) -> str:
        """The server's address by way of the proxy."""
        return self.proxy.url(self.server)

    async def cutor(self, *arguments: str, stdin: bytes = b"", server: str | None = None) -> Done:
        """Run a command that reaches the server by the proxy."""
        return await command(self.home, server or self.url, *arguments, stdin=stdin)

    async def kinds(self, identity: str) -> list[str]:
        """The kinds of a submission's events, in order."""
        entries = await self.journal.entries(Address("default", identity))
        return [entry.stored.subject.rpartition(".")[2] for entry in entries]

    async def found_out(self, identity: str, request: bytes) -> None:
        """Submit the same under this id again: one submission, which ends once however often it is ended."""
        self.proxy.resume()
        again = await self.cutor("submit", "-", "--id", identity, "--json", stdin=request)
        assert (again.code, again.document["id"]) == (0, identity), again
        assert await self.kinds(identity) == ["submitted"]
        for _ in range(2):
            assert (await self.cutor("cancel", identity)).code == 0
        assert [kind for kind in await self.kinds(identity) if kind in TERMINAL] == ["cancelled"]


async def command(home: Path, server: str, *arguments: str, stdin: bytes = b"") -> Done:
    """Run the command as a user whose directories are beneath ``home``."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cutor", *arguments),
        env=surroundings(home) | {"CUTOR_SERVER": server},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        stdout, stderr = await asyncio.wait_for(process.communicate(stdin), PATIENCE_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Done(process.returncode or 0, stdout.decode(), stderr.decode())


@asynccontextmanager
async def beside(server: str, home: Path) -> AsyncIterator[Away]:
    """A proxy of one's own before a server."""
    async with Proxy(int(server.rpartition(":")[2])) as proxy, Bus.connect(server, name="test") as bus:
        yield Away(server, proxy, Journal(bus), home)


@pytest.fixture
async def away(own_server: OwnServer, tmp_path: Path) -> AsyncIterator[Away]:
    """A stack without roles: submissions stay queued."""
    async with beside(own_server.url, tmp_path) as found:
        await publish_policy(found.journal.bus, Policy())
        yield found


@pytest.mark.parametrize("fault", [nobody, frozen])
async def test_where_no_server_answers_every_command_says_so_in_one_line(away: Away, fault: Callable[[Proxy], None]) -> None:
    fault(away.proxy)
    commands = [
        ("submit", "-"),
        ("submit", "-", "--wait"),
        ("status", "an-id"),
        ("watch", "an-id"),
        ("cancel", "an-id"),
        ("events",),
        ("events", "an-id"),
        ("query", "SELECT 1"),
    ]
    commands.append(("submit", "-", "--json"))
    *rest, with_json = await asyncio.gather(*(away.cutor(*words, stdin=request()) for words in commands))
    for done in (*rest, with_json):
        assert "cannot reach NATS" in done.line()
    assert with_json.document["error"]["exit_code"] == 3


async def test_where_nothing_listens_an_error_comes_at_once_and_names_the_address(tmp_path: Path) -> None:
    port = free_port("127.0.0.1")
    done = await command(tmp_path, f"nats://user:secret@127.0.0.1:{port}", "submit", "-", stdin=request())
    assert f"nats://127.0.0.1:{port}" in done.line()
    assert "secret" not in done.stderr


async def died_before_the_append(away: Away) -> None:
    """Nothing is stored, and that is what is said."""
    policy = away.proxy.cut_after(rb"DIRECT\.GET\.STACK")
    submitting = asyncio.create_task(away.cutor("submit", "-", "--id", "early", stdin=(body := request())))
    await policy.sprung.wait()
    away.proxy.cut()
    assert "cannot reach NATS" in (await submitting).line()
    assert await away.kinds("early") == []
    await away.found_out("early", body)


async def client_tells(away: Away, fault: Callable[[Proxy], None], wanted: type[CutorError]) -> None:
    """What was not sent from what may be stored."""
    valid = validate(request_from(json.loads(request())), Policy(), secrets.token_hex(8))
    async with Client(away.url) as client:
        await client.policy()
        fault(away.proxy)
        while wanted is BusUnreachable and client.journal.bus.connected:
            await asyncio.sleep(0.01)  # what is sent before the loss is noticed may have arrived
        with pytest.raises(wanted) as caught:
            await client.journal.submit(valid)
        assert "\n" not in str(caught.value)
        if wanted is SubmissionUnconfirmed:
            assert caught.value.details == {"id": valid.address.id, "tenant": "default"}
            assert f"--id {valid.address.id}" in str(caught.value)
        away.proxy.resume()
        assert (await client.journal.submit(valid)).status == "SUBMITTED"
        assert await away.kinds(valid.address.id) == ["submitted"]


@pytest.mark.parametrize("how", ["cut_after", "cut_within"])
async def test_an_answer_that_was_lost_is_asked_for_again(away: Away, how: str) -> None:
    trap = getattr(away.proxy, how)(SUBMITTED)
    done = await away.cutor("submit", "-", "--json", stdin=(body := request()))
    assert trap.sprung.is_set()
    assert done.code == 0, done
    await away.found_out(done.document["id"], body)


async def stays_unknown(away: Away, how: str) -> None:
    """One line names the id, also a made-up one, and the way to find out."""
    bodies = [request() for _ in range(2)]
    trap = getattr(away.proxy, how)(SUBMITTED)
    submitting = asyncio.create_task(away.cutor("submit", "-", "--json", stdin=bodies[0]))
    await trap.sprung.wait()
    away.proxy.cut()
    done = await submitting
    identity = done.document["error"]["id"]
    assert done.document["error"] == {
        "message": done.stderr.removeprefix("cutor: ").rstrip("\n"),
        "exit_code": 3,
        "id": identity,
        "tenant": "default",
    }
    line = done.line()
    assert f"{identity} may or may not be stored" in line
    assert "went away before it said so" in line
    assert f"cutor submit … --id {identity}" in line
    assert await away.kinds(identity) == (["submitted"] if how == "cut_after" else [])
    await away.found_out(identity, bodies[0])
    other = await away.cutor("submit", "-", "--id", identity, stdin=bodies[1])
    assert "taken by a submission with another body" in other.line(2)


async def test_a_server_that_is_back_within_the_retries_has_it_stored(away: Away) -> None:
    trap = away.proxy.cut_within(SUBMITTED)
    submitting = asyncio.create_task(away.cutor("submit", "-", "--json", stdin=(body := request())))
    await trap.sprung.wait()
    away.proxy.cut()
    await asyncio.sleep(5)
    away.proxy.resume()
    done = await submitting
    assert done.code == 0, done
    await away.found_out(done.document["id"], body)


async def test_a_slow_server_is_waited_for(own_server: OwnServer, tmp_path: Path) -> None:
    """Every message takes as long, each way: a request and its answer take twice that."""

    async def submit(milliseconds: float, large_bytes: int) -> None:
        async with beside(own_server.url, tmp_path) as away:
            await publish_policy(away.journal.bus, Policy())
            away.proxy.delay(milliseconds)
            done = await away.cutor("submit", "-", "--json", stdin=(body := request(large_bytes=large_bytes)))
            assert done.code == 0, done
            away.proxy.delay(0)
            await away.found_out(done.document["id"], body)

    await asyncio.gather(submit(1000, 100_000), submit(3000, 0))


async def chunks(away: Away) -> Counter[str]:
    """How often each subject of a body is stored."""
    found: Counter[str] = Counter()
    async for batch in away.journal.bus.read("BODIES"):
        found.update([batch.subject])
    return found


@pytest.mark.parametrize("how", ["cut_after", "cut_within"])
async def test_a_large_request_that_is_cut_in_its_bodies_is_stored_once(away: Away, how: str) -> None:
    body = request(large_bytes=6 * CHUNK_BYTES)
    trap = getattr(away.proxy, how)(BODY)
    done = await away.cutor("submit", "-", "--json", stdin=body)
    assert trap.sprung.is_set()
    assert done.code == 0, done
    assert sorted((await chunks(away)).values()) == [1] * 6
    await away.found_out(done.document["id"], body)
    assert sorted((await chunks(away)).values()) == [1] * 6


async def large_is_not_submitted(away: Away) -> None:
    """The server goes in the midst of the bodies."""
    body = request(large_bytes=6 * CHUNK_BYTES)
    trap = away.proxy.cut_after(BODY)
    submitting = asyncio.create_task(away.cutor("submit", "-", "--id", "large", stdin=body))
    await trap.sprung.wait()
    away.proxy.cut()
    assert "it was not submitted" in (await submitting).line()
    assert await away.kinds("large") == []
    await away.found_out("large", body)
    assert set((await chunks(away)).values()) == {1}


async def followers_are_told(away: Away) -> None:
    """Who follows waits for half a minute, and is told what goes on. One server is back after 5 s, the other stays away."""
    async with beside(away.server, away.home) as back:
        assert (await away.cutor("submit", "-", "--id", "watched", stdin=request())).code == 0
        followers = [
            asyncio.create_task(one.cutor(*words, stdin=request()))
            for one, identity in ((away, ("--id", "lost")), (back, ("--id", "waited")))
            for words in (("submit", "-", "--wait", "--json", *identity), ("watch", "watched"))
        ]
        async with asyncio.timeout(PATIENCE_S):
            while min(away.proxy.connections, back.proxy.connections) < 2 or not (
                await away.kinds("lost") and await away.kinds("waited")
            ):
                await asyncio.sleep(0.1)
        await asyncio.sleep(3)  # for all of them to have begun to follow
        for one in (away, back):
            one.proxy.cut()
        await asyncio.sleep(5)
        back.proxy.resume()
        async with Client(away.server) as client:
            for identity in ("waited", "watched"):
                await client.cancel(identity)
        lost_wait, lost_watch, wait, watch = await asyncio.gather(*followers)
    assert (wait.code, wait.document["outcome"]) == (1, "CANCELLED"), wait
    assert (watch.code, watch.stderr) == (1, "")
    assert "cancelled" in watch.stdout
    assert "cannot reach NATS" in lost_watch.line()
    assert lost_wait.document["error"]["id"] == "lost"
    assert "lost was submitted, and is out of sight" in lost_wait.line()
    assert "cutor watch lost" in lost_wait.stderr


async def cancel_stays_unknown(away: Away) -> None:
    """One whose answer is lost is one; where it is not known, that is what is said."""
    for identity in ("one", "two"):
        assert (await away.cutor("submit", "-", "--id", identity, stdin=request())).code == 0
    away.proxy.cut_after(rb"cutor\.ev\.\S+\.cancelled ")
    assert "one is cancelled" in (await away.cutor("cancel", "one")).stdout
    assert await away.kinds("one") == ["submitted", "cancelled"]
    trap = away.proxy.cut_after(rb"cutor\.ev\.\S+\.cancelled ")
    cancelling = asyncio.create_task(away.cutor("cancel", "two"))
    await trap.sprung.wait()
    away.proxy.cut()
    assert "two may or may not be cancelled" in (await cancelling).line()
    away.proxy.resume()
    assert "has ended already" in (await away.cutor("cancel", "two")).stdout
    assert await away.kinds("two") == ["submitted", "cancelled"]


async def client_cancel_stays_unknown(away: Away) -> None:
    """It names the submission to a program."""
    async with Client(away.url) as client:
        receipt = await client.submit(json.loads(request()))
        trap = away.proxy.cut_after(rb"cutor\.ev\.\S+\.cancelled ")
        cancelling = asyncio.create_task(client.cancel(receipt.id))
        await trap.sprung.wait()
        away.proxy.cut()
        with pytest.raises(AppendUnconfirmed) as caught:
            await cancelling
        assert caught.value.details["id"] == receipt.id


async def test_what_is_said_where_the_server_stays_away(own_server: OwnServer, tmp_path: Path) -> None:
    """Side by side, each behind a proxy of its own: most of it is waiting."""

    async def behind(act: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        async with beside(own_server.url, tmp_path) as away:
            await act(away, *arguments)

    async with Bus.connect(own_server.url, name="test") as bus, asyncio.TaskGroup() as group:
        await publish_policy(bus, Policy())
        for act, *arguments in (
            (died_before_the_append,),
            (client_tells, nobody, BusUnreachable),
            (client_tells, frozen, SubmissionUnconfirmed),
            (stays_unknown, "cut_after"),
            (stays_unknown, "cut_within"),
            (large_is_not_submitted,),
            (cancel_stays_unknown,),
            (client_cancel_stays_unknown,),
            (followers_are_told,),
        ):
            group.create_task(behind(act, *arguments))

"""A range of the log as lines: every message exactly as it stands there, and where a range begins and ends."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cutor.bus.connection import Bus
from cutor.bus.message import Stored
from cutor.journal.replay import RangeEmpty, Span, span_of
from cutor.model.moments import Moment, Sequence, exact_time
from cutor.model.subjects import ENVIRONMENTS, EVENTS
from tests import commands
from tests.nats_server import OwnServer, apply_streams
from tests.raw_nats import hpub, pub, send_raw

BODIES = [
    b'{"a":1,"a":2, "b" : 1.0}',
    b'{"spread":\n1}',
    b"\xff\x00",
    b"",
    b"plain",
    b'"\x1b[31m"',
    '"\x9b31m \u202e \U000e0001 "'.encode(),
    b"[" * 5000 + b"]" * 5000,
    b'"\\ud800"',
    b"1e999",
    b'{"crlf":1}\r\n',
]
"""Whatever stands in a stream may be anything."""


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose stream EVENTS holds hostile messages, then others of two tenants."""
    server = Server(tmp_path_factory.mktemp("log"))
    asyncio.run(server.fill())
    yield server
    server.stop()


class Server:
    """A nats-server in a loop of its own that commands of the tests ask."""

    def __init__(self, directory: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._own = OwnServer(directory)
        self._loop.run_until_complete(self._own.start())
        self.url = self._own.url

    async def fill(self) -> None:
        await apply_streams(self.url)
        frames = [pub(b"cutor.ev.lab.hostile%d.submitted" % n, body) for n, body in enumerate(BODIES)]
        headers = b"NATS/1.0\r\nNats-Msg-Id: one/\xc2\x9b/two\r\nX-Own: \x1b\xff\r\n\r\n"
        frames += [hpub(b"cutor.ev.lab.h.submitted", headers, b"{}"), pub("cutor.ev.lab.é\x9b.submitted".encode(), b"{}")]
        await send_raw(self.url, *frames)
        await send_raw(self.url, *(pub(b"cutor.ev.default.n%d.submitted" % n, b'{"n":%d}' % n) for n in range(40)))
        await send_raw(self.url, pub(b"cutor.env.key", b"{}"))

    def stop(self) -> None:
        self._loop.run_until_complete(self._own.kill())
        self._loop.close()

    def read(self, stream: str = EVENTS) -> list[Stored]:
        async def act() -> list[Stored]:
            async with Bus.connect(self.url, name="test") as bus:
                return [stored async for stored in bus.read(stream)]

        return asyncio.run(act())

    def span(self, begin: Any, end: Any) -> Span:
        async def act() -> Span:
            async with Bus.connect(self.url, name="test") as bus:
                return await span_of(bus, EVENTS, begin, end)

        return asyncio.run(act())

    def replay(self, *args: str) -> subprocess.CompletedProcess[bytes]:
        return commands.run(["replay", "--server", self.url, *args], os.environ, timeout_s=240)


def lines(done: subprocess.CompletedProcess[bytes]) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    return [json.loads(line) for line in done.stdout.splitlines(keepends=False)]


@pytest.mark.parametrize(
    ("args", "of"),
    [(("--from", "1000000"), ""), (("--to", "1970-01-01"), ""), (("--tenant", "nobody"), " of the tenant nobody")],
    ids=["behind", "before", "tenant"],
)
def test_a_range_with_nothing_in_it_says_so(log: Server, args: tuple[str, ...], of: str) -> None:
    done, last = log.replay(*args), log.read()[-1].sequence
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr.decode() == f"cutor: note: the range has no message{of}; EVENTS ends at {last}\n"


def test_every_message_can_be_had_back_from_its_line(log: Server) -> None:
    stored = log.read()
    done = log.replay()
    written = lines(done)
    assert done.stdout.count(b"\n") == len(stored) == len(written)
    for message, line, text in zip(stored, written, done.stdout.split(b"\n"), strict=False):
        assert (line["stream"], line["sequence"], line["time"]) == (EVENTS, message.sequence, exact_time(message.time_ns))
        assert (line["subject"], line["message_id"]) == (message.subject, message.message_id)
        assert line.get("headers", {}) == dict(message.headers)
        if "event" in line:
            assert text.endswith(b'"event":' + message.body + b"}"), "byte by byte"
        else:
            assert base64.b64decode(line["body_base64"]) == message.body
    assert ["event" in line for line in written[: len(BODIES)]] == [body in (BODIES[0], BODIES[6]) for body in BODIES]


def test_both_ends_belong_to_a_range(log: Server) -> None:
    stored = log.read()
    assert [line["sequence"] for line in lines(log.replay("--from", "3", "--to", "5"))] == [3, 4, 5]
    first, last = stored[20], stored[30]
    told = lines(log.replay("--from", exact_time(first.time_ns), "--to", exact_time(last.time_ns)))
    wanted = [one.sequence for one in stored if first.time_ns <= one.time_ns <= last.time_ns]
    assert [line["sequence"] for line in told] == wanted
    assert len(lines(log.replay("--from", "-1h", "--to", "2100-01-01"))) == len(stored)


def test_a_moment_is_found_wherever_it_lies(log: Server) -> None:
    """Before, at and behind each message, and between."""
    stored = log.read()
    for one in stored:
        for time_ns in (one.time_ns - 1, one.time_ns, one.time_ns + 1):
            wanted = Span(
                next((other.sequence for other in stored if other.time_ns >= time_ns), len(stored) + 1),
                max((other.sequence for other in stored if other.time_ns <= time_ns), default=0),
            )
            assert log.span(Moment(time_ns), Moment(time_ns)) == wanted


def test_a_range_that_ends_before_it_begins_is_refused(log: Server) -> None:
    with pytest.raises(RangeEmpty):
        log.span(Sequence(5), Sequence(4))
    done = log.replay("--from", "5", "--to", "4")
    assert done.returncode == 2
    assert done.stderr == b"cutor: the range has nothing in it: it would begin at 5 and end at 4\n"


def test_one_tenant_and_the_other_stream(log: Server) -> None:
    assert {line["subject"].split(".")[2] for line in lines(log.replay("--tenant", "lab"))} == {"lab"}
    assert [line["stream"] for line in lines(log.replay("--stream", ENVIRONMENTS))] == [ENVIRONMENTS]
    for args in (("--tenant", "lab", "--stream", ENVIRONMENTS), ("--tenant", "a.>"), ("--from", "soon"), ("--from", "0")):
        done = log.replay(*args)
        assert done.returncode == 2
        assert done.stderr.count(b"\n") == 1, done.stderr


def test_a_reader_that_has_seen_enough_ends_it_quietly(log: Server) -> None:
    command = [sys.executable, "-m", "cutor", "replay", "--server", log.url]
    for _ in range(2):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
        process.stderr.close()
        assert process.wait(180) == 0


def test_a_terminal_finds_nothing_to_obey(log: Server) -> None:
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "cutor", "replay", "--server", log.url]
    process = subprocess.Popen(command, stdout=follower, stderr=follower)
    os.close(follower)
    shown = b""
    try:
        while piece := os.read(leader, 1 << 16):
            shown += piece
    except OSError:  # the other end is closed
        pass
    os.close(leader)
    assert process.wait(180) == 0
    text = shown.decode().replace("\r\n", "\n")
    assert all(one.isprintable() or one == "\n" for one in text)
    values = [json.loads(line) for line in text.splitlines()]
    assert values == lines(log.replay())

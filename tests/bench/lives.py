"""Streams of whole lives of submissions, as benchmarks want them: realistic in shape and size, made and published fast.

A life is submitted, leased, cache-built, leased, compiled, ran for each of five test cases, finished, cleaned: twelve events.
Lives overlap, as those of a busy stack do. Events have about 400 bytes; ``output_bytes`` lets each test case print more.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from cutor.model.codec import encode
from cutor.model.content import pack
from cutor.model.events import (
    CacheBuilt,
    Cleaned,
    Compiled,
    EnvironmentRef,
    Event,
    Finished,
    Lease,
    Leased,
    Ran,
    Stage,
    StoredFile,
    StoredRequest,
    StoredTestCase,
    Submitted,
    kind_of,
    output,
)
from cutor.model.limits import Limit
from cutor.model.subjects import Address, event_subject

TEST_CASES: Final = 5
AT_ONCE: Final = 200
"""Lives that are under way at one time."""
WINDOW: Final = 2000
"""Messages between two acknowledgements that are waited for: fewer than the server takes in before it drops any."""
EPOCH_NS: Final = 1_700_000_000_000_000_000
"""The time of a message before the first one, where no stream has given it another."""
_TOKEN: Final = "0123456789abcdef"


class Made(NamedTuple):
    """One message, as it is published; it has the place of a message for who folds it without a stream."""

    sequence: int
    subject: str
    time_ns: int
    message_id: str | None
    body: bytes


def lives(count: int, output_bytes: int = 0) -> Iterator[Made]:
    """Yield the messages of a stream of so many events, from sequence 1 on; the last lives are not whole."""
    life = [(kind_of(event), encode(event)) for event in _life(output_bytes)]
    numbers = itertools.count(1)
    under_way = [(next(numbers), 0) for _ in range(AT_ONCE)]
    for sequence in range(1, count + 1):
        slot = sequence % AT_ONCE
        number, step = under_way[slot]
        kind, template = life[step]
        address, token = Address("default", f"s{number:08d}"), b"%016x" % number
        message_id = f"{address}/{kind}/runner/1/{step}"
        body = template.replace(_TOKEN.encode(), token)
        yield Made(sequence, event_subject(address, kind), EPOCH_NS + sequence * 1_000_000, message_id, body)
        under_way[slot] = (number, step + 1) if step + 1 < len(life) else (next(numbers), 0)


def _life(output_bytes: int) -> list[Event]:
    builder = Lease(role="builder", worker="builder-1.host-a", token=_TOKEN, number=1)
    runner = Lease(role="runner", worker="runner-1.host-a", token=_TOKEN, number=1)
    key = "866fa535" * 8
    environment = EnvironmentRef(key=key, derivation=f"/nix/store/{'a' * 32}-shell.drv", hit=True)
    request = StoredRequest(
        files=(
            StoredFile(name="shell.nix", content=pack(b"{ pkgs ? import <nixpkgs> { } }:\npkgs.mkShell { }\n")),
            StoredFile(name="cutor-compile.sh", content=pack(b"gcc -O2 -o main main.c\n")),
            StoredFile(name="cutor-run.sh", content=pack(b"./main\n")),
            StoredFile(name="main.c", content=pack(b"int main(void) { return 0; }\n" * 8)),
        ),
        test_cases=tuple(StoredTestCase(name=f"case {number}", input=pack(b"1 2 3\n")) for number in range(TEST_CASES)),
        labels={"course": "algorithms", "task": "primes"},
    )
    limits = Limit(
        wall_time_ms=10_000,
        cpu_time_ms=5_000,
        memory_bytes=256 << 20,
        processes=64,
        stdout_bytes=1 << 20,
        stderr_bytes=1 << 20,
        file_size_bytes=64 << 20,
        open_files=256,
    )
    measured = Stage(outcome="OK", exit_code=0, cpu_time_ms=12, wall_time_ms=15, memory_peak_bytes=3 << 20, limits=limits)
    printed = output(b"line of output\n" * (output_bytes // 15) or b"42\n", max(output_bytes, 3))
    ran = [msgspec.structs.replace(measured, name=f"case {index}", stdout=printed, limits=None) for index in range(TEST_CASES)]
    return [
        Submitted(request=request, digest="d" * 64),
        Leased(lease=builder),
        CacheBuilt(lease=builder, environment=environment, stage=measured),
        Leased(lease=runner),
        Compiled(lease=runner, stage=measured),
        *(Ran(lease=runner, index=index, stages=(stage,)) for index, stage in enumerate(ran)),
        Finished(lease=runner, outcome="OK"),
        Cleaned(worker="runner-1.host-a", by="worker"),
    ]


async def publish(url: str, messages: Iterable[Made]) -> int:
    """Store messages in a stream over a connection of their own, as `Publisher` does, and return how many."""
    async with publishing(url) as publisher:
        return await publisher.store(messages)


@asynccontextmanager
async def publishing(url: str) -> AsyncIterator[Publisher]:
    """Give a publisher over a connection that stays open as long as this lasts; without a bus, for speed."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 20)
    hello = {"verbose": False, "pedantic": False, "headers": True, "user": parts.username, "pass": parts.password}
    writer.write(b"CONNECT %b\r\nSUB acks 1\r\n" % json.dumps(hello).encode())
    try:
        yield Publisher(reader, writer)
    finally:
        writer.close()


class Publisher:
    """Stores messages, each with the headers of a fenced append.

    The fence itself is left away: the server would look up each.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def store(self, messages: Iterable[Made]) -> int:
        """Store messages, and return how many, once they are. Raises AssertionError where the server refuses one."""
        count, waiting = 0, 0
        for window in _windows(messages):
            self._writer.write(b"".join(window))
            await self._writer.drain()
            count += len(window)
            waiting += 1
            while waiting > 1:
                waiting -= await _acknowledged(self._reader, self._writer)
        while waiting:
            waiting -= await _acknowledged(self._reader, self._writer)
        return count


def _windows(messages: Iterable[Made]) -> Iterator[list[bytes]]:
    """Yield frames in lists, of which the last one asks for an acknowledgement."""
    remaining = iter(messages)
    while some := list(itertools.islice(remaining, WINDOW)):
        yield [_frame(one, b"acks " if one is some[-1] else b"") for one in some]


def _frame(one: Made, reply: bytes) -> bytes:
    headers = f"NATS/1.0\r\nNats-Msg-Id: {one.message_id}\r\nCutor-Fence: {one.subject}\r\n\r\n".encode()
    total = len(headers) + len(one.body)
    return b"HPUB %b %b%d %d\r\n%b%b\r\n" % (one.subject.encode(), reply, len(headers), total, headers, one.body)


async def _acknowledged(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    """Read a line, and return how many acknowledgements it was: 0 or 1."""
    line = await reader.readline()
    if line.startswith(b"PING"):
        writer.write(b"PONG\r\n")
    assert not line.startswith(b"-ERR"), line
    assert b"error" not in line, line
    return int(line.startswith(b'{"stream"'))

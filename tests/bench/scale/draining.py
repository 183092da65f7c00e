"""Consumers that have had everything: histories that are published are of submissions which a role has attended to."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final
from urllib.parse import urlsplit

from cutor.bus.connection import Bus
from cutor.model.subjects import EVENTS
from tests.bench.stacks import within

BATCH: Final = 500


async def drain(url: str, consumer: str) -> int:
    """Take and acknowledge all that a consumer has, without looking at it; return how many that was.

    Of its filters only the first one counts meanwhile: with two, the server takes twenty times as long for what is old.
    """
    async with Bus.connect(url, name="drain") as bus:
        config = (await bus.api.call("consumer", f"CONSUMER.INFO.{EVENTS}.{consumer}"))["config"]
        first = {name: value for name, value in config.items() if not name.startswith("filter_")}
        filters = config.get("filter_subjects") or [config["filter_subject"]]
        await _update(bus, consumer, first | {"filter_subject": filters[0]})
        count = await _drain(url, consumer)
        await _update(bus, consumer, config)
        for _ in within(f"that {consumer} has nothing under way"):
            info = await bus.api.call("consumer", f"CONSUMER.INFO.{EVENTS}.{consumer}")
            if not info["num_ack_pending"] and not info["num_pending"]:
                return count
            await asyncio.sleep(0.05)
    raise AssertionError("within() ends this")


async def _update(bus: Bus, consumer: str, config: dict[str, Any]) -> None:
    subject = f"CONSUMER.CREATE.{EVENTS}.{consumer}"
    await bus.api.call("consumer", subject, {"stream_name": EVENTS, "config": config, "action": "update"})


async def _drain(url: str, consumer: str) -> int:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 20)
    hello = {"verbose": False, "pedantic": False, "headers": True, "user": parts.username, "pass": parts.password}
    writer.write(b"CONNECT %b\r\nSUB drain 1\r\n" % json.dumps(hello).encode())
    count = 0
    try:
        while some := await _take(reader, writer, consumer):
            count += some
    finally:
        writer.close()
    return count


async def _take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, consumer: str) -> int:
    """Take one batch, and return how many were in it: none where there is nothing more."""
    pull = json.dumps({"batch": BATCH, "no_wait": True}).encode()
    subject = f"$JS.API.CONSUMER.MSG.NEXT.{EVENTS}.{consumer}".encode()
    writer.write(b"PUB %b drain %d\r\n%b\r\n" % (subject, len(pull), pull))
    count = 0
    while True:
        line = await reader.readline()
        words = line.split()
        if line.startswith(b"PING"):
            writer.write(b"PONG\r\n")
        elif words and words[0] in (b"MSG", b"HMSG"):
            body = await reader.readexactly(int(words[-1]) + 2)
            answer_to = words[3 : -1 if words[0] == b"MSG" else -2]
            if not answer_to:
                assert b" 404 " in body or b" 408 " in body, body
                return count
            writer.write(b"PUB %b 4\r\n+ACK\r\n" % answer_to[0])
            count += 1
            if count == BATCH:
                return count
        else:
            assert not line.startswith(b"-ERR"), line

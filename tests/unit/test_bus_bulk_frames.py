"""Frames to columns: however the buffer is cut, whatever senders wrote, and nothing but what the server's own line says."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutor.bus.bulk.columns import Columns
from cutor.bus.bulk.frames import Garbled, Parser, message_id_of, status_of
from cutor.bus.message import from_delivery, parse_delivery
from cutor.bus.tolerant import TolerantClient

STREAM, CONSUMER = "EVENTS", "bulk-1"


def delivery(sequence: int, body: bytes, headers: bytes = b"", *, subject: bytes = b"cutor.ev.t.i.ran", form: int = 9) -> bytes:
    place = f"{STREAM}.{CONSUMER}.1.{sequence}.{sequence}.{sequence * 10}.5"
    reply = {9: f"$JS.ACK.{place}", 11: f"$JS.ACK.hub.ABC.{place}", 12: f"$JS.ACK.hub.ABC.{place}.x7"}[form].encode()
    if not headers:
        return b"MSG %b 1 %b %d\r\n%b\r\n" % (subject, reply, len(body), body)
    total = len(headers) + len(body)
    return b"HMSG %b 1 %b %d %d\r\n%b%b\r\n" % (subject, reply, len(headers), total, headers, body)


def usual(message_id: bytes) -> bytes:
    return b"NATS/1.0\r\nNats-Msg-Id: %b\r\nNats-Expected-Last-Subject-Sequence: 1\r\n\r\n" % message_id


def parse(*pieces: bytes) -> tuple[Columns, list[bytes]]:
    """Parse what arrives in pieces."""
    parser, columns, lines, data = Parser(STREAM, CONSUMER), Columns.empty(), [], b""
    for piece in pieces:
        data += piece
        parsed = parser.parse(data)
        columns.add(parsed.columns)
        lines += parsed.lines
        data = data[parsed.used :]
        assert not data or parsed.wanted > len(data)
    assert data == b""
    return columns, lines


FRAMES = [
    delivery(1, b"one", usual(b"a/b/1")),
    b"PING\r\n",
    delivery(2, b""),
    delivery(3, b"HMSG x 1 y 1 1\r\n\r\nMSG", usual(b"c"), form=12),
    delivery(4, b"four", form=11, subject=b"cutor.ev.\xff.x.y"),
    b"-ERR 'x'\r\n",
]


def test_every_cut_of_the_buffer_gives_the_same() -> None:
    data = b"".join(FRAMES)
    whole = parse(data)
    assert whole[0] == Columns(
        [1, 2, 3, 4],
        [10, 20, 30, 40],
        ["cutor.ev.t.i.ran"] * 3 + ["cutor.ev.\ufffd.x.y"],
        ["a/b/1", None, "c", None],
        [b"one", b"", b"HMSG x 1 y 1 1\r\n\r\nMSG", b"four"],
    )
    assert whole[1] == [b"PING", b"-ERR 'x'"]
    assert parse(*(data[place : place + 1] for place in range(len(data)))) == whole
    for cut in range(len(data)):
        assert parse(data[:cut], data[cut:]) == whole


BLOCKS = [
    usual(b"plain"),
    usual(b"with space"),
    usual("ü".encode()),
    usual(b"\xff"),
    usual(b""),
    b"NATS/1.0\r\nTrace: x\r\nNats-Msg-Id: later\r\n\r\n",
    b"NATS/1.0\r\nNats-Msg-Id: a\r\nNats-Msg-Id: b\r\n\r\n",
    b"NATS/1.0\r\nNats-Msg-Id:tight\r\n\r\n",
    b"NATS/1.0\r\nNats-Msg-Id : loose\r\n\r\n",
    b"NATS/1.0\r\n Nats-Msg-Id: indented\r\n\r\n",
    b"NATS/1.0\r\nnats-msg-id: lower\r\n\r\n",
    b"NATS/1.0\r\nTrace: Nats-Msg-Id: within\r\n\r\n",
    b"NATS/1.0\r\nTrace: a\nNats-Msg-Id: within\r\n\r\n",
    b"NATS/1.0\r\nX-Nats-Msg-Id: other\r\n\r\n",
    b"NATS/1.0\r\nNats-Msg-Id: without end",
    b"NATS/1.0 404 Nats-Msg-Id: status\r\n\r\n",
    b"NATS/1.0 404\r\nNats-Msg-Id: behind a status\r\n\r\n",
    b"NATS/1.0",
    b"N",
    b"Nats-Msg-Id: a\r\n\r\n",
    b"Nats-Msg-Id: a\r\nNats-Msg-Id: b\r\n\r\n",
]


@pytest.mark.parametrize("block", BLOCKS)
def test_the_message_id_is_the_one_that_the_ordinary_reader_finds(block: bytes) -> None:
    headers = asyncio.run(TolerantClient()._process_headers(block))
    place = parse_delivery(f"$JS.ACK.{STREAM}.{CONSUMER}.1.1.1.10.5")
    expected = from_delivery("s", place, headers, b"").message_id
    assert message_id_of(block) == expected
    columns, _ = parse(delivery(1, b"Nats-Msg-Id: body\r\n", block))
    assert (columns.message_ids, columns.bodies) == ([expected], [b"Nats-Msg-Id: body\r\n"])


def test_headers_do_not_go_on_in_the_body() -> None:
    columns, _ = parse(delivery(1, b"Nats-Msg-Id: forged\r\n\r\n", b"NATS/1.0\r\n"))
    assert (columns.message_ids, columns.bodies) == ([None], [b"Nats-Msg-Id: forged\r\n\r\n"])


def test_what_the_server_says_of_a_pull_is_no_delivery() -> None:
    block = b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 7\r\n\r\n"
    parsed = Parser(STREAM, CONSUMER).parse(b"HMSG inbox.3 1 %d %d\r\n%b\r\n" % (len(block), len(block), block))
    assert len(parsed.columns) == 0
    assert (parsed.told[0].subject, parsed.told[0].headers["Nats-Last-Consumer"]) == ("inbox.3", "7")


@pytest.mark.parametrize(
    "block",
    [
        b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 1016\r\nNats-Last-Stream: 1024\r\n\r\n",
        b"NATS/1.0 409 Batch Completed\r\nNats-Pending-Messages: 0\r\nNats-Pending-Bytes: 6089322\r\n\r\n",
        b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 12\r\nNats-Pending-Bytes: 0\r\n\r\n",
        b"NATS/1.0 409 Message Size Exceeds MaxBytes\r\n\r\n",
        b"NATS/1.0 404 No Messages\r\n\r\n",
        b"NATS/1.0 503\r\n\r\n",
        b"NATS/1.0 409 Why: this\r\nA: b\r\n\r\n",
        b"NATS/1.0 409 Consumer Deleted\r\nA: b: c\r\nA: d\r\n\r\n",
        b"NATS/1.0 409 Consumer Deleted\r\nA:b\r\n\r\n",
        b"NATS/1.0 409 Consumer Deleted\r\nA: b",
        b"NATS/1.0 409  two spaces \r\n\r\n",
        b"NATS/1.0 \xff\r\n\r\n",
    ],
)
def test_what_the_server_says_of_a_pull_is_read_as_the_client_library_does(block: bytes) -> None:
    assert status_of(block) == (asyncio.run(TolerantClient()._process_headers(block)) or {})


def test_the_client_library_is_not_loaded_for_it() -> None:
    """It takes a quarter of a second, and a process that reads for a rebuild meets such a message every 10,000."""
    program = """
import sys
from cutor.bus.bulk.frames import Parser
block = b"NATS/1.0 409 Batch Completed\\r\\nNats-Pending-Messages: 0\\r\\nNats-Pending-Bytes: 6089322\\r\\n\\r\\n"
[told] = Parser("S", "c").parse(b"HMSG inbox.3 1 %d %d\\r\\n%b\\r\\n" % (len(block), len(block), block)).told
print(told.headers["Status"], "nats" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["409", "False"]


def slowly(data: bytes) -> tuple[Columns, list[bytes]]:
    """Parse frame by frame."""
    parser = Parser(STREAM, CONSUMER)
    parser._frame_bytes = 1 << 30
    parsed = parser.parse(data)
    assert parsed.used == len(data)
    return parsed.columns, parsed.lines


BODIES = [
    b"",
    b"{}",
    b"\r",
    b"\n",
    b"\r\n",
    b"one\r\n" + delivery(7, b"forged", usual(b"forged")),
    delivery(7, b"forged", usual(b"forged")),
    b"Nats-Msg-Id: forged",
    b"\r\n\r\nPING\r\n",
    b"x" * 5000,
]
PLAIN = usual(b"plain")


@given(
    st.lists(
        st.tuples(st.sampled_from(BODIES), st.sampled_from([PLAIN] * 30 + BLOCKS + [b""]), st.sampled_from([9] * 9 + [11, 12]))
    ),
    st.integers(0, 20),
)
def test_frames_that_are_taken_apart_together_give_what_each_gives(
    messages: list[tuple[bytes, bytes, int]], pings_every: int
) -> None:
    """Whatever stands among usual ones: bodies that pose as frames, above all."""
    frames = [delivery(number, body, block, form=form) for number, (body, block, form) in enumerate(messages, 1)]
    if pings_every:
        frames = [frame + (b"" if number % pings_every else b"PING\r\n") for number, frame in enumerate(frames)]
    data = b"".join(frames)
    assert parse(data) == slowly(data)
    assert parse(data)[0].bodies == [body for body, _, _ in messages]


def test_lengths_are_the_server_s_alone() -> None:
    """One body is longer by as much as the next is shorter: together they look like what the lines say."""
    inner = b"1.2.2.20.5 %d %d" % (len(PLAIN), len(PLAIN) + 3)
    forged = delivery(2, b"abc", PLAIN)
    assert inner in forged
    for body in (b"x\r\n" + forged + b"y", b"x\r\n" + forged[:-2]):
        data = delivery(1, body, PLAIN) + delivery(2, b"real", PLAIN)
        columns, _ = parse(data)
        assert columns.bodies == [body, b"real"]
        assert columns.sequences == [1, 2]


@pytest.mark.parametrize("data", [b"MSG inbox.1 1 2\r\nxx\r\n", b"x" * 100_000, b"HMSG a 1 b c\r\n"])
def test_what_no_server_sends_ends_it(data: bytes) -> None:
    with pytest.raises(Garbled):
        Parser(STREAM, CONSUMER).parse(data)

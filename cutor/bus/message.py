"""A stored message as the bus hands it out, and how the server's three ways of sending one are read. Pure.

The same message is equal whether it came by direct get (`from_direct`), from the stream's leader (`from_leader`) or through a
consumer (`from_delivery`): sequence, time and subject are always the server's own, never a header that the sender wrote.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from cutor.bus.errors import BusError

MESSAGE_ID: Final = "Nats-Msg-Id"
EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_SUBJECT: Final = "Nats-Expected-Last-Subject-Sequence-Subject"
_SERVER_PREFIX: Final = "Nats-"
_ACK_PREFIX: Final = "$JS.ACK."
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
_OF_A_FENCE: Final = (MESSAGE_ID, EXPECTED, EXPECTED_SUBJECT)
_EXPECTED_LOWER: Final = EXPECTED.lower().encode()
_HEADER_LINE_BYTES: Final = len("NATS/1.0\r\n")
"""The line that a block begins with; the client library skips so much, whatever it says."""


class Compared(NamedTuple):
    """What the server compared before it stored a message: the newest sequence under a fence (0: there was none)."""

    fence: str
    sequence: int


class Stored(msgspec.Struct, frozen=True, gc=False):
    """One message of a stream.

    `sequence` counts from 1 within `stream`; `time_ns` is the stream's own timestamp, nanoseconds since 1970 UTC;
    `headers` holds the sender's headers without those of the server (`Nats-…`); `message_id` is the deduplication id.
    `compared` is null where nothing was compared, or it can't be told, as in what is read in bulk.
    """

    stream: str
    sequence: int
    subject: str
    time_ns: int
    message_id: str | None
    headers: Mapping[str, str]
    body: bytes
    compared: Compared | None = None


class DeliveryPlace(msgspec.Struct, frozen=True, gc=False):
    """What the acknowledgement subject of a consumer's delivery says.

    `delivered_count` is 1 at the first delivery; `consumer_sequence` has no gaps within one consumer;
    `pending` counts the messages that still wait behind this one.
    """

    stream: str
    consumer: str
    delivered_count: int
    stream_sequence: int
    consumer_sequence: int
    time_ns: int
    pending: int


class LeaderMessage(msgspec.Struct, frozen=True):
    """The `message` of a `$JS.API.STREAM.MSG.GET` answer; `hdrs` and `data` are base64."""

    subject: str
    seq: int
    time: str
    hdrs: str = ""
    data: str = ""


def parse_time_ns(text: str) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time in UTC with up to nine decimals, as the server writes it."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole + "+00:00").timestamp())
    return seconds * 1_000_000_000 + int(fraction.ljust(9, "0")[:9])


def is_delivery(reply: str) -> bool:
    """Whether a message with this reply subject is a delivery of a consumer (and not a status line of the server)."""
    return reply.startswith(_ACK_PREFIX)


def parse_delivery(reply: str) -> DeliveryPlace:
    """Read `$JS.ACK.[domain.account.]stream.consumer.count.sequence.consumer-sequence.time.pending[.token]`.

    The short form has 9 tokens, the one with domain and account 11 or, with a random last token, 12 (server option
    `js_ack_fc_v2`, ADR-15).
    """
    tokens = reply.split(".")
    start = 2 if len(tokens) == 9 else 4
    if len(tokens) < start + 7:
        raise BusError(f"acknowledgement subject {reply!r} has {len(tokens)} tokens, expected 9, 11 or 12")
    count, sequence, consumer_sequence, time_ns, pending = map(int, tokens[start + 2 : start + 7])
    return DeliveryPlace(tokens[start], tokens[start + 1], count, sequence, consumer_sequence, time_ns, pending)


def sender_headers(headers: Mapping[str, str] | None) -> Mapping[str, str]:
    """The headers that the sender chose: all but the server's own."""
    if not headers:
        return _NO_HEADERS
    own = {name: value for name, value in headers.items() if not name.startswith(_SERVER_PREFIX)}
    return MappingProxyType(own) if own else _NO_HEADERS


def from_delivery(subject: str, place: DeliveryPlace, headers: Mapping[str, str] | None, body: bytes) -> Stored:
    """A message that a consumer delivered."""
    headers = headers or _NO_HEADERS
    return Stored(
        place.stream,
        place.stream_sequence,
        subject,
        place.time_ns,
        headers.get(MESSAGE_ID),
        sender_headers(headers),
        body,
        _compared(headers),
    )


def from_direct(stream: str, headers: Mapping[str, str] | None, body: bytes) -> Stored | None:
    """A message from a direct get of a stream; None if these headers are a status line (not found, end of batch).

    The server writes its headers behind the sender's, and the last one of a name counts, so a sender cannot forge a place.
    Where the sender's do not end in a line end, the first of the server's, ``Nats-Stream``, cannot be read.
    """
    if not headers or "Nats-Sequence" not in headers or "Nats-Subject" not in headers:
        return None
    return Stored(
        stream,
        int(headers["Nats-Sequence"]),
        headers["Nats-Subject"],
        parse_time_ns(headers["Nats-Time-Stamp"]),
        headers.get(MESSAGE_ID),
        sender_headers(headers),
        body,
        _compared(headers),
    )


def from_leader(stream: str, message: LeaderMessage) -> Stored:
    """A message that the stream's leader answered."""
    headers = parse_header_block(base64.b64decode(message.hdrs))
    return Stored(
        stream,
        message.seq,
        message.subject,
        parse_time_ns(message.time),
        headers.get(MESSAGE_ID),
        sender_headers(headers),
        base64.b64decode(message.data),
        _compared(headers),
    )


def _compared(headers: Mapping[str, str]) -> Compared | None:
    fence, sequence = headers.get(EXPECTED_SUBJECT), headers.get(EXPECTED, "")
    if fence is None or not (sequence.isascii() and sequence.isdecimal()):
        return None
    return Compared(fence, int(sequence))


def without_doubt(block: bytes, headers: dict[str, str]) -> dict[str, str]:
    """Return the headers of a raw block, without the fence where the server may have read another one than stands among them.

    A sender writes what he likes, and of two headers of a name, say, the server compares the first one. So a fence counts where
    the block begins as that of a fenced append does (`publish_ack.fence_headers`), and the headers' names stand nowhere else in
    it, in whatever case.
    """
    if EXPECTED in headers:
        begins = "NATS/1.0\r\n" + "".join(f"{name}: {headers.get(name)}\r\n" for name in _OF_A_FENCE)
        if not block.startswith(begins.encode()) or block.lower().count(_EXPECTED_LOWER) != 2:  # it begins both names
            del headers[EXPECTED]
    return headers


def parse_header_block(block: bytes) -> dict[str, str]:
    """Headers of a raw block `NATS/1.0\\r\\nName: value\\r\\n…`; the last one of a name counts."""
    headers: dict[str, str] = {}
    for line in block[_HEADER_LINE_BYTES:].decode("utf-8", "replace").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip()] = value.strip()
    return without_doubt(block, headers)

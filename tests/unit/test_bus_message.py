"""How a stored message is read from what the server sends."""

import base64

import pytest

from cutor.bus.errors import BusError
from cutor.bus.message import (
    LeaderMessage,
    from_direct,
    from_leader,
    is_delivery,
    parse_delivery,
    parse_header_block,
    parse_time_ns,
)

PLACE_HEADERS = {
    "Nats-Stream": "EVENTS",
    "Nats-Subject": "cutor.ev.default.a.submitted",
    "Nats-Sequence": "7",
    "Nats-Time-Stamp": "2026-01-02T03:04:05.000000006Z",
}


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("2026-01-02T03:04:05.123456789Z", 1_767_323_045_123_456_789),
        ("2026-01-02T03:04:05.12Z", 1_767_323_045_120_000_000),
    ],
)
def test_times_keep_every_nanosecond(text: str, time_ns: int) -> None:
    assert parse_time_ns(text) == time_ns


@pytest.mark.parametrize(
    "reply",
    [
        "$JS.ACK.EVENTS.builder-default.2.700.9.1767323045123456789.4",
        "$JS.ACK.hub.ACCHASH.EVENTS.builder-default.2.700.9.1767323045123456789.4",
        "$JS.ACK._.ACCHASH.EVENTS.builder-default.2.700.9.1767323045123456789.4.rnd",
    ],
)
def test_every_form_of_an_acknowledgement_subject_is_read(reply: str) -> None:
    place = parse_delivery(reply)
    assert (place.stream, place.consumer) == ("EVENTS", "builder-default")
    assert (place.delivered_count, place.stream_sequence, place.consumer_sequence) == (2, 700, 9)
    assert (place.time_ns, place.pending) == (1767323045123456789, 4)
    assert is_delivery(reply)


def test_an_unknown_acknowledgement_subject_is_refused() -> None:
    with pytest.raises(BusError, match="5 tokens"):
        parse_delivery("$JS.ACK.EVENTS.builder.1")


def test_a_status_line_is_no_message() -> None:
    assert from_direct("EVENTS", {"Status": "404", "Description": "Message Not Found"}, b"") is None
    assert from_direct("EVENTS", None, b"") is None
    assert not is_delivery("_INBOX.x.1")


def test_the_senders_headers_are_kept_and_the_servers_are_not() -> None:
    stored = from_direct("EVENTS", PLACE_HEADERS | {"Nats-Msg-Id": "m", "Trace": "t", "Nats-Num-Pending": "3"}, b"body")
    assert stored is not None
    assert (stored.stream, stored.sequence, stored.subject) == ("EVENTS", 7, "cutor.ev.default.a.submitted")
    assert (stored.message_id, dict(stored.headers), stored.body) == ("m", {"Trace": "t"}, b"body")


def test_the_leaders_answer_gives_the_same_message() -> None:
    block = b"NATS/1.0\r\nNats-Msg-Id: m\r\nTrace: t\r\n\r\n"
    message = LeaderMessage(
        subject=PLACE_HEADERS["Nats-Subject"],
        seq=7,
        time=PLACE_HEADERS["Nats-Time-Stamp"],
        hdrs=base64.b64encode(block).decode(),
        data=base64.b64encode(b"body").decode(),
    )
    assert from_leader("EVENTS", message) == from_direct("EVENTS", PLACE_HEADERS | {"Nats-Msg-Id": "m", "Trace": "t"}, b"body")


def test_the_last_header_of_a_name_counts() -> None:
    assert parse_header_block(b"NATS/1.0\r\nA: 1\r\nA: 2\r\nB:x:y\r\n\r\n") == {"A": "2", "B": "x:y"}


def test_headers_of_a_stored_message_cannot_be_changed() -> None:
    stored = from_direct("EVENTS", PLACE_HEADERS | {"Trace": "t"}, b"")
    assert stored is not None
    with pytest.raises(TypeError):
        stored.headers["Trace"] = "other"  # type: ignore[index]

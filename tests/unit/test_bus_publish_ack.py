"""What the server's answer to a publish means."""

import pytest

from cutor.bus.errors import BusError
from cutor.bus.publish_ack import Appended, Conflict, Passing, Refused, fence_headers, read_ack


@pytest.mark.parametrize(
    ("answer", "ack"),
    [
        (b'{"stream":"EVENTS","seq":5}', Appended(5, duplicate=False)),
        (b'{"stream":"EVENTS","seq":5,"duplicate":true}', Appended(5, duplicate=True)),
        (
            b'{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 17"},"stream":"EVENTS","seq":0}',
            Conflict("EVENTS", 17),
        ),
        (b'{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 0"},"stream":"E"}', Conflict("E", 0)),
        (b'{"error":{"code":400,"err_code":10164,"description":"wrong last sequence"}}', Passing(10164, "wrong last sequence")),
        (b'{"error":{"code":409,"err_code":10158,"description":"is in process"}}', Passing(10158, "is in process")),
        (b'{"error":{"code":503,"err_code":10008,"description":"unavailable"}}', Passing(10008, "unavailable")),
        (b'{"error":{"code":400,"err_code":10054,"description":"too large"}}', Refused(10054, "too large")),
        (b'{"error":{"code":503,"description":"old form"}}', Refused(503, "old form")),
        (b'{"error":{"err_code":10071,"description":"no number"}}', Refused(10071, "no number")),
        (b'{"stream":"EVENTS"}', Refused(0, "the acknowledgement has no sequence")),
    ],
)
def test_every_answer_has_one_meaning(answer: bytes, ack: object) -> None:
    assert read_ack(answer) == ack


def test_an_unreadable_answer_is_no_success() -> None:
    assert isinstance(read_ack(b"+OK"), Refused)


def test_the_fence_is_sent_as_it_is_given() -> None:
    assert fence_headers("id", "cutor.ev.default.a.>", 4, {"Trace": "t"}) == {
        "Trace": "t",
        "Nats-Msg-Id": "id",
        "Nats-Expected-Last-Subject-Sequence": "4",
        "Nats-Expected-Last-Subject-Sequence-Subject": "cutor.ev.default.a.>",
    }


def test_a_caller_cannot_undo_the_fence_by_a_header() -> None:
    with pytest.raises(BusError, match="belong to the server"):
        fence_headers("id", "f", 0, {"nats-expected-last-subject-sequence": "9"})

"""The books of pulls in flight: what is still owed, and when it must be given up."""

import json

from cutor.bus.pull import Arrival, Heartbeat, PullEnd, PullWindow, pull_request, read_pull_answer


def test_messages_pay_what_all_pulls_owe_together() -> None:
    window = PullWindow()
    window.sent(1, 10, 5.0, now=0.0)
    window.sent(2, 10, 5.0, now=0.0)
    for _ in range(12):
        window.delivered(now=0.1)
    assert window.owed == 8


def test_the_end_of_a_pull_takes_back_what_it_did_not_bring() -> None:
    window = PullWindow()
    window.sent(1, 10, 5.0, now=0.0)
    window.sent(2, 10, 5.0, now=0.0)
    window.delivered(now=0.1)
    window.ended(1, undelivered=9, now=5.0)
    assert window.owed == 10
    window.ended(2, undelivered=10, now=5.0)
    assert window.owed == 0


def test_the_end_of_an_unknown_pull_changes_nothing() -> None:
    window = PullWindow()
    window.sent(2, 10, 5.0, now=0.0)
    window.ended(1, undelivered=10, now=0.0)
    assert window.owed == 10


def test_nothing_is_owed_when_no_pull_is_left() -> None:
    window = PullWindow()
    window.sent(1, 10, 5.0, now=0.0)
    window.ended(1, undelivered=None, now=1.0)
    assert window.owed == 0


def test_silence_makes_pulls_stale_and_heartbeats_keep_them() -> None:
    window = PullWindow(silence_s=3.0)
    window.sent(1, 1, 60.0, now=0.0)
    assert not window.stale(now=2.9)
    window.alive(now=2.9)
    assert not window.stale(now=5.8)
    assert window.stale(now=6.0)


def test_pulls_past_their_end_are_stale_even_with_heartbeats() -> None:
    window = PullWindow(silence_s=3.0)
    window.sent(1, 1, 5.0, now=0.0)
    window.alive(now=6.5)
    assert window.stale(now=6.6)


def test_pulls_that_owe_nothing_are_never_stale() -> None:
    window = PullWindow()
    window.sent(1, 1, 5.0, now=0.0)
    window.delivered(now=0.0)
    assert not window.stale(now=1e6)
    window.sent(2, 1, 5.0, now=1e6)
    assert not window.stale(now=1e6 + 1)


def test_a_lost_connection_clears_the_books() -> None:
    window = PullWindow()
    window.sent(1, 5, 5.0, now=0.0)
    window.lost()
    assert window.owed == 0
    window.ended(1, undelivered=5, now=1.0)
    assert window.owed == 0


def test_books_do_not_grow_with_fulfilled_pulls() -> None:
    window = PullWindow()
    for number in range(1000):
        window.sent(number, 1, 5.0, now=float(number))
        window.sent(number, 1, 5.0, now=float(number))
        window.delivered(now=float(number))
    assert len(window._ends) < 20


def test_a_delivery_is_told_from_status_lines_by_its_reply_subject() -> None:
    forged = {"Status": "404", "Nats-Msg-Id": "m"}
    answer = read_pull_answer("cutor.ev.a.b.ran", "$JS.ACK.EVENTS.c.1.5.2.1000.0", forged, b"x")
    assert isinstance(answer, Arrival)
    assert answer.stored.sequence == 5
    assert answer.stored.message_id == "m"


def test_status_lines() -> None:
    beat = read_pull_answer(
        "_INBOX.a.4", "", {"Status": "100", "Description": "Idle Heartbeat", "Nats-Last-Consumer": "9"}, b""
    )
    assert beat == Heartbeat(9, number=4)
    expired = {"Status": "408", "Description": "Request Timeout", "Nats-Pending-Messages": "3", "Nats-Pending-Bytes": "0"}
    assert read_pull_answer("_INBOX.a.4", "", expired, b"") == PullEnd(4, 408, "Request Timeout", 3)
    assert read_pull_answer("_INBOX.a.4", "", {"Status": "503"}, b"") == PullEnd(4, 503, "", None)
    nobody = {"Status": "503", "Description": "\nNats-Subject: $JS.API.CONSUMER.MSG.NEXT.EVENTS.builder-default"}
    assert read_pull_answer("_INBOX.a.4", "", nobody, b"") == PullEnd(4, 503, "", None)


def test_which_ends_mean_that_the_consumer_is_gone() -> None:
    assert PullEnd(1, 503, "", None).consumer_gone
    assert PullEnd(1, 409, "Consumer Deleted", None).consumer_gone
    assert PullEnd(1, 409, "Leadership Change", None).consumer_gone
    assert not PullEnd(1, 408, "Request Timeout", 1).consumer_gone
    assert not PullEnd(1, 409, "Batch Completed", 1).consumer_gone


def test_a_pulls_heartbeat_is_at_most_half_its_expiry() -> None:
    assert json.loads(pull_request(3, expires_s=5.0)) == {"batch": 3, "expires": 5_000_000_000, "idle_heartbeat": 1_000_000_000}
    assert json.loads(pull_request(3, expires_s=1.0))["idle_heartbeat"] == 500_000_000
    assert json.loads(pull_request(1, expires_s=None)) == {"batch": 1, "no_wait": True}
    assert json.loads(pull_request(1, expires_s=None, max_bytes=9))["max_bytes"] == 9


def test_a_pull_is_known_until_it_ends_or_is_lost() -> None:
    window = PullWindow()
    window.sent(1, 10, 5.0, 0.0)
    window.sent(2, 10, 5.0, 0.0)
    assert [window.knows(number) for number in (0, 1, 2, 3)] == [False, True, True, False]
    window.ended(1, 10, 1.0)
    assert not window.knows(1)
    window.lost()
    assert not window.knows(2)

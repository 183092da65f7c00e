"""Records about parked submissions: their ids, and what is none."""

from itertools import islice

import pytest

from cutor.model.codec import encode
from cutor.model.decisions import ParkedResolved, retry_ids
from cutor.model.events import Cancelled
from cutor.model.messages import Unreadable, read_decision
from cutor.model.parked import UNDECIDED
from cutor.model.state import Stamp
from cutor.model.subjects import SUBMISSION_ID, Address, parked_subject, parse_parked_subject

SUBJECT = parked_subject(Address("default", "s1"))
RETRIED = ParkedResolved(action="retried", submission="s1-r2")


@pytest.mark.parametrize(
    ("parked", "first"),
    [
        ("a", ["a-r2", "a-r3", "a-r4"]),
        ("a-r2", ["a-r3", "a-r4", "a-r5"]),
        ("a-r41", ["a-r42", "a-r43", "a-r44"]),
        ("a-r1", ["a-r2", "a-r3", "a-r4"]),
        ("a-r0", ["a-r2", "a-r3", "a-r4"]),
        ("-r2", ["-r2-r2", "-r2-r3", "-r2-r4"]),
        ("a-r1234567", ["a-r1234567-r2", "a-r1234567-r3", "a-r1234567-r4"]),
        ("x" * 64, ["x" * 61 + "-r2", "x" * 61 + "-r3", "x" * 61 + "-r4"]),
        ("x" * 61 + "-r9", ["x" * 60 + "-r10", "x" * 60 + "-r11", "x" * 60 + "-r12"]),
    ],
)
def test_the_ids_of_a_retry(parked: str, first: list[str]) -> None:
    assert list(islice(retry_ids(parked), 3)) == first
    many = list(islice(retry_ids(parked), 200))
    assert all(SUBMISSION_ID.fullmatch(one) for one in many)
    assert len({parked, *many}) == 201, "each is another one, and none is the parked one's"


def test_a_record_is_read_as_it_was_written() -> None:
    for record in (RETRIED, ParkedResolved(action="dropped", reason="why"), ParkedResolved(action="dropped")):
        assert read_decision(SUBJECT, encode(record)) == record


@pytest.mark.parametrize(
    ("subject", "body", "reason"),
    [
        ("cutor.dead.parked.default", encode(RETRIED), "not the subject of a parked submission"),
        ("cutor.dead.parked.default.a.b", encode(RETRIED), "not the subject of a parked submission"),
        ("cutor.dead.parked.No.a", encode(RETRIED), "not the subject of a parked submission"),
        (SUBJECT, b"", "not an event: "),
        (SUBJECT, b"\xff", "not UTF-8"),
        (SUBJECT, b"[" * 100_000, "not an event: "),
        (SUBJECT, encode(Cancelled(reason="x")), "unknown kind of event 'cancelled'"),
        (SUBJECT, b'{"kind":"parked-resolved"}', "parked-resolved: "),
        (SUBJECT, b'{"kind":"parked-resolved","version":2,"action":"dropped"}', "parked-resolved has version 2"),
        (SUBJECT, b'{"kind":"parked-resolved","action":"eaten"}', "parked-resolved: action: "),
        (SUBJECT, b'{"kind":"parked-resolved","action":"retried"}', "without the id of the new submission"),
        (SUBJECT, b'{"kind":"parked-resolved","action":"retried","submission":"a b"}', "without the id of the new submission"),
    ],
)
def test_what_is_no_record(subject: str, body: bytes, reason: str) -> None:
    read = read_decision(subject, body)
    assert isinstance(read, Unreadable)
    assert reason in read.reason
    assert len(read.reason) < 400


def test_the_first_record_that_can_be_read_counts() -> None:
    records = UNDECIDED
    for sequence, read in enumerate((Unreadable("x"), RETRIED, Unreadable("y"), ParkedResolved(action="dropped")), 3):
        records = records.take(read, Stamp(sequence, 0))
    assert records.decision is not None
    assert (records.decision.action, records.decision.submission) == ("retried", "s1-r2")
    assert (records.unreadable, records.last_sequence) == (2, 6)


def test_a_subject_is_read_as_it_was_made() -> None:
    for address in (Address("default", "s1"), Address("a-b", "_-X")):
        assert parse_parked_subject(parked_subject(address)) == address

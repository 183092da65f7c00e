"""What is sifted for the fold is what `rows` makes of the same messages, whatever stands among them."""

from __future__ import annotations

import itertools

import pytest

from cutor.bus.bulk.columns import Columns
from cutor.bus.message import Stored
from cutor.model.codec import decode_many, encode
from cutor.model.events import Submitted, kind_of
from cutor.model.messages import malformed
from cutor.model.subjects import ENVIRONMENTS, EVENTS
from cutor.projections.rows import Row, rows
from cutor.projections.sift import AT_ONCE, messages, sift
from tests.bench.lives import lives
from tests.unit.histories import RUNNING, leased, ran

SUBJECT = "cutor.ev.default.s1."
LEASED = encode(leased("builder"))
RAN = encode(ran(0, "OK"))
HALF = len(RAN) // 2

UNUSUAL = {
    "no JSON": ("ran", b"{"),
    "no UTF-8": ("ran", b"\xff"),
    "empty": ("ran", b""),
    "not of its subject": ("ran", LEASED),
    "spaces": ("ran", RAN.replace(b":", b": ", 1)),
    "a line end within": ("ran", RAN.replace(b",", b",\n", 1)),
    "a line end behind": ("ran", RAN + b"\n"),
    "two at once": ("ran", RAN + b"\n" + RAN),
    "an unknown field": ("ran", RAN[:-1] + b',"more":"\xc3"}'),
    "a field twice": ("ran", RAN[:-1] + b',"index":7}'),
    "its kind twice": ("ran", RAN[:-1] + b',"kind":"leased"}'),
    "an unknown kind": ("ran", RAN.replace(b'"ran"', b'"run"')),
    "a version of tomorrow": ("ran", RAN.replace(b'"version":1', b'"version":2')),
    "a version of never": ("ran", RAN.replace(b'"version":1', b'"version":0')),
    "a submission with a fault": ("submitted", encode(malformed("broken"))),
    "a submission that cannot be read": ("submitted", b"nothing"),
    "deep": ("ran", b"[" * 100_000),
}


def message(sequence: int, kind: str, body: bytes, subject: str = SUBJECT) -> Stored:
    return Stored(EVENTS, sequence, subject + kind, sequence * 1000, f"m{sequence}" if sequence % 2 else None, {}, body)


def as_rows(stream: str, columns: Columns) -> list[Row]:
    """Return what is sifted in the form of rows, in the order of the stream."""
    ready, kinds, others = sift(stream, columns)
    back = rows(stream, messages(stream, ready))
    assert {row.kind for row in back} == kinds
    assert all(row.columns[5:] == (None, None, None) for row in back), "or it would not go to the fold as it stands"
    return sorted([*back, *others], key=lambda row: row.columns.sequence)


@pytest.mark.parametrize("unusual", UNUSUAL.values(), ids=UNUSUAL)
@pytest.mark.parametrize("place", [0, 1, AT_ONCE - 1, AT_ONCE])
def test_one_that_is_unusual_is_read_as_ever_and_keeps_no_others_from_it(unusual: tuple[str, bytes], place: int) -> None:
    usual = [(kind_of(event), encode(event)) for event in RUNNING]
    bodies = list(itertools.islice(itertools.cycle(usual), AT_ONCE + 20))
    bodies[place] = unusual
    stored = [message(sequence, kind, body) for sequence, (kind, body) in enumerate(bodies, 1)]
    assert as_rows(EVENTS, Columns.of(stored)) == rows(EVENTS, stored)


@pytest.mark.parametrize("subject", ["cutor.ev.default.s1.x.", "cutor.ev.DEFAULT.s1.", "cutor.ev.default.s 1.", "cutor.env."])
def test_a_subject_that_is_none_of_an_events(subject: str) -> None:
    stored = [message(1, "ran", RAN), message(2, "ran", RAN, subject), message(3, "ran", RAN)]
    assert as_rows(EVENTS, Columns.of(stored)) == rows(EVENTS, stored)
    assert not sift(EVENTS, Columns.of(stored)).ready


def test_bodies_that_are_events_only_together_are_none() -> None:
    stored = [message(1, "ran", RAN[:HALF]), message(2, "ran", RAN[HALF:]), message(3, "ran", RAN + b"\n" + RAN)]
    assert as_rows(EVENTS, Columns.of(stored)) == rows(EVENTS, stored)
    assert decode_many([RAN, RAN[:HALF], RAN[HALF:]]) is None
    assert decode_many([RAN + b"\n" + RAN, b""]) is None


def test_whole_lives_go_to_the_fold_as_they_stand() -> None:
    columns = Columns.of(
        Stored(EVENTS, one.sequence, one.subject, one.time_ns, one.message_id, {}, one.body) for one in lives(3000)
    )
    ready, kinds, others = sift(EVENTS, columns)
    assert (ready, others) == (columns, [])
    assert {"submitted", "cleaned"} <= kinds


def test_other_streams_are_read_one_by_one() -> None:
    stored = [Stored(ENVIRONMENTS, 1, "cutor.env.k", 1, None, {}, b"{}")]
    assert as_rows(ENVIRONMENTS, Columns.of(stored)) == rows(ENVIRONMENTS, stored)


def test_a_fault_of_the_request_itself_is_no_fault_of_the_message() -> None:
    [event] = decode_many([encode(malformed("broken"))]) or [None]
    assert isinstance(event, Submitted)

"""The headers of dead letters: whatever the message was, they are lines of ASCII that are read back as they were."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutor.model.letters import Letter, fit, headers_of, letter_of, read_letter
from cutor.projections.flood import Flood

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=300)


@given(subject=texts, reason=texts, message_id=st.none() | texts, size=st.integers(0, 2**40), complete_to=st.integers(0, 2**40))
def test_a_letter_is_read_as_it_was_written(
    subject: str, reason: str, message_id: str | None, size: int, complete_to: int
) -> None:
    letter = letter_of(
        stream="EVENTS",
        sequence=7,
        subject=subject,
        time_ns=1_000_000_007,
        reason=reason,
        message_id=message_id,
        size_bytes=size,
        complete_to=complete_to,
    )
    headers = headers_of(letter)
    assert all(value.isascii() and value.isprintable() for value in headers.values())
    assert all(value == value.strip() for value in headers.values())
    assert read_letter(headers) == letter


def letter(**more: object) -> Letter:
    fields = {"stream": "EVENTS", "sequence": 7, "subject": "s", "time_ns": 0, "reason": "r", "message_id": None}
    return letter_of(**(fields | {"size_bytes": 0, "complete_to": 0} | more))  # type: ignore[arg-type]


def test_what_others_wrote_is_bounded() -> None:
    long = letter(reason="r" * 1000, message_id="m" * 1_000_000)
    assert (len(long.reason), len(long.message_id or "")) == (300, 300)


@pytest.mark.parametrize("size", [0, 100, 8_000_000, 9_000_000])
def test_a_letter_is_cut_to_what_the_server_takes(size: int) -> None:
    whole = letter(size_bytes=size, subject="\N{SNOWMAN}" * 1000)
    cut, kept = fit(whole, 8_388_608)
    assert sum(len(f"{name}: {value}\r\n") for name, value in headers_of(cut).items()) + kept <= 8_388_608
    assert (cut.truncated, kept == size) == (size == 9_000_000, size != 9_000_000)
    assert cut.size_bytes == size


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Cutor-Stream": "EVENTS"},
        headers_of(letter()) | {"Cutor-Sequence": "x"},
        headers_of(letter()) | {"Cutor-Sequence": "9" * 4000},
        headers_of(letter()) | {"Cutor-Size": "-1"},
        headers_of(letter()) | {"Cutor-Complete-To": "\N{SUPERSCRIPT TWO}"},
        headers_of(letter()) | {"Cutor-Subject": "\N{SNOWMAN}"},
        headers_of(letter()) | {"Cutor-Subject": "\\x"},
        headers_of(letter()) | {"Cutor-Reason": "\\ud800"},
    ],
)
def test_what_is_no_letter(headers: dict[str, str]) -> None:
    assert read_letter(headers) is None


def test_a_flood_is_told_in_part_and_counted() -> None:
    flood = Flood(2, 60.0)
    assert [flood.lets_through(float(now)) for now in (0, 1, 2, 3)] == [True, True, False, False]
    assert (flood.settle(59.0), flood.wait_s(59.0)) == (0, 1.0)
    assert (flood.settle(60.0), flood.wait_s(60.0), flood.settle(61.0)) == (2, None, 0)
    assert [flood.lets_through(float(now)) for now in (100, 101, 102)] == [True, True, False]
    assert flood.hidden == 1

"""Pieces of what Nix prints: bounded, cut where lines end, put together again, and never more than text."""

from hypothesis import given
from hypothesis import strategies as st

from cutor.model.build_progress import (
    LINE_CHARACTERS,
    PIECE_BYTES,
    PIECE_CHARACTERS,
    BuildProgress,
    Lines,
    Printed,
    decode_progress,
)


def piece(text: str, *, lease: int = 1, left_out: bool = False) -> BuildProgress:
    return BuildProgress(lease=lease, text=text, left_out=left_out)


def told(*printed: bytes) -> BuildProgress | None:
    """Return what is told of several pieces that came before anybody was told of one."""
    buffer = Printed(lease=1)
    for data in printed:
        buffer.add(data)
    return buffer.take()


def test_nothing_printed_is_nothing_to_tell() -> None:
    assert told() is None
    assert told(b"") is None


def test_what_was_told_is_not_told_again() -> None:
    buffer = Printed(lease=7)
    buffer.add(b"one\n")
    assert buffer.take() == piece("one\n", lease=7)
    assert buffer.take() is None
    buffer.add(b"two\n")
    assert buffer.take() == piece("two\n", lease=7)


def test_a_character_that_is_cut_in_two_comes_whole() -> None:
    buffer = Printed(lease=1)
    buffer.add("ü".encode()[:1])
    assert buffer.take() is None
    buffer.add("ü".encode()[1:])
    assert buffer.take() == piece("ü")


def test_bytes_that_are_no_text_are_visible() -> None:
    assert told(b"\xff\n") == piece("\\xff\n")


def test_of_too_much_the_newest_whole_lines_are_told() -> None:
    lines = [f"line {number:05}\n" for number in range(1000)]
    found = told("".join(lines).encode())
    assert found is not None
    assert found.left_out
    assert found.text.endswith(lines[-1])
    assert found.text.startswith("line ")
    assert len(found.text) <= PIECE_CHARACTERS


def test_of_a_line_that_is_too_long_the_end_is_told() -> None:
    assert told(b"x" * 10_000) == piece("x" * PIECE_CHARACTERS, left_out=True)


@given(st.lists(st.binary(max_size=5000), max_size=5))
def test_whatever_is_printed_a_piece_is_small(printed: list[bytes]) -> None:
    found = told(*printed)
    assert found is None or 0 < len(found.text) <= PIECE_CHARACTERS


def test_what_no_builder_sends_is_nothing() -> None:
    assert decode_progress(b'{"lease": 1, "text": "a\\n", "unknown": []}') == piece("a\n")
    for body in (
        b"",
        b"[]",
        b"{}",
        b'{"lease": 1}',
        b'{"lease": "1", "text": ""}',
        b'{"lease": 1, "text": "\xff"}',
        b"[" * 5000,
    ):
        assert decode_progress(body) is None
    assert decode_progress(b'{"lease": 1, "text": "%b"}' % (b"x" * (PIECE_CHARACTERS + 1))) is None
    assert decode_progress(b'{"lease": 1, "text": "", "x": "%b"}' % (b"x" * PIECE_BYTES)) is None


def test_lines_are_put_together() -> None:
    lines = Lines()
    assert lines.add(piece("one\ntw")) == ["one"]
    assert lines.add(piece("o\n")) == ["two"]
    assert lines.add(piece("three")) == []
    assert lines.add(piece("\nfour\n")) == ["three", "four"]


def test_what_was_left_out_and_another_lease_end_a_line() -> None:
    lines = Lines()
    assert lines.add(piece("one\nhalf of")) == ["one"]
    assert lines.add(piece("later\n", left_out=True)) == ["…", "later"]
    assert lines.add(piece("half of")) == []
    assert lines.add(piece("anew\n", lease=2)) == ["anew"]


def test_of_a_line_that_was_written_over_the_last_state_is_left() -> None:
    assert Lines().add(piece(" 10 %\r 20 %\r\nnext\r\n")) == [" 20 %", "next"]


@given(st.lists(st.builds(piece, st.text(max_size=5000), lease=st.integers(1, 2), left_out=st.booleans()), max_size=6))
def test_whatever_comes_lines_are_bounded(pieces: list[BuildProgress]) -> None:
    lines = Lines()
    for one in pieces:
        assert all(len(line) <= LINE_CHARACTERS and "\n" not in line and "\r" not in line for line in lines.add(one))

"""What others wrote is shown on a terminal without being obeyed by it."""

from hypothesis import given
from hypothesis import strategies as st

from cutor.text import cut, escape, width


def test_control_characters_are_visible() -> None:
    assert escape("\x1b[31mred\x07") == "\\x1b[31mred\\x07"
    assert escape("a\u202eb\u2028c") == "a\\u202eb\\u2028c"
    assert escape("a\udcffb") == "a\\udcffb"


def test_letters_of_every_script_stay() -> None:
    assert escape("naïve 漢字 \N{SMILE}") == "naïve 漢字 \N{SMILE}"


def test_line_ends_stay_where_they_are_wanted() -> None:
    assert escape("a\nb\tc", keep="\n\t") == "a\nb\tc"
    assert escape("a\nb") == "a\\nb"


@given(st.text())
def test_nothing_unprintable_is_left(text: str) -> None:
    assert all(one.isprintable() for one in escape(text))


def test_wide_characters_take_two_columns_and_marks_none() -> None:
    assert [width(text) for text in ("abc", "漢字", "e\u0301", "")] == [3, 4, 1, 0]


@given(st.text(), st.integers(1, 20))
def test_what_is_cut_takes_no_more_columns(text: str, columns: int) -> None:
    shown = cut(escape(text), columns)
    assert width(shown) <= columns
    assert shown == escape(text) or shown.endswith("…")

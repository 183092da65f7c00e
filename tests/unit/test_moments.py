"""Places in the log: what people write, and what it means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutor.model.errors import InvalidRequest
from cutor.model.moments import LAST_SEQUENCE, Moment, Sequence, exact_time, parse_place

NOW_NS = 1_800_000_000_123_456_789
S = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("1", Sequence(1)),
        ("20261126", Sequence(20261126)),
        (str(LAST_SEQUENCE), Sequence(LAST_SEQUENCE)),
        ("1970-01-02", Moment(86_400 * S)),
        ("1970-01-02T00:00", Moment(86_400 * S)),
        ("1970-01-02 00:00:01", Moment(86_401 * S)),
        ("1970-01-02T00:00:01.5Z", Moment(86_401 * S + 500_000_000)),
        ("1970-01-02T00:00:01.000000001Z", Moment(86_401 * S + 1)),
        ("1970-01-02T01:00:00+01:00", Moment(86_400 * S)),
        ("1970-01-01T22:30:00-0130", Moment(86_400 * S)),
        ("-2h", Moment(NOW_NS - 7200 * S)),
        ("2h", Moment(NOW_NS - 7200 * S)),
        ("1d12h", Moment(NOW_NS - 129_600 * S)),
        ("90min", Moment(NOW_NS - 5400 * S)),
        ("90m30s", Moment(NOW_NS - 5430 * S)),
        ("2w", Moment(NOW_NS - 1_209_600 * S)),
        ("999999w", Moment(0)),
    ],
)
def test_a_place_is_read(text: str, place: Sequence | Moment) -> None:
    assert parse_place(text, NOW_NS) == place


NO_PLACES = ["", "0", "-1", "9" * 19, "9" * 30, "yesterday", "2h ago", "h", "-", "1y", "2026-13-01", "2026-11-26T25:00", "1\n"]
NO_PLACES += ["1969-12-31", "2026-11-26T10:00:00+99:00", "2026-11-26T", "2026-W48-4", "\u0663", "2026-11-26T10:00Z\x1b[31m"]
NO_PLACES += ["0001-01-01T00:00+14:00"]


@pytest.mark.parametrize("text", NO_PLACES)
def test_what_is_no_place_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_place(text, NOW_NS)
    assert str(refused.value).isprintable()


@given(st.integers(0, 2**63 - 1))
def test_an_exact_time_names_the_same_moment(time_ns: int) -> None:
    assert parse_place(exact_time(time_ns), NOW_NS) == Moment(time_ns)

"""Places in the log as people name them: a sequence, a moment, or how long ago that was. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final, NamedTuple

from cutor.model.errors import InvalidRequest
from cutor.model.quoting import shown

NS_PER_S: Final = 1_000_000_000
"""Nanoseconds of a second."""
LAST_SEQUENCE: Final = (1 << 63) - 1
"""The largest sequence that can be written: a signed number of 64 bits."""
PLACE_FORMS: Final = "a sequence (1042), a time (2026-11-26T23:00:00Z, without a zone in UTC), or how long ago (-2h, 1d12h)"
MOMENT_FORMS: Final = "a time (2026-11-26T23:00:00Z, without a zone in UTC), or how long ago (7d, 1d12h)"

_SEQUENCE: Final = re.compile(r"[0-9]{1,19}", re.ASCII)
_TIME: Final = re.compile(
    r"(?P<date>\d{4}-\d{2}-\d{2})"
    r"(?:[T ](?P<clock>\d{2}:\d{2}(?::\d{2})?)(?:[.,](?P<fraction>\d{1,9}))?(?P<zone>Z|[+-]\d{2}:?\d{2})?)?",
    re.ASCII,
)
_UNITS_S: Final = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "min": 60, "s": 1}
_PART: Final = re.compile(r"([0-9]{1,6})(w|d|h|min|m|s)", re.ASCII)
_AGO: Final = re.compile(rf"-?(?:{_PART.pattern})+", re.ASCII)


class Sequence(NamedTuple):
    """A place by its number in the stream, from 1."""

    number: int

    def __str__(self) -> str:
        return str(self.number)


class Moment(NamedTuple):
    """A place by the stream's own time, nanoseconds since 1970 UTC."""

    time_ns: int

    def __str__(self) -> str:
        return exact_time(self.time_ns)


Place = Sequence | Moment


def parse_place(text: str, now_ns: int) -> Place:
    """Return the place that a text names; digits alone are a sequence. Raises `InvalidRequest`, one line."""
    if _SEQUENCE.fullmatch(text):
        return _sequence(text)
    if _AGO.fullmatch(text):
        span_s = sum(int(count) * _UNITS_S[unit] for count, unit in _PART.findall(text))
        return Moment(max(0, now_ns - span_s * NS_PER_S))
    if (found := _TIME.fullmatch(text)) is not None:
        return _moment(text, found)
    raise InvalidRequest(f"{shown(text)} is no place in the log: give {PLACE_FORMS}")


def parse_moment(text: str, now_ns: int) -> Moment:
    """Return the moment that a text names, as `parse_place` reads it; a sequence is none. Raises `InvalidRequest`, one line."""
    place = parse_place(text, now_ns) if _AGO.fullmatch(text) or _TIME.fullmatch(text) else None
    if not isinstance(place, Moment):
        raise InvalidRequest(f"{shown(text)} is no time: give {MOMENT_FORMS}")
    return place


def _sequence(text: str) -> Sequence:
    if not 1 <= int(text) <= LAST_SEQUENCE:
        raise InvalidRequest(f"{shown(text)} is no sequence: they are numbered from 1")
    return Sequence(int(text))


def _moment(text: str, found: re.Match[str]) -> Moment:
    zone = (found["zone"] or "Z").replace("Z", "+00:00")
    try:
        seconds = int(datetime.fromisoformat(f"{found['date']}T{found['clock'] or '00:00'}{zone}").timestamp())
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(f"{shown(text)} is no time: {error}") from error
    if seconds < 0:
        raise InvalidRequest(f"{shown(text)} lies before 1970")
    return Moment(seconds * NS_PER_S + int((found["fraction"] or "").ljust(9, "0")))


def exact_time(time_ns: int) -> str:
    """Return a stream's time with all of its digits: ``2026-01-31T12:00:00.123456789Z``; `parse_place` reads it back."""
    seconds, rest_ns = divmod(time_ns, NS_PER_S)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns:09d}Z"

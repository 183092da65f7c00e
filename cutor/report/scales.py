"""Axes: which numbers stand beside them, and where a value is on them. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from typing import Final, NamedTuple

from cutor.report.words import MONTHS, day, utc


class Tick(NamedTuple):
    """A mark on an axis."""

    value: float
    text: str


class Linear(NamedTuple):
    """Values from ``low`` to ``high``, evenly on the pixels from ``begin`` to ``end``; what lies beyond is at an end."""

    low: float
    high: float
    begin: float
    end: float

    def at(self, value: float) -> float:
        """Return the pixel of a value."""
        part = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.0
        return self.begin + min(max(part, 0.0), 1.0) * (self.end - self.begin)


class Log(NamedTuple):
    """Values from ``low`` to ``high``, both over 0, each power as long as the next; what lies beyond is at an end."""

    low: float
    high: float
    begin: float
    end: float

    def at(self, value: float) -> float:
        """Return the pixel of a value."""
        return Linear(math.log(self.low), math.log(self.high), self.begin, self.end).at(math.log(max(value, self.low)))


def nice_step(span: float, count: int) -> float:
    """Return the least of 1, 2, 5, 10, 20 … that divides a span into so many pieces at the most; at least 1."""
    least = max(span / count, 1.0)
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10, 20) if factor * power >= least * (1 - 1e-9))


def count_ticks(highest: float, count: int = 4) -> list[Tick]:
    """Return ticks for numbers of things, from 0 to at least the highest."""
    step = nice_step(max(highest, 1.0), count)
    last = math.ceil(max(highest, 1.0) / step - 1e-9)
    return [Tick(number * step, short(number * step)) for number in range(last + 1)]


def short(value: float) -> str:
    """Return a number for an axis: ``800``, ``1.5k``, ``2M``."""
    for unit, length in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= length:
            return f"{value / length:g}{unit}"
    return f"{value:g}"


SPANS_MS: Final = (
    (1e-3, "1 µs"),
    (1e-2, "10 µs"),
    (1e-1, "0.1 ms"),
    (1.0, "1 ms"),
    (1e1, "10 ms"),
    (1e2, "0.1 s"),
    (1e3, "1 s"),
    (1e4, "10 s"),
    (6e4, "1 min"),
    (6e5, "10 min"),
    (3.6e6, "1 h"),
    (3.6e7, "10 h"),
    (3.456e8, "4 d"),
    (3.456e9, "40 d"),
    (3.456e10, "400 d"),
)
"""Where a logarithmic axis of time has its ticks: about a power of ten apart."""


def span_ticks(low_ms: float, high_ms: float) -> list[Tick]:
    """Return ticks for spans of time: the nearest below the lowest, the nearest above the highest, and all between."""
    values = [value for value, _ in SPANS_MS]
    first = max(0, bisect_right(values, low_ms) - 1)
    last = min(len(values) - 1, max(bisect_left(values, high_ms), first + 1))
    first = min(first, last - 1)
    return [Tick(*SPANS_MS[place]) for place in range(first, last + 1)]


_DAY_S: Final = 86_400
"""Seconds of a day."""
_WEEK_S: Final = 7 * _DAY_S
"""Seconds of a week."""
_PARTS_OF_A_DAY_S: Final = (60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200)
"""Steps of an axis of time that divide a day: ticks fall on full minutes and hours."""
_STEPS_S: Final = (*_PARTS_OF_A_DAY_S, _DAY_S, 2 * _DAY_S, 4 * _DAY_S, _WEEK_S, 2 * _WEEK_S)
_MONDAY_S: Final = 4 * _DAY_S
"""The first Monday since 1970 began, on a Thursday: Monday, the 5th of January."""


def calendar_ticks(begin_s: int, end_s: int, count: int) -> list[Tick]:
    """Return ticks for a time of the calendar, so many at the most: full hours, midnights, Mondays, first days of months."""
    span_s = max(end_s - begin_s, 60)
    step = next((step for step in _STEPS_S if span_s / step <= count), None)
    if step is None:
        return _month_ticks(begin_s, end_s, count)
    offset = _MONDAY_S if step % _WEEK_S == 0 else 0
    first = -(-(begin_s - offset) // step) * step + offset
    return [Tick(moment, _moment(moment, step)) for moment in range(first, end_s + 1, step)]


def _moment(seconds: int, step: int) -> str:
    if step >= _DAY_S or seconds % _DAY_S == 0:
        return day(seconds)
    return f"{utc(seconds):%H:%M}"


def _month_ticks(begin_s: int, end_s: int, count: int) -> list[Tick]:
    begin, end = utc(begin_s), utc(end_s)
    first, last = begin.year * 12 + begin.month, end.year * 12 + end.month - 1
    step = next(
        step for step in (1, 2, 3, 6, 12, 24, 60, 120, 600, 1200, 12_000, 120_000) if (last - first + 1) / step <= count
    )
    return [_month(number) for number in range(-(-first // step) * step, last + 1, step)]


def _month(number: int) -> Tick:
    year, month = divmod(number, 12)
    moment = utc(0).replace(year=year, month=month + 1)
    return Tick(moment.timestamp(), str(year) if month == 0 else f"{MONTHS[month]} {year}")

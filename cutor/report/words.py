"""Numbers, times and names as a report writes them. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from cutor.model.units import about
from cutor.text import cut, escape

MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
NONE: Final = "\N{EN DASH}"
NAME_COLUMNS: Final = 40
"""Most columns of a name in a table; a longer one is cut."""
SENTENCE_COLUMNS: Final = 160
"""Most columns of a message or reason in a table; a longer one is cut."""
_SPANS: Final = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1))
_LAST_S: Final = 253_402_300_799  # the year 9999


def count(number: int) -> str:
    """Return a number with its thousands apart: ``12,345``."""
    return f"{number:,}"


def share(part: int, whole: int) -> str:
    """Return a part in per cent; ``< 0.1 %`` and ``> 99.9 %`` where rounding would say none, or all."""
    if whole <= 0:
        return NONE
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "< 0.1 %"
    if 99.9 < percent < 100:
        return "> 99.9 %"
    return f"{percent:.0f} %" if percent in (0, 100) else f"{percent:.1f} %"


def duration(milliseconds: float) -> str:
    """Return a span of time in two or three digits: ``0.4 ms``, ``12 ms``, ``1.3 s``, ``2.5 min``, ``3.1 h``, ``12 d``."""
    if milliseconds == 0:
        return "0 ms"
    unit, length = next(((unit, length) for unit, length in _SPANS if milliseconds >= length), _SPANS[-1])
    value = milliseconds / length
    return f"{count(round(value))} {unit}" if value >= 9.95 else f"{value:.1f} {unit}".replace(".0 ", " ")


def span(seconds: int) -> str:
    """Return the length of a piece of time in words: ``3 hours``, ``1 week``."""
    for unit, length in (("year", 31_536_000), ("week", 604_800), ("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds % length == 0:
            number = seconds // length
            return f"1 {unit}" if number == 1 else f"{number} {unit}s"
    return f"{seconds} seconds"


def size(number: int | None) -> str:
    """Return a number of bytes, about."""
    return NONE if number is None else about(number)


def moment(microseconds: int | None, *, seconds: bool = True) -> str:
    """Return a time of the calendar: ``2026-11-26 18:00:03``, UTC."""
    if microseconds is None:
        return NONE
    return f"{utc(microseconds // 1_000_000):%Y-%m-%d %H:%M}" + (f":{microseconds // 1_000_000 % 60:02}" if seconds else "")


def utc(seconds: int) -> datetime:
    """Return a time of the calendar; what no calendar has is moved to its ends."""
    return datetime.fromtimestamp(min(max(seconds, 0), _LAST_S), UTC)


def day(seconds: int) -> str:
    """Return ``26 Nov``."""
    found = utc(seconds)
    return f"{found.day} {MONTHS[found.month - 1]}"


def fit(text: str, columns: int = NAME_COLUMNS) -> str:
    """Return what others wrote: no longer than so many columns, and nothing in it that anybody might obey."""
    return cut(escape(text[: 4 * columns]), columns)

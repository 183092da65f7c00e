"""The plots, as SVG of a given width: in letters of one size on every screen. Pure.

Each function takes values and returns one ``<svg>``; colours and letters are classes of the page's style sheet. All coordinates
lie in the ``viewBox``, whatever the values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from markupsafe import Markup

from cutor.report.scales import Linear, Log, Tick, calendar_ticks, count_ticks, span_ticks
from cutor.report.svg import element, path
from cutor.report.words import count, duration
from cutor.text import cut

LETTER: Final = 7.2
"""Pixels that a letter of 12 pixels takes, about."""
LEFT: Final = 46
"""Pixels at the left of a plot, for the texts of its vertical axis."""
RIGHT: Final = 14
"""Pixels at the right of a plot."""
TOP: Final = 22
"""Pixels above a plot."""
BOTTOM: Final = 42
"""Pixels beneath a plot, for the texts of its horizontal axis."""
TICK_ROOM: Final = 64
"""Pixels of the horizontal axis for each of its texts."""
ROW: Final = 42
"""Pixels of height of a lying bar and its texts."""
BAR: Final = 14
"""Pixels of height of a lying bar itself."""
CLASSES: Final = 10
"""Classes of a histogram in a power of ten."""


class Heading(NamedTuple):
    """What a figure is called, where it cannot be seen: ``name`` is unique in a page."""

    name: str
    title: str


class Part(NamedTuple):
    """A piece of a bar: its colour's class, and of how many."""

    style: str
    number: int


class Column(NamedTuple):
    """A bar over a piece of time: what it is stacked of, the line over it, and what a pointer on it is told."""

    begin_s: int
    parts: tuple[Part, ...]
    line: int
    said: str


class Strip(NamedTuple):
    """A bar that lies: what stands above it at the left and at the right, its parts, and how many its whole width would be."""

    name: str
    said: str
    parts: tuple[Part, ...]
    whole: int


class Curve(NamedTuple):
    """A distribution: its colour's class, and its quantiles in milliseconds, from the least to the most, as far apart."""

    style: str
    quantiles_ms: Sequence[float]


class Frame(NamedTuple):
    """The picture, and where in it the axes are."""

    width: int
    height: int

    @property
    def right(self) -> float:
        """Where the plot ends."""
        return self.width - RIGHT

    @property
    def bottom(self) -> float:
        """Where the plot stands."""
        return self.height - BOTTOM

    def picture(self, heading: Heading, *children: Markup) -> Markup:
        """Return the whole."""
        return element(
            "svg",
            element("title", heading.title, id=heading.name),
            *children,
            viewBox=f"0 0 {self.width} {self.height}",
            width=self.width,
            height=self.height,
            role="img",
            aria_labelledby=heading.name,
        )

    def levels(self, ticks: Iterable[Tick], scale: Linear, unit: str) -> Iterable[Markup]:
        """Yield the vertical axis: a line at each tick, and what is counted above it."""
        yield element("text", unit, x=2, y=12, class_="unit")
        for value, text in ticks:
            y = scale.at(value)
            yield element("line", x1=LEFT, x2=self.right, y1=y, y2=y, class_="grid" if y < self.bottom else "axis")
            yield element("text", text, x=LEFT - 6, y=min(y + 4, self.height), class_="end")

    def places(self, ticks: Iterable[Tick], scale: Linear | Log, unit: str) -> Iterable[Markup]:
        """Yield the horizontal axis: a mark and a text at each tick, and what is measured beneath."""
        for value, text in ticks:
            x = scale.at(value)
            yield element("line", x1=x, x2=x, y1=self.bottom, y2=self.bottom + 5, class_="axis")
            half = len(text) * LETTER / 2
            yield element("text", text, x=min(max(x, half), self.width - half), y=self.bottom + 19, class_="middle")
        yield element("text", unit, x=self.right, y=self.height - 6, class_="unit end")

    @property
    def texts(self) -> int:
        """How many texts the horizontal axis has room for."""
        return max(2, int((self.right - LEFT) / TICK_ROOM))


def columns(
    heading: Heading, bars: Sequence[Column], step_s: int, width: int, *, begin_s: int, end_s: int, unit: str, height: int = 260
) -> Markup:
    """Return stacked bars over time, from ``begin_s`` to ``end_s``, with a line over them; ``unit`` is what is counted."""
    frame = Frame(width, height)
    ticks = count_ticks(max((max(sum(part.number for part in bar.parts), bar.line) for bar in bars), default=1))
    up = Linear(0, ticks[-1].value, frame.bottom, TOP)
    along = Linear(begin_s, end_s, LEFT, frame.right)
    gap = 1.0 if along.at(begin_s + step_s) - LEFT > 4 else 0.0
    drawn = [
        element(
            "g",
            element("title", bar.said),
            *_stack(bar.parts, up, along.at(bar.begin_s) + gap / 2, along.at(bar.begin_s + step_s) - gap / 2),
        )
        for bar in bars
    ]
    return frame.picture(
        heading,
        *frame.levels(ticks, up, unit),
        *drawn,
        element("path", d=path(_stairs(bars, up, along, step_s)), class_="line submitted"),
        *frame.places(calendar_ticks(begin_s, end_s, frame.texts), along, "UTC"),
    )


def _stack(parts: Sequence[Part], up: Linear, left: float, right: float) -> Iterable[Markup]:
    below = 0
    for part in parts:
        if part.number:
            top, foot = up.at(below + part.number), up.at(below)
            yield element("rect", x=left, y=top, width=max(right - left, 0), height=foot - top, class_=part.style)
        below += part.number


def _stairs(bars: Sequence[Column], up: Linear, along: Linear, step_s: int) -> Iterable[tuple[float, float]]:
    """Yield the corners of the line over bars; where there is no bar, it lies on the ground."""
    yield along.begin, up.begin
    end_s: int | None = None
    for bar in bars:
        if end_s is not None and bar.begin_s > end_s:
            yield along.at(end_s), up.begin
        if end_s is None or bar.begin_s > end_s:
            yield along.at(bar.begin_s), up.begin
        end_s = bar.begin_s + step_s
        yield along.at(bar.begin_s), up.at(bar.line)
        yield along.at(end_s), up.at(bar.line)
    yield along.at(end_s if end_s is not None else along.low), up.begin


def strips(heading: Heading, rows: Sequence[Strip], width: int) -> Markup:
    """Return bars that lie, one beneath the other, each with its name and its numbers above it."""
    frame = Frame(width, ROW * max(len(rows), 1) + 2)
    return frame.picture(heading, *(piece for place, row in enumerate(rows) for piece in _strip(row, ROW * place, width)))


def _strip(row: Strip, top: int, width: int) -> Iterable[Markup]:
    room = int(width / LETTER) - len(row.said) - 2
    along = Linear(0, max(row.whole, 1), 0, width)
    y = top + 18
    yield element("text", cut(row.name, max(room, 4)), x=0, y=top + 13, class_="name")
    yield element("text", row.said, x=width, y=top + 13, class_="end")
    yield element("rect", x=0, y=y, width=width, height=BAR, class_="ground")
    begin = 0
    for part in row.parts:
        if part.number > 0:
            left, right = along.at(begin), along.at(begin + part.number)
            gap = 1.0 if right - left > 3 and right < width else 0.0
            yield element("rect", x=left, y=y, width=right - left - gap, height=BAR, class_=part.style)
        begin += part.number


def curves(heading: Heading, lines: Sequence[Curve], width: int, *, height: int = 260) -> Markup:
    """Return how large a part took how long at the most: a line for each, over a logarithmic axis of time."""
    frame = Frame(width, height)
    known = [value for line in lines for value in line.quantiles_ms if value > 0]
    ticks = span_ticks(min(known, default=1.0), max(known, default=1000.0))
    along = Log(ticks[0].value, ticks[-1].value, LEFT, frame.right)
    up = Linear(0, 100, frame.bottom, TOP)
    parts = [Tick(part, f"{part} %") for part in (0, 25, 50, 75, 100)]
    return frame.picture(
        heading,
        *frame.levels(parts, up, "took no longer"),
        *(_upright(along.at(tick.value), frame) for tick in ticks),
        *(element("path", d=path(_curve(line, along, up)), class_=f"line {line.style}") for line in lines if line.quantiles_ms),
        *frame.places(_roomy(ticks, along), along, "time, logarithmic"),
    )


def _upright(x: float, frame: Frame) -> Markup:
    return element("line", x1=x, x2=x, y1=TOP, y2=frame.bottom, class_="grid")


def _curve(line: Curve, along: Log, up: Linear) -> Iterable[tuple[float, float]]:
    last = max(len(line.quantiles_ms) - 1, 1)
    for place, value in enumerate(line.quantiles_ms):
        yield along.at(value), up.at(100 * place / last)


def _roomy(ticks: Sequence[Tick], along: Log) -> Iterable[Tick]:
    """Yield ticks; the text of one that would touch the one before it is left out."""
    free = float("-inf")
    for value, text in ticks:
        half = len(text) * LETTER / 2
        x = min(max(along.at(value), half), RIGHT + along.end - half)
        shown = x - half >= free
        yield Tick(value, text if shown else "")
        free = x + half + 6 if shown else free


def histogram(heading: Heading, classes: Sequence[tuple[int, tuple[Part, ...]]], width: int, *, height: int = 260) -> Markup:
    """Return how many took how long: class n is from 10^(n / `CLASSES`) ms on; bars are stacked, the axis logarithmic."""
    frame = Frame(width, height)
    numbers = [number for number, _ in classes] or [0, 9]
    ticks = span_ticks(_begin_ms(min(numbers)), _begin_ms(max(numbers) + 1))
    along = Log(ticks[0].value, ticks[-1].value, LEFT, frame.right)
    levels = count_ticks(max((sum(part.number for part in parts) for _, parts in classes), default=1))
    up = Linear(0, levels[-1].value, frame.bottom, TOP)
    drawn = [
        element(
            "g",
            element("title", f"{_class_text(number)}: {count(sum(part.number for part in parts))}"),
            *_stack(parts, up, along.at(_begin_ms(number)) + 0.5, along.at(_begin_ms(number + 1)) - 0.5),
        )
        for number, parts in classes
    ]
    return frame.picture(
        heading,
        *frame.levels(levels, up, "submissions"),
        *drawn,
        *frame.places(_roomy(ticks, along), along, "time, logarithmic"),
    )


def _begin_ms(number: int) -> float:
    """Return where a class begins."""
    return float(10 ** (min(max(number, 0), 30 * CLASSES) / CLASSES))


def _class_text(number: int) -> str:
    return f"{duration(_begin_ms(number))} to {duration(_begin_ms(number + 1))}"


def swatch(style: str, *, line: bool = False) -> Markup:
    """Return the sample of a colour, for a legend."""
    shape = (
        element("path", d="M0 6L22 6", class_=f"line {style}")
        if line
        else element("rect", x=5, y=0, width=12, height=12, class_=style)
    )
    return element("svg", shape, viewBox="0 0 22 12", width=22, height=12, class_="swatch", aria_hidden="true")

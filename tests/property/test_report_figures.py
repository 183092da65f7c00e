"""Plots of any values are well-formed, and nothing of them lies outside of the picture."""

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from cutor.report.figures import Column, Curve, Heading, Part, Strip, columns, curves, histogram, strips
from cutor.report.scales import Linear, Log, calendar_ticks, count_ticks, nice_step, span_ticks
from cutor.report.svg import element
from cutor.report.words import duration, fit, moment, share, size
from cutor.text import width as text_width

WIDTHS = st.sampled_from((344, 508, 640, 1040))
COUNTS = st.one_of(st.integers(0, 20), st.integers(0, 1 << 62))
TEXTS = st.text(max_size=60)
PARTS = st.lists(st.builds(Part, st.sampled_from(("c-ok", "c-wrong", "c-none")), COUNTS), max_size=5).map(tuple)
SECONDS = st.integers(-10, 1 << 40)
HEADINGS = st.builds(Heading, st.just("name"), TEXTS)
MILLISECONDS = st.floats(0, 1e15, allow_nan=False)
CURVES = st.builds(Curve, st.just("l-1"), st.lists(MILLISECONDS, max_size=30).map(sorted))


def check(picture: Markup) -> None:
    """It is XML, and every coordinate is in the viewBox, but for texts, of which the place is."""
    root = ET.fromstring(picture)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for one in root.iter():
        numbers = {name: float(value) for name, value in one.attrib.items() if name in {"x", "y", "x1", "x2", "y1", "y2"}}
        numbers |= {name: float(one.attrib[name]) for name in ("width", "height") if one.tag == "rect"}
        points = [tuple(map(float, point.split())) for point in re.split("[ML]", one.attrib.get("d", ""))[1:]]
        across = [numbers[name] for name in ("x", "x1", "x2") if name in numbers] + [x for x, _ in points]
        down = [numbers[name] for name in ("y", "y1", "y2") if name in numbers] + [y for _, y in points]
        if one.tag == "rect":
            assert numbers["width"] >= 0
            assert numbers["height"] >= 0
            across.append(numbers["x"] + numbers["width"])
            down.append(numbers["y"] + numbers["height"])
        assert all(-0.15 <= x <= width + 0.15 for x in across), one.attrib
        assert all(-0.15 <= y <= height + 0.15 for y in down), one.attrib


@given(
    HEADINGS,
    st.lists(st.builds(Column, SECONDS, PARTS, COUNTS, TEXTS), max_size=6),
    st.integers(1, 40_000_000),
    WIDTHS,
    SECONDS,
    st.integers(0, 1 << 34),
    TEXTS,
)
def test_bars_over_time(
    heading: Heading, bars: list[Column], step_s: int, width: int, begin: int, span: int, unit: str
) -> None:
    ordered = sorted(bars, key=lambda bar: bar.begin_s)
    check(columns(heading, ordered, step_s, width, begin_s=begin, end_s=begin + span, unit=unit))


@given(HEADINGS, st.lists(st.builds(Strip, TEXTS, TEXTS, PARTS, COUNTS), max_size=6), WIDTHS)
def test_bars_that_lie(heading: Heading, rows: list[Strip], width: int) -> None:
    check(strips(heading, rows, width))


@given(
    HEADINGS, st.lists(st.builds(Curve, st.just("l-1"), st.lists(MILLISECONDS, max_size=30).map(sorted)), max_size=3), WIDTHS
)
def test_distributions(heading: Heading, lines: list[Curve], width: int) -> None:
    check(curves(heading, lines, width))


@given(HEADINGS, st.lists(st.tuples(st.integers(-5, 400), PARTS), max_size=8), WIDTHS)
def test_histograms(heading: Heading, classes: list[tuple[int, tuple[Part, ...]]], width: int) -> None:
    check(histogram(heading, classes, width))


@given(st.text(), st.text())
def test_an_element_is_read_back_as_what_was_put_in(text: str, value: str) -> None:
    read = ET.fromstring(element("text", text, class_=value))
    for found, put in ((read.text or "", text), (read.attrib["class"], value)):
        assert found == "".join(
            one if one.isprintable() else one.encode("unicode_escape", "surrogatepass").decode() for one in put
        )


@given(st.floats(0, 1e18), st.integers(1, 12))
def test_ticks_of_numbers_reach_over_the_highest_and_are_few(highest: float, count: int) -> None:
    ticks = count_ticks(highest, count)
    assert ticks[0].value == 0
    assert ticks[-1].value >= highest * (1 - 1e-9)
    assert len(ticks) <= count + 2
    assert f"{nice_step(highest, count):e}"[0] in "125"


@given(MILLISECONDS, MILLISECONDS)
def test_ticks_of_spans_hold_what_they_can(one: float, other: float) -> None:
    ticks = [tick.value for tick in span_ticks(min(one, other), max(one, other))]
    assert ticks == sorted(set(ticks))
    assert len(ticks) >= 2
    if min(one, other) >= 1e-3 and max(one, other) <= 3e10:
        assert ticks[0] <= min(one, other)
        assert max(one, other) <= ticks[-1]


@given(SECONDS, st.integers(0, 1 << 40), st.integers(2, 16))
def test_ticks_of_the_calendar_lie_in_it_and_are_few(begin_s: int, span_s: int, count: int) -> None:
    ticks = calendar_ticks(begin_s, begin_s + span_s, count)
    assert len(ticks) <= count + 1
    assert all(tick.text for tick in ticks)
    assert [tick.value for tick in ticks] == sorted({tick.value for tick in ticks})


@given(MILLISECONDS, st.floats(1e-3, 1e12), st.floats(1.5, 1e6))
def test_scales_stay_between_their_ends(value: float, low: float, factor: float) -> None:
    for scale in (Linear(low, low * factor, 10, 90), Log(low, low * factor, 10, 90), Linear(low, low, 10, 90)):
        assert 10 <= scale.at(value) <= 90


@given(st.text(max_size=300), st.integers(1, 50))
def test_what_others_wrote_is_cut_and_tame(text: str, columns: int) -> None:
    shown = fit(text, columns)
    assert shown.isprintable()
    assert text_width(shown) <= max(columns, 1)


@pytest.mark.parametrize("number", [0, 1, 999, 1 << 40, (1 << 63) - 1])
def test_any_number_can_be_said(number: int) -> None:
    for said in (size(number), moment(number), duration(number), share(number, number + 1), share(0, number)):
        assert said


@given(st.floats(0, 1e15))
def test_spans_are_short(milliseconds: float) -> None:
    assert len(duration(milliseconds)) <= 12

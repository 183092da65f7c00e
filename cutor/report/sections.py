"""What a report shows of the facts: figures with their legends, and the tables of their numbers. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from markupsafe import Markup

from cutor.model.limits import STAGE_KINDS
from cutor.report.facts import Facts, Label, Latency, OutcomeCount
from cutor.report.figures import Column, Curve, Heading, Part, Strip, columns, curves, histogram, strips, swatch
from cutor.report.outcomes import OF_STAGES, OF_SUBMISSIONS, UNENDED, Kind, parts
from cutor.report.words import NONE, count, day, duration, fit, moment, share, size, span, utc

FULL: Final = (1040, 640, 344)  # pixels: a desk, a tablet, a telephone
HALF: Final = (508, 344)
"""Widths in which a figure of the page's whole width, and one of half of it, are drawn: the style sheet shows one of them."""
LATENCIES: Final = {
    "builder": "wait for a builder",
    "found": "environment found",
    "built": "environment built",
    "runner": "wait for a runner",
    "compile": "compile",
    "run": "run, one test case",
    "whole": "submitted to finished",
}
"""What a submission's time goes to, in its order."""
WAITS: Final = (("whole", "l-1"), ("builder", "l-2"), ("runner", "l-3"))
WORK: Final = (("built", "l-1"), ("compile", "l-2"), ("run", "l-3"))


class Table(NamedTuple):
    """Numbers in words: headings, rows of as many cells, and which columns are words (the others are numbers)."""

    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    words: int = 1


class Entry(NamedTuple):
    """A line of a legend."""

    swatch: Markup
    text: str


class Figure(NamedTuple):
    """A plot in its widths, what it shows, and its numbers."""

    title: str
    note: str
    legend: Sequence[Entry]
    pictures: Sequence[tuple[int, Markup]]
    table: Table


def _drawn(name: str, widths: Iterable[int], draw: Callable[[str, int], Markup]) -> list[tuple[int, Markup]]:
    return [(width, draw(f"{name}-{width}", width)) for width in widths]


def _legend(kinds: Iterable[Kind], shown: Iterable[tuple[Part, ...]]) -> list[Entry]:
    """Return the legend of those kinds of which there is anything."""
    styles = {part.style for row in shown for part in row if part.number}
    return [Entry(swatch(kind.style), kind.name) for kind in kinds if kind.style in styles]


def outcomes(facts: Facts) -> Figure:
    """How submissions ended."""
    total = facts.totals.submissions
    rows = [
        Strip(kind.name, f"{count(number)} · {share(number, total)}", (Part(kind.style, number),), total)
        for kind in OF_SUBMISSIONS
        if (number := sum(one.count for one in facts.outcomes if one.outcome in kind.outcomes))
    ]
    return Figure(
        "How submissions ended",
        f"Of {count(total)}.",
        (),
        _drawn("outcomes", HALF, lambda name, width: strips(Heading(name, "Submissions by outcome"), rows, width)),
        Table(("outcome", "submissions", "share"), [(row.name, *row.said.split(" · ")) for row in rows]),
    )


def labels(facts: Facts) -> Figure:
    """How submissions with a label ended."""
    listed = sorted(facts.labels, key=lambda one: (one.name, -one.submissions, one.value))
    rows = [_label_strip(one) for one in listed]
    return Figure(
        "By label",
        "Each bar is all submissions with that label; at the right, how many and how many of those that ended are OK.",
        _legend(OF_SUBMISSIONS, (row.parts for row in rows)),
        _drawn("labels", HALF, lambda name, width: strips(Heading(name, "Outcomes by label"), rows, width)),
        Table(
            ("label", "submissions", *(kind.name for kind in OF_SUBMISSIONS)),
            [(row.name, count(row.whole), *(count(part.number) for part in row.parts)) for row in rows],
        ),
    )


def _label_strip(label: Label) -> Strip:
    ended = label.submissions - sum(one.count for one in label.outcomes if one.outcome is None)
    ok = sum(one.count for one in label.outcomes if one.outcome == "OK")
    name = f"{fit(label.name, 20)} = {fit(label.value)}"
    said = f"{count(label.submissions)} · {share(ok, ended)} OK"
    return Strip(name, said, parts(OF_SUBMISSIONS, label.outcomes), label.submissions)


def throughput(facts: Facts) -> Figure:
    """What came in and what ended, over time."""
    step_s = facts.throughput[0].seconds if facts.throughput else 3600
    pieces: dict[int, dict[str, int]] = defaultdict(dict)
    for piece in facts.throughput:
        pieces[piece.begin_s][piece.what] = piece.count
    bars = [_column(begin_s, step_s, found) for begin_s, found in sorted(pieces.items())]
    begin_s = min(pieces, default=0)
    end_s = max(pieces, default=begin_s) + step_s

    def draw(name: str, width: int) -> Markup:
        heading = Heading(name, f"Submissions that ended, by outcome, and that were submitted, in {span(step_s)}")
        unit = f"submissions in {span(step_s)}"
        return columns(heading, bars, step_s, width, begin_s=begin_s, end_s=end_s, unit=unit)

    ended = [kind for kind in OF_SUBMISSIONS if kind is not UNENDED]
    return Figure(
        "Submitted and ended",
        f"Bars: what ended, by outcome. Line: what was submitted. Each of {span(step_s)}.",
        [*_legend(ended, (bar.parts for bar in bars)), Entry(swatch("submitted", line=True), "submitted")],
        _drawn("throughput", FULL, draw),
        Table(
            ("from (UTC)", "submitted", "ended", *(kind.name for kind in ended)),
            [
                (
                    moment(bar.begin_s * 1_000_000, seconds=False),
                    count(bar.line),
                    count(sum(part.number for part in bar.parts)),
                    *(count(part.number) for part in bar.parts),
                )
                for bar in bars
            ],
        ),
    )


def _column(begin_s: int, step_s: int, found: dict[str, int]) -> Column:
    counts = [OutcomeCount(outcome=what, count=number) for what, number in found.items() if what != "submitted"]
    stacked = parts([kind for kind in OF_SUBMISSIONS if kind is not UNENDED], counts)
    submitted, ended = found.get("submitted", 0), sum(part.number for part in stacked)
    when = f"{day(begin_s)} {utc(begin_s):%H:%M}" if step_s < 86_400 else day(begin_s)
    return Column(begin_s, stacked, submitted, f"{when}: {count(ended)} ended, {count(submitted)} submitted")


def waits(facts: Facts) -> Figure:
    """How long submissions took, and waited."""
    return _distributions(facts, "waits", WAITS, "From submitted to finished, and the waits in it")


def work(facts: Facts) -> Figure:
    """How long stages took."""
    return _distributions(facts, "work", WORK, "How long stages took")


def _distributions(facts: Facts, name: str, shown: Sequence[tuple[str, str]], title: str) -> Figure:
    known = [(found, style) for span, style in shown if (found := facts.latency(span)) is not None]
    lines = [Curve(style, [us / 1000 for us in found.quantiles_us]) for found, style in known]
    return Figure(
        title,
        "Read a point as: so many of them took this long or less.",
        [Entry(swatch(style, line=True), LATENCIES[found.span]) for found, style in known],
        _drawn(name, HALF, lambda name, width: curves(Heading(name, title), lines, width)),
        latency_table([found for found, _ in known]),
    )


def latency_table(latencies: Iterable[Latency]) -> Table:
    """The quantiles of latencies that people compare."""
    order = list(LATENCIES)
    known = sorted((one for one in latencies if one.span in LATENCIES), key=lambda one: order.index(one.span))
    return Table(
        ("", "number", "p10", "p50", "p90", "p99", "most"),
        [
            (
                LATENCIES[one.span],
                count(one.count),
                *(duration(one.quantiles_us[place] / 1000) for place in (10, 50, 90, 99, 100)),
            )
            for one in known
            if len(one.quantiles_us) == 101
        ],
    )


def durations(facts: Facts) -> Figure:
    """How long submissions took, with and without a build."""
    classes: dict[int, dict[bool, int]] = defaultdict(dict)
    for one in facts.durations:
        classes[one.number][one.hit] = one.count
    stacks = [
        (number, (Part("c-ok", of.get(True, 0)), Part("c-built", of.get(False, 0)))) for number, of in sorted(classes.items())
    ]
    return Figure(
        "How long submissions took",
        "From submitted to finished; those that were cancelled, rejected or parked are not among them.",
        [Entry(swatch("c-ok"), "environment was there"), Entry(swatch("c-built"), "it was built, or its build failed")],
        _drawn(
            "durations", HALF, lambda name, width: histogram(Heading(name, "Submissions by how long they took"), stacks, width)
        ),
        Table(
            ("from", "environment was there", "built, or failed"),
            [(duration(10 ** (number / 10)), count(there.number), count(built.number)) for number, (there, built) in stacks],
        ),
    )


def stage_outcomes(facts: Facts) -> Figure:
    """How stages ended."""
    rows = []
    for stage in STAGE_KINDS:
        counts = [one for one in facts.stages if one.stage == stage]
        total = sum(one.count for one in counts)
        ok = sum(one.count for one in counts if one.outcome == "OK")
        if total:
            rows.append(Strip(stage, f"{count(total)} · {share(ok, total)} OK", parts(OF_STAGES, counts), total))
    return Figure(
        "How stages ended",
        "Of the attempts that count. A run is one test case.",
        _legend(OF_STAGES, (row.parts for row in rows)),
        _drawn("stages", HALF, lambda name, width: strips(Heading(name, "Stages by outcome"), rows, width)),
        Table(
            ("stage", "outcome", "number"), [(one.stage, fit(one.outcome), count(one.count)) for one in facts.stages], words=2
        ),
    )


def environments(facts: Facts) -> Figure:
    """Which environments were used, and how often they were there already."""
    rows = [
        Strip(
            one.key[:12] + ("…" if len(one.key) > 12 else ""),
            f"{count(one.uses)} · {share(one.hits, one.uses)} hits · {size(one.closure_bytes)}",
            (Part("c-ok", one.hits), Part("c-built", one.uses - one.hits)),
            facts.environments[0].uses,
        )
        for one in facts.environments
    ]
    return Figure(
        "Environments",
        "How often each was given to a submission, how many of those times it was there already, and the size of its closure.",
        [Entry(swatch("c-ok"), "was there (hit)"), Entry(swatch("c-built"), "was built")],
        _drawn("environments", HALF, lambda name, width: strips(Heading(name, "Uses of environments"), rows, width)),
        Table(
            ("key", "uses", "hits", "median build", "size", "paths", "state", "used last (UTC)"),
            [
                (
                    fit(one.key, 64),
                    count(one.uses),
                    count(one.hits),
                    NONE if one.build_ms is None else duration(one.build_ms),
                    size(one.closure_bytes),
                    NONE if one.closure_paths is None else count(one.closure_paths),
                    ", ".join(word for word in ("removed", "pinned", "private") if getattr(one, word)) or "stands",
                    moment(one.last_us, seconds=False),
                )
                for one in facts.environments
            ],
        ),
    )

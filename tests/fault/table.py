"""The table of `make fault`: a line for each point as it ends, then the total. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tests.fault.rows import Row

NAME: Final = 40
COLUMNS: Final = ("kills", "faults", "handed in", "lost", "doubled", "wrong", "left over", "views", "time")
WIDTHS: Final = (5, 6, 9, 4, 7, 5, 9, 6, 7)
WIDTH: Final = NAME + sum(WIDTHS) + len(WIDTHS) + 2
SUBMISSIONS_AT_LEAST: Final = 500
KILLS_AT_LEAST: Final = 100
LEGEND: Final = (
    "  kills: processes killed; faults: made otherwise, such as a connection that was cut; handed in: submissions for this\n"
    "  point, acknowledged; lost: did not come to its end, or was not cleaned; doubled: took effect twice or out of turn;\n"
    "  wrong: another end than it must have; left over: containers, processes, control groups, mounts, files; views: equal\n"
    "  to a rebuild of them"
)


def heading() -> str:
    """Return what stands above the table."""
    names = " ".join(f"{name:>{width}}" for name, width in zip(COLUMNS, WIDTHS, strict=True))
    return f"{LEGEND}\n\n  {'point':{NAME}} {names}\n  {'-' * (WIDTH - 2)}"


def lines(row: Row) -> Iterator[str]:
    """Yield a point's line, marked where something is not as it must be, and a line for each such thing."""
    mark = " " if row.good else "!"
    yield _line(mark, row.point, _numbers(row), "yes" if not row.views else "NO", f"{row.seconds:.1f} s")
    if not row.reached:
        yield f"    the point was never passed{': ' + row.said if row.said else ''}"
    elif row.said:
        yield f"    {row.said}"
    yield from (f"    {identity}: {finding.promise}: {finding.text}" for identity, finding in row.findings)
    yield from (f"    left: {name}" for name in row.left)
    yield from (f"    fault: {text}" for text in row.faults)
    yield from (f"    views: {difference}" for difference in row.views)


def shortfall(rows: Sequence[Row]) -> list[str]:
    """Return what a run of all points must have and has not: so many submissions and kills."""
    found = []
    for what, count, least in (
        ("submissions", sum(row.submissions for row in rows), SUBMISSIONS_AT_LEAST),
        ("processes killed", sum(row.kills for row in rows), KILLS_AT_LEAST),
    ):
        if count < least:
            found.append(f"{count} {what} in all, at least {least}")
    return found


def total(rows: Sequence[Row], seconds: float) -> str:
    """Return the last line."""
    sums = [sum(numbers) for numbers in zip(*map(_numbers, rows), strict=True)] if rows else [0] * 7
    equal = sum(not row.views for row in rows)
    line = _line(" ", f"total of {len(rows)} points", sums, f"{equal}/{len(rows)}", f"{seconds:.0f} s")
    return f"  {'-' * (WIDTH - 2)}\n{line}"


def _numbers(row: Row) -> list[int]:
    return [
        row.kills,
        row.made,
        row.submissions,
        row.count("lost"),
        row.count("doubled"),
        row.count("wrong"),
        len(row.left),
    ]


def _line(mark: str, name: str, numbers: Sequence[int], views: str, seconds: str) -> str:
    cells = [*map(str, numbers), views, seconds]
    return f"{mark} {name:{NAME}} " + " ".join(f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS, strict=True))

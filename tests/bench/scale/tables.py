"""A run as Markdown: every figure of a stack beside that of the smallest one, which was measured in turns with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from tests.bench.performance.tables import number, table
from tests.bench.scale.figures import Cost, Pair, Run

Values = Callable[[Cost], Iterable[tuple[str, float]]]


def whole(run: Run) -> str:
    """Return everything that a run has to tell."""
    return "\n\n".join(
        [
            ", ".join(f"{name} {value}" for name, value in run.origin.items()),
            compared(run, "a submission, ms (half / 99 of 100)", lambda cost: _steps(cost, contained=False)),
            compared(run, "with a container of its own, ms", lambda cost: _steps(cost, contained=True)),
            compared(run, "CPU, ms a submission", lambda cost: cost.cpu_ms.items()),
            compared(run, "start, s", lambda cost: cost.starts.items()),
            compared(run, "command, ms", lambda cost: ((f"cutor {one.name}", one.ms) for one in cost.commands)),
            compared(run, "memory at the end, MiB (PSS)", lambda cost: ((one.who, one.pss_mib) for one in cost.memory)),
            compared(run, "on the disk, MiB", _disk),
            *([fair(run)] if run.fair else []),
        ]
    )


def fair(run: Run) -> str:
    """Return what single submissions took beside another tenant's queue."""
    head = ["a single submission", "of another tenant in front", "half, ms", "99 of 100, ms", "left of the queue"]
    rows = ([one.runner, f"{one.queued:,}", number(one.took.p50), number(one.took.p99), f"{one.left:,}"] for one in run.fair)
    return table(head, rows)


def compared(run: Run, head: str, values: Values) -> str:
    """Return one table: a column for each stack, with what it is of the smallest one's in the same turns."""
    if not run.pairs:
        return ""
    names = dict.fromkeys(name for pair in run.pairs for cost in (pair.least, pair.more) for name, _ in values(cost))
    heads = [head, _name(run.pairs[0].least), *(_name(pair.more) for pair in run.pairs)]
    rows = ([name, number(_of(run.pairs[0].least, name, values)), *_cells(run.pairs, name, values)] for name in names)
    return table(heads, rows)


def _name(cost: Cost) -> str:
    return f"{cost.submissions:,} in {cost.environments:,}"


def _cells(pairs: Iterable[Pair], name: str, values: Values) -> Iterator[str]:
    for pair in pairs:
        least, more = _of(pair.least, name, values), _of(pair.more, name, values)
        ratio = f" (x {more / least:.2f})" if least and more is not None else ""
        yield f"{number(more)}{ratio}"


def _of(cost: Cost, name: str, values: Values) -> float | None:
    return dict(values(cost)).get(name)


def _steps(cost: Cost, *, contained: bool) -> Iterator[tuple[str, float]]:
    for step in cost.contained if contained else cost.steps:
        yield step.name, step.p50
        if not contained:
            yield f"{step.name}, 99 of 100", step.p99


def _disk(cost: Cost) -> Iterator[tuple[str, float]]:
    yield "streams", cost.stream_bytes / (1 << 20)
    yield "views", cost.views_bytes / (1 << 20)

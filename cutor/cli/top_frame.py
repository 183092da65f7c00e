"""How ``cutor top`` looks. It goes from a view to what rich draws, for a terminal of a given size.

Names in it come from notices that anybody may have sent: they are escaped and cut, and never read as markup.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from cutor.cli.top_view import QueueView, TimesView, View, WorkerView
from cutor.metrics.heard import WINDOW_S
from cutor.model.units import about
from cutor.text import cut, escape

UNKNOWN: Final = "\N{EN DASH}"
BARS: Final = "▁▂▃▄▅▆▇█"
SLOT_CELLS: Final = 12
"""Cells of a bar of slots; of more slots, each cell stands for several."""
TWO_COLUMNS_FROM: Final = 76
"""Columns of a terminal from which on queues and rates stand side by side."""
_LOUD: Final = {"OK": "green", "WRONG_ANSWER": "yellow", "CANCELLED": "dim", "PARKED": "bold red", "REJECTED": "red"}


def frame(view: View, columns: int, rows: int, *, keys: str = "", clock: str = "") -> Group:
    """Return the picture; what does not fit into the rows is counted."""
    parts: list[RenderableType] = [_header(view, columns, clock)]
    queues = _shown_queues(view.queues, max(2, rows // 4))
    left, right = _queues(view.queues, queues, columns), _rates(view, columns // 2 if columns >= TWO_COLUMNS_FROM else columns)
    if columns >= TWO_COLUMNS_FROM:
        both = Table.grid(expand=True)
        both.add_column(ratio=1)
        both.add_column(ratio=1)
        both.add_row(Padding(left, (0, 2, 0, 0)), right)
        parts.append(both)
        taken = max(3 + len(queues), 8)
    else:
        parts += [left, right]
        taken = 11 + len(queues)
    room = max(1, rows - taken - 8)
    nobody = Text("nobody tells of itself: is a builder, runner or projector running?", style="dim")
    parts += [Text(), _workers(view, room, columns) if view.workers else nobody, Text(), *_foot(view)]
    if keys:
        parts.append(Text(keys, style="dim"))
    return Group(*parts)


def _header(view: View, columns: int, clock: str) -> RenderableType:
    live = [worker for worker in view.workers if not worker.stale]
    counts = [f"{sum(one.role == role for one in live)} {role}s" for role in ("builder", "runner", "projector")]
    counts = [text.removesuffix("s") if text.startswith("1 ") else text for text in counts]
    title = Text.assemble(("cutor top", "bold"), "  ", cut(escape(view.address), max(10, columns // 3)))
    if not view.connected:
        title.append("  not connected: trying again", style="bold red")
    elif view.nobody:
        title.append(f"  no roles heard in the last {view.silent_s:.0f} s", style="bold red")
    else:
        title.append(f"  {', '.join(counts)}" if live else "  listening", style="" if live else "dim")
    title.truncate(max(1, columns - len(clock) - 1), overflow="ellipsis", pad=True)
    title.append(f" {clock}"[:columns], style="dim")
    title.no_wrap = True
    return Group(title, Rule(style="dim"))


def _table(*titles: str) -> Table:
    """Return a table whose first column is text on the left, and whose others are figures."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold cyan", expand=False)
    for place, title in enumerate(titles):
        table.add_column(title, justify="left" if place == 0 else "right", no_wrap=True, overflow="ellipsis")
    return table


def _shown_queues(queues: Sequence[QueueView], room: int) -> list[str]:
    """Return the tenants that are shown: those with the deepest queues, by name."""
    depth = {
        tenant: sum((one.pending or 0) + (one.unacknowledged or 0) for one in queues if one.tenant == tenant)
        for tenant in {one.tenant for one in queues}
    }
    return sorted(sorted(depth, key=lambda tenant: (-depth[tenant], tenant))[:room])


def _queues(queues: Sequence[QueueView], tenants: Sequence[str], columns: int) -> Table:
    table = _table("tenant", "to build", "busy", "to run", "busy")
    found = {(one.role, one.tenant): one for one in queues}
    for tenant in tenants:
        cells: list[Text] = []
        for role in ("builder", "runner"):
            one = found.get((role, tenant))
            cells.append(_number(one.pending if one else None, "bold yellow"))
            cells.append(_number(one.unacknowledged if one else None, "green"))
        table.add_row(Text(cut(escape(tenant), max(8, columns // 10))), *cells)
    hidden = len({one.tenant for one in queues}) - len(tenants)
    if hidden:
        table.add_row(Text(f"{hidden} more", style="dim"))
    if not queues:
        table.add_row(Text("not known", style="dim"))
    return table


def _rates(view: View, columns: int) -> RenderableType:
    ended = Text.assemble(("submissions ", "bold cyan"), (_rate(view.finished_per_s), "bold"), "  ")
    ended.append(_spark(view.history[-max(1, columns - ended.cell_len) :]), "green")
    outcomes = Text(" ").join(
        Text(f"{escape(outcome)[:20]} {number}", style=_LOUD.get(outcome, "red")) for outcome, number in view.outcomes.items()
    )
    outcomes.truncate(2 * columns - 20, overflow="ellipsis")
    if not view.outcomes:
        outcomes = Text(f"none ended in the last {_window(view)}", style="dim")
    times = _table(f"last {_window(view)}", "p50", "p95", "of")
    rows = (("start to end", view.durations), ("builder wait", view.waits["builder"]), ("runner wait", view.waits["runner"]))
    for title, what in rows:
        times.add_row(Text(title), _time(what.p50_s), _time(what.p95_s), _of(what))
    return Group(ended, outcomes, times)


def _window(view: View) -> str:
    return "minute" if view.window_s >= WINDOW_S else f"{view.window_s:.0f} s"


def _per_minute(view: View) -> Text:
    """Return what else is counted; what should not happen stands out once it does."""
    line = Text.assemble(("a minute ", "bold cyan"))
    for name, rate, style in (
        ("hits", view.hits_per_min, ""),
        ("builds", view.builds_per_min, ""),
        ("kills", view.kills_per_min, "yellow"),
        ("leases lost", view.leases_lost_per_min, "bold red"),
    ):
        line.append(f"{name} {rate:.0f}   ", style=style if rate >= 0.5 else "dim")
    return line


def _workers(view: View, room: int, columns: int) -> Table:
    table = _table("worker", "slots", "", "waiting", "leases/min", "lost", "heard")
    table.columns[1].justify = "left"
    workers = view.workers if len(view.workers) <= room else view.workers[: max(1, room - 1)]
    for worker in workers:
        style = "dim" if worker.stale else ""
        name = Text(cut(escape(worker.worker), max(16, columns // 3)), style=style or _COLOURS.get(worker.role, ""))
        state = _bar(worker) if worker.slots else Text("" if worker.ready else "not ready", style="yellow")
        used = f"{worker.busy}/{worker.slots}" if worker.slots else ""
        figures = (used, _some(worker.waiting), _figure(worker), _some(worker.leases_lost), _ago(worker))
        table.add_row(name, state, *(Text(one, style=style) for one in figures))
    hidden = len(view.workers) - len(workers) + view.left_out
    if hidden:
        table.add_row(Text(f"{hidden} more", style="dim"))
    return table


_COLOURS: Final = {"builder": "magenta", "runner": "green", "projector": "blue"}


def _foot(view: View) -> Iterator[Text]:
    yield _per_minute(view)
    line = Text.assemble(("views    ", "bold cyan"))
    if view.projector is None:
        line.append("no projector is heard", style="dim")
    else:
        for stream, behind in view.projector.behind.items():
            said = UNKNOWN if behind is None else f"{behind:,} behind" if behind else "current"
            line.append(f"{escape(stream)[:20]} {said}  ", style="yellow" if behind else "")
        if view.projector.commit_ms is not None:
            line.append(f"commit {view.projector.commit_ms:.0f} ms", style="dim")
    yield line
    storage = Text.assemble(("streams  ", "bold cyan"))
    storage.append(UNKNOWN if view.used_bytes is None else about(view.used_bytes))
    if view.used_bytes is not None and view.limit_bytes:
        share = view.used_bytes / view.limit_bytes
        storage.append(f" of {about(view.limit_bytes)} ({share:.0%})", style="bold red" if share >= 0.8 else "")
    storage.append("   parked ").append_text(_number(view.parked, "bold red"))
    storage.append("+" if view.parked_more else "").append("   dead letters ").append_text(_number(view.dead_letters, "yellow"))
    if view.unreadable:
        storage.append(f"   {view.unreadable} unreadable notices", style="yellow")
    yield storage


def _bar(worker: WorkerView) -> Text:
    cells = min(worker.slots, SLOT_CELLS)
    full = min(cells, -(-worker.busy * cells // worker.slots))
    style = "dim" if worker.stale else _COLOURS.get(worker.role, "")
    return Text.assemble(("█" * full, style), ("░" * (cells - full), "dim"))


def _spark(history: Sequence[float]) -> str:
    most = max(history, default=0)
    return "".join(BARS[min(7, int(8 * one / most))] if one else " " for one in history) if most else ""


def _number(number: int | None, style: str) -> Text:
    """Return a figure that stands out unless it is nothing."""
    if number is None:
        return Text(UNKNOWN, style="dim")
    return Text(f"{number:,}", style=style if number else "dim")


def _rate(per_s: float) -> str:
    return f"{per_s:.1f}/s" if per_s >= 1 or not per_s else f"{60 * per_s:.1f}/min"


def _time(seconds: float | None) -> Text:
    if seconds is None:
        return Text(UNKNOWN, style="dim")
    if seconds < 1:
        return Text(f"{1000 * seconds:.0f} ms")
    return Text(f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.0f} min")


def _of(times: TimesView) -> Text:
    return Text(f"{times.number:,}", style="dim")


def _figure(worker: WorkerView) -> str:
    return f"{worker.leases_per_min:.0f}" if worker.slots else ""


def _some(number: int) -> str:
    return str(number) if number else ""


def _ago(worker: WorkerView) -> str:
    return f"{worker.silent_s:.0f} s ago" if worker.stale else ""

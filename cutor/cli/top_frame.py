"""How ``cutor top`` looks. It goes from a document to what rich draws, for a terminal of a given size.

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

from cutor.cli.top_document import Shown, ShownQueue, ShownTimes, ShownWorker
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


def frame(shown: Shown, columns: int, rows: int, *, keys: str = "", clock: str = "") -> Group:
    """Return the picture; what does not fit into the rows is counted."""
    parts: list[RenderableType] = [_header(shown, columns, clock)]
    queues = _shown_queues(shown.queues, max(2, rows // 4))
    left, right = (
        _queues(shown.queues, queues, columns),
        _rates(shown, columns // 2 if columns >= TWO_COLUMNS_FROM else columns),
    )
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
    parts += [Text(), _workers(shown, room, columns) if shown.workers else nobody, Text(), *_foot(shown)]
    if keys:
        parts.append(Text(keys, style="dim"))
    return Group(*parts)


def _header(shown: Shown, columns: int, clock: str) -> RenderableType:
    live = [worker for worker in shown.workers if not worker.stale]
    counts = [f"{sum(one.role == role for one in live)} {role}s" for role in ("builder", "runner", "projector")]
    counts = [text.removesuffix("s") if text.startswith("1 ") else text for text in counts]
    title = Text.assemble(("cutor top", "bold"), "  ", cut(escape(shown.address), max(10, columns // 3)))
    if not shown.connected:
        title.append("  not connected: trying again", style="bold red")
    elif shown.nobody:
        title.append(f"  no roles heard in the last {shown.silent_s:.0f} s", style="bold red")
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


def _shown_queues(queues: Sequence[ShownQueue], room: int) -> list[str]:
    """Return the tenants that are shown: those with the deepest queues, by name."""
    depth = {
        tenant: sum((one.pending or 0) + (one.unacknowledged or 0) for one in queues if one.tenant == tenant)
        for tenant in {one.tenant for one in queues}
    }
    return sorted(sorted(depth, key=lambda tenant: (-depth[tenant], tenant))[:room])


def _queues(queues: Sequence[ShownQueue], tenants: Sequence[str], columns: int) -> Table:
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


def _rates(shown: Shown, columns: int) -> RenderableType:
    ended = Text.assemble(("submissions ", "bold cyan"), (_rate(shown.finished_per_s), "bold"), "  ")
    ended.append(_spark(shown.history[-max(1, columns - ended.cell_len) :]), "green")
    outcomes = Text(" ").join(
        Text(f"{escape(outcome)[:20]} {number}", style=_LOUD.get(outcome, "red")) for outcome, number in shown.outcomes.items()
    )
    outcomes.truncate(2 * columns - 20, overflow="ellipsis")
    if not shown.outcomes:
        outcomes = Text(f"none ended in the last {_window(shown)}", style="dim")
    times = _table(f"last {_window(shown)}", "p50", "p95", "of")
    rows = (("start to end", shown.durations), ("builder wait", shown.waits["builder"]), ("runner wait", shown.waits["runner"]))
    for title, what in rows:
        times.add_row(Text(title), _time(what.p50_s), _time(what.p95_s), _of(what))
    return Group(ended, outcomes, times)


def _window(shown: Shown) -> str:
    return "minute" if shown.window_s >= WINDOW_S else f"{shown.window_s:.0f} s"


def _per_minute(shown: Shown) -> Text:
    """Return what else is counted; what should not happen stands out once it does."""
    line = Text.assemble(("a minute ", "bold cyan"))
    for name, rate, style in (
        ("hits", shown.hits_per_min, ""),
        ("builds", shown.builds_per_min, ""),
        ("kills", shown.kills_per_min, "yellow"),
        ("leases lost", shown.leases_lost_per_min, "bold red"),
    ):
        line.append(f"{name} {rate:.0f}   ", style=style if rate >= 0.5 else "dim")
    return line


def _workers(shown: Shown, room: int, columns: int) -> Table:
    table = _table("worker", "slots", "", "waiting", "leases/min", "lost", "heard")
    table.columns[1].justify = "left"
    workers = shown.workers if len(shown.workers) <= room else shown.workers[: max(1, room - 1)]
    for worker in workers:
        style = "dim" if worker.stale else ""
        name = Text(cut(escape(worker.worker), max(16, columns // 3)), style=style or _COLOURS.get(worker.role, ""))
        state = _bar(worker) if worker.slots else Text("" if worker.ready else "not ready", style="yellow")
        used = f"{worker.busy}/{worker.slots}" if worker.slots else ""
        figures = (used, _some(worker.waiting), _figure(worker), _some(worker.leases_lost), _ago(worker))
        table.add_row(name, state, *(Text(one, style=style) for one in figures))
    hidden = len(shown.workers) - len(workers) + shown.left_out
    if hidden:
        table.add_row(Text(f"{hidden} more", style="dim"))
    return table


_COLOURS: Final = {"builder": "magenta", "runner": "green", "projector": "blue"}


def _foot(shown: Shown) -> Iterator[Text]:
    yield _per_minute(shown)
    line = Text.assemble(("views    ", "bold cyan"))
    if shown.projector is None:
        line.append("no projector is heard", style="dim")
    else:
        for stream, behind in shown.projector.behind.items():
            said = UNKNOWN if behind is None else f"{behind:,} behind" if behind else "current"
            line.append(f"{escape(stream)[:20]} {said}  ", style="yellow" if behind else "")
        if shown.projector.commit_ms is not None:
            line.append(f"commit {shown.projector.commit_ms:.0f} ms", style="dim")
    yield line
    storage = Text.assemble(("streams  ", "bold cyan"))
    storage.append(UNKNOWN if shown.used_bytes is None else about(shown.used_bytes))
    if shown.used_bytes is not None and shown.limit_bytes:
        share = shown.used_bytes / shown.limit_bytes
        storage.append(f" of {about(shown.limit_bytes)} ({share:.0%})", style="bold red" if share >= 0.8 else "")
    storage.append("   parked ").append_text(_number(shown.parked, "bold red"))
    storage.append("+" if shown.parked_more else "").append("   dead letters ").append_text(
        _number(shown.dead_letters, "yellow")
    )
    if shown.unreadable:
        storage.append(f"   {shown.unreadable} unreadable notices", style="yellow")
    yield storage


def _bar(worker: ShownWorker) -> Text:
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


def _of(times: ShownTimes) -> Text:
    return Text(f"{times.number:,}", style="dim")


def _figure(worker: ShownWorker) -> str:
    return f"{worker.leases_per_min:.0f}" if worker.slots else ""


def _some(number: int) -> str:
    return str(number) if number else ""


def _ago(worker: ShownWorker) -> str:
    return f"{worker.silent_s:.0f} s ago" if worker.stale else ""

"""The life of one submission as a sequence: who appends which event, whose consumer delivers it, what status follows.

The events are those of the example that the reference shows (`docs.pages.samples`). Statuses come from folding them, who
appends from the leases that they name and from what the users of the cluster may publish, deliveries from ``streams.yaml``.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from graphviz import Digraph

from cutor.model.events import TERMINAL_KINDS, Cleaned, Event, Lease, kind_of
from cutor.model.state import TERMINAL, Stamp, fold
from docs.drawing.accounts import User, streams, subjects_of, users
from docs.drawing.look import FAINT, FOREIGN, PLAIN, PURE, ROLE, diagram, escaped, label
from docs.pages.samples import ADDRESS, LIFE

ABOUT: Final = (
    "The life of a submission, from above to below: who appends which event to EVENTS, whom the server delivers it to, and on "
    "the left the status that follows. A bar stands for a delivery in hand; a dashed arrow appends nothing."
)
STREAM: Final = "EVENTS"
COLUMNS_PT: Final = {"producer": 40, STREAM: 235, "builder": 385, "runner": 505, "projector": 620}
"""From left to right, where the line of each stands: points from the left edge."""
ROW_PT: Final = 30
"""From one arrow to the next: points."""
BAR_PT: Final = 8
"""How wide the bar of a lease is: points."""


class Arrow(NamedTuple):
    """One arrow: from whom to whom, what is said above it, and the status that follows an event where that is another one."""

    begin: str
    end: str
    text: str
    what: Literal["event", "delivery", "beside"]
    status: str | None = None


def arrows() -> list[Arrow]:
    """Return the arrows of `LIFE`, in the order in which they happen. Raises AssertionError where no user may do so."""
    found: list[Arrow] = []
    last = {_appender(event): n for n, event in enumerate(LIFE)}
    status = None
    for n, event in enumerate(LIFE):
        kind, who, before = kind_of(event), _appender(event), status
        status = _status(n)
        found.append(Arrow(who, STREAM, kind, "event", status if status != before else None))
        if kind in TERMINAL_KINDS:
            found.append(Arrow(STREAM, "producer", "notice, if it waits", "beside"))
        if last[who] == n and who != "producer":
            found.append(Arrow(who, STREAM, "acknowledges", "beside"))
        found += [Arrow(STREAM, user, f"delivery of {kind}", "delivery") for user in _takers(kind)]
    return [*found, Arrow(STREAM, "projector", "all, as it comes", "beside")]


def _status(n: int) -> str:
    """Return the status behind so many events and one more."""
    state = fold(ADDRESS, [(event, Stamp(number, number)) for number, event in enumerate(LIFE[: n + 1], start=1)])
    assert state is not None
    assert state.strays == 0
    return state.status


def _appender(event: Event) -> str:
    """Return who appends an event: the role of its lease, or of its worker's; else the first user that may."""
    lease = getattr(event, "lease", None)
    if isinstance(event, Cleaned):
        [lease] = {
            one.lease for one in LIFE if isinstance(getattr(one, "lease", None), Lease) and one.lease.worker == event.worker
        }
    may = [user.name for user in users() if kind_of(event) in _appends(user)]
    who = lease.role if lease is not None else next(name for name in may if name in COLUMNS_PT)
    assert who in may, (who, kind_of(event))
    return who


def _appends(user: User) -> set[str]:
    return {subject.rpartition(".")[2] for subject in user.publishes_into(streams()[0])}


def _takers(kind: str) -> list[str]:
    """Return whom a consumer of the stream delivers events of a kind to."""
    consumers = [one.name for one in streams()[0].consumers if kind in {name.rpartition(".")[2] for name in subjects_of(one)}]
    return [user.name for user in users() for consumer in consumers if user.pulls(consumer)]


def life() -> Digraph:
    """Return the diagram. Every place in it is given, so neato has nothing to lay out."""
    graph = diagram("life", ABOUT, layout="neato", inputscale="72", splines="line")
    told = arrows()
    for name, x in COLUMNS_PT.items():
        shape = {"shape": "cylinder", "fillcolor": FOREIGN, "style": "filled"} if name == STREAM else {"fillcolor": ROLE}
        graph.node(name, label(name), pos=_at(x, 0), **(shape if name != "producer" else {"fillcolor": PLAIN}))
        _point(graph, f"{name} ends", x, len(told) + 1)
        graph.edge(name, f"{name} ends", arrowhead="none", style="dotted")
    for who in ("builder", "runner"):
        _bar(graph, who, [row for row, arrow in enumerate(told, start=1) if who in (arrow.begin, arrow.end)])
    for row, arrow in enumerate(told, start=1):
        _arrow(graph, arrow, row)
    return graph


def _arrow(graph: Digraph, arrow: Arrow, row: int) -> None:
    """Draw an arrow, with its text above it, and on the left the status that follows."""
    x, towards = COLUMNS_PT[arrow.begin], COLUMNS_PT[arrow.end]
    ends = []
    for name, side in ((arrow.begin, towards - x), (arrow.end, x - towards)):
        inset = BAR_PT / 2 if name in ("builder", "runner") else 0
        ends.append(f"{row} {name}")
        _point(graph, ends[-1], COLUMNS_PT[name] + (inset if side > 0 else -inset), row)
    graph.edge(*ends, style="dashed" if arrow.what != "event" else "solid")
    text = f"<b>{escaped(arrow.text)}</b>" if arrow.what == "event" else f'<font color="{FAINT}">{escaped(arrow.text)}</font>'
    _text(graph, f"{row} says", text, _beside_the_stream("producer" in (arrow.begin, arrow.end)), row - 0.26)
    if arrow.status is not None:
        colour = PURE if arrow.status in TERMINAL else ROLE
        place = _at(_beside_the_stream(left=True), row + (0.4 if arrow.begin == "producer" else 0))
        graph.node(f"{row} status", arrow.status, pos=place, fillcolor=colour, fontsize="10", height="0.2", margin="0.08,0.01")


def _beside_the_stream(left: bool) -> float:
    """Return the middle between the line of the stream and the one beside it, where no line crosses a text."""
    return (COLUMNS_PT[STREAM] + COLUMNS_PT["producer" if left else "builder"]) / 2


def _bar(graph: Digraph, who: str, rows: list[int]) -> None:
    height = (rows[-1] - rows[0]) * ROW_PT / 72
    middle, size = (rows[0] + rows[-1]) / 2, {"width": str(BAR_PT / 72), "height": f"{height:.3f}", "fixedsize": "true"}
    graph.node(f"{who} works", "", pos=_at(COLUMNS_PT[who], middle), style="filled", fillcolor=ROLE, **size)


def _point(graph: Digraph, name: str, x: float, row: float) -> None:
    graph.node(name, "", pos=_at(x, row), shape="point", width="0", style="invis")


def _text(graph: Digraph, name: str, html: str, x: float, row: float) -> None:
    graph.node(
        name, f"<{html}>", pos=_at(x, row), shape="plaintext", style="", fontsize="11", width="0", height="0", margin="0"
    )


def _at(x: float, row: float) -> str:
    """Return a place that stays as it is: downwards is the time."""
    return f"{x:g},{-row * ROW_PT:g}!"

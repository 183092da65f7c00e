"""The state diagram of a submission, from its transition table."""

from __future__ import annotations

from typing import Final

from graphviz import Digraph

from cutor.model.state import TERMINAL, TRANSITIONS
from docs.drawing.look import CHILD, INK, LINE, PURE, ROLE, beside, diagram, named

ABOUT: Final = (
    "The states of a submission; an arrow has the names of the events that lead from one to the next. One that begins at the "
    "edge of a frame leads away from every state in it."
)
STATES: Final = tuple(dict.fromkeys(TRANSITIONS.values()))
PASSING: Final = tuple(status for status in STATES if status not in TERMINAL)

FRAME: Final = {"style": "rounded", "color": LINE, "labeljust": "l", "margin": "14"}


def states() -> Digraph:
    """Return the diagram of `TRANSITIONS`.

    What leads from each of the passing states to the same one is drawn once, from the frame around them; an event that each
    terminal state keeps to itself stands in the frame around those.
    """
    graph = diagram("states", ABOUT, nodesep="0.3", ranksep="0.45", compound="true")
    graph.node("begin", "", shape="circle", width="0.15", fixedsize="true", fillcolor=INK, style="filled")
    kept = _kept_by_all()
    with graph.subgraph(name="cluster_passing") as frame:
        frame.attr(label="has not ended", **FRAME)
        for status in PASSING:
            frame.node(status, status.replace("_", "_\\n"), fillcolor=ROLE)
    with graph.subgraph(name="cluster_terminal") as frame:
        frame.attr(
            label=f"has ended: only {', '.join(kept)} follows",
            labelloc="b",
            style="rounded",
            color=LINE,
            labeljust="l",
            margin="14",
        )
        for status in STATES:
            if status in TERMINAL:
                frame.node(status, fillcolor=PURE if status == "FINISHED" else CHILD, peripheries="2")
    for (before, after), events in _drawn(kept).items():
        if before == "frame":
            graph.edge(PASSING[-1], after, label=named(events), ltail="cluster_passing")
        else:
            crosses = after in TERMINAL and before in PASSING
            graph.edge(before, after, label=beside(named(events)) if crosses else named(events))
    return graph


def _kept_by_all() -> tuple[str, ...]:
    """Return the events that leave each terminal state as it is."""
    events = dict.fromkeys(event for _, event in TRANSITIONS)
    return tuple(event for event in events if all(TRANSITIONS.get((status, event)) == status for status in TERMINAL))


def _drawn(kept: tuple[str, ...]) -> dict[tuple[str, str], list[str]]:
    """Return the arrows with their events, in the order of the table."""
    found: dict[tuple[str, str], list[str]] = {}
    for (before, event), after in TRANSITIONS.items():
        if before in TERMINAL and event in kept:
            continue
        from_all = before in PASSING and {TRANSITIONS.get((status, event)) for status in PASSING} == {after}
        arrow = found.setdefault(("frame" if from_all else before or "begin", after), [])
        if event not in arrow:
            arrow.append(event)
    return found

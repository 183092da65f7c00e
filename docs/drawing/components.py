"""The component diagram: the parts of cutor, which imports which, and what runs outside of it."""

from __future__ import annotations

from textwrap import wrap
from typing import Final, NamedTuple

from graphviz import Digraph

from docs.drawing.look import CHILD, FOREIGN, NO_BREAK, PURE, ROLE, beside, diagram, label
from docs.drawing.parts import PARTS, Part, reduced

ABOUT: Final = "The parts of cutor from above to below; an arrow goes from a part to one that it imports."


CHARACTERS: Final = 24
"""Of one line in a box, about."""


class Foreign(NamedTuple):
    """What runs and is none of cutor's, and the part that alone talks to it."""

    name: str
    title: str
    part: str
    by: str
    shape: str = "box"


FOREIGNERS: Final = (
    Foreign("server", "nats-server", "bus", "NATS", "cylinder"),
    Foreign("engine", "Docker Engine", "containers", "its API"),
    Foreign("files", "DuckDB, Parquet", "projections", "files", "cylinder"),
)


def components() -> Digraph:
    """Return the component diagram. Edges that a longer way implies are left out (`reduced`)."""
    graph = diagram("components", ABOUT, nodesep="0.25", ranksep="0.4")
    for part in PARTS:
        runs = f"{NO_BREAK}· ".join(name.replace(" ", NO_BREAK) for name in part.runs)
        lines = [*wrap(part.about, CHARACTERS), *wrap(runs, CHARACTERS)]
        graph.node(part.name, label(part.name, *lines), fillcolor=_colour(part))
    for foreign in FOREIGNERS:
        graph.node(foreign.name, label(foreign.title), shape=foreign.shape, fillcolor=FOREIGN, style="filled")
    order = [part.name for part in PARTS]
    for importer, imported in sorted(reduced(), key=lambda pair: (order.index(pair[0]), order.index(pair[1]))):
        graph.edge(importer, imported)
    for foreign in FOREIGNERS:
        graph.edge(foreign.part, foreign.name, label=beside(foreign.by), style="dashed")
    graph.edge("engine", "inside", label=beside("starts"), style="dashed")
    return graph


def _colour(part: Part) -> str:
    if part.name == "inside":
        return CHILD
    if part.runs:
        return ROLE
    return PURE if part.name == "model" else "#f1f5f9"

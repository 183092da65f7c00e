"""The state diagram of an environment: what `evolve_environment` makes of each event in each state, tried out."""

from __future__ import annotations

from typing import Final

from graphviz import Digraph

from cutor.model.content import Content
from cutor.model.environments import (
    Environment,
    EnvironmentBuilding,
    EnvironmentBuilt,
    EnvironmentEvent,
    EnvironmentPinned,
    EnvironmentRemoved,
    EnvironmentUnpinned,
    Programs,
    evolve_environment,
)
from docs.drawing.look import PLAIN, PURE, ROLE, diagram, named

ABOUT: Final = (
    "What is known of an environment, by its key; an arrow has the names of the events that lead from one state to the next. "
    "Pins are apart from that: they change none of these states."
)
EVENTS: Final[dict[str, EnvironmentEvent]] = {
    "env-building": EnvironmentBuilding(key="k", tenant="t", id="i", lease_token="l", worker="w"),  # noqa: S106 - no secret
    "env-built": EnvironmentBuilt(
        key="k",
        derivation="d",
        closure=(),
        closure_bytes=0,
        variables=Content(),
        programs=Programs(bash="b", sh="s", env="e"),
        worker="w",
    ),
    "env-removed": EnvironmentRemoved(key="k", reason="r"),
    "env-pinned": EnvironmentPinned(key="k"),
    "env-unpinned": EnvironmentUnpinned(key="k"),
}
"""One of each kind: what they hold beside their kind decides nothing about the states."""
COLOURS: Final = {"nothing stands": PLAIN, "being built": ROLE, "stands": PURE, "stands, being built anew": PURE}


def environments() -> Digraph:
    """Return the diagram of the states that are reached from a key of which nothing is known."""
    graph = diagram("environments", ABOUT, rankdir="LR", nodesep="0.5", ranksep="0.4")
    for (before, after), events in transitions().items():
        graph.node(before, fillcolor=COLOURS[before])
        graph.edge(before, after, label=named(events))
    return graph


def transitions() -> dict[tuple[str, str], list[str]]:
    """Return from which state which events lead to which; those that change none are left out where they stay in it."""
    found: dict[tuple[str, str], list[str]] = {}
    seen, ahead = set[str](), [Environment(key="k")]
    while ahead:
        environment = ahead.pop(0)
        if (before := state_of(environment)) in seen:
            continue
        seen.add(before)
        for kind, event in EVENTS.items():
            after = evolve_environment(environment, event, environment.sequence + 1)
            if (after.built, after.building) != (environment.built, environment.building):
                found.setdefault((before, state_of(after)), []).append(kind)
                ahead.append(after)
    return found


def state_of(environment: Environment) -> str:
    """Return in words what is known of an environment, but for its pins."""
    if environment.built is None:
        return "nothing stands" if environment.building is None else "being built"
    return "stands" if environment.building is None else "stands, being built anew"

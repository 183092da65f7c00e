"""The flow of events: the stream and its consumers by ``streams.yaml``, who appends and who takes by the cluster's users."""

from __future__ import annotations

from textwrap import wrap
from typing import Final

from graphviz import Digraph

from cutor.bus.topology_diff import ConsumerSpec
from docs.drawing.accounts import TENANT, User, streams, subjects_of, users
from docs.drawing.look import FOREIGN, PLAIN, PURE, ROLE, diagram, label

ABOUT: Final = (
    "Who appends which events to the stream EVENTS, and who takes them from it: by consumers that the server keeps, or "
    "(dashed) by reading the whole stream. Reads of single submissions are not drawn."
)
CHARACTERS: Final = 28
"""Of one line in a box, about."""


def flow() -> Digraph:
    """Return the diagram of EVENTS, which is the first stream, with its consumers and users."""
    events = streams()[0]
    graph = diagram("flow", ABOUT, rankdir="LR", nodesep="0.3", ranksep="0.6")
    graph.node(events.name, label(events.name, *subjects_of(events)), shape="cylinder", fillcolor=FOREIGN, style="filled")
    pulling = [user for user in users() if any(user.pulls(consumer.name) for consumer in events.consumers)]
    for user in users():
        appends = [subject.rpartition(".")[2] for subject in user.publishes_into(events)]
        if not appends and not user.reads_whole_streams:
            continue
        graph.node(
            user.name, label(user.name, *_told(user, appends)), fillcolor=ROLE if user in pulling or not appends else PLAIN
        )
        if user in pulling:
            graph.edge(events.name, user.name, dir="back", minlen="2")
        elif appends:
            graph.edge(user.name, events.name)
        else:
            graph.edge(events.name, user.name, style="dashed", minlen="2")
    for consumer in events.consumers:
        _consumer(graph, consumer)
    return graph


def _told(user: User, appends: list[str]) -> list[str]:
    """Return the lines of a user: what it appends, and to which other streams it publishes."""
    others = [stream.name for stream in streams()[1:] if user.publishes_into(stream)]
    lines = wrap(f"appends {', '.join(appends)}", CHARACTERS) if appends else []
    return lines + wrap(f"{'also' if appends else 'publishes'} to {', '.join(others)}", CHARACTERS) if others else lines


def _consumer(graph: Digraph, consumer: ConsumerSpec) -> None:
    kinds = [subject.rpartition(".")[2] for subject in subjects_of(consumer)]
    graph.node(consumer.name, label(consumer.name.replace(TENANT, f"{{{TENANT}}}"), *kinds), fillcolor=PURE)
    graph.edge(consumer.stream, consumer.name)
    for user in users():
        if user.pulls(consumer.name):
            graph.edge(consumer.name, user.name)

"""How the diagrams look: one set of colours and fonts, on white."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from graphviz import Digraph

FONT: Final = "Helvetica,Arial,sans-serif"
INK: Final = "#1f2933"
FAINT: Final = "#52606d"
LINE: Final = "#7b8794"
ROLE: Final = "#dbeafe"
"""What runs as a process of cutor."""
PURE: Final = "#dcfce7"
"""What decides, or stands still: no input, no output; a state that goes on."""
PLAIN: Final = "#f1f5f9"
FOREIGN: Final = "#fef3c7"
"""What is not cutor's: servers, engines; a stream of the server's."""
NO_BREAK: Final = "\N{NO-BREAK SPACE}"
CHILD: Final = "#fee2e2"
"""What is beside user code; an end that is no result."""


def diagram(name: str, about: str, *, rankdir: str = "TB", **more: str) -> Digraph:
    """Return an empty diagram. ``about`` says in a sentence what it shows, to who cannot see it."""
    graph = Digraph(name, comment=about)
    graph.attr("graph", rankdir=rankdir, bgcolor="white", fontname=FONT, fontcolor=INK, fontsize="12", pad="0.2", **more)
    graph.attr(
        "node", shape="box", style="filled,rounded", fillcolor=PLAIN, color=LINE, fontname=FONT, fontcolor=INK, fontsize="12"
    )
    graph.attr("edge", color=LINE, fontname=FONT, fontcolor=FAINT, fontsize="11", arrowsize="0.7")
    return graph


def label(title: str, *lines: str) -> str:
    """Return an HTML-like label: a title, with smaller lines beneath it."""
    rest = "".join(f'<br/><font point-size="11" color="{FAINT}">{escaped(line)}</font>' for line in lines if line)
    return f"<<b>{escaped(title)}</b>{rest}>"


def named(events: Iterable[str]) -> str:
    """Return the label of an arrow, a line an event, with some room beside the arrow."""
    return "\\n".join(f" {event} " for event in events)


def beside(text: str) -> str:
    """Return the label of an arrow that leans, with more room between the two."""
    return f"{NO_BREAK * 3}{text}{NO_BREAK}"


def escaped(text: str) -> str:
    """Return a text as it stands in an HTML-like label."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

"""Elements of SVG and HTML as text: whatever goes in is escaped, so that it is well-formed. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup
from markupsafe import escape as escape_markup

from cutor.text import escape as escape_controls

Child = Markup | str


def element(name: str, *children: Child, **attributes: str | float) -> Markup:
    """Return an element; ``_`` in an attribute's name stands for ``-``, one at its end is left out (``class_``).

    Text and values are escaped, characters that XML does not have are made visible; `Markup` goes in as it is.
    """
    begin = f"<{name}{''.join(_attribute(key, value) for key, value in attributes.items())}"
    inside = "".join(content(child) for child in children)
    return Markup(f"{begin}>{inside}</{name}>" if children else f"{begin}/>")  # noqa: S704 - each part is escaped


def _attribute(name: str, value: str | float) -> str:
    return f' {name.rstrip("_").replace("_", "-")}="{content(value) if isinstance(value, str) else number(value)}"'


def content(text: Child) -> Markup:
    """Return text that stands for itself between tags and in quotes."""
    return text if isinstance(text, Markup) else escape_markup(escape_controls(text))


def number(value: float) -> str:
    """Return a coordinate, to a tenth of a pixel."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def path(points: Iterable[tuple[float, float]]) -> str:
    """Return the ``d`` of a path through points."""
    return "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points)

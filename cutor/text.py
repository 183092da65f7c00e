"""Text that others wrote, made fit for a terminal. Pure."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_COLOURS: Final = re.compile(r"\x1b\[[0-9;:]*m")


def uncoloured(text: str) -> str:
    """Return text without colours, bold and the like: what a program prints for its terminal, shown where it is not that."""
    return _COLOURS.sub("", text)


def escape(text: str, keep: str = "") -> str:
    r"""Return text in which every character that a terminal might obey is visible: ``\x1b``, ``\u202e``; ``keep`` stays.

    Letters, digits, punctuation and the plain space stay as they are, in every script; line ends and tabs only if ``keep`` has
    them.
    """
    return "".join(one if one.isprintable() or one in keep else _visible(one) for one in text)


def _visible(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()


def width(text: str) -> int:
    """Return how many columns of a terminal text without control characters takes: two for wide characters, none for marks."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, columns: int) -> str:
    """Return text that takes no more columns than so many; what was cut off leaves an ellipsis."""
    if width(text) <= columns:
        return text
    kept, taken = 0, 1  # the ellipsis
    for character in text:
        taken += _columns(character)
        if taken > columns:
            break
        kept += 1
    return text[:kept] + "…"

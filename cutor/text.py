"""Text that others wrote, made fit for a terminal. Pure."""

from __future__ import annotations


def escape(text: str, keep: str = "") -> str:
    r"""Return text in which every character that a terminal might obey is visible: ``\x1b``, ``\u202e``; ``keep`` stays.

    Letters, digits, punctuation and the plain space stay as they are, in every script; line ends and tabs only if ``keep`` has
    them.
    """
    return "".join(one if one.isprintable() or one in keep else _visible(one) for one in text)


def _visible(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()

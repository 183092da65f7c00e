"""What a stranger wrote, made fit for a message of one plain line: quoted, escaped, and no longer than a line can take."""

from __future__ import annotations

from typing import Final

SHOWN_CHARACTERS: Final = 80
"""Messages stand in events and in lines on a terminal: of a name or value so many characters are shown, escapes included."""
SHOWN_DIGITS: Final = 40
"""Decimal digits up to which a number is shown itself; of a longer one the size is."""
SHOWN_BITS: Final = 10_000
"""A number larger than that is told from one that is larger still by nobody."""


def shown(text: str, characters: int = SHOWN_CHARACTERS) -> str:
    """Return a text in quotes, escaped, cut to so many characters between them; an ellipsis says that there is more."""
    kept = text[:characters]
    while len(quoted := repr(kept)) > characters + 2:
        kept = kept[:-1]
    return quoted if len(kept) == len(text) else f"{quoted}…"


def visible(text: str) -> str:
    r"""Return a text in which a terminal finds nothing to obey: ``\x1b``, ``\u202e``; each run of white space is one space."""
    line = " ".join(text.split())
    return line if line.isprintable() else "".join(one if one.isprintable() else repr(one)[1:-1] for one in line)


def shown_number(value: int) -> str:
    """Return a whole number in digits, or by its size where it has more of them than a line can take.

    Python itself refuses to write a number of more than 4300 digits.
    """
    if abs(value) < 10**SHOWN_DIGITS:
        return str(value)
    bits = value.bit_length()
    size = f"{bits} bits" if bits <= SHOWN_BITS else f"more than {SHOWN_BITS} bits"
    return f"a {'negative ' if value < 0 else ''}number of {size}"

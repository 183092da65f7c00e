"""What Nix prints while an environment is built, as it goes over the wire and comes out as lines. Pure.

Nothing of it is stored, and nothing is decided by it: it is for the eyes of who waits. Pieces may be left out, never reordered;
what Nix printed stands in the dependencies stage once that has ended.
"""

from __future__ import annotations

import codecs
from typing import Final

import msgspec

from cutor.model.nesting import check_nesting

PIECE_CHARACTERS: Final = 4096
"""Most characters of a piece; of what was printed since the last one, the newest lines are kept."""
PIECE_BYTES: Final = 64 << 10
"""Most bytes of a piece's message: what is larger was made by something else."""
LINE_CHARACTERS: Final = 2000
"""Most characters of a line; the rest of a longer one is not shown."""


class BuildProgress(msgspec.Struct, frozen=True, kw_only=True):
    """The next piece of what Nix printed, under the builder's lease of this number: another lease begins anew.

    ``left_out`` says that there was more in front of it.
    """

    lease: int
    """number of the builder's lease"""
    text: str
    """what Nix printed, up to 4096 characters"""
    left_out: bool = False
    """whether there was more in front of it"""


_DECODER: Final = msgspec.json.Decoder(BuildProgress)


def decode_progress(body: bytes) -> BuildProgress | None:
    """Return the piece in a message, or None for what no builder sends."""
    if len(body) > PIECE_BYTES:
        return None
    try:
        check_nesting(body)
        piece = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return piece if len(piece.text) <= PIECE_CHARACTERS else None


class Printed:
    """What was printed and has not been told yet: a bounded end of it."""

    def __init__(self, lease: int) -> None:
        self._lease = lease
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._text = ""
        self._left_out = False

    def add(self, data: bytes) -> None:
        """Take what was printed; a character may be cut in two by the end of a piece, and is put together again."""
        text = self._text + self._decoder.decode(data)
        if len(text) > PIECE_CHARACTERS:
            text = text[-PIECE_CHARACTERS:].partition("\n")[2] or text[-PIECE_CHARACTERS:]
            self._left_out = True
        self._text = text

    def take(self) -> BuildProgress | None:
        """Return the next piece, or None where nothing was printed since the last one."""
        if not self._text:
            return None
        piece = BuildProgress(lease=self._lease, text=self._text, left_out=self._left_out)
        self._text, self._left_out = "", False
        return piece


class Lines:
    """Pieces put together to lines."""

    def __init__(self) -> None:
        self._lease = 0
        self._open = ""

    def add(self, piece: BuildProgress) -> list[str]:
        """Return the lines that a piece ends, without their ends; ``…`` stands for what was left out.

        Of what was written over itself by carriage returns, as by a meter of progress, the last state is left.
        """
        skipped = piece.left_out or piece.lease != self._lease
        missing = ["…"] if piece.left_out else []
        *whole, last = (("" if skipped else self._open) + piece.text).split("\n")
        self._lease, self._open = piece.lease, last[-LINE_CHARACTERS:]
        return [*missing, *map(_last_state, whole)]


def _last_state(line: str) -> str:
    return line.rstrip("\r").rpartition("\r")[2][:LINE_CHARACTERS]

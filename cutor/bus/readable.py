"""Text of bytes that are no UTF-8, as the server itself has it. Pure."""

from __future__ import annotations

import codecs
from typing import Final

LIKE_THE_SERVER: Final = "cutor-like-the-server"
"""Error handler for text: a U+FFFD for every byte that is no UTF-8, as the server's own JSON has it, so that a subject reads
the same whichever way it came."""


def _replace_each_byte(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\N{REPLACEMENT CHARACTER}" * (error.end - error.start), error.end


codecs.register_error(LIKE_THE_SERVER, _replace_each_byte)

"""Dead letters as operators see them: copies of messages that are no events, read from the stream that the projector writes."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from cutor.bus.connection import Bus
from cutor.bus.message import Stored
from cutor.bus.newest import newest
from cutor.errors import REFUSED, CutorError
from cutor.model.letters import Letter, read_letter
from cutor.model.subjects import DEADLETTERS, letter_subject

LetterStream = Literal["EVENTS", "ENVIRONMENTS"]
LIST_DEFAULT: Final = 20


class LetterUnknown(CutorError):
    """There is no letter about this message."""

    exit_code = REFUSED


class Listing(NamedTuple):
    """The newest letters, the newest first, and how many there are in all; ``none`` counts what stands there and is none."""

    letters: list[Letter]
    total: int
    none: int


async def list_letters(bus: Bus, stream: LetterStream | None = None, *, limit: int = LIST_DEFAULT) -> Listing:
    """Return the newest letters, of one stream or of both; their bodies stay with the server. Raises `StreamMissing`."""
    wanted = "cutor.dead.message.>" if stream is None else f"cutor.dead.message.{stream}.>"
    found = await newest(bus, DEADLETTERS, limit, filter=wanted, headers_only=True)
    letters = [_letter(stored) for stored in reversed(found.messages)]
    total = int((await bus.stream_info(DEADLETTERS))["state"]["messages"])
    return Listing([one for one in letters if one is not None], total, letters.count(None))


async def show_letter(bus: Bus, stream: LetterStream, sequence: int) -> tuple[Letter, bytes]:
    """Return the letter about a message of a stream, with its body. Raises `LetterUnknown`, `StreamMissing`."""
    stored = await bus.last(DEADLETTERS, letter_subject(stream, sequence), consistent=True)
    letter = None if stored is None else _letter(stored)
    if stored is None or letter is None:
        there = "what stands in its place is none" if stored else "`cutor dead-letters list` shows those that there are"
        raise LetterUnknown(f"there is no letter about message {sequence} of {stream}: {there}")
    return letter, stored.body


def _letter(stored: Stored) -> Letter | None:
    """Return the letter in a message; None for one that is none, or that stands under the subject of another."""
    letter = read_letter(stored.headers)
    if letter is None or stored.subject != letter_subject(letter.stream, letter.sequence):
        return None
    return letter

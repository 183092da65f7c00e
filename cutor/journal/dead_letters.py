"""Dead letters: copies of messages that are no events, or that no role can act on; as they are written, and as operators see
them.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from cutor.bus.connection import Bus
from cutor.bus.message import Stored
from cutor.bus.newest import newest
from cutor.errors import REFUSED, CutorError
from cutor.model.letters import Letter, fit, headers_of, letter_of, read_letter
from cutor.model.spill import EVENT_BYTES
from cutor.model.subjects import DEADLETTERS, letter_subject

LetterStream = Literal["EVENTS", "ENVIRONMENTS"]
LIST_DEFAULT: Final = 20
"""Letters that are listed, unless the caller says another number."""
MARGIN_BYTES: Final = 1024
"""What the append itself adds to a letter, and the bus keeps free."""


class LetterUnknown(CutorError):
    """There is no letter about this message."""

    exit_code = REFUSED


class Listing(NamedTuple):
    """The newest letters, the newest first, and how many messages their stream has in all, about whichever stream.

    ``none`` counts what stands among the newest and is no letter; ``more`` says that there are older ones beyond the limit.
    """

    letters: list[Letter]
    total: int
    none: int
    more: bool


async def list_letters(bus: Bus, stream: LetterStream | None = None, *, limit: int = LIST_DEFAULT) -> Listing:
    """Return the newest letters, of one stream or of both; their bodies stay with the server. Raises `StreamMissing`."""
    wanted = "cutor.dead.message.>" if stream is None else f"cutor.dead.message.{stream}.>"
    found = await newest(bus, DEADLETTERS, limit + 1, filter=wanted, headers_only=True)
    letters = [_letter(stored) for stored in reversed(found.messages[-limit:])]
    total = int((await bus.stream_info(DEADLETTERS))["state"]["messages"])
    return Listing([one for one in letters if one is not None], total, letters.count(None), more=len(found.messages) > limit)


async def show_letter(bus: Bus, stream: LetterStream, sequence: int) -> tuple[Letter, bytes]:
    """Return the letter about a message of a stream, with its body. Raises `LetterUnknown`, `StreamMissing`."""
    stored = await bus.last(DEADLETTERS, letter_subject(stream, sequence), consistent=True)
    letter = None if stored is None else _letter(stored)
    if stored is None or letter is None:
        there = "what stands in its place is none" if stored else "`cutor dead-letters list` shows those that there are"
        raise LetterUnknown(f"there is no letter about message {sequence} of {stream}: {there}")
    return letter, stored.body


async def written_to(bus: Bus, stream: str) -> int:
    """Return up to where all letters about a stream are written, as the newest one says; 0 where there is none."""
    newest_one = await bus.last(DEADLETTERS, letter_subject(stream, "*"), consistent=True)
    letter = None if newest_one is None else read_letter(newest_one.headers)
    return 0 if letter is None else letter.complete_to


async def write_letter(bus: Bus, stream: str, stored: Stored, reason: str, *, complete_to: int) -> Letter | None:
    """Write the letter about a message of a stream; None where it has one already, which stays. ``complete_to`` as in `Letter`.

    A body that is too long for one message is cut.
    """
    whole = letter_of(
        stream=stream,
        sequence=stored.sequence,
        subject=stored.subject,
        time_ns=stored.time_ns,
        reason=reason,
        message_id=stored.message_id,
        size_bytes=len(stored.body),
        complete_to=complete_to,
    )
    letter, kept = fit(whole, min(EVENT_BYTES, bus.link.max_message_bytes) - MARGIN_BYTES)
    subject = letter_subject(stream, stored.sequence)
    return letter if await bus.append_once(subject, stored.body[:kept], headers=headers_of(letter)) else None


def _letter(stored: Stored) -> Letter | None:
    """Return the letter in a message; None for one that is none, or that stands under the subject of another."""
    letter = read_letter(stored.headers)
    if letter is None or stored.subject != letter_subject(letter.stream, letter.sequence):
        return None
    return letter

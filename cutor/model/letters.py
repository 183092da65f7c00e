"""Dead letters: what stands in the headers of the copy of a message that is no event, or an event where none can be.

The body of a letter is that of the message. Its headers are text of others made fit for headers: escaped to ASCII, so that no
subject or message id, whatever is in it, can end a header line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from cutor.model.result import rfc3339

REASON_CHARACTERS: Final = 300
"""It stands in a header of the letter; a stranger's words are part of it. Two or three lines. A choice."""
MESSAGE_ID_CHARACTERS: Final = 300
"""Most of a message id that a letter keeps: its sender may have made it as long as a message."""
_WHERE: Final = ("Cutor-Stream", "Cutor-Sequence", "Cutor-Subject", "Cutor-Time", "Cutor-Reason")


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A letter about one message: where that stands, when it was stored there, under which subject, why it is a letter.

    ``size_bytes`` is that of the message's body; of a ``truncated`` letter it is more than the letter's. ``complete_to`` is for
    the writer: the letters about all messages of the stream up to this sequence were there before.
    """

    stream: str
    sequence: int
    subject: str
    time: str
    reason: str
    message_id: str | None
    size_bytes: int
    truncated: bool
    complete_to: int = 0


def letter_of(
    *,
    stream: str,
    sequence: int,
    subject: str,
    time_ns: int,
    reason: str,
    message_id: str | None,
    size_bytes: int,
    complete_to: int,
) -> Letter:
    """Return the letter about a message that is kept whole."""
    return Letter(
        stream=stream,
        sequence=sequence,
        subject=subject,
        time=rfc3339(time_ns),
        reason=reason[:REASON_CHARACTERS],
        message_id=None if message_id is None else message_id[:MESSAGE_ID_CHARACTERS],
        size_bytes=size_bytes,
        truncated=False,
        complete_to=complete_to,
    )


def fit(letter: Letter, most_bytes: int) -> tuple[Letter, int]:
    """Return the letter, and how many bytes of the body it keeps, so that headers and body are no more than ``most_bytes``."""
    room = most_bytes - sum(len(name) + len(value) + 4 for name, value in headers_of(letter).items())
    kept = max(0, min(letter.size_bytes, room))
    return msgspec.structs.replace(letter, truncated=kept < letter.size_bytes), kept


def headers_of(letter: Letter) -> dict[str, str]:
    """Return the headers of a letter."""
    headers = {
        "Cutor-Stream": letter.stream,
        "Cutor-Sequence": str(letter.sequence),
        "Cutor-Subject": letter.subject,
        "Cutor-Time": letter.time,
        "Cutor-Reason": letter.reason,
        "Cutor-Size": str(letter.size_bytes),
        "Cutor-Truncated": "true" if letter.truncated else "false",
        "Cutor-Complete-To": str(letter.complete_to),
    }
    if letter.message_id is not None:
        headers["Cutor-Message-Id"] = letter.message_id
    return {name: _fit_for_a_header(value) for name, value in headers.items()}


def read_letter(headers: Mapping[str, str]) -> Letter | None:
    """Return the letter that headers tell of, or None: anybody may have published something that is none."""
    try:
        stream, sequence, subject, time, reason = (_text(headers[name]) for name in _WHERE)
        message_id = headers.get("Cutor-Message-Id")
        return Letter(
            stream=stream,
            sequence=_number(sequence),
            subject=subject,
            time=time,
            reason=reason,
            message_id=None if message_id is None else _text(message_id),
            size_bytes=_number(headers.get("Cutor-Size", "0")),
            truncated=headers.get("Cutor-Truncated") == "true",
            complete_to=_number(headers.get("Cutor-Complete-To", "0")),
        )
    except (KeyError, ValueError):
        return None


def _fit_for_a_header(text: str) -> str:
    """Return text as one line of ASCII, which `_text` reads back. Spaces at its ends would be lost: they are escaped, too."""
    escaped = text.encode("unicode_escape", "surrogatepass").decode("ascii")
    if escaped.startswith(" "):
        escaped = "\\x20" + escaped[1:]
    if escaped.endswith(" "):
        escaped = escaped[:-1] + "\\x20"
    return escaped


def _text(value: str) -> str:
    text = value.encode("ascii").decode("unicode_escape")
    text.encode()  # half a surrogate is nothing that could be shown
    return text


def _number(value: str) -> int:
    if not (value.isascii() and value.isdecimal() and len(value) < 20):
        raise ValueError("not a number")
    return int(value)

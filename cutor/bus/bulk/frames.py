"""Frames of the NATS protocol, as the server sends them to who reads a stream, turned into columns. Pure.

Nothing of a message is trusted: its length comes from the server's line in front of it, never from what it holds. Of its
headers the message id alone matters; where they are not as cutor's own are, the client library reads them, so that both
ways of reading agree on every message, whatever its sender wrote.

Frames as cutor's own messages make them, whose bodies are one line, are taken apart all at once, by one expression that has to
match from the buffer's beginning without a gap, and by lines that are read as one document. That counts only where every
length is the one that the server's line says. What it leaves is taken apart frame by frame.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from operator import add
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from cutor.bus.bulk.columns import Columns
from cutor.bus.message import MESSAGE_ID
from cutor.bus.readable import LIKE_THE_SERVER

if TYPE_CHECKING:
    from cutor.bus.tolerant import TolerantClient

_NAME: Final = MESSAGE_ID.encode()
_PLAIN: Final = b"NATS/1.0\r\n"
_USUAL: Final = r"(?:NATS/1\.0\r\nNats-Msg-Id: ([!-~]+)(?=\r\n))?"
"""How the headers of an event begin that was appended by cutor."""
_LINE_BYTES: Final = 64 << 10
"""Longest line of the server's, of which a subject and a reply are parts."""
_HEADED: Final = re.compile(rb"HMSG ([^ \t\r\n]+) \S+ (?:(\S+) )?(\d+) (\d+)\r\n")


_STATUS: Final = re.compile(rb"NATS/1\.0 (\d{3}) ([!-9;-~]+(?: [!-9;-~]+)*)\r\n((?:[A-Za-z-]+: [!-~]+\r\n)*)\r\n")
"""What the server itself says of a pull: that it goes on, or has ended."""
_NUMBERS: Final = msgspec.json.Decoder(list[int])


class Garbled(Exception):
    """The bytes are not what a NATS server sends; the connection cannot be used any more."""


class Told(NamedTuple):
    """A message that is no delivery: what the server says of a pull."""

    subject: str
    headers: Mapping[str, str]


class Parsed(NamedTuple):
    """What a buffer held: deliveries, with the number in the consumer of the last one; and the rest of what the server said.

    ``used`` bytes of the buffer are done with; ``wanted`` is how long it must be for anything more to be in it.
    """

    columns: Columns
    last_number: int
    told: list[Told]
    lines: list[bytes]
    used: int
    wanted: int


class _Usual(NamedTuple):
    """Frames from the beginning of a buffer, all of them usual; ``used`` bytes of it."""

    columns: Columns
    last_number: int
    used: int


_NONE_USUAL: Final = _Usual(Columns.empty(), 0, 0)
_FIGURES: Final = 7
"""In a line of the server's: deliveries, sequence, number, time, how many are pending; bytes of headers, and of all."""
_AS_DOCUMENT: Final = bytes.maketrans(b". ", b",,")
_LONG_BYTES: Final = 4096
"""Frames of that size are taken apart faster one by one: the expression would look at every byte of a body."""


class Parser:
    """Reads what comes for one consumer of a stream."""

    def __init__(self, stream: str, consumer: str) -> None:
        name = rf"(?:[^.\s]+\.[^.\s]+\.)?{re.escape(stream)}\.{re.escape(consumer)}"
        place = r"\.\d+\.(\d+)\.(\d+)\.(\d+)\.\d+(?:\.[^.\s]+)?"
        pattern = rf"H?MSG ([^ \t\r\n]+) \S+ \$JS\.ACK\.{name}{place} (?:(\d+) )?(\d+)\r\n{_USUAL}"
        self._delivery = re.compile(pattern.encode()).match
        usual = (
            rf"HMSG ([^ \t\r\n]+) \S+ \$JS\.ACK\.{name}\.(\d[\d. ]+)\r\n"
            r"(NATS/1\.0\r\nNats-Msg-Id: ([!-~]+)\r\n(?:.+\r\n)*\r\n)(.*)\r\n|((?s:.+))"
        )
        self._usual = re.compile(usual.encode()).findall
        self._frame_bytes = 0

    def parse(self, data: bytes) -> Parsed:
        """Return what a buffer holds. Raises `Garbled`."""
        usual = self._parse_usual(data) if self._frame_bytes < _LONG_BYTES else _NONE_USUAL
        parsed = self._parse_each(data, usual)
        self._frame_bytes = parsed.used // max(1, len(parsed.columns))
        return parsed

    def _parse_usual(self, data: bytes) -> _Usual:
        """Return usual frames from the beginning on; none where one of the lengths is not what its line says."""
        frames = self._usual(data)
        rest = frames.pop()[-1] if frames and frames[-1][-1] else b""
        if not frames:
            return _NONE_USUAL
        subjects, lines, headers, message_ids, bodies, _ = zip(*frames, strict=True)
        try:
            figures = _NUMBERS.decode(b"[%b]" % b",".join(lines).translate(_AS_DOCUMENT))
        except ValueError:
            return _NONE_USUAL
        header_bytes, body_bytes = [*map(len, headers)], map(len, bodies)
        if (
            len(figures) != _FIGURES * len(frames)
            or figures[5::_FIGURES] != header_bytes
            or figures[6::_FIGURES] != [*map(add, header_bytes, body_bytes)]
            or b"".join(headers).count(_NAME) != len(frames)
        ):
            return _NONE_USUAL
        ids = b"\n".join(message_ids).decode().split("\n")
        columns = Columns(figures[1::_FIGURES], figures[3::_FIGURES], _texts(subjects), [*ids], [*bodies])
        return _Usual(columns, figures[2 - _FIGURES], len(data) - len(rest))

    def _parse_each(self, data: bytes, usual: _Usual) -> Parsed:
        """Return what a buffer holds, frame by frame from where usual ones end."""
        match, place, end = self._delivery, usual.used, len(data)
        sequences: list[bytes] = []
        times: list[bytes] = []
        subjects: list[bytes] = []
        message_ids: list[str | None] = []
        bodies: list[bytes] = []
        number, wanted = b"%d" % usual.last_number, 0
        told: list[Told] = []
        lines: list[bytes] = []
        while place < end:
            found = match(data, place)
            if found is None:
                other = _other(data, place, told, lines)
                if other < 0:
                    wanted = -other
                    break
                place = other
                continue
            subject, sequence, this_number, time, header_bytes, total_bytes, message_id = found.groups()
            start = found.end(6) + 2
            body_end = start + int(total_bytes)
            if body_end + 2 > end:
                wanted = body_end + 2 - place
                break
            body_start = start + int(header_bytes) if header_bytes else start
            known = found.end()
            if message_id and known + 2 <= body_start and data.find(_NAME, known, body_start) < 0:
                message_ids.append(message_id.decode())
            else:
                message_ids.append(message_id_of(data[start:body_start]) if header_bytes else None)
            bodies.append(data[body_start:body_end])
            sequences.append(sequence)
            times.append(time)
            subjects.append(subject)
            number = this_number
            place = body_end + 2
        columns = Columns([*map(int, sequences)], [*map(int, times)], _texts(subjects), message_ids, bodies)
        if usual.used:
            columns = Columns.joined([usual.columns, columns]) if columns else usual.columns
        return Parsed(columns, int(number), told, lines, place, wanted)


def _texts(subjects: Sequence[bytes]) -> list[str]:
    """Return subjects as the ordinary reader has them. None holds white space, so one text may be taken apart at it."""
    joined = b"\n".join(subjects)
    if not subjects or joined.isascii():
        return joined.decode().split("\n") if subjects else []
    return [subject.decode(errors=LIKE_THE_SERVER) for subject in subjects]


def _other(data: bytes, place: int, told: list[Told], lines: list[bytes]) -> int:
    """Read what is no delivery; return where it ends, or how long the buffer must be, from there on, as a negative number."""
    line_end = data.find(b"\r\n", place)
    if line_end < 0:
        if len(data) - place > _LINE_BYTES:
            raise Garbled("a line without an end")
        return -(len(data) - place + 1)
    if not data.startswith((b"MSG ", b"HMSG "), place):
        lines.append(data[place:line_end])
        return line_end + 2
    headed = _HEADED.match(data, place)
    if headed is None:
        raise Garbled("a message that was not asked for")
    subject, _, header_bytes, total_bytes = headed.groups()
    start, end = headed.end(), headed.end() + int(total_bytes)
    if end + 2 > len(data):
        return -(end + 2 - place)
    told.append(Told(subject.decode(errors=LIKE_THE_SERVER), status_of(data[start : start + int(header_bytes)])))
    return end + 2


def message_id_of(headers: bytes) -> str | None:
    """Return the message id in a block of headers, as the ordinary reader finds it."""
    first = headers.find(_NAME)
    if first < 0:
        return None
    value, end = first + len(_NAME) + 1, headers.find(b"\r\n", first)
    if (
        headers.startswith(_PLAIN)
        and headers[first - 1 : first] == b"\n"
        and headers[value - 1 : value] == b":"
        and end > 0
        and headers.find(_NAME, end) < 0
        and headers[first - 2 : first] == b"\r\n"
    ):
        return headers[value:end].strip().decode(errors="replace")
    return _headers(headers).get(MESSAGE_ID)


@cache
def _header_reader() -> TolerantClient:
    """Return the client library as far as it reads headers; it is loaded where they are unusual, and not before."""
    from cutor.bus.tolerant import TolerantClient  # noqa: PLC0415 - a quarter of a second

    class HeaderReader(TolerantClient):
        async def _error_cb(self, error: Exception) -> None:
            """Do nothing: what it would report of headers matters to nobody."""

    return HeaderReader()


def status_of(block: bytes) -> Mapping[str, str]:
    """Return the headers of what the server says of a pull, as the client library reads them, which is not loaded for it."""
    found = _STATUS.fullmatch(block)
    if found is None:
        return _headers(block)
    status, description, others = (part.decode() for part in found.groups())
    named = (line.split(": ", 1) for line in others.splitlines())
    return {"Status": status, "Description": description, **dict(named)}


def _headers(block: bytes) -> Mapping[str, str]:
    """Return headers as the client library reads them. It does so in a coroutine that waits for nothing."""
    reading = _header_reader()._process_headers(block)
    try:
        reading.send(None)
    except StopIteration as done:
        return done.value or {}
    reading.close()
    return {}

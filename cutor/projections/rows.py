"""From messages of a stream to rows for the fold. Pure.

The fold's SQL reads the fields of a body that is known to be an event; whether it is one, `cutor.model.codec` decides here, by
the same rules as everywhere else. A body of an older version goes to the fold as today's version, and to the views as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import cache
from typing import Final, NamedTuple, Protocol

import msgspec

from cutor.model.codec import VERSIONS, encode
from cutor.model.environments import EnvironmentEvent
from cutor.model.events import Event, Submitted, kind_of
from cutor.model.messages import SUBMITTED, Unreadable, malformed, read_environment, read_message
from cutor.model.subjects import ENVIRONMENTS, EVENTS

ROWS_VERSION: Final = 3
"""Counts up when what this module hands to the fold changes."""
FAULT_CHARACTERS: Final = 300
"""Longest text that says why a body cannot be read."""


class Message(Protocol):
    """What a row is made of; `cutor.bus.message.Stored` is one."""

    @property
    def sequence(self) -> int: ...
    @property
    def subject(self) -> str: ...
    @property
    def time_ns(self) -> int: ...
    @property
    def message_id(self) -> str | None: ...
    @property
    def body(self) -> bytes: ...


class Columns(NamedTuple):
    """One row of the table ``written``, column by column (see ``sql/session.sql``)."""

    sequence: int
    time_ns: int
    subject: str
    message_id: str | None
    body: str | None
    raw: bytes | None
    document: str | None
    fault: str | None


class Row(NamedTuple):
    """A message for the fold. ``kind`` is the event's, None where there is none to be read: it says which statements matter."""

    kind: str | None
    columns: Columns


class _Read(NamedTuple):
    """What a body turned out to be; ``document`` is what the fold reads in its place, if not the body itself."""

    kind: str | None
    document: str | None = None
    fault: str | None = None


def _read_event(subject: str, body: bytes) -> _Read:
    """A first message that can't be read is folded like any other: as the document that stands for it."""
    message = read_message(subject, body)
    if isinstance(message, Unreadable):
        return _Read(None, fault=message.reason)
    fault = message.fault if isinstance(message, Submitted) and isinstance(message.fault, str) else None
    return _Read(kind_of(message), _document(body, message), fault)


def _document(body: bytes, event: Event | EnvironmentEvent) -> str | None:
    """Return the event as the fold is to read it, where that is not the body as it stands.

    Another version is one reason, two fields of the same name another: readers of JSON differ on which of them counts.
    """
    encoded = encode(event)
    return None if encoded == body else encoded.decode()


def _read_environment(subject: str, body: bytes) -> _Read:
    event = read_environment(subject, body)
    if isinstance(event, Unreadable):
        return _Read(None, fault=event.reason)
    return _Read(str(type(event).__struct_config__.tag), _document(body, event))


READERS: Final[dict[str, Callable[[str, bytes], _Read]]] = {EVENTS: _read_event, ENVIRONMENTS: _read_environment}
"""For every stream that is followed, what reads its messages, from subject and body."""


def rows(stream: str, messages: Iterable[Message]) -> list[Row]:
    """Return the rows of a stream's messages, in the same order. A body that is no event becomes a row that says so."""
    reader = READERS[stream]
    return [_row(message, reader) for message in messages]


def _row(message: Message, reader: Callable[[str, bytes], _Read]) -> Row:
    kind, document, fault = reader(message.subject, message.body)
    fault = None if fault is None else fault[:FAULT_CHARACTERS]
    body, raw = _text(message.body, checked=fault is None)
    return Row(
        kind, Columns(message.sequence, message.time_ns, message.subject, message.message_id, body, raw, document, fault)
    )


def _text(body: bytes, *, checked: bool) -> tuple[str, None] | tuple[None, bytes]:
    """Return a body as text where it is JSON (``checked``: known to be that), else as bytes, which no function reads."""
    try:
        if not checked:
            msgspec.json.decode(body)
        return body.decode(), None
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        return None, body


def ready_kinds(stream: str, messages: Iterable[Message]) -> list[str | None]:
    """Return the kind of each message that the fold takes as it stands; None for one of which `rows` makes something else.

    None for all messages of a stream that is not folded.
    """
    if stream not in READERS:
        return [None for _ in messages]
    return [_ready_kind(row) for row in rows(stream, messages)]


def _ready_kind(row: Row) -> str | None:
    columns = row.columns
    return None if columns.body is None or columns.document is not None or columns.fault is not None else row.kind


@cache
def reading_rules() -> str:
    """Return the SHA-256, in hex, of what decides which messages those are: the events' shapes, and how they are read."""
    shapes = [msgspec.json.schema(shape) for shape in (Event, EnvironmentEvent)]
    return hashlib.sha256(msgspec.json.encode([shapes, VERSIONS, ROWS_VERSION])).hexdigest()


def unfoldable(row: Row, reason: str) -> Row:
    """Return a row that the fold leaves alone: it becomes a message that could not be read, for ``reason``."""
    fault = f"cannot be folded: {reason}"[:FAULT_CHARACTERS]
    columns = row.columns
    raw = columns.raw if columns.body is None else columns.body.encode()
    document = encode(malformed(fault)).decode() if row.kind == SUBMITTED else None
    return Row(row.kind if document else None, columns._replace(document=document, body=None, raw=raw, fault=fault))


def fingerprint(message: Message) -> str:
    """Return the SHA-256, in hex, of all that a message is in its stream."""
    digest = hashlib.sha256()
    for part in (str(message.sequence), str(message.time_ns), message.subject, message.message_id or ""):
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(4, "big") + data)
    digest.update(message.body)
    return digest.hexdigest()

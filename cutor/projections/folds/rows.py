"""Messages as a stream hands them out, by which rules they are read, and a fingerprint of each that no other has. Pure."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Final

import msgspec

from cutor.bus.bulk.columns import Message
from cutor.model.codec import VERSIONS
from cutor.model.environments import EnvironmentEvent
from cutor.model.events import Event

ROWS_VERSION: Final = 5
"""Counts up when the rows change that the same messages lead to."""


@cache
def reading_rules() -> str:
    """Return the SHA-256, in hex, of what decides which messages are events: their shapes, and how they are read."""
    shapes = [msgspec.json.schema(shape) for shape in (Event, EnvironmentEvent)]
    return hashlib.sha256(msgspec.json.encode([shapes, VERSIONS, ROWS_VERSION])).hexdigest()


def fingerprint(message: Message) -> str:
    """Return the SHA-256, in hex, of all that a message is in its stream."""
    digest = hashlib.sha256()
    for part in (str(message.sequence), str(message.time_ns), message.subject, message.message_id or ""):
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(4, "big") + data)
    digest.update(message.body)
    return digest.hexdigest()

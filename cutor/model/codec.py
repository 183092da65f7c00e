"""Events to bytes and back. The only place that knows of versions.

An event's body is JSON with ``kind`` and ``version``. A body of an older version goes through its upcaster, a pure function
from document to document, before it is read as today's type; `UPCASTERS` lists them. Golden files under ``tests/golden`` keep
one body of every version for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from cutor.model.environments import EnvironmentEvent
from cutor.model.events import KINDS, Event
from cutor.model.limits import Policy
from cutor.model.request import explain

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
UPCASTERS: Final[dict[tuple[str, int], Upcaster]] = {}
"""From (kind, version) to the function that makes a document of the next version of it."""

VERSIONS: Final[dict[str, int]] = dict.fromkeys(KINDS, 1)
"""Today's version of every kind."""


class EventError(ValueError):
    """Bytes in the stream that cannot be read as an event; the message says why in one line."""


class UnknownEventError(EventError):
    """An event of a kind or version that this cutor does not know: written by a newer one, or by something else."""


class _Head(msgspec.Struct):
    kind: str
    version: int = 1


_EVENT: Final[msgspec.json.Decoder[Event]] = msgspec.json.Decoder(Event)
_HEAD: Final = msgspec.json.Decoder(_Head)
_ENVIRONMENT: Final[msgspec.json.Decoder[EnvironmentEvent]] = msgspec.json.Decoder(EnvironmentEvent)
_POLICY: Final = msgspec.json.Decoder(Policy)


def encode(event: Event | EnvironmentEvent | Policy) -> bytes:
    """Return an event's (or the published policy's) body."""
    return msgspec.json.encode(event)


def decode(body: bytes) -> Event:
    """Return the event in a body. Raises `UnknownEventError` or `EventError`."""
    try:
        head = _HEAD.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EventError(f"not an event: {explain(error)}") from error
    current = VERSIONS.get(head.kind)
    if current is None:
        raise UnknownEventError(f"unknown kind of event {head.kind[:40]!r}")
    if not 1 <= head.version <= current:
        raise UnknownEventError(f"{head.kind} has version {head.version}; this cutor knows 1 to {current}")
    try:
        if head.version == current:
            return _EVENT.decode(body)
        event: Event = msgspec.convert(_upcast(msgspec.json.decode(body), head.kind, current), Event)
        return event
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EventError(f"{head.kind}: {explain(error)}") from error


def _upcast(document: dict[str, Any], kind: str, current: int) -> dict[str, Any]:
    for version in range(document.get("version", 1), current):
        document = UPCASTERS[kind, version](document) | {"version": version + 1}
    return document


def decode_environment(body: bytes) -> EnvironmentEvent:
    """Return the event in a body of the stream ENVIRONMENTS. Raises `EventError`."""
    try:
        return _ENVIRONMENT.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EventError(f"not an environment's event: {explain(error)}") from error


def decode_policy(body: bytes) -> Policy:
    """Return the policy that a stack publishes. Raises `EventError`."""
    try:
        return _POLICY.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EventError(f"the published policy cannot be read: {explain(error)}") from error

"""Events to bytes and back. The only place that knows of versions.

An event's body is JSON with ``kind`` and ``version``. A body of an older version goes through its upcaster, a pure function
from document to document, before it is read as today's type; `UPCASTERS` lists them. Golden files under ``tests/golden`` keep
one body of every version for ever. Events of submissions and of environments, and records about parked submissions, are read in
the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar, get_args

import msgspec

from cutor.errors import CutorError
from cutor.model.decisions import ParkedResolved, check_decision
from cutor.model.environments import EnvironmentEvent
from cutor.model.events import EVENT_TYPES, KINDS, Event
from cutor.model.limits import DEFAULT_LIMITS, Bounds, Policy
from cutor.model.nesting import check_nesting
from cutor.model.request import UNREADABLE, explain

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
UPCASTERS: Final[dict[tuple[str, int], Upcaster]] = {}
"""From (kind, version) to the function that makes a document of the next version of it. It may raise what a document of a wrong
shape makes it raise: a LookupError, TypeError, ValueError or AttributeError."""

ENVIRONMENT_KINDS: Final = tuple(str(event_type.__struct_config__.tag) for event_type in get_args(EnvironmentEvent))

DECISION_KINDS: Final = (str(ParkedResolved.__struct_config__.tag),)


def _version(event_type: type[msgspec.Struct]) -> int:
    """Return the version that an event's type writes: the default of its field."""
    [version] = [field.default for field in msgspec.structs.fields(event_type) if field.name == "version"]
    return int(version)


VERSIONS: Final[dict[str, int]] = {
    str(event_type.__struct_config__.tag): _version(event_type)
    for event_type in (*EVENT_TYPES, *get_args(EnvironmentEvent), ParkedResolved)
}
"""Today's version of every kind, which its type alone says."""

T = TypeVar("T")


class EventError(CutorError, ValueError):
    """Bytes in the stream that cannot be read as an event; the message says why in one line."""


class UnknownEventError(EventError):
    """An event of a kind or version that this cutor does not know: written by a newer one, or by something else."""


class Head(msgspec.Struct):
    """What stands in every body: what it is an event of, in which version."""

    kind: str
    version: int = 1


_HEAD: Final = msgspec.json.Decoder(Head)


def version_of(body: bytes) -> Head | None:
    """Return what a body says that it is; None where it says nothing that can be read."""
    try:
        check_nesting(body)
        return _HEAD.decode(body)
    except UNREADABLE:
        return None


class _Reader(Generic[T]):
    """Reads the events of one stream."""

    def __init__(self, event_type: Any, kinds: tuple[str, ...]) -> None:
        self._type = event_type
        self._kinds = frozenset(kinds)
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(event_type)

    def read(self, body: bytes) -> T:
        """Return the event in a body, whatever its version. Raises `UnknownEventError` or `EventError`."""
        head = self._head(body)
        try:
            if head.version == VERSIONS[head.kind]:
                return self._decoder.decode(body)
            event: T = msgspec.convert(_upcast(msgspec.json.decode(body), head), self._type)
            return event
        except UNREADABLE as error:
            raise EventError(f"{head.kind}: {explain(error)}") from error

    def _head(self, body: bytes) -> Head:
        try:
            check_nesting(body)
            head = _HEAD.decode(body)
        except UNREADABLE as error:
            raise EventError(f"not an event: {explain(error)}") from error
        if head.kind not in self._kinds:
            raise UnknownEventError(f"unknown kind of event {head.kind[:40]!r}")
        if not 1 <= head.version <= VERSIONS[head.kind]:
            raise UnknownEventError(f"{head.kind} has version {head.version}; this cutor knows 1 to {VERSIONS[head.kind]}")
        return head


def _upcast(document: dict[str, Any], head: Head) -> dict[str, Any]:
    """Return a document in today's version. Raises `EventError` where an upcaster cannot make it so."""
    for version in range(head.version, VERSIONS[head.kind]):
        try:
            document = UPCASTERS[head.kind, version](document) | {"version": version + 1}
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise EventError(f"{head.kind}: not the shape of version {version}: {explain(error)}") from error
    return document


_EVENTS: Final = _Reader[Event](Event, KINDS)
_ENVIRONMENTS: Final = _Reader[EnvironmentEvent](EnvironmentEvent, ENVIRONMENT_KINDS)
_DECISIONS: Final = _Reader[ParkedResolved](ParkedResolved, DECISION_KINDS)


class _PublishedBounds(Bounds, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """`Bounds` as another cutor published them: those that this one does not know are left out."""


class _PublishedPolicy(Policy, frozen=True, kw_only=True):
    """`Policy` as another cutor published it. A newer stack bounds more than an older client knows of; its builder checks."""

    bounds: _PublishedBounds = _PublishedBounds()


_POLICY: Final = msgspec.json.Decoder(_PublishedPolicy)
_BUILT_IN: Final = {"limits": msgspec.to_builtins(DEFAULT_LIMITS)}
"""What holds of a limit, or a kind of stage, that a stack of an older cutor does not know, and so says nothing of."""


def encode(event: Event | EnvironmentEvent | ParkedResolved | Policy) -> bytes:
    """Return an event's (or the published policy's) body."""
    return msgspec.json.encode(event)


def decode(body: bytes) -> Event:
    """Return the event in a body of the stream EVENTS. Raises `UnknownEventError` or `EventError`."""
    return _EVENTS.read(body)


_ENCODER: Final = msgspec.json.Encoder()
_KIND_OF: Final[dict[type, str]] = {kind: str(kind.__struct_config__.tag) for kind in EVENT_TYPES}
_EVENT_LINES: Final[msgspec.json.Decoder[Event]] = msgspec.json.Decoder(Event)


def decode_many(bodies: Sequence[bytes]) -> list[Event] | None:
    """Return the events in bodies of the stream EVENTS where each of them is, byte by byte, what `encode` makes of its event.

    None where one is not, which says nothing about it: `decode` has to. It costs a third: what was read of all is written again
    and held against all at once. What is written has no line end in it, so that no body can pose as two, or two as one.
    """
    text = b"\n".join(bodies) + b"\n"
    try:
        events = _EVENT_LINES.decode_lines(text)
    except UNREADABLE:
        return None
    if len(events) != len(bodies) or _ENCODER.encode_lines(events) != text:
        return None
    return events if {(_KIND_OF[type(event)], event.version) for event in events} <= VERSIONS.items() else None


def decode_environment(body: bytes) -> EnvironmentEvent:
    """Return the event in a body of the stream ENVIRONMENTS. Raises `UnknownEventError` or `EventError`."""
    return _ENVIRONMENTS.read(body)


def decode_decision(body: bytes) -> ParkedResolved:
    """Return the record in a body of the stream PARKED. Raises `UnknownEventError` or `EventError`."""
    event = _DECISIONS.read(body)
    if fault := check_decision(event):
        raise EventError(fault)
    return event


def decode_policy(body: bytes) -> Policy:
    """Return the policy that a stack publishes: without what this cutor does not know, with its own number for a limit that
    the stack does not know. Raises `EventError`.
    """
    try:
        check_nesting(body)
        whole = msgspec.json.encode(_filled_up(msgspec.json.decode(body), _BUILT_IN))
        return msgspec.convert(msgspec.to_builtins(_POLICY.decode(whole)), Policy)
    except UNREADABLE as error:
        raise EventError(f"the published policy cannot be read: {explain(error)}") from error


def _filled_up(document: Any, known: Any) -> Any:
    """Return a document with what a known one has and it leaves out."""
    if not isinstance(document, dict) or not isinstance(known, dict):
        return document
    return known | {name: _filled_up(value, known.get(name)) for name, value in document.items()}

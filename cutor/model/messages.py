"""A message of a stream: the event in it, or why there is none. The one reading that fold, views and commands share.

Anybody who may publish can put anything under a subject of cutor's. What is no event is `Unreadable`: a stray, counted and
ignored. One case is different: a submission whose first message can't be read must end, so that its producer learns of it. It
is read as a `Submitted` with a ``fault``, which a builder answers with ``rejected``.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from cutor.model.codec import EventError, decode, decode_decision, decode_environment
from cutor.model.decisions import ParkedResolved
from cutor.model.environments import EnvironmentEvent
from cutor.model.events import Event, StoredRequest, Submitted, kind_of
from cutor.model.subjects import parse_environment_subject, parse_event_subject, parse_parked_subject

SUBMITTED: Final = "submitted"


class Unreadable(NamedTuple):
    """A message that is no event of cutor's; ``reason`` says why, in one line."""

    reason: str


Message = Event | Unreadable


def read_message(subject: str, body: bytes) -> Message:
    """Return the event in a message of a subject.

    The subject counts: producers may be allowed to publish some kinds and not others, so a body of another kind is no event.
    """
    parsed = parse_event_subject(subject)
    if parsed is None:
        return Unreadable("not the subject of an event")
    kind = parsed.kind
    try:
        body.decode()  # decoding does not look into the strings of unknown fields
        event = decode(body)
    except UnicodeDecodeError:
        reason = "not UTF-8"
    except EventError as error:
        reason = str(error)
    else:
        if kind_of(event) == kind:
            return event
        reason = f"the subject says {kind[:40]!r}, the body {kind_of(event)!r}"
    return malformed(reason) if kind == SUBMITTED else Unreadable(reason)


def malformed(reason: str) -> Submitted:
    """Return what stands for a first message that can't be read: a request of nothing, and why."""
    return Submitted(request=StoredRequest(files=(), test_cases=()), digest="", fault=reason)


def is_malformed(message: Event) -> bool:
    """Return whether an event stands for a first message that can't be read."""
    return isinstance(message, Submitted) and isinstance(message.fault, str)


def read_environment(subject: str, body: bytes) -> EnvironmentEvent | Unreadable:
    """Return the event in a message of the stream ENVIRONMENTS; one of another key than its subject's is no event."""
    key = parse_environment_subject(subject)
    if key is None:
        return Unreadable("not the subject of an environment")
    try:
        body.decode()
        event = decode_environment(body)
    except UnicodeDecodeError:
        return Unreadable("not UTF-8")
    except EventError as error:
        return Unreadable(str(error))
    return event if event.key == key else Unreadable(f"an event of another environment, {event.key[:80]!r}")


def read_decision(subject: str, body: bytes) -> ParkedResolved | Unreadable:
    """Return the record in a message of the stream PARKED."""
    if parse_parked_subject(subject) is None:
        return Unreadable("not the subject of a parked submission")
    try:
        body.decode()
        return decode_decision(body)
    except UnicodeDecodeError:
        return Unreadable("not UTF-8")
    except EventError as error:
        return Unreadable(str(error))

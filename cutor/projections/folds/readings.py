"""Messages of EVENTS, read: what each is an event of, or why it is none. Pure.

Most are written as cutor writes them: their subjects are taken apart, and their bodies read, many at a time, by shapes that
take no unknown field (`cutor.model.strict`). What is anything else, or stands among others that are, is read one by one, as
`cutor.model.messages` reads it for everybody; the outcome is the same either way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, get_args

import msgspec

from cutor.bus.bulk.columns import Columns
from cutor.model.codec import VERSIONS, version_of
from cutor.model.events import Event, Submitted
from cutor.model.messages import SUBMITTED, Unreadable, malformed, read_message
from cutor.model.nesting import check_nesting
from cutor.model.request import UNREADABLE
from cutor.model.strict import strict
from cutor.model.subjects import SUBMISSION_ID, TENANT

AT_ONCE: Final = 512
"""Messages that are read together: so many are read one by one where one of them is unusual."""
FAULT_CHARACTERS: Final = 300
"""Longest text that says why a body cannot be read."""
_ADDRESS: Final = rf"cutor\.ev\.({TENANT.pattern})\.({SUBMISSION_ID.pattern})"
_USUAL_SUBJECTS: Final = re.compile(rf"^{_ADDRESS}\.([^.\n]+)$", re.MULTILINE | re.ASCII)
_SUBJECT: Final = re.compile(rf"{_ADDRESS}\.(.+)", re.ASCII)
_STRICT: Final = strict(Event, without=frozenset({"fault"}))
_DECODE: Final = msgspec.json.Decoder(_STRICT).decode
_KINDS: Final = {str(shape.__struct_config__.tag): shape for shape in get_args(_STRICT)}
_TODAY: Final = frozenset((kind, shape, VERSIONS[kind]) for kind, shape in _KINDS.items())
"""What a subject and its body may say together: the kind, as what it is read, and the version."""


class Readings(NamedTuple):
    """Messages in stream order: the n-th entries of all sequences are those of one message.

    ``tenants``, ``ids`` and ``kinds`` are those of its subject, None where that is none of an event's. ``events`` has what its
    body says, None where that is no event; ``versions`` that of a body that is one. ``faults`` says why one cannot be read; a
    first message that cannot has an event beside, which stands for it. ``bodies`` are those that are JSON, ``raw`` all others.
    """

    columns: Columns
    tenants: Sequence[str | None]
    ids: Sequence[str | None]
    kinds: Sequence[str | None]
    events: Sequence[Any]
    versions: Sequence[int | None]
    faults: Sequence[str | None]
    bodies: Sequence[bytes | None]
    raw: Sequence[bytes | None]


class _Address(NamedTuple):
    tenant: str | None = None
    id: str | None = None
    kind: str | None = None


class _Reading(NamedTuple):
    event: Event | None
    version: int | None
    fault: str | None
    body: bytes | None
    raw: bytes | None


def read(columns: Columns) -> Iterator[Readings]:
    """Read messages; yield them in parts, of `AT_ONCE` at the most."""
    for start in range(0, len(columns), AT_ONCE):
        part = columns.part(start, start + AT_ONCE)
        yield _read_usual(part) or _read_any(part)


def unfoldable(columns: Columns, reason: str) -> Readings:
    """Return messages as if they could not be read, for ``reason``: the fold leaves them alone."""
    fault = f"cannot be folded: {reason}"[:FAULT_CHARACTERS]
    addresses = [*map(_address, columns.subjects)]
    stand_ins = [malformed(fault) if address.kind == SUBMITTED else None for address in addresses]
    return _joined(
        columns,
        addresses,
        [_Reading(event, None, fault, None, body) for event, body in zip(stand_ins, columns.bodies, strict=True)],
    )


def _read_usual(part: Columns) -> Readings | None:
    """Read messages that are all as cutor writes them; None where one is not."""
    addresses = _USUAL_SUBJECTS.findall("\n".join(part.subjects))
    if len(addresses) != len(part):
        return None
    try:
        events = [*map(_DECODE, part.bodies)]
    except UNREADABLE:
        return None
    tenants, ids, kinds = zip(*addresses, strict=True)
    versions = [event.version for event in events]
    if not {*zip(kinds, map(type, events), versions, strict=True)} <= _TODAY:
        return None
    nothing = (None,) * len(part)
    return Readings(part, tenants, ids, kinds, events, versions, nothing, part.bodies, nothing)


def _read_any(part: Columns) -> Readings:
    addresses = [*map(_address, part.subjects)]
    return _joined(part, addresses, [_read_one(*one) for one in zip(part.subjects, part.bodies, strict=True)])


def _joined(columns: Columns, addresses: Sequence[_Address], readings: Sequence[_Reading]) -> Readings:
    return Readings(columns, *zip(*addresses, strict=True), *zip(*readings, strict=True))


def _address(subject: str) -> _Address:
    found = _SUBJECT.fullmatch(subject)
    return _Address(*found.groups()) if found else _Address()


def _read_one(subject: str, body: bytes) -> _Reading:
    message = read_message(subject, body)
    text, raw = (body, None) if is_json(body) else (None, body)
    if isinstance(message, Unreadable):
        return _Reading(None, None, message.reason[:FAULT_CHARACTERS], text, raw)
    if isinstance(message, Submitted) and isinstance(message.fault, str):
        return _Reading(message, None, message.fault[:FAULT_CHARACTERS], text, raw)
    head = version_of(body)
    return _Reading(message, message.version if head is None else head.version, None, text, raw)


def is_json(body: bytes) -> bool:
    """Return whether a body is JSON to its last byte, of valid UTF-8, and nested no deeper than an event may be."""
    try:
        body.decode()
        check_nesting(body)
        msgspec.json.decode(body)
    except UNREADABLE:
        return False
    return True

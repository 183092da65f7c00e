"""From columns of a stream to what the fold takes: most events as they stand, all others as rows. Pure.

An event that is written as cutor writes it goes to the fold untouched; whether it is one is found out for many at a time.
What is anything else, or stands among others that are, passes through `rows`, one by one: the outcome is the same either
way.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import msgspec

from cutor.bus.bulk.columns import Columns
from cutor.bus.message import Stored
from cutor.model.codec import decode_many
from cutor.model.events import Submitted, kind_of
from cutor.model.subjects import EVENTS, SUBMISSION_ID, TENANT
from cutor.projections.rows import Row, rows

AT_ONCE: Final = 256
"""Messages that are looked at together: so many are read one by one where one of them is unusual."""
_SUBJECTS: Final = re.compile(
    rf"^cutor\.ev\.(?:{TENANT.pattern})\.(?:{SUBMISSION_ID.pattern})\.([^.\n]+)$", re.MULTILINE | re.ASCII
)


class Sifted(NamedTuple):
    """A batch: ``ready`` goes to the fold as it stands, its events are of ``kinds``; ``others`` are rows for the fold."""

    ready: Columns
    kinds: set[str | None]
    others: list[Row]


def sift(stream: str, columns: Columns) -> Sifted:
    """Return a batch of a stream, sifted."""
    sifted = Sifted(Columns.empty(), set(), [])
    for start in range(0, len(columns), AT_ONCE):
        part = columns.part(start, start + AT_ONCE)
        kinds = _ready_kinds(part) if stream == EVENTS else None
        if kinds is None:
            sifted.others.extend(rows(stream, messages(stream, part)))
        else:
            sifted.ready.add(part)
            sifted.kinds.update(kinds)
    return sifted


def _ready_kinds(part: Columns) -> list[str] | None:
    """Return the kinds of events that all go to the fold as they stand; None where one does not."""
    kinds: list[str] = _SUBJECTS.findall("\n".join(part.subjects))
    events = decode_many(part.bodies)
    if events is None or kinds != [*map(kind_of, events)]:
        return None
    faulty = any(type(event) is Submitted and event.fault is not msgspec.UNSET for event in events)
    return None if faulty else kinds


def messages(stream: str, columns: Columns) -> list[Stored]:
    """Return columns as messages, without the headers that their senders chose."""
    return [
        Stored(stream, sequence, subject, time_ns, message_id, {}, body)
        for sequence, time_ns, subject, message_id, body in zip(
            columns.sequences, columns.times_ns, columns.subjects, columns.message_ids, columns.bodies, strict=True
        )
    ]

"""What the fold takes of a batch of ENVIRONMENTS: one relation, a row a message, in which nothing is left to be read. Pure."""

from __future__ import annotations

import re
from typing import Any, Final, Self

import msgspec

from cutor.bus.bulk.columns import Columns
from cutor.model.codec import ENVIRONMENT_KINDS
from cutor.model.messages import Unreadable, read_environment
from cutor.model.subjects import ENVIRONMENTS
from cutor.projections.folds.arrow import Column, Numbers, Strings, Table, Texts
from cutor.projections.folds.batch import OfColumns
from cutor.projections.folds.readings import FAULT_CHARACTERS, is_json
from cutor.projections.folds.relation import Kind, Parts, Relation

INCOMING: Final = "incoming_environments"
_SUBJECT: Final = re.compile(r"cutor\.env\.([^.]+)")
_BIGINTS: Final = range(-(1 << 63), 1 << 63)


def _columns() -> dict[str, Column]:
    """``key`` is that in the subject, null where it is none of an environment's; ``kind`` is null for no event.

    ``body`` is null where the bytes are no JSON: then they are in ``raw``.
    """
    return {
        "sequence": Numbers(),
        "time_ns": Numbers(),
        "subject": Texts(),
        "message_id": Texts(),
        "body": Strings.json(),
        "raw": Strings.raw(),
        "fault": Texts(),
        "key": Texts(),
        "kind": Texts(),
        "derivation": Texts(),
        "closure_paths": Numbers(),
        "closure_bytes": Numbers(),
        "worker": Texts(),
        "tenant": Texts(),
        "id": Texts(),
        "private_to": Texts(),
        "reason": Texts(),
        "pin_sequence": Numbers(),
    }


class IncomingEnvironments(OfColumns):
    """A batch on its way into the fold."""

    stream = ENVIRONMENTS

    def __init__(self, columns: Columns) -> None:
        super().__init__(columns)
        self.kinds: set[str | None] = set(ENVIRONMENT_KINDS)
        self.faults = 0
        self._table = Table(_columns())

    @classmethod
    def of(cls, columns: Columns) -> Self:
        """Read messages."""
        batch = cls(Columns.empty())
        batch.add(columns)
        return batch

    @classmethod
    def unfoldable(cls, columns: Columns, reason: str) -> Self:
        """Return messages that the fold leaves alone, for ``reason``."""
        batch = cls(columns)
        batch._add(columns, f"cannot be folded: {reason}")
        return batch

    def add(self, columns: Columns) -> None:
        """Read more messages."""
        self.columns.add(columns)
        self._add(columns, None)

    def _add(self, columns: Columns, unfoldable: str | None) -> None:
        messages = zip(columns.sequences, columns.times_ns, columns.subjects, columns.message_ids, columns.bodies, strict=True)
        rows = [
            (sequence, time_ns, subject, message_id, *_read(subject, body, unfoldable))
            for sequence, time_ns, subject, message_id, body in messages
        ]
        self.faults += sum(row[6] is not None for row in rows)
        self._table.add(rows)

    def relations(self) -> dict[str, Relation]:
        """Return its relation, by its name."""
        return {INCOMING: self._table.relation()}

    def parts(self) -> dict[str, Parts]:
        """Return what it consists of."""
        return {INCOMING: self._table.parts()}

    @classmethod
    def shapes(cls) -> dict[str, Kind]:
        """Return the type of its rows."""
        return {INCOMING: Table(_columns()).kind}


def _read(subject: str, body: bytes, unfoldable: str | None) -> tuple[Any, ...]:
    """Return the columns from ``body`` on."""
    event = read_environment(subject, body) if unfoldable is None else Unreadable(unfoldable)
    text, raw = (body, None) if unfoldable is None and is_json(body) else (None, body)
    found = _SUBJECT.fullmatch(subject)
    key = found[1] if found else None
    if isinstance(event, Unreadable):
        return text, raw, event.reason[:FAULT_CHARACTERS], key, *[None] * 10
    closure, pin = _field(event, "closure"), _field(event, "pin_sequence")
    return (
        text,
        raw,
        None,
        key,
        str(type(event).__struct_config__.tag),
        _field(event, "derivation"),
        None if closure is None else len(closure),
        _field(event, "closure_bytes"),
        _field(event, "worker"),
        _field(event, "tenant"),
        _field(event, "id"),
        _field(event, "private_to"),
        _field(event, "reason"),
        pin if pin is None or pin in _BIGINTS else 0,
    )


def _field(event: object, name: str) -> Any:
    value = getattr(event, name, None)
    return None if value is msgspec.UNSET else value

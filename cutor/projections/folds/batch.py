"""Messages that have been read, on their way into the fold. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import ClassVar, Protocol

from cutor.bus.bulk.columns import Columns, Message
from cutor.projections.folds.relation import Relation, Scan


class Batch(Protocol):
    """Messages that have been read, in the order of their stream; one at least."""

    def __len__(self) -> int: ...

    @property
    def last(self) -> Message:
        """The last message."""

    @property
    def sequences(self) -> Sequence[int]:
        """Their sequences."""

    @property
    def times_ns(self) -> Sequence[int]:
        """When each was stored, in nanoseconds since 1970."""

    @property
    def body_bytes(self) -> int:
        """How many bytes all bodies have."""

    @property
    def kinds(self) -> AbstractSet[str | None]:
        """Those of its events."""

    @property
    def faults(self) -> int:
        """How many of its messages cannot be read."""

    @property
    def columns(self) -> Columns:
        """The messages themselves; they may have to be made first, which takes long."""

    def relations(self) -> Mapping[str, Relation | Scan]:
        """Return what the statements of the fold read, by name."""


class OfColumns:
    """What a batch says of messages that are at hand."""

    stream: ClassVar[str]

    def __init__(self, columns: Columns) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def last(self) -> Message:
        return self.columns.at(self.stream, -1)

    @property
    def sequences(self) -> Sequence[int]:
        return self.columns.sequences

    @property
    def times_ns(self) -> Sequence[int]:
        return self.columns.times_ns

    @property
    def body_bytes(self) -> int:
        return sum(map(len, self.columns.bodies))

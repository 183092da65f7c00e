"""Messages of a stream, column by column. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat
from typing import Protocol, Self

from cutor.bus.message import Stored


class Message(Protocol):
    """What columns hold of a message; `Stored` is one."""

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


@dataclass(frozen=True, slots=True)
class Columns:
    """Messages in stream order: the n-th entries of all lists are those of one message, as `Stored` has them."""

    sequences: list[int]
    times_ns: list[int]
    subjects: list[str]
    message_ids: list[str | None]
    bodies: list[bytes]

    @classmethod
    def empty(cls) -> Self:
        """Return lists to be filled."""
        return cls([], [], [], [], [])

    @classmethod
    def of(cls, messages: Iterable[Message]) -> Self:
        """Return the columns of messages."""
        columns = cls.empty()
        for message in messages:
            columns.sequences.append(message.sequence)
            columns.times_ns.append(message.time_ns)
            columns.subjects.append(message.subject)
            columns.message_ids.append(message.message_id)
            columns.bodies.append(message.body)
        return columns

    @classmethod
    def joined(cls, parts: Iterable[Columns]) -> Self:
        """Return the columns of all parts, one behind the other."""
        columns = cls.empty()
        for part in parts:
            columns.add(part)
        return columns

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def last(self) -> int:
        """The sequence of the last message; there must be one."""
        return self.sequences[-1]

    def up_to(self, sequence: int) -> Columns:
        """Return those up to and with a sequence."""
        if not self or self.last <= sequence:
            return self
        return self.part(0, bisect_right(self.sequences, sequence))

    def at(self, stream: str, place: int) -> Stored:
        """Return one message, without the headers that its sender chose; a place below 0 is counted from the end."""
        return Stored(
            stream,
            self.sequences[place],
            self.subjects[place],
            self.times_ns[place],
            self.message_ids[place],
            {},
            self.bodies[place],
        )

    def each(self, stream: str) -> list[Stored]:
        """Return the messages one by one, likewise."""
        headers: dict[str, str] = {}
        columns = (self.sequences, self.subjects, self.times_ns, self.message_ids, repeat(headers), self.bodies)
        return [*map(Stored, repeat(stream), *columns)]

    def add(self, others: Columns) -> None:
        """Put others behind these."""
        self.sequences.extend(others.sequences)
        self.times_ns.extend(others.times_ns)
        self.subjects.extend(others.subjects)
        self.message_ids.extend(others.message_ids)
        self.bodies.extend(others.bodies)

    def part(self, start: int, end: int) -> Columns:
        """Return those from one place on, up to another that is no longer among them."""
        part = slice(start, end)
        return Columns(
            self.sequences[part], self.times_ns[part], self.subjects[part], self.message_ids[part], self.bodies[part]
        )

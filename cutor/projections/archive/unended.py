"""The submissions of a log that have not ended, folded from its messages in their order. Pure."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from cutor.model.messages import read_message
from cutor.model.state import TERMINAL, Folding, Stamp
from cutor.model.subjects import Address, parse_event_subject


class Message(Protocol):
    """What is folded; `cutor.bus.message.Stored` is one."""

    @property
    def sequence(self) -> int: ...
    @property
    def subject(self) -> str: ...
    @property
    def time_ns(self) -> int: ...
    @property
    def body(self) -> bytes: ...


class Begun(NamedTuple):
    """A submission that has not ended, and the sequence with which it began."""

    sequence: int
    address: Address


class Unended:
    """Takes a log from any place on: of a submission whose beginning lies before that, nothing is told.

    Of those that have ended, the name is kept: some 150 bytes.
    """

    def __init__(self) -> None:
        self._folding: dict[Address, tuple[int, Folding]] = {}
        self._ended: set[str] = set()

    def take(self, message: Message) -> None:
        """Take one more message."""
        parsed = parse_event_subject(message.subject)
        if parsed is None or str(parsed.address) in self._ended:
            return
        began, folding = self._folding.get(parsed.address) or (message.sequence, Folding(parsed.address))
        state = folding.take(read_message(message.subject, message.body), Stamp(message.sequence, message.time_ns))
        if state is None:
            return
        if state.status in TERMINAL:
            self._folding.pop(parsed.address, None)
            self._ended.add(str(parsed.address))
        else:
            self._folding[parsed.address] = began, folding

    def begun(self) -> list[Begun]:
        """Return those that have begun and not ended, by their beginnings."""
        return sorted(Begun(sequence, address) for address, (sequence, _) in self._folding.items())

"""Messages that have arrived and were not taken yet: counted in bytes as well, for one of them may have 8 MiB. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

from cutor.bus.message import Stored

MESSAGE_BYTES: Final = 500
"""What a message takes beside its body: so that many empty ones count, too."""


class Buffer:
    """A queue whose messages are taken in batches that are bounded in number and bytes."""

    def __init__(self) -> None:
        self._messages: deque[Stored] = deque()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, message: Stored) -> None:
        """Put a message behind the others."""
        self._messages.append(message)
        self.size_bytes += _size_bytes(message)

    def take(self, count: int, size_bytes: int) -> list[Stored]:
        """Return the first messages: at most so many, and so many bytes, but one where there is any."""
        taken: list[Stored] = []
        while self._messages and len(taken) < count:
            next_bytes = _size_bytes(self._messages[0])
            if taken and next_bytes > size_bytes:
                break
            size_bytes -= next_bytes
            self.size_bytes -= next_bytes
            taken.append(self._messages.popleft())
        return taken


def _size_bytes(message: Stored) -> int:
    return MESSAGE_BYTES + len(message.body)

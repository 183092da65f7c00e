"""The thread of a bulk read: it pulls and hands columns over.

It always takes what the server sends; it asks for no more while who reads holds enough. So memory is bounded, and the server
has nobody to wait for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from cutor.bus.bulk.columns import Columns
from cutor.bus.bulk.pulling import PULL, PULLS, Pulling
from cutor.bus.bulk.wire import Wire

HELD_BYTES: Final = 24 << 20
"""So much may wait to be taken before no more is pulled."""
MESSAGE_BYTES: Final = 500
"""What a message takes beside its body."""
WAIT_S: Final = 0.25
"""How long the thread waits for messages, or for room, before it looks whether it is to end: nobody waits for it longer."""


class Puller:
    """Reads one consumer over one wire, from a thread. ``news`` is called in it whenever there is something to take."""

    def __init__(self, wire: Wire, stream: str, consumer: str, news: Callable[[], object]) -> None:
        self._wire = wire
        self._pulling = Pulling(wire, stream, consumer)
        self._news = news
        self._room = threading.Condition()
        self._waiting: list[Columns] = []
        self._held_bytes = 0
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=f"bulk read of {stream}", daemon=True)
        self.failure: Exception | None = None
        self.at_end = False
        """The server has nothing more to deliver, and all that it had can be taken."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and close the wire."""
        with self._room:
            self._stopped = True
            self._room.notify()
        self._wire.interrupt()
        self._thread.join()
        self._wire.close()

    def take(self, count: int, size_bytes: int) -> Columns:
        """Return what has come: about so many messages and bytes at most, and nothing where there is nothing."""
        with self._room:
            taken = Columns.empty()
            while self._waiting and len(taken) < count and size_bytes > 0:
                chunk = self._waiting.pop(0)
                chunk_bytes = _size_bytes(chunk)
                taken.add(chunk)
                size_bytes -= chunk_bytes
                self._held_bytes -= chunk_bytes
            self._room.notify()
            return taken

    def has(self, count: int, size_bytes: int, last: int) -> bool:
        """Return whether so many messages or bytes wait to be taken, or a sequence, or one behind it, is among them."""
        with self._room:
            if not self._waiting:
                return False
            many = self._held_bytes >= size_bytes or sum(map(len, self._waiting)) >= count
            return many or self._waiting[-1].sequences[-1] >= last

    # -- in the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._pull_or_wait():
                self._arrived(self._pulling.receive(WAIT_S))
        except Exception as error:
            self.failure = error
        self._news()

    def _pull_or_wait(self) -> bool:
        """Pull while there is room; wait for room where nothing is owed. Return whether to go on."""
        if self._has_room_for_a_pull():
            self._pulling.pull()  # without the lock: who takes from here must not wait for a server that takes nothing
        return not self._stopped

    def _has_room_for_a_pull(self) -> bool:
        """Return whether to pull, once it is known: not where it is to be received, or to be stopped."""
        with self._room:
            while not self._stopped:
                if self._held_bytes < HELD_BYTES:
                    return self._pulling.owed <= PULL * (PULLS - 1)
                if self._pulling.owed:
                    return False
                self._room.wait(WAIT_S)
            return False

    def _arrived(self, columns: Columns) -> None:
        if columns:
            with self._room:
                self._waiting.append(columns)
                self._held_bytes += _size_bytes(columns)
        self.at_end = self._pulling.at_end
        if columns or self.at_end:
            self._news()


def _size_bytes(columns: Columns) -> int:
    return sum(map(len, columns.bodies)) + MESSAGE_BYTES * len(columns)

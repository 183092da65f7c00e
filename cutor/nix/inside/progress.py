"""What Nix prints, passed on to the host while the stage runs.

The stage routine watches one descriptor of the host's. `ProgressLink` gives it an epoll descriptor that stands for two: the
host's pipe, and a named pipe in the jail's home into which the evaluation copies what Nix prints. Pieces may be lost, never
reordered; the stage's own stderr is complete.
"""

from __future__ import annotations

import os
import select
import time
from typing import Final, Literal

from cutor.jail.inside.host_link import HostLink

PIECE_BYTES: Final = 16 << 10
"""At five pieces a second at most 80 KiB/s go to who listens, however much Nix prints. What is older is left out."""
INTERVAL_NS: Final = 200_000_000
"""At most one piece this often: 80 KiB a second, whatever a builder prints."""


class ProgressLink:
    """A stage's host: cancels as the host link says, and sends what comes through the named pipe ``path``, which it makes."""

    def __init__(self, link: HostLink, path: str, owner: int) -> None:
        self._link = link
        os.mkfifo(path, 0o600)
        os.chown(path, owner, owner)
        # open for writing too: a pipe without a writer would be readable, with nothing in it, for ever
        self._pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._epoll = select.epoll()
        self._epoll.register(link.fileno(), select.EPOLLIN)
        self._epoll.register(self._pipe, select.EPOLLIN)
        self._timer: int = os.timerfd_create(time.CLOCK_MONOTONIC, flags=os.TFD_CLOEXEC | os.TFD_NONBLOCK)  # type: ignore[attr-defined] # Python 3.13
        self._epoll.register(self._timer, select.EPOLLIN)
        self._pending = b""
        self._last_ns = 0

    def fileno(self) -> int:
        """Return the descriptor to watch."""
        return self._epoll.fileno()

    def interrupted(self) -> Literal["cancel"] | None:
        """Take what there is; return whether the stage is to be cancelled."""
        cancelled: Literal["cancel"] | None = None
        for fd, _ in self._epoll.poll(0):
            if fd == self._pipe:
                self._take()
            elif fd == self._timer:
                os.read(self._timer, 8)
                self._send()
            else:
                cancelled = self._link.interrupted()
        return cancelled

    def close(self) -> None:
        """Send what was held back, and stop."""
        self._take()
        self._send()
        self._epoll.close()
        os.close(self._timer)
        os.close(self._pipe)

    def _take(self) -> None:
        try:
            data = os.read(self._pipe, PIECE_BYTES)
        except BlockingIOError:
            return
        if not self._pending:
            wait_ns = max(self._last_ns + INTERVAL_NS - time.monotonic_ns(), 1)
            os.timerfd_settime_ns(self._timer, initial=wait_ns)  # type: ignore[attr-defined] # Python 3.13
        self._pending = (self._pending + data)[-PIECE_BYTES:]

    def _send(self) -> None:
        if self._pending:
            self._link.send({"type": "progress"}, [self._pending])
            self._pending = b""
            self._last_ns = time.monotonic_ns()
